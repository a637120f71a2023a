"""The places of the five landmarks in an aligned face."""

from __future__ import annotations

import numpy as np

from ..errors import DataError

SIZES = ((112, 96), (112, 112))
"""(height, width) of aligned faces: center-face, SphereFace, NormFace; ArcFace's, 8 columns wider on each side."""

_POINTS = ((30.2946, 51.6963), (65.5318, 51.5014), (48.0252, 71.7366), (33.5493, 92.3655), (62.7299, 92.2041))
"""(x, y) of left eye, right eye, nose, left and right corner of the mouth, in 112 x 96."""


def template(size: tuple[int, int] = (112, 96)) -> np.ndarray:
    """Return the landmarks' places (5, 2), float64, (x, y), as published, in a face of ``size`` (height, width).

    >>> template((112, 112))[0].round(2).tolist()  # the left eye, as seen
    [38.29, 51.7]
    """
    if tuple(size) not in SIZES:
        raise DataError(f"size is {' or '.join(f'{h}x{w}' for h, w in SIZES)} (height x width), got {size}")
    return np.add(_POINTS, ((size[1] - 96) / 2, 0))
