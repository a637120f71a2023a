"""Multi-task Network Cascades: features warped from regions, and its Python layers between the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Operator, Phase, Shape, count, layer_type, nn
from .cascade import RowBoxes
from .python_layer import PythonParameter
from .region_pooling import RegionBins, onnx_rounded
from .region_sampling import onnx_sampled

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class ROIWarpingParameter:
    pooled_h: int = 0
    pooled_w: int = 0
    spatial_scale: float = 1.0


@layer_type("ROIWarping")
class ROIWarping(RegionBins):
    """The largest of bilinear samples of each of pooled_h x pooled_w bins of every region; (R, C, pooled_h, pooled_w).

    Corners are scaled and rounded (halves away from 0). A bin is sampled at both ends and in steps between, as many as
    it is places long, rounded up; samples more than half a place outside the map do not count, and a bin without any is
    0. No gradient reaches the regions. daijifeng001/caffe-mnc ``roi_warping_layer.cu``. The ONNX file holds the samples
    of all regions at once.
    """

    schemas = {"roi_warping_param": ROIWarpingParameter}

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        self.check(bottoms)
        return [(bottoms[1][0], bottoms[0][1], self.p.pooled_h, self.p.pooled_w)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.ROIWarping((self.p.pooled_h, self.p.pooled_w), self.p.spatial_scale)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        p = self.p
        image, low, high = g.split(self.onnx_regions(g, x[1]), 1, [1, 2, 2], 3)
        start, end = (onnx_rounded(g, g.mul(corner, p.spatial_scale)) for corner in (low, high))
        size = g.op("Max", g.op("Sub", end, start), g.const(0.0))
        sizes = g.op("Shape", x[0])
        points, counted, lengths = [], [], []
        for axis, bins in ((1, p.pooled_h), (0, p.pooled_w)):
            own, first = (g.slice(array, [1], [axis], [axis + 1]) for array in (size, start))  # (R, 1)
            steps = g.op("Ceil", g.op("Div", own, g.const(bins)))
            most = g.op("Concat", g.op("Reshape", steps, g.ints([-1])), g.const([1.0]), axis=0)
            most = g.op("Reshape", g.cast(g.reduce("ReduceMax", most, [0]), "int64"), g.ints([1]))
            # A region without length has one sample a bin: its steps are as good as endless.
            step = g.op("Div", g.const(1.0), g.op("Max", steps, g.const(1e-30)))
            rows = g.op("Shape", own)
            shape = g.op("Concat", g.slice(rows, [0], [0], [1]), g.ints([bins]), most, axis=0)
            ones = g.op("Expand", g.const(1.0), shape)
            each = g.op("Mul", ones, g.unsqueeze(step, [2]))  # (R, bins, steps)
            number = np.arange(bins, dtype=np.float32)[None, :, None]
            begin = g.op("Add", g.op("Mul", g.slice(each, [2], [0], [1]), g.const(0.0)), g.const(number))
            place = g.op("CumSum", g.op("Concat", begin, each, axis=2), g.const(2, np.int64))
            inside = g.op("LessOrEqual", place, g.const(number + 1))
            length = g.unsqueeze(g.op("Div", own, g.const(bins)), [2])
            point = g.op("Add", g.unsqueeze(first, [2]), g.op("Mul", place, length))
            point = g.op("Where", inside, point, g.const(-1.0))
            limit = g.add(g.cast(g.op("Gather", sizes, g.ints([2 if axis else 3]), axis=0), "float"), -0.5)
            near = g.op("And", g.op("GreaterOrEqual", point, g.const(-0.5)), g.op("LessOrEqual", point, limit))
            points.append(g.op("Reshape", point, g.ints([0, -1])))
            counted.append(near)
            lengths.append(g.op("Add", most, g.ints([1])))
        values = onnx_sampled(g, x[0], image, *points)
        shape = g.op("Concat", g.ints([0, 0, p.pooled_h]), lengths[0], g.ints([p.pooled_w]), lengths[1], axis=0)
        values = g.op("Reshape", values, shape)
        covered = g.op("And", g.unsqueeze(counted[0], [1, 4, 5]), g.unsqueeze(counted[1], [1, 2, 3]))
        values = g.op("Where", covered, values, g.const(float(np.finfo(np.float32).min)))
        best = g.reduce("ReduceMax", values, [3, 5], keepdims=False)
        some = g.reduce("ReduceMax", g.cast(covered, "float"), [3, 5], keepdims=False)
        return g.op("Where", g.op("Greater", some, g.const(0.0)), best, g.const(0.0))


class TestPhaseLayer(Operator):
    """A Python layer of the cascade that is known in the TEST phase alone."""

    schemas = {"python_param": PythonParameter}

    def setup(self) -> None:
        if self.phase is Phase.TRAIN:
            self.fail("what it does in training is not supported; load the TEST phase")


@layer_type("Python:pylayer.mask_layer.MaskLayer")
class MaskLayer(TestPhaseLayer):
    """Masks (R, S S) as maps (R, 1, S, S); S is the option mask_size (21).

    daijifeng001/MNC ``lib/pylayer/mask_layer.py``, in the TEST phase.
    """

    option_names = ("mask_size",)
    bottom_axes = ((2, 4),)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        side = self.option("mask_size", 21)
        if side < 1 or count(bottoms[0], 1) != side * side:
            self.fail(f"expected masks of {side} x {side} numbers (layer option mask_size), got {bottoms[0]}")
        return [(bottoms[0][0], 1, side, side)]

    def module(self, bottoms: list[Shape]) -> Any:
        side = self.option("mask_size", 21)
        return nn.Reshape([0, 1, side, side], 0, len(bottoms[0]))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        side = self.option("mask_size", 21)
        return g.op("Reshape", x[0], g.ints([-1, 1, side, side]))


@layer_type("Python:pylayer.stage_bridge_layer.StageBridgeLayer")
class StageBridgeLayer(RowBoxes, TestPhaseLayer):
    """The regions (R, 5) of the next stage: each moved by the deltas (R, 4 K) of its best class (R, K), and clipped.

    Of equal scores the first class is the best. The last bottom is im_info. daijifeng001/MNC
    ``lib/pylayer/stage_bridge_layer.py``, in the TEST phase. No gradient passes.
    """

    bottoms = (4, 4)
    bottom_axes = ((2, 4), (2, 4), (2, 4), (1, None))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        classes = count(bottoms[2], 1)
        self.rows("deltas", bottoms[1], 4 * classes)
        rows = self.rows("regions", bottoms[0], 5)
        if bottoms[1][0] != rows or bottoms[2][0] != rows or count(bottoms[3]) < 2:
            self.fail(f"expected as many rows of regions, deltas and scores, and im_info, got {bottoms}")
        return [(rows, 5)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 0:
            return self.sample_regions(shape, random)
        return np.resize([224.0, 224.0, 1.0], count(shape)).reshape(shape) if index == 3 else None

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.StageBridge()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        classes = count(x[2].shape, 1)
        regions = g.op("Reshape", x[0], g.ints([-1, 5]))
        _, low, high = g.split(regions, 1, [1, 2, 2], 3)
        best = g.op("ArgMax", g.op("Reshape", x[2], g.ints([-1, classes])), axis=1, keepdims=1)
        deltas = g.op("GatherND", g.op("Reshape", x[1], g.ints([-1, classes, 4])), best, batch_dims=1)
        move, grow = g.split(deltas, 1, [2, 2], 2)
        size = g.add(g.op("Sub", high, low), 1.0)
        center = g.op("Add", g.op("Mul", move, size), g.op("Add", low, g.mul(size, 0.5)))
        half = g.mul(g.op("Mul", g.op("Exp", grow), size), 0.5)
        boxes = g.op("Concat", g.op("Sub", center, half), g.op("Add", center, half), axis=1)
        limit = g.add(g.op("Gather", g.op("Reshape", x[3], g.ints([-1])), g.ints([1, 0, 1, 0]), axis=0), -1.0)
        return g.pad(g.op("Max", g.op("Min", boxes, limit), g.const(0.0)), [0, 1], [0, 0])
