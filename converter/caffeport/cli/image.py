"""An image as a net's input, for checking with something less abstract than random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError
from ..graph.net import Net
from ..graph.walk import read_inputs
from ..operators.base import Role
from ..pixels import decoded
from ..precision.calibration import readers, spread

MOST = 4
"""Images that are taken of several."""


def read_images(net: Net, path: Path, mean: Any, scale: float | None, rgb: bool) -> dict[str, np.ndarray]:
    """As read_image, {input: (N, C, H, W)} from an image, or from up to MOST of a folder, zip or list."""
    if not path.is_dir() and path.suffix.lower() not in (".zip", ".txt"):
        return read_image(net, path, mean, scale, rgb)
    sources = readers(path)
    chosen = [sources[index] for index in spread(len(sources), MOST)]
    arrays = [read_image(net, Path(title), mean, scale, rgb, read()) for title, read in chosen]
    return {name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]}


def read_image(
    net: Net, path: Path, mean: Any, scale: float | None, rgb: bool, raw: bytes | None = None
) -> dict[str, np.ndarray]:
    """{input: (1, C, H, W)} from an image, resized to the net's input; BGR, or RGB with ``rgb``.

    (x - mean) * scale is applied to pixels 0 to 255. raw: the file's bytes, where they are there already.

    Raises CaffeportError for an unreadable file and for a net with other inputs than one image.
    """
    read = read_inputs(net, [value for value in net.values if value.layer.op.role is not Role.DATA])
    if len(read) != 1 or len(read[0].shape) != 4:
        names = ", ".join(value.name for value in read) or "none"
        raise CaffeportError(f"an image fits a net with one image input; this one reads {names}: give .npz")
    value = read[0]
    _, channels, height, width = value.shape
    if channels not in (1, 3):
        raise CaffeportError(f'an image has 1 or 3 channels, and "{value.name}" has {channels}: give .npz')
    try:
        raw = path.read_bytes() if raw is None else raw
    except OSError as error:
        raise CaffeportError(f"{path}: {error.strerror or error}") from error
    image = decoded(raw, str(path), channels, (height, width), ".npz or .npy")
    if rgb:
        image = image[::-1]
    if mean is not None:
        flat = np.asarray(mean, np.float32)
        image = image - (flat.reshape(-1, 1, 1) if flat.size in (1, channels) else flat.reshape(image.shape))
    return {value.name: np.ascontiguousarray(image * np.float32(1 if scale is None else scale))[None]}
