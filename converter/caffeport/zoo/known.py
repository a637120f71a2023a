"""All models of the zoo, and the ways to one: by its name, by its weights' SHA-256, by the file itself."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from pathlib import Path

from ..errors import CaffeportError
from .detectors import DETECTORS
from .faces import FACES
from .model import Model, Preset
from .scenes import SCENES

MODELS: tuple[Model, ...] = (*FACES, *DETECTORS, *SCENES)
"""Every model, the faces first."""

PRESETS: dict[str, Preset] = {model.name: model.preset for model in MODELS if model.preset is not None}
"""{name: preprocessing} of the models whose preprocessing is known."""

_BY_HASH = {model.file.sha256: model for model in MODELS if model.file is not None}
_SIZES = {model.file.bytes for model in MODELS if model.file is not None}
_PIECE = 1 << 20


def find(sha256: str) -> Model | None:
    """Return the model whose weights file has this SHA-256 (64 hexadecimal digits), or None."""
    return _BY_HASH.get(sha256.strip().lower())


def named(name: str) -> Model:
    """Return the model of that name. Raises CaffeportError that names the nearest.

    >>> named("mobilefacenet").recipe()
    '(x - 127.5) * 0.0078125, RGB, 112x112 (HxW)'
    """
    for model in MODELS:
        if model.name == name:
            return model
    raise CaffeportError(f'the zoo has no model "{name}"{_near(name, (model.name for model in MODELS))}: caffeport zoo')


def preset(name: str) -> Preset:
    """Return the preprocessing of the model of that name. Raises CaffeportError where it is not known."""
    model = named(name)
    if model.preset is None:
        note = f": {model.note}" if model.note else ""
        raise CaffeportError(f"the preprocessing of {name} is not known as mean, scale and channel order{note}")
    return model.preset


def recognise(path: str | Path) -> Model | None:
    """Return the model whose weights this file is, or None.

    Only a file as large as one of the zoo's is read, so that it costs nothing for any other.
    """
    try:
        if not Path(path).is_file() or Path(path).stat().st_size not in _SIZES:
            return None
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
    except OSError:
        return None
    return find(digest.hexdigest())


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower()[:100], list(known), n=1, cutoff=0.5)
    return f' (did you mean "{near[0]}"?)' if near else ""
