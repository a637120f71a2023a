"""Mean, scale and channel order in front of a converted model, so that it takes pixels as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import CaffeportError, shape_text
from ..json_text import to_json
from ..operators.onnx_builder import Emitter, Tensor
from .layer import Value
from .net import Net, Shape
from .walk import read_inputs

METADATA_KEY = "caffeport.preprocessing"
"""The key of the entry in an ONNX file's metadata that says what the model does to its image first."""


@dataclass(frozen=True)
class Preprocessing:
    """(x - mean) * scale on input ``index``; with ``rgb`` its channels are reversed first, to Caffe's BGR.

    ``mean`` broadcasts over the input, in the net's channel order: (C, 1, 1), (C, H, W) or one number.
    """

    index: int
    mean: np.ndarray | None
    scale: float
    rgb: bool

    @property
    def fixes_size(self) -> bool:
        """Return whether the mean is an image, which an input of another size has no part in."""
        return self.mean is not None and self.mean.shape[1:] != (1, 1)

    @staticmethod
    def of(net: Net, wanted: Sequence[Value], mean: Any, scale: float | None, rgb: bool) -> Preprocessing | None:
        """Check the options against the first 4-D input that ``wanted`` depends on; return None where nothing is to be
        done."""
        if mean is None and scale is None and not rgb:
            return None
        read = read_inputs(net, wanted)
        images = [i for i, value in enumerate(net.input_values) if len(value.shape) == 4 and value in read]
        if not images:
            raise CaffeportError("preprocessing needs an image input (N, C, H, W), and this net reads none")
        shape = net.input_values[images[0]].shape
        if rgb and shape[1] != 3:
            raise CaffeportError(f"rgb needs an input of 3 channels, and {shape_text(shape)} has {shape[1]}")
        return Preprocessing(images[0], _mean(mean, shape), 1.0 if scale is None else float(scale), rgb)

    def to_json(self) -> str:
        """Describe the steps for the model's metadata: {"rgb", "scale", and "mean" where it is a few numbers}."""
        content: dict[str, Any] = {"rgb": self.rgb, "scale": self.scale}
        if self.mean is None or self.mean.shape[1:] == (1, 1):
            content["mean"] = [] if self.mean is None else self.mean.reshape(-1).tolist()
        return to_json(content, indent=None)

    def applied(self, image: np.ndarray) -> np.ndarray:
        """Return what the net gets of this image (B, C, H, W)."""
        ordered = np.asarray(image, np.float32)[:, ::-1] if self.rgb else np.asarray(image, np.float32)
        centred = ordered if self.mean is None else ordered - self.mean
        return np.ascontiguousarray(centred * np.float32(self.scale), np.float32)

    def undone(self, image: np.ndarray) -> np.ndarray:
        """Return the image that becomes this one (B, C, H, W) by the preprocessing."""
        before = np.asarray(image, np.float64) / self.scale
        if self.mean is not None:
            before = before + self.mean
        return (before[:, ::-1] if self.rgb else before).astype(np.float32)

    def emit(self, g: Emitter, x: Tensor) -> Tensor:
        """Emit ONNX nodes on the input ``x``; return the tensor that the net reads in its place."""
        if self.rgb:
            x = g.reverse(x, [1])
        if self.mean is not None:
            x = g.op("Sub", x, g.const(self.mean))
        return g.mul(x, self.scale)


def _mean(mean: Any, shape: Shape) -> np.ndarray | None:
    if mean is None:
        return None
    try:
        array = np.asarray(mean, np.float32)
    except (TypeError, ValueError) as error:
        raise CaffeportError(f"mean expects numbers, got {mean!r}") from error
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    channels = shape[1]
    if array.size == 1:
        return array.reshape(1, 1, 1)
    if array.size == channels:
        return array.reshape(channels, 1, 1)
    if array.shape == shape[1:]:
        return array
    if array.ndim == 3 and array.shape[0] == channels:
        # A mean image of the size before cropping: Caffe crops it with the image, so its centre fits.
        top, left = ((array.shape[i + 1] - shape[i + 2]) // 2 for i in (0, 1))
        if top >= 0 and left >= 0:
            return array[:, top : top + shape[2], left : left + shape[3]]
    raise CaffeportError(
        f"mean has the shape {shape_text(array.shape)}; expected 1 or {channels} numbers, or {shape_text(shape[1:])}"
    )
