"""Images as a net's input, for checking with something less abstract than random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError
from ..formats.other_files import START, misplaced, substitute_of
from ..graph.net import Net
from ..graph.walk import read_inputs
from ..lazy import require
from ..operators.base import Role


def read_images(net: Net, paths: Sequence[Path], mean: Any, scale: float | None, rgb: bool) -> dict[str, np.ndarray]:
    """{input: (N, C, H, W)} from images, resized to the net's input; BGR, or RGB with ``rgb``.

    (x - mean) * scale is applied to pixels 0 to 255. Raises CaffeportError for an unreadable file and
    for a net with other inputs than one image.
    """
    read = read_inputs(net, [value for value in net.values if value.layer.op.role is not Role.DATA])
    if len(read) != 1 or len(read[0].shape) != 4:
        names = ", ".join(value.name for value in read) or "none"
        raise CaffeportError(f"an image fits a net with one image input; this one reads {names}: give .npz")
    value = read[0]
    channels = value.shape[1]
    if channels not in (1, 3):
        raise CaffeportError(f'an image has 1 or 3 channels, and "{value.name}" has {channels}: give .npz')
    images = np.stack([_pixels(path, value.shape) for path in paths])
    if rgb:
        images = images[:, ::-1]
    if mean is not None:
        flat = np.asarray(mean, np.float32)
        images = images - (flat.reshape(-1, 1, 1) if flat.size in (1, channels) else flat.reshape(images.shape[1:]))
    return {value.name: np.ascontiguousarray(images * np.float32(1 if scale is None else scale))}


def _pixels(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """float32 (C, H, W), 0 to 255, of the size of an input (N, C, H, W)."""
    cv2 = require("cv2")
    _, channels, height, width = shape
    try:
        raw = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise CaffeportError(f"{path}: {error.strerror or error}") from error
    flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(raw, flag) if raw.size else None
    if image is None:
        substitute = substitute_of(raw[:START].tobytes())
        if substitute is not None:
            raise CaffeportError(f"{path}: {misplaced(substitute, 'an image, .npz or .npy')}")
        raise CaffeportError(f"{path}: is no image that OpenCV can read, nor .npz or .npy")
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, channels)
    return image.astype(np.float32).transpose(2, 0, 1)
