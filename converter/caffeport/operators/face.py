"""The NormFace layers that a deployed net may hold: normalisation, distances, mirroring, margins."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import BlobSpec, InPlace, Operator, Shape, count, layer_type, nn
from .fillers import FillerParameter
from .inner_product import NORMALIZE_EPS, onnx_unit_rows

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


def wants_derivative(layer: Operator) -> bool:
    """Whether the layer's gradient is to be the derivative: asked for in its text, or of the whole net by load()."""
    return bool(layer.context.options.get("exact_gradients") or getattr(layer.p, "exact_gradient", False))


@schema
class NormalizeParameter:
    """Of the NormFace fork (happynear/caffe-windows); eps is this project's own."""

    normalize_type: str = "L2"
    fix_gradient: bool = False
    bp_norm: bool = False
    eps: float = NORMALIZE_EPS


@schema
class NormalizeBBoxParameter:
    """Of SSD (weiliu89/caffe)."""

    across_spatial: bool = True
    scale_filler: FillerParameter = field(default_factory=lambda: FillerParameter(value=1.0))
    channel_shared: bool = True
    eps: float = 1e-10


@layer_type("Normalize")
class Normalize(Operator):
    """Two layers of one name, told apart by their message or, without one, by a stored blob.

    NormFace (normalize_param, no blob): over axis 1, L2: x / sqrt(sum x^2 + eps), L1: x / (sum |x| + eps), eps 1e-6;
    the top has four axes, (N, C, 1, 1) for a 2-D bottom; a second top is the norm (N, 1, H, W), whose
    gradient counts only with bp_norm. fix_gradient leaves the gradient undivided by the norm.

    SSD (norm_param, one blob): x / sqrt(sum x^2 + eps) * scale, over axis 1 or the whole image.
    """

    schemas = {"normalize_param": NormalizeParameter, "norm_param": NormalizeBBoxParameter}
    full_precision = True
    tops = (1, 2)
    bottom_axes = ((2, 4),)

    def setup(self) -> None:
        given = self.context.messages
        if len(given) == 2:
            self.fail("expected normalize_param (NormFace) or norm_param (SSD), got both")
        self.is_ssd = "norm_param" in given or (not given and len(self.context.stored_shapes or ()) == 1)
        self.ssd = self.message("norm_param")
        if self.is_ssd:
            self.in_place = InPlace.OTHER_GRADIENT
        if self.p.normalize_type not in ("L1", "L2"):
            self.fail(f'expected normalize_type "L1" or "L2", got "{self.p.normalize_type}"')
        if not self.p.eps > 0:
            self.fail(f"expected an eps above 0, which zero vectors need, got {self.p.eps:g}")
        if self.is_ssd and self.context.num_tops != 1:
            self.fail("SSD's form (norm_param) has one top")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,) = bottoms
        if self.is_ssd:
            return [bottom]
        top = (*bottom, *[1] * (4 - len(bottom)))
        return [top, (top[0], 1, *top[2:])][: self.context.num_tops]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        if not self.is_ssd:
            return []
        shape = () if self.ssd.channel_shared else bottoms[0][1:2]
        if self.ssd.channel_shared and self.context.stored_shapes == ((1,),):
            shape = (1,)
        return [BlobSpec("weight", shape, self.ssd.scale_filler)]

    def module(self, bottoms: list[Shape]) -> Any:
        if self.is_ssd:
            return nn.SSDNormalize(self.ssd.across_spatial, self.ssd.eps)
        p = self.p
        return nn.Normalize(p.normalize_type, p.eps, p.fix_gradient, p.bp_norm, self.context.num_tops == 2)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor | list[Tensor]:
        if self.is_ssd:
            return self._onnx_ssd(g, x[0])
        image = g.unsqueeze(x[0], range(x[0].rank, 4))
        if self.p.normalize_type == "L2":
            norm = g.op("Sqrt", g.add(g.reduce("ReduceSumSquare", image, [1]), self.p.eps))
        else:
            norm = g.add(g.reduce("ReduceL1", image, [1]), self.p.eps)
        return [g.op("Div", image, norm), norm][: self.context.num_tops]

    def _onnx_ssd(self, g: Emitter, x: Tensor) -> Tensor:
        axes = range(1, x.rank) if self.ssd.across_spatial else [1]
        norm = g.op("Sqrt", g.add(g.reduce("ReduceSumSquare", x, axes), self.ssd.eps))
        shape = (1,) if self.ssd.channel_shared else (x.shape[1], *[1] * (x.rank - 2))
        return g.op("Mul", g.op("Div", x, norm), g.blob(0, shape))


@schema
class InnerDistanceParameter:
    num_output: int = 0
    bias_term: bool = True  # unused, as in the fork
    weight_filler: FillerParameter = field(default_factory=FillerParameter)
    bias_filler: FillerParameter = field(default_factory=FillerParameter)
    axis: int = 1
    transpose: bool = False  # unused, as in the fork
    distance_type: str = "L2"
    normalize: bool = False
    update_center_only: bool = False
    normalize_eps: float = NORMALIZE_EPS
    exact_gradient: bool = False


@layer_type("InnerDistance")
class InnerDistance(Operator):
    """Distances of every x to every row w of the weight: sum (x - w)^2 ("L2", squared) or sum |x - w| ("L1").

    The weight (num_output, K) is learned, or the second bottom. ``normalize`` divides its rows by their
    length as InnerProduct's does. With update_center_only a sample's part of the weight's gradient goes to the row of
    its label only, and x's gradient stays whole; the last bottom then holds the labels, after x or x and W. The fork's
    gradient of L1 is wrong (see nn.face.ForkL1Distance); it is repeated unless the text says exact_gradient or
    the net is loaded with exact_gradients.
    """

    schemas = {"inner_distance_param": InnerDistanceParameter}
    full_precision = True
    bottoms = (1, 3)
    bottom_axes = ((1, None),)

    def setup(self) -> None:
        bottoms, labelled = self.context.num_bottoms, self.p.update_center_only
        if labelled and bottoms < 2:
            self.fail(
                "update_center_only takes the labels as the last bottom: expected (x, labels) or (x, W, labels), "
                "got one bottom"
            )
        if not labelled and bottoms > 2:
            self.fail("labels as bottom 2 are for update_center_only")
        self.has_weight = bottoms - labelled == 1
        if self.p.distance_type not in ("L1", "L2"):
            self.fail(f'expected distance_type "L1" or "L2", got "{self.p.distance_type}"')
        if self.has_weight and self.p.num_output < 1:
            self.fail(f"expected a num_output of 1 or more, got {self.p.num_output}")

    def sizes(self, bottoms: list[Shape]) -> tuple[int, int, int]:
        """(axis, K, outputs)"""
        axis = self.axis(self.p.axis, len(bottoms[0]))
        return axis, count(bottoms[0], axis), self.p.num_output if self.has_weight else bottoms[1][0]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        axis, size, outputs = self.sizes(bottoms)
        if not self.has_weight and count(bottoms[1]) != outputs * size:
            self.fail(f"bottom 1, the weight, has {count(bottoms[1])} numbers; expected {outputs} x {size}")
        rows = count(bottoms[0], 0, axis)
        if self.p.update_center_only and count(bottoms[-1]) != rows:
            self.fail(f"expected {rows} labels for a bottom {bottoms[0]} and axis {axis}, got {bottoms[-1]}")
        return [(*bottoms[0][:axis], outputs)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        is_label = self.p.update_center_only and index == self.context.num_bottoms - 1
        return random.integers(0, 1 + (self.p.num_output > 1), shape) if is_label else None

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        _, size, outputs = self.sizes(bottoms)
        return [BlobSpec("weight", (outputs, size), self.p.weight_filler)] if self.has_weight else []

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        return count(tops[0]) * self.sizes(bottoms)[1]

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        eps = p.normalize_eps if p.normalize and self.has_weight else None
        axis = self.axis(p.axis, len(bottoms[0]))
        return nn.InnerDistance(p.distance_type, axis, eps, p.update_center_only, wants_derivative(self))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        axis, size, outputs = self.sizes([bottom.shape for bottom in x])
        flat = g.flatten_to_2d(x[0], axis)
        if not self.has_weight:
            weight = x[1] if x[1].rank == 2 else g.op("Reshape", x[1], g.ints([outputs, size]))
        else:
            weight = onnx_unit_rows(g, (outputs, size), self.p.normalize_eps) if self.p.normalize else g.blob(0)
        if self.p.distance_type == "L1":
            apart = g.op("Sub", g.unsqueeze(flat, [1]), g.unsqueeze(weight, [0]))
            distances = g.reduce("ReduceL1", apart, [2], keepdims=False)
        else:
            # |x|^2 + |w|^2 - 2 x.w: no (N, outputs, K) intermediate.
            lengths = g.reduce("ReduceSumSquare", weight, [1], keepdims=False)
            crossed = g.op("Gemm", flat, weight, lengths, alpha=-2.0, transB=1)
            distances = g.op("Add", crossed, g.reduce("ReduceSumSquare", flat, [1]))
            distances = g.op("Max", distances, g.const(0.0))
        return distances if axis == 1 else g.reshape(distances, g.tops[0])


@schema
class FlipParameter:
    flip_width: bool = True
    flip_height: bool = False


@layer_type("Flip")
class Flip(Operator):
    """The image mirrored along its width, its height, or both"""

    in_place = InPlace.REFUSED
    schemas = {"flip_param": FlipParameter}
    bottom_axes = ((4, 4),)

    def axes(self) -> list[int]:
        return [axis for axis, wanted in ((2, self.p.flip_height), (3, self.p.flip_width)) if wanted]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Flip(self.axes())

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.reverse(x[0], self.axes()) if self.axes() else x[0]


class LabelSpecific(Operator):
    """What changes the score of the label's class, while training; a deployed net passes scores through."""

    bottoms = (2, 2)
    onnx_support = "passes scores through"
    full_precision = True
    bottom_axes = ((2, None), (0, None))
    in_test = ""  # the parameter that makes it act in the TEST phase too

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        scores, labels = bottoms
        if count(labels) != scores[0]:
            self.fail(f"expected scores (N, C) and N labels, got {scores} and {labels}")
        return [scores, (1,)][: self.context.num_tops]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.integers(0, 2, shape) if index == 1 else None

    def classes(self, bottoms: list[Shape]) -> int | None:
        return count(bottoms[0], 1)

    def acts_in_test(self) -> bool:
        return bool(self.in_test and getattr(self.p, self.in_test))

    def has_onnx(self) -> bool:
        return not self.acts_in_test() and self.context.num_tops == 1

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if self.acts_in_test():
            g.refuse(f"with {self.in_test} it needs labels")
        if self.context.num_tops > 1:
            g.refuse("its second top is for training")
        return x[0]


@schema
class LabelSpecificAddParameter:
    bias: float = 0.0
    transform_test: bool = False
    bias_base: float | None = None
    bias_gamma: float = 0.0
    bias_power: float = 1.0
    bias_min: float = 0.0
    bias_max: float = 0.0
    iteration: int = 0


@layer_type("LabelSpecificAdd")
class LabelSpecificAdd(LabelSpecific):
    """cos_y + bias for the label's class y where cos_y > -bias (AM-Softmax's margin); identity gradient.

    With bias_base the bias is bias_base + (1 + bias_gamma t)^bias_power - 1 within bias_min and bias_max,
    t the training passes from ``iteration`` on, the first one being ``iteration`` itself. A second top
    gives the bias. Acts in the TRAIN phase only. transform_test (the fork has the field, without effect): acts in
    the TEST phase too, with ``bias``.
    """

    schemas = {"label_specific_add_param": LabelSpecificAddParameter}
    tops = (1, 2)
    in_test = "transform_test"

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        anneal = None
        if p.bias_base is not None:
            anneal = (p.bias_base, p.bias_gamma, p.bias_power, p.bias_min, p.bias_max)
        return nn.LabelSpecificAdd(p.bias, anneal, p.iteration, self.context.num_tops == 2, p.transform_test)
