"""Every error that caffeport raises on purpose, and the "did you mean" they share.

A message names the place (file:line:column, or layer and type), what was expected, what was found
and the way out. The command line prints it as one line and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CaffeportError(Exception):
    """Base of all errors about the user's files, nets and options."""


class PrototxtError(CaffeportError):
    """The text of a net is no valid prototxt, or holds a field that nothing knows."""


class CaffemodelError(CaffeportError):
    """A weights file is truncated, corrupt, or no caffemodel at all."""


class NetError(CaffeportError):
    """The layers do not make a net: a missing bottom, a cycle, a shape that does not fit."""


class UnknownLayerError(NetError):
    """A layer type that neither caffeport nor ``custom_layers`` knows."""


class InputShapeError(CaffeportError, RuntimeError):
    """An input of a size that a layer of the net cannot take; a RuntimeError too, as torch's own would be."""


class WeightsError(CaffeportError):
    """Weights that do not belong to this net: a count or a shape differs, or a layer is missing."""


class ExportError(CaffeportError):
    """The net is fine, but the backend asked for cannot express part of it."""


class MissingDependencyError(CaffeportError):
    """A library that this step needs is not installed; the message says what to install."""


class CaffeportWarning(UserWarning):
    """Something the user should know, though the result stands."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean "x"?)`` for the known word nearest to ``word``, else an empty string."""
    candidates = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), candidates, n=1, cutoff=0.4)
    return f' (did you mean "{candidates[near[0]]}"?)' if near else ""


def shape_text(shape: Iterable[int]) -> str:
    """A shape as people write it, ``2x3x112x96``; ``scalar`` for a 0-D blob."""
    return "x".join(str(dim) for dim in shape) or "scalar"
