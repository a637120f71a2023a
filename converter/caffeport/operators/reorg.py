"""YOLO's Reorg, which trades height and width for channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class ReorgParameter:
    stride: int | None = None
    reverse: bool = False


@layer_type("Reorg")
class Reorg(Operator):
    """(N, C, H, W) to (N, C s^2, H / s, W / s), or with ``reverse`` to (N, C / s^2, s H, s W); s is the stride.

    As in darknet, whose layer takes (C, H, W) for (C / s^2, s H, s W) and reads it block by block: number (k, j, i) of
    (s^2 groups of C / s^2, H, W) is number (k mod C / s^2, s j + o / s, s i + o mod s), o = k / (C / s^2); what comes
    out so is called (C s^2, H / s, W / s). ``reverse`` writes where the other reads. From intel/caffe and
    eric612/MobileNet-YOLO, include/caffe/layers/reorg_layer.hpp, whose backward pass reads a buffer that nothing
    fills; here gradients pass.
    """

    schemas = {"reorg_param": ReorgParameter}
    bottom_axes = ((4, 4),)

    def setup(self) -> None:
        if (self.p.stride or 0) < 1:
            self.fail(f"expected a positive stride, got {self.p.stride}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        n, c, h, w = bottoms[0]
        s = self.p.stride
        if c % (s * s):
            self.fail(f"expected channels in groups of {s * s}, got {c}")
        if self.p.reverse:
            return [(n, c // (s * s), h * s, w * s)]
        if h % s or w % s:
            self.fail(f"height and width, {h} x {w}, are no multiples of the stride {s}")
        return [(n, c * s * s, h // s, w // s)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Reorg(self.p.stride, self.p.reverse)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        s, channels = self.p.stride, x[0].shape[1]
        if self.p.reverse:
            return g.op("DepthToSpace", x[0], blocksize=s, mode="DCR")
        small, large = self._sizes(g, x[0])
        read = g.op("Reshape", x[0], g.op("Concat", g.ints([0, channels // (s * s)]), large, axis=0))
        read = g.op("SpaceToDepth", read, blocksize=s)
        return g.op("Reshape", read, g.op("Concat", g.ints([0, channels * s * s]), small, axis=0))

    def _sizes(self, g: Emitter, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (height, width) divided by the stride and multiplied with it."""
        s = self.p.stride
        if x.dynamic & {2, 3}:
            size = g.slice(g.op("Shape", x), [0], [2], [4])
            return g.op("Div", size, g.ints([s])), g.op("Mul", size, g.ints([s]))
        return g.ints([size // s for size in x.shape[2:]]), g.ints([size * s for size in x.shape[2:]])
