"""Threshold files: the cosines that were measured for false accept rates, and the one model that they hold for.

TOML, as ``normface evaluate ... --threshold-out`` and ``normface finetune`` write it: what was measured on which images
and when, the model's identity (normface.features.identity), ``[thresholds]``, false accept rate = cosine, and
``[intervals]``, between which two rates the true one lies with 95 % confidence. Beside a model it is found by its name:
``face.toml`` for ``face.onnx``, or for the ``face.caffemodel`` or ``face.prototxt`` of a Caffe net.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from caffeport.files import replacing

from .. import toml_text
from ..errors import DataError, NormfaceError
from ..features.identity import ModelIdentity
from ..reading import parsing, read_text

SUFFIX = ".toml"
FORMAT = "normface thresholds 1"
MAX_BYTES = 1 << 20
NO_THRESHOLDS = "is no threshold file (as normface evaluate --threshold-out writes it)"


@dataclass(frozen=True)
class Measurement:
    """thresholds: false accept rate -> cosine. face: (H, W) of the aligned faces measured, None where any will do.

    intervals: false accept rate -> the two rates between which the true one lies with 95 % confidence, where that is
    known. pairs: (genuine, impostor), and date, the day, where the file says so.
    """

    measured: str
    model: ModelIdentity
    thresholds: Mapping[float, float]
    face: tuple[int, int] | None = None
    intervals: Mapping[float, tuple[float, float]] = field(default_factory=dict)
    pairs: tuple[int, int] | None = None
    date: str = ""


def built_in() -> list[Measurement]:
    """Those of published models, which ship with normface."""
    folder = files(__package__).joinpath("measured")
    entries = sorted((entry for entry in folder.iterdir() if entry.name.endswith(SUFFIX)), key=lambda entry: entry.name)
    return [parse(entry.read_text(encoding="utf-8"), entry.name) for entry in entries]


def beside(model: str | Path, weights: str | Path | None) -> tuple[Path, Measurement] | None:
    """The threshold file that lies beside a model's files under their name; a file of another kind is passed over."""
    for source in (weights, model):
        path = None if source is None else Path(source).with_suffix(SUFFIX)
        if path is not None and os.path.isfile(path):
            text = read_text(path, MAX_BYTES)
            if FORMAT in text:
                return path, parse(text, path)
    return None


def read(path: str | Path) -> Measurement:
    """Raises DataError, naming the file, for anything that ``write`` does not write."""
    return parse(read_text(path, MAX_BYTES), path)


def parse(text: str, title: str | Path) -> Measurement:
    with parsing(title, NO_THRESHOLDS):
        content = toml_text.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f'its format is {content["format"]!r}; expected "{FORMAT}"')
        face = None if "face" not in content else (int(content["face"][0]), int(content["face"][1]))
        known = checked_thresholds(content["thresholds"], title)
        pairs = None if "pairs" not in content else (int(content["pairs"][0]), int(content["pairs"][1]))
        return Measurement(
            str(content["measured"]),
            ModelIdentity.from_dict(content),
            known,
            face,
            _checked_intervals(content.get("intervals", {}), title),
            pairs,
            str(content.get("date", "")),
        )


def write(path: str | Path, measurement: Measurement) -> None:
    """Write the file whole or not at all."""
    content: dict[str, Any] = {"format": FORMAT, "measured": measurement.measured}
    if measurement.date:
        content["date"] = measurement.date
    if measurement.pairs is not None:
        content["pairs"] = list(measurement.pairs)
    if measurement.face is not None:
        content["face"] = list(measurement.face)
    content |= measurement.model.to_dict()
    content["thresholds"] = {f"{far:g}": cosine for far, cosine in measurement.thresholds.items()}
    if measurement.intervals:
        content["intervals"] = {f"{far:g}": list(between) for far, between in measurement.intervals.items()}
    with replacing(path) as stream:
        stream.write(toml_text.dumps(content).encode("utf-8", "replace"))


def today() -> str:
    """The day in UTC, as a measurement notes it."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def checked_target(path: str | Path) -> Path:
    """The path, or NormfaceError where ``write`` cannot write there; asked before the work is done."""
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise NormfaceError(f"{path}: thresholds are written as {SUFFIX}; choose that ending")
    if not os.path.isdir(path.parent):
        raise NormfaceError(f"{path}: the folder {path.parent} does not exist")
    return path


def checked_thresholds(content: Any, title: str | Path) -> dict[float, float]:
    known = {float(rate): float(cosine) for rate, cosine in content.items()}
    if not known or not all(-1 <= cosine <= 1 for cosine in known.values()):
        raise DataError(f"{title}: its thresholds are to be cosines between -1 and 1, one or more; found {known}"[:300])
    return known


def _checked_intervals(content: Any, title: str | Path) -> dict[float, tuple[float, float]]:
    known = {float(rate): (float(low), float(high)) for rate, (low, high) in content.items()}
    if not all(0 <= low <= high <= 1 for low, high in known.values()):
        raise DataError(f"{title}: its intervals are to be two rates between 0 and 1 each; found {known}"[:300])
    return known
