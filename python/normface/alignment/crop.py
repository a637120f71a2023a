"""One aligned face out of a photo."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from caffeport.lazy import LazyModule

from ..errors import DataError
from .similarity import similarity_transform
from .template import template

cv2 = LazyModule("cv2")


def align_face(
    image: np.ndarray,
    landmarks: npt.ArrayLike,
    size: tuple[int, int] = (112, 96),
    *,
    origin: int = 0,
    antialias: bool = True,
) -> np.ndarray:
    """Return the face with its landmarks on the template's places: (H, W, 3) BGR uint8, black beyond the photo.

    image: (H, W, 3) BGR or (H, W, 1) grey, uint8.
    landmarks: (5, 2), (x, y) of left eye, right eye, nose, left and right corner of the mouth.
    size: (height, width), (112, 96) or (112, 112).
    origin: what the centre of the first pixel is called, in the photo and in the template: 0, as OpenCV and
        InsightFace do, or 1, as MATLAB does, where caffe-face and SphereFace come from. With 1 the face moves by
        A (1, 1) - (1, 1), A being the transform's matrix: a few tenths of a pixel.
    antialias: a face at more than twice the size is first averaged over whole pixels, so that none is skipped;
        MATLAB's imtransform and cv2.warpAffine do not.

    Interpolation is linear. Raises DataError for landmarks that fix no transform.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2):
        raise DataError(f"landmarks are five points (5, 2), got {points.shape}")
    if origin not in (0, 1):
        raise DataError(f"origin is 0 or 1, got {origin}")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise DataError("an image is an array (H, W, 3) of uint8")
    matrix = similarity_transform(points - origin, template(size) - origin)
    step = int(1 / math.hypot(matrix[0, 0], matrix[1, 0])) if antialias else 1
    part, (left, top) = _around(image, matrix, size, 2 + step)
    if part.size == 0:  # the face lies wholly outside
        return np.zeros((*size, *image.shape[2:]), np.uint8)
    matrix = matrix @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
    step = min(step, max(part.shape[:2]))  # more would average black in
    if step > 1:
        part = _averaged(part, step)
        # Pixel k of the averaged image has its centre at step k + (step - 1) / 2.
        shift = (step - 1) / 2
        matrix = matrix @ np.array([[step, 0, shift], [0, step, shift], [0, 0, 1]])
    face = cv2.warpAffine(part, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderValue=0)
    return face.reshape(*size, *image.shape[2:])


def _around(
    image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], margin: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """The part of the photo that an aligned face is taken from, and its first column and row."""
    corners = np.array([[0, 0], [size[1], 0], [0, size[0]], [size[1], size[0]]], np.float64)
    places = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T
    limits = np.array(image.shape[1::-1])
    left, top = np.clip(np.floor(places.min(axis=0)) - margin, 0, limits).astype(int).tolist()
    right, bottom = np.clip(np.ceil(places.max(axis=0)) + margin, 0, limits).astype(int).tolist()
    return image[top:bottom, left:right], (left, top)


def _averaged(image: np.ndarray, step: int) -> np.ndarray:
    """Means over step x step pixels; black is added at the right and below to make the sides multiples."""
    rows, columns = (-(-side // step) for side in image.shape[:2])
    below, right = rows * step - image.shape[0], columns * step - image.shape[1]
    if below or right:
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=0)
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
