"""What normface raises on purpose; the command line prints it as one line and exits with 2."""

from __future__ import annotations

from caffeport import CaffeportError, CaffeportWarning, MissingDependencyError
from caffeport.errors import did_you_mean, shape_text


class NormfaceError(CaffeportError):
    """Base of this package's errors about the user's files, data and options; also a CaffeportError."""


class DataError(NormfaceError):
    """Images, lists or databases that are missing, unreadable or do not fit together; the path is named."""


class TrainingError(NormfaceError):
    """Training cannot go on or start: a setting that does not fit, a loss that is no number."""


class DivergedError(TrainingError):
    """The loss or a weight is no number any more; the message says where. A Solver's weights are those before it."""


class NotFiniteError(TrainingError):
    """The model computes NaN or infinity."""


class LostRankError(TrainingError):
    """Another rank of the run is gone."""


class ProtocolError(NormfaceError):
    """A protocol file (pairs, splits, trials) or scores that do not make the protocol."""


class UnknownThresholdError(NormfaceError):
    """No threshold was measured for this model as it is run, or none at this rate; the message says how to get one."""


class NormfaceWarning(CaffeportWarning):
    """Something the user should know, though the result stands."""


__all__ = [
    "CaffeportError",
    "CaffeportWarning",
    "DataError",
    "DivergedError",
    "LostRankError",
    "MissingDependencyError",
    "NormfaceError",
    "NormfaceWarning",
    "NotFiniteError",
    "ProtocolError",
    "TrainingError",
    "UnknownThresholdError",
    "did_you_mean",
    "shape_text",
]
