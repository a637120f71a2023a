"""Pixels from an image file's bytes, at the size that a net takes."""

from __future__ import annotations

import numpy as np

from .errors import CaffeportError
from .formats.other_files import START, misplaced, substitute_of
from .lazy import require


def decoded(raw: bytes, title: str, channels: int, size: tuple[int, int], otherwise: str = "") -> np.ndarray:
    """Return an image as float32 (C, H, W), numbers 0 to 255, resized to ``size`` (H, W); BGR, or grey for 1 channel.

    otherwise: what else the file may be (".npz or .npy"), for the message.

    Raises CaffeportError that names it for bytes that are no image.
    """
    cv2 = require("cv2")
    content = np.frombuffer(raw, np.uint8)
    flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
    try:
        image = cv2.imdecode(content, flag) if content.size else None
    except cv2.error as error:  # more pixels than OpenCV takes
        raise CaffeportError(f"{title}: OpenCV cannot decode it: {str(error).strip().splitlines()[-1]}") from error
    if image is None:
        substitute = substitute_of(raw[:START])
        if substitute is not None:
            wanted = f"an image, {otherwise}" if otherwise else "an image"
            raise CaffeportError(f"{title}: {misplaced(substitute, wanted)}")
        raise CaffeportError(f"{title}: is no image that OpenCV can read{f', nor {otherwise}' if otherwise else ''}")
    height, width = size
    if image.shape[:2] != size:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image.reshape(height, width, channels).transpose(2, 0, 1), np.float32)
