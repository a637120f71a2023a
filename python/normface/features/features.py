"""Features files: ``.npz`` (NumPy) or ``.parquet``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.files import replacing
from caffeport.json_text import to_json

from ..errors import DataError, NormfaceError, shape_text
from ..npz import array_names, array_rows, read_arrays
from ..reading import opened, parsing, printable, read_file
from . import parquet
from .feature_set import Features

SUFFIXES = (".npz", ".parquet")
ARRAYS = ("features", "names", "labels", "identities", "settings")
NO_FEATURES = "is no features file (.npz with features and names)"


def checked_target(path: str | Path) -> Path:
    """The path, or NormfaceError where features cannot be written to such a file; asked before the work is done."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise NormfaceError(f"{path}: features are written as {' or '.join(SUFFIXES)}; choose one of these endings")
    if path.suffix.lower() == ".parquet":
        parquet.pyarrow()
    if os.path.isdir(path):
        raise NormfaceError(f"{path}: is a folder; name the file to write")
    if not os.path.isdir(path.parent):
        raise NormfaceError(f"{path}: the folder {path.parent} does not exist")
    return path


def save_features(path: str | Path, features: Features) -> None:
    """Write the file whole or not at all; the same features give the same bytes."""
    path = checked_target(path)
    if path.suffix.lower() == ".parquet":
        parquet.save(path, features)
        return
    arrays: dict[str, Any] = {"features": features.features, "names": np.array(features.names, np.str_)}
    if features.labels is not None:
        arrays["labels"] = np.asarray(features.labels, np.int64)
    if features.identities is not None:
        arrays["identities"] = np.array(features.identities, np.str_)
    arrays["settings"] = np.array(to_json(features.settings, indent=None))
    with replacing(path) as stream:
        np.savez(stream, **arrays)


def load_features(path: str | Path) -> Features:
    """Read what save_features wrote, or any .npz with "features" (N, D) and "names" (N,); no pickle is executed.

    Raises DataError that names the file and what is wrong with it: damage, shapes that do not fit, no numbers.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file; normface extract makes one")
    with parsing(path, NO_FEATURES):
        return _checked(path, parquet.load(path) if path.suffix.lower() == ".parquet" else _load_npz(path))


def count_features(path: str | Path) -> int:
    """Return how many features a file says that it has, without reading them."""
    path = Path(path)
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file; normface extract makes one")
    if path.suffix.lower() == ".parquet":
        return parquet.count(path)
    with opened(path) as (stream, size), parsing(path, NO_FEATURES):
        return array_rows(stream, size, "features")


def _checked(path: Path, stored: dict[str, Any]) -> Features:
    for name in ("features", "names"):
        if name not in stored:
            raise DataError(f'{path}: has no "{name}"; it has {printable(", ".join(stored) or "nothing")}')
    names = _texts(path, stored, "names")
    features = np.asarray(stored["features"])
    if features.ndim != 2 or len(features) != len(names) or features.dtype.kind != "f" or not features.size:
        raise DataError(
            f"{path}: features are {shape_text(features.shape)} {features.dtype} for {len(names)} names; "
            "expected floating point (N, D) for N names"
        )
    with np.errstate(over="ignore"):  # shows as infinity below
        features = np.asarray(features, np.float32)
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise DataError(f"{path}: the features of {printable(names[int(np.argmin(finite))])} are not finite")
    labels, identities = _people(path, stored, len(names))
    return Features(features, names, labels, identities, _settings(path, stored))


def _load_npz(path: Path) -> dict[str, Any]:
    start = read_file(path, start=6)
    if start == b"\x93NUMPY":
        raise DataError(f"{path}: holds one array; expected an .npz with features and names")
    if not start.startswith(b"PK"):
        raise ValueError("it is no archive")
    with opened(path) as (stream, size), parsing(path, NO_FEATURES):
        return read_arrays(stream, size, ARRAYS) or dict.fromkeys(array_names(stream, size))


def _texts(path: Path, stored: Mapping[str, Any], name: str) -> list[str]:
    texts = np.asarray(stored[name])
    if texts.ndim == 1 and texts.dtype.kind == "U":
        return texts.tolist()
    if texts.ndim == 1 and texts.dtype.kind == "S":
        return [text.decode("utf-8", "replace") for text in texts.tolist()]
    raise DataError(f"{path}: {name} are {shape_text(texts.shape)} {texts.dtype}; expected a list of texts")


def _people(path: Path, stored: Mapping[str, Any], count: int) -> tuple[np.ndarray | None, list[str] | None]:
    """(labels, identities), as far as the file has them."""
    if stored.get("labels") is None:
        return None, None
    labels = np.asarray(stored["labels"])
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: labels are {shape_text(labels.shape)} {labels.dtype}; expected a whole number for each of the "
            f"{count} names"
        )
    labels = labels.astype(np.int64)
    if stored.get("identities") is None:
        return labels, None
    identities = _texts(path, stored, "identities")
    if labels.min() < 0 or labels.max() >= len(identities):
        span = f"labels from {labels.min()} to {labels.max()} for {len(identities)} identities"
        raise DataError(f"{path}: has {span}; expected 0 to {len(identities) - 1}")
    return labels, identities


def _settings(path: Path, stored: Mapping[str, Any]) -> dict[str, Any]:
    if stored.get("settings") is None:
        return {}
    try:
        settings = json.loads(str(stored["settings"]))
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise DataError(f"{path}: its settings are no JSON object")
    return settings
