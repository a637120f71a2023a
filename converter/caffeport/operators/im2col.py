"""Im2col: the windows of a convolution as columns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import InPlace, Shape, layer_type, nn
from .convolution import PadType, Windowed

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@layer_type("Im2col")
class Im2col(Windowed):
    """Every window as a column: (N, C * kernel, positions...)"""

    in_place = InPlace.OTHER_GRADIENT
    bottoms = (1, 1)
    tops = (1, 1)

    def setup(self) -> None:
        super().setup()
        if self.sides or self.p.pad_type is PadType.SAME:
            self.fail("expected pad, or pad_h and pad_w; other pads are for convolutions only")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        axis = self.channel_axis(bottoms[0])
        window = self.window(bottoms[0])
        if not window.kernel:
            self.fail(f"expected a bottom with axes after the channels (axis {axis}), got {bottoms[0]}")
        channels = bottoms[0][axis] * math.prod(window.kernel)
        return [(*bottoms[0][:axis], channels, *window.slide(bottoms[0][axis + 1 :]))] * len(bottoms)

    def module(self, bottoms: list[Shape]) -> Any:
        if len(self.window(bottoms[0]).kernel) > 3:
            self.fail(f"torch has no convolution over {len(self.window(bottoms[0]).kernel)} spatial axes, only up to 3")
        return nn.Im2col(self.window(bottoms[0]), self.channel_axis(bottoms[0]))

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        # A grouped convolution with one-hot kernels picks each position of the window in turn.
        tops = []
        for bottom, top in zip(x, g.tops, strict=True):
            axis, window = self.channel_axis(bottom.shape), self.window(bottom.shape)
            channels, size = bottom.static(axis), math.prod(window.kernel)
            one_hot = np.tile(np.eye(size).reshape(size, 1, *window.kernel), (channels, 1, *[1] * len(window.kernel)))
            image = bottom
            if axis != 1:
                for i in range(bottom.rank):
                    bottom.static(i)
                image = g.op("Reshape", bottom, g.ints(list(self.flat(bottom.shape))))
            columns = g.op(
                "Conv",
                image,
                g.const(one_hot),
                kernel_shape=list(window.kernel),
                strides=list(window.stride),
                pads=[*window.pad, *window.pad],
                dilations=list(window.dilation),
                group=channels,
            )
            tops.append(columns if axis == 1 else g.op("Reshape", columns, g.ints(list(top.shape))))
        return tops
