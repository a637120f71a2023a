"""Text proposals of CTPN: narrow boxes of many heights, all of them, for the text lines that are built of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Operator, Shape, count, layer_type, nn
from .detection import onnx_range
from .param_str import settings
from .proposals import refuse_batches
from .python_layer import PythonParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

HEIGHTS = (11, 16, 23, 33, 48, 68, 97, 139, 198, 283)
WIDTH = 16


def text_anchors() -> np.ndarray:
    """Return the corners (10, 4) of the anchors of the first place; half sizes and corners are cut to whole numbers."""
    middle = (WIDTH - 1) / 2
    corners = [[middle - WIDTH // 2, middle - h // 2, middle + WIDTH // 2, middle + h // 2] for h in HEIGHTS]
    return np.trunc(corners)


@layer_type("Python:layers.text_proposal_layer.ProposalLayer")
class TextProposals(Operator):
    """Boxes [x1, y1, x2, y2] (10 H W, 4) and their scores (10 H W, 1), by row, column and anchor.

    Deltas (1, 20, H, W) move an anchor's middle by a share of its height and stretch that height; x stays. Boxes are
    clipped to the image. Bottoms are scores (1, 20, H, W), the second half for "text", deltas, and im_info. No gradient
    passes. tianzhi0549/CTPN ``src/layers/text_proposal_layer.py``.
    """

    schemas = {"python_param": PythonParameter}
    bottoms = (3, 3)
    bottom_axes = ((4, 4), (4, 4), (1, None))
    tops = (2, 2)
    full_precision = True

    def setup(self) -> None:
        values = settings(self.p.param_str)
        if values is None or list(values) != ["feat_stride"]:
            self.fail(f"expected feat_stride in param_str and no other setting, got {self.p.param_str!r}")
        self.stride = values["feat_stride"]
        if isinstance(self.stride, bool) or not isinstance(self.stride, int) or self.stride < 1:
            self.fail(f"expected a positive whole number as feat_stride, got {self.stride!r}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        scores, deltas, info = bottoms
        channels = 2 * len(HEIGHTS)
        if scores[1] != channels or deltas != scores or count(info) < 2:
            self.fail(f"expected scores and deltas of (1, {channels}, H, W) and im_info, got {bottoms}")
        rows = len(HEIGHTS) * count(scores, 2)
        return [(rows, 4), (rows, 1)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return np.resize([224.0, 224.0, 1.0], count(shape)).reshape(shape) if index == 2 else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.TextProposals(self.stride)

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        refuse_batches(g, x[0])
        anchors, count = text_anchors(), len(HEIGHTS)
        deltas = g.op("Transpose", x[1], perm=[0, 2, 3, 1])
        sizes = g.op("Shape", deltas)
        deltas = g.op("Reshape", deltas, g.ints([0, 0, 0, count, 2]))
        move, grow = g.split(deltas, 4, [1, 1], 2)  # (1, H, W, 10, 1)
        shifts = []
        for axis, shape in ((2, [1, 1, -1, 1, 1]), (1, [1, -1, 1, 1, 1])):
            places = g.cast(onnx_range(g, g.op("Gather", sizes, g.ints([axis]), axis=0)), "float")
            shifts.append(g.op("Reshape", g.mul(places, self.stride), g.ints(shape)))
        height = (anchors[:, 3] - anchors[:, 1] + 1)[:, None]
        tall = g.op("Mul", g.op("Exp", grow), g.const(height))
        middle = g.op("Add", shifts[1], g.const((anchors[:, 1:2] + anchors[:, 3:4]) / 2))
        top = g.op("Sub", g.op("Add", g.op("Mul", move, g.const(height)), middle), g.mul(tall, 0.5))
        zeros = g.op("Mul", move, g.const(0.0))  # as many places as there are
        left, right = (g.op("Add", g.op("Add", shifts[0], g.const(anchors[:, i : i + 1])), zeros) for i in (0, 2))
        boxes = g.op("Concat", left, top, right, g.op("Add", top, tall), axis=4)
        limit = g.add(g.op("Gather", g.op("Reshape", x[2], g.ints([-1])), g.ints([1, 0, 1, 0]), axis=0), -1.0)
        boxes = g.op("Max", g.op("Min", boxes, limit), g.const(0.0))
        scores = g.op("Transpose", g.slice(x[0], [1], [count], [2 * count]), perm=[0, 2, 3, 1])
        return [g.op("Reshape", boxes, g.ints([-1, 4])), g.op("Reshape", scores, g.ints([-1, 1]))]
