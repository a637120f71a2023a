"""The cosine from which two faces count as one person's, for a false accept rate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, NormfaceError, NormfaceWarning, UnknownThresholdError
from ..reading import parsing, read_json
from . import threshold_file
from .threshold_file import Measurement

WAY_OUT = (
    "give one (--threshold COSINE), or measure it: normface evaluate blufr|lfw ... --threshold-out MODEL.toml, which "
    "is found beside the model, or given by --calibration"
)

_LEAST_RATE = 1e-12
"""A rate below this is told as 0: no pairs that anyone compares could show it."""


@dataclass(frozen=True)
class Threshold:
    """far: the false accept rate that it was measured for, None where the user gave the number.

    face: (H, W) of the aligned faces that it was measured on, None where any will do. between: the two rates between
    which the true one lies with 95 % confidence, where that was measured.
    """

    cosine: float
    far: float | None
    source: str
    face: tuple[int, int] | None = None
    between: tuple[float, float] | None = None

    @property
    def words(self) -> str:
        """The guarantee, or that there is none."""
        if self.far is None:
            return f"threshold {self.source}, not measured"
        between = ""
        if self.between is not None:  # of very few people its lower end is 1e-300 or so
            low, high = (f"{rate:.2g}" if rate >= _LEAST_RATE else "0" for rate in self.between)
            between = f", 95 % sure between {low} and {high}"
        return f"false accepts {self.far:g}{between}, {self.source}"


def threshold_for(
    far: float,
    *,
    cosine: float | None = None,
    calibration: str | Path | None = None,
    extractor: Any | None = None,
) -> Threshold:
    """The user's own number, else a calibration file's, else one that was measured with just this extractor's model.

    calibration: a threshold file, which has to be of this model, or the JSON that ``normface evaluate`` writes, which
    does not say of which it is. Without it the file beside the model is looked for, then the built-in ones.
    Raises UnknownThresholdError where no threshold is known for this model or rate, and says why and how to get one.
    """
    if cosine is not None:
        if not -1 <= cosine <= 1:
            raise NormfaceError(f"threshold {cosine}: a cosine lies between -1 and 1")
        return Threshold(cosine, None, "given")
    if calibration is not None and Path(calibration).suffix.lower() != threshold_file.SUFFIX:
        source = f"as {calibration} says, of whichever model"
        return Threshold(*_at(far, _read(Path(calibration)), str(calibration)), source)
    if calibration is not None:
        measurement = threshold_file.read(calibration)
        wrong = ["no model is given"] if extractor is None else _differences(measurement, extractor)
        if wrong:
            raise NormfaceError(f"{calibration}: was measured with another model: {'; '.join(wrong)}")
        return _measured(far, measurement, f"measured on {measurement.measured}, {calibration}")
    return _known(far, extractor)


def _known(far: float, extractor: Any | None) -> Threshold:
    if extractor is None:
        raise UnknownThresholdError(f"no threshold is known without a model; {WAY_OUT}")
    beside = threshold_file.beside(extractor.settings["model"], extractor.settings["weights"])
    if beside is not None:
        path, measurement = beside
        wrong = _differences(measurement, extractor)
        if not wrong:
            return _measured(far, measurement, f"measured on {measurement.measured}, {path}")
        problem = f"{path}: was measured with another model or in another way, and is not used: {'; '.join(wrong)}"
        warnings.warn(problem, NormfaceWarning, stacklevel=3)
    nearest: list[str] = []
    for measurement in threshold_file.built_in():
        wrong = _differences(measurement, extractor)
        if not wrong:
            return _measured(far, measurement, f"measured {measurement.measured}, mirror {extractor.mirror}")
        if extractor.identity is not None and set(measurement.model.weights) & set(extractor.identity.weights):
            nearest = wrong if not nearest or len(wrong) < len(nearest) else nearest
    why = f" as it is run (one was measured {'; '.join(nearest)})" if nearest else ""
    raise UnknownThresholdError(f"no threshold is known for this model{why}: {WAY_OUT}")


def _differences(measurement: Measurement, extractor: Any) -> list[str]:
    if extractor.identity is None:
        return ["what this model does to its images, or its weights, cannot be told"]
    return measurement.model.differences(extractor.identity)


def _measured(far: float, measurement: Measurement, source: str) -> Threshold:
    cosine, rate = _at(far, measurement.thresholds, source)
    return Threshold(cosine, rate, source, measurement.face, measurement.intervals.get(rate))


def _at(far: float, known: Mapping[float, float], source: str) -> tuple[float, float]:
    """(cosine, rate)"""
    for rate, cosine in known.items():
        if math.isclose(rate, far, rel_tol=1e-6):
            return cosine, rate
    rates = ", ".join(f"{rate:g}" for rate in sorted(known))
    raise UnknownThresholdError(f"FAR {far:g}: {source} has thresholds for {rates} (--far)")


def _read(path: Path) -> dict[float, float]:
    problem = 'is no calibration file (JSON with "thresholds": {FAR: cosine})'
    content = read_json(path, problem)
    if isinstance(content, dict) and "fold_thresholds" in content and "thresholds" not in content:
        raise DataError(f"{path}: its protocol's scores are no plain cosines; evaluate with --protocol plain")
    with parsing(path, problem):
        return threshold_file.checked_thresholds(content["thresholds"], path)
