"""The cosine from which two faces count as one person's, for a false accept rate."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, NormfaceError

MEASURED: dict[tuple[str, str], dict[float, float]] = {
    ("mobilefacenet", "none"): {1e-1: 0.1317, 1e-2: 0.2397, 1e-3: 0.3266, 1e-4: 0.4024},
    ("mobilefacenet", "sum"): {1e-1: 0.1317, 1e-2: 0.2399, 1e-3: 0.3273, 1e-4: 0.4035},
}
"""(preset, mirror) -> FAR -> cosine: the "thresholds" (means of the ten trials, 47 M impostor pairs each) of

normface extract MODEL WEIGHTS --data lfw-112x96.zip --preset mobilefacenet --mirror MIRROR --out F.npz
normface evaluate blufr --features F.npz --config blufr_lfw_config.mat --fars 0.1,0.01,0.001,0.0001 --json
"""


@dataclass(frozen=True)
class Threshold:
    cosine: float
    far: float | None  # the false accept rate that it was measured for, None where the user gave the number
    source: str


def threshold_for(
    far: float,
    *,
    cosine: float | None = None,
    calibration: str | Path | None = None,
    preset: str | None = None,
    mirror: str = "sum",
) -> Threshold:
    """The user's own number, else a calibration file's, else the preset's measured one.

    calibration: JSON with "thresholds": {FAR: cosine}, as ``normface evaluate`` writes it.
    Raises NormfaceError where none is known, and says how to get one.
    """
    if cosine is not None:
        if not -1 <= cosine <= 1:
            raise NormfaceError(f"threshold {cosine}: a cosine lies between -1 and 1")
        return Threshold(cosine, None, "given")
    if calibration is not None:
        return _at(far, _read(Path(calibration)), str(calibration))
    known = MEASURED.get((preset or "", mirror))
    if known is None:
        raise NormfaceError(
            "no threshold is known for this model: give one (--threshold), or measure it: "
            "normface evaluate lfw ... --out DIR, then --calibration DIR/results.json"
        )
    return _at(far, known, f"measured with {preset} on BLUFR, mirror {mirror}")


def _at(far: float, known: dict[float, float], source: str) -> Threshold:
    for rate, cosine in known.items():
        if math.isclose(rate, far, rel_tol=1e-6):
            return Threshold(cosine, rate, source)
    rates = ", ".join(f"{rate:g}" for rate in sorted(known))
    raise NormfaceError(f"FAR {far:g}: {source} has thresholds for {rates} (--far)")


def _read(path: Path) -> dict[float, float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "fold_thresholds" in content and "thresholds" not in content:
            raise DataError(f"{path}: its protocol's scores are no plain cosines; evaluate with --protocol plain")
        known = {float(rate): float(cosine) for rate, cosine in content["thresholds"].items()}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f'{path}: is no calibration file (JSON with "thresholds": {{FAR: cosine}})') from error
    if not known or not all(-1 <= cosine <= 1 for cosine in known.values()):
        raise DataError(f"{path}: its thresholds are to be cosines between -1 and 1, one or more; found {known}")
    return known
