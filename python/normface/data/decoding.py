"""Pixels from an image file's bytes, the way OpenCV (hence Caffe) sees them."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
from caffeport.lazy import require

from ..errors import DataError
from .headers import read_header

MAX_PIXELS = 200_000_000
"""An image that declares more is refused before it is decoded. 200 megapixels are 600 MB of BGR."""

SMALL_PIXELS, PIXELS_A_BYTE = 25_000_000, 100
"""An image of more than 25 megapixels has at most a hundred for each of its bytes; photographs have up to twenty.
Decoding takes six to ten bytes a pixel, and so at most 250 MB for a file that is nearly empty."""

FORMATS = "JPEG, PNG, BMP, WebP, GIF, TIFF or PNM"


def decode(raw: bytes, name: str, color: bool | None = True) -> np.ndarray:
    """Return the pixels of an encoded image, uint8: (H, W, 3) in BGR, or (H, W, 1) with ``color=False``.

    Grey images become three equal channels and colour ones grey as asked; EXIF's orientation is applied;
    16 bits become 8; CMYK is converted; of an animation the first image counts; transparency is dropped, so that a
    hidden colour shows as it is stored. All of that is what cv2.imread, and so Caffe's ImageData, does.
    ``color=None`` takes 1, 3 or 4 channels as the file has them, unrotated, as Caffe does with encoded Datums.

    Raises DataError that names the image for bytes that are no image, are damaged, or declare more than
    MAX_PIXELS; also for a file without its end (an interrupted download), which OpenCV 4 fills with grey.
    """
    raw = raw if isinstance(raw, bytes) else bytes(raw)
    if not raw:
        raise DataError(f"{name}: is empty; expected an image")
    header = read_header(raw)
    if header is None:
        raise DataError(f"{name}: is no {FORMATS} image{_what_else(raw)}")
    if header.problem:
        raise DataError(f"{name}: {header.problem} ({header.format} of {len(raw)} bytes); fetch or make it again")
    pixels = header.width * header.height
    size = f"{header.width} x {header.height} pixels" if pixels > SMALL_PIXELS else ""
    if pixels > MAX_PIXELS:
        raise DataError(f"{name}: declares {size}; at most {MAX_PIXELS // 10**6} million are read")
    if pixels > SMALL_PIXELS + PIXELS_A_BYTE * len(raw):
        raise DataError(
            f"{name}: declares {size}, which {len(raw)} bytes of {header.format} do not hold; make it again"
        )
    cv2 = _quiet_opencv()
    flag = cv2.IMREAD_COLOR if color else cv2.IMREAD_UNCHANGED if color is None else cv2.IMREAD_GRAYSCALE
    try:
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), flag)
    except cv2.error as error:
        raise DataError(f"{name}: cannot be decoded ({str(error).strip().splitlines()[-1]})") from error
    if image is None or not image.size:
        raise DataError(f"{name}: is damaged, or a {header.format} of a kind that OpenCV cannot decode")
    if image.dtype != np.uint8:
        raise DataError(f"{name}: has {image.dtype} pixels; expected 8 bits a channel")
    return image[:, :, None] if image.ndim == 2 else image


@functools.cache
def _quiet_opencv() -> Any:
    """cv2. Its own lines about a damaged image are turned off: the error says it. OPENCV_LOG_LEVEL keeps them."""
    cv2 = require("cv2")
    where = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging  # OpenCV 4, 5
    if "OPENCV_LOG_LEVEL" not in os.environ:
        where.setLogLevel(0)
    return cv2


def _what_else(raw: bytes) -> str:
    """Return what people put among images, for the message."""
    if raw[4:8] == b"ftyp":
        return " (HEIC, AVIF or a film; convert it to JPEG)"
    if raw.lstrip()[:1] == b"<":
        return " (it is HTML, SVG or XML: perhaps a web page saved in its place)"
    if raw.startswith(b"version https://git-lfs"):
        return " (it is a Git LFS pointer: run git lfs pull)"
    return ""
