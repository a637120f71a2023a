"""The features of a face and of its mirror image as one feature."""

from __future__ import annotations

import numpy as np

from ..errors import NormfaceError, did_you_mean

MERGES = ("none", "sum", "max", "concat")
"""none: the face as it is; else both are computed and merged (NormFace: sum, max or concatenation)."""


def checked(merge: str) -> str:
    if merge not in MERGES:
        raise NormfaceError(f'mirror "{merge}" is unknown{did_you_mean(merge, MERGES)}; known: {", ".join(MERGES)}')
    return merge


def merged(front: np.ndarray, mirrored: np.ndarray, merge: str) -> np.ndarray:
    """(N, D) and (N, D) to (N, D), or (N, 2D) for concat."""
    if merge == "sum":
        return front + mirrored
    if merge == "max":
        return np.maximum(front, mirrored)
    return np.concatenate([front, mirrored], axis=1)
