"""What normface raises on purpose; the command line prints it as one line and exits with 2."""

from __future__ import annotations

from caffeport.errors import CaffeportError, CaffeportWarning, MissingDependencyError, did_you_mean, shape_text


class NormfaceError(CaffeportError):
    """Base of this package's errors about the user's files, data and options; also a CaffeportError."""


class DataError(NormfaceError):
    """Pictures, lists or databases that are missing, unreadable or do not fit together; the path is named."""


class TrainingError(NormfaceError):
    """Training cannot go on or start: a setting that does not fit, a loss that is no number."""


class DivergedError(TrainingError):
    """The loss is no number any more; the message says at which iteration. The weights are those before it."""


class ProtocolError(NormfaceError):
    """A protocol file (pairs, splits, trials) or scores that do not make the protocol."""


class NormfaceWarning(CaffeportWarning):
    """Something the user should know, though the result stands."""


__all__ = [
    "CaffeportError",
    "CaffeportWarning",
    "DataError",
    "DivergedError",
    "MissingDependencyError",
    "NormfaceError",
    "NormfaceWarning",
    "ProtocolError",
    "TrainingError",
    "did_you_mean",
    "shape_text",
]
