"""Every error that caffeport raises on purpose, and the "did you mean" they share.

A message names the place (file:line:column, or layer and type), what was expected, what was found
and the way out. The command line prints it as one line and exits with 2.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST_MESSAGE = 3000  # the list of all layer types takes most of it
_LONGEST_WORD, _MOST_WORDS = 100, 10_000  # of a "did you mean"; its time grows with the square of a word


class CaffeportError(Exception):
    """Base of all errors about the user's files, nets and options; its text is one line, whatever names a file has."""

    def __str__(self) -> str:
        return one_line(super().__str__(), _LONGEST_MESSAGE)


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


class WeightsWarning(UserWarning):
    """Weights that nobody gave, or that a file has twice. No CaffeportWarning, which a test may turn into an error:
    nets without weights are every day's business there and in training."""


def one_line(text: str, longest: int) -> str:
    """The text with control characters as escapes; of one that is longer than ``longest`` the two ends."""
    if len(text) > longest:
        text = f"{text[: longest // 2]} ... {text[-longest // 2 :]}"
    return _CONTROL.sub(lambda match: repr(match.group())[1:-1], text)


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.4) -> str:
    """`` (did you mean "x"?)`` for the known word nearest to ``word``, else an empty string.

    cutoff: how like they have to be, up to 1 for the same word.
    """
    if len(word) > _LONGEST_WORD:
        return ""
    candidates = {name.lower(): name for name in islice(known, _MOST_WORDS) if len(name) <= _LONGEST_WORD}
    near = difflib.get_close_matches(word.lower(), candidates, n=1, cutoff=cutoff)
    return f' (did you mean "{candidates[near[0]]}"?)' if near else ""


def shape_text(shape: Iterable[int]) -> str:
    """A shape as people write it, ``2x3x112x96``; ``scalar`` for a 0-D blob."""
    return "x".join(str(dim) for dim in shape) or "scalar"


def name_list(names: Iterable[str], most: int = 3) -> str:
    """The first names in quotes, each once, and how many more there are; ``none`` for no name."""
    different = list(dict.fromkeys(names))
    shown = ", ".join(f'"{name}"' for name in different[:most])
    return f"{shown} and {len(different) - most} more" if len(different) > most else shown or "none"


def quoted(text: str) -> str:
    """A value of a file as Python writes it, cut where it is long."""
    return repr(text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}")
