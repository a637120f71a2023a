"""Images as a net's input, for checking with something less abstract than random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError
from ..graph.layer import Value
from ..graph.net import Net
from ..graph.walk import read_inputs
from ..lazy import require
from ..operators.base import Role
from ..pixels import decoded
from ..precision.calibration import readers, spread

MOST = 4
"""Images that are taken of a folder, zip or list."""


def read_images(net: Net, paths: Sequence[Path], mean: Any, scale: float | None, rgb: bool) -> dict[str, np.ndarray]:
    """{input: (N, C, H, W)} from images, resized to the net's input; BGR, or RGB with ``rgb``.

    Other inputs (labels) come after it, as Net.sample_inputs makes them, for as many images.

    paths: images, or folders, zips and lists (.txt) of images, of which up to MOST are taken.

    (x - mean) * scale is applied to pixels 0 to 255. Raises CaffeportError for an unreadable file and
    for a net with another number of image inputs than one.
    """
    require("cv2")  # before any file is looked at
    read = read_inputs(net, [value for value in net.values if value.layer.op.role is not Role.DATA])
    pictures = [value for value in read if len(value.shape) == 4]
    if len(pictures) != 1:
        names = ", ".join(value.name for value in read) or "none"
        raise CaffeportError(f"an image fits a net with one image input; this one reads {names}: give .npz")
    (value,) = pictures
    channels = value.shape[1]
    if channels not in (1, 3):
        raise CaffeportError(f'an image has 1 or 3 channels, and "{value.name}" has {channels}: give .npz')
    size = (value.shape[2], value.shape[3])
    images = np.stack([decoded(raw, title, channels, size, ".npz or .npy") for title, raw in _files(paths)])
    if rgb:
        images = images[:, ::-1]
    if mean is not None:
        flat = np.asarray(mean, np.float32)
        images = images - (flat.reshape(-1, 1, 1) if flat.size in (1, channels) else flat.reshape(images.shape[1:]))
    given = {value.name: np.ascontiguousarray(images * np.float32(1 if scale is None else scale))}
    return given | _others(net, [other for other in read if other is not value], value.shape[:1], len(images))


def _others(net: Net, values: Sequence[Value], batch: tuple[int, ...], images: int) -> dict[str, np.ndarray]:
    """Return samples of the inputs that are no image: a row an image where the text gives as many as of images."""
    samples = net.sample_inputs() if values else {}
    given = {one.name: samples[one.name] for one in values}
    rows = {one.name: (images, *one.shape[1:]) for one in values if one.shape[:1] == batch}
    return given | {name: np.resize(given[name], shape) for name, shape in rows.items()}


def _files(paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield (title, content) of each image, and of up to MOST of a folder, zip or list."""
    for path in paths:
        if path.is_dir() or path.suffix.lower() in (".zip", ".txt"):
            sources = readers(path)
            chosen = [sources[index] for index in spread(len(sources), MOST)]
        else:
            chosen = [(str(path), path.read_bytes)]
        for title, read in chosen:
            try:
                yield title, read()
            except OSError as error:
                raise CaffeportError(f"{title}: {error.strerror or error}") from error
