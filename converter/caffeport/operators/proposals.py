"""Region proposals of an RPN: the Python ProposalLayer of Faster R-CNN and its kin, and the C++ Proposal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..formats.schema import schema
from .anchors import Anchors, half_up_sizes, onnx_decoded, onnx_suppressed, pixel_sizes, rounded_sizes
from .base import Operator, Phase, Shape, count, layer_type, nn
from .detection import onnx_or_else
from .param_str import settings
from .python_layer import PythonParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

MAX_ANCHORS = 1000
"""More than any detector has, and few enough to be tried on any machine."""


def refuse_batches(g: Emitter, scores: Tensor) -> None:
    """Refuse maps of several images, at which Caffe's layers stop when they run."""
    if scores.static(0) != 1:
        g.refuse(f"proposals are made for one image at a time, and its batch is {scores.shape[0]}")


@dataclass(frozen=True)
class Selection:
    """The choice of the boxes that a proposal layer keeps.

    min_size: in pixels of the image before it was scaled; a box with a shorter side is dropped or, with ``keep_small``,
        gets the score 0. pre_top_n and post_top_n: how many are kept before and after suppression; 0: all.
    threshold: the overlap above which the worse box goes; None: nothing is suppressed.
    own_scales: whether im_info has the scale of the height and that of the width; else one for both.
    fallback: the rows that stand for no proposal, if there are such.
    """

    min_size: float
    pre_top_n: int
    post_top_n: int
    threshold: float | None
    keep_small: bool = False
    own_scales: bool = False
    fallback: tuple[float, ...] | None = None


class RegionProposals(Operator):
    """The base of proposal layers: an anchor in every cell is moved by its deltas, clipped to the image, dropped if
    small; the best are taken, and of those that overlap the better one, until there are enough.

    Bottoms: scores (1, 2 A, H, W), the second half for "object"; deltas (1, 4 A, H, W); im_info (1, 3 or more): height
    and width of the image and its scale. Tops: rows [0, x1, y1, x2, y2] and, if asked for, scores. Equal scores are
    ordered by row, column and anchor; Caffe's sort leaves their order open. The declared shape counts as many rows as
    there can be. As in Caffe, a batch of several images is refused only when the layer runs.
    """

    bottoms = (3, 3)
    bottom_axes: ClassVar[tuple[tuple[int, int | None], ...]] = ((4, 4), (4, 4), (1, None))
    tops = (1, 2)
    varying_axis: ClassVar[int | None] = 0
    score_axes: ClassVar[int] = 2
    full_precision = True
    anchors: Anchors

    def selection(self, info: Shape) -> Selection:
        raise NotImplementedError

    def numbers(self, title: str, values: Any) -> list[float]:
        """Read a list of positive numbers, as a field or a setting gives it."""
        values = list(values) if isinstance(values, (list, tuple)) else [values]
        if not values or not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v < math.inf for v in values
        ):
            self.fail(f"expected positive numbers as {title}, got {values}")
        return values

    def check_anchors(self, ratios: list[float], scales: list[float]) -> None:
        if len(ratios) * len(scales) > MAX_ANCHORS:
            self.fail(f"{len(ratios)} ratios with {len(scales)} scales are too many anchors for one cell")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        scores, deltas, info = bottoms
        anchors = len(self.anchors)
        if (scores[1], deltas[1]) != (2 * anchors, 4 * anchors) or scores[:1] + scores[2:] != deltas[:1] + deltas[2:]:
            self.fail(
                f"expected scores (1, {2 * anchors}, H, W) and deltas (1, {4 * anchors}, H, W) for {anchors} anchors, "
                f"got {scores} and {deltas}"
            )
        if count(info) < 3:
            self.fail(f"expected im_info with height, width and scale, got {info}")
        selection = self.selection(info)
        rows = anchors * count(scores, 2)
        for most in (selection.pre_top_n, selection.post_top_n):
            rows = min(rows, most) if most > 0 else rows
        return [(rows, 5), (rows, 1)[: self.score_axes]][: self.context.num_tops]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 0:
            return random.random(shape)
        if index == 1:
            return random.standard_normal(shape) * 0.2
        return np.resize([224.0, 224.0, 1.0, 1.0], count(shape)).reshape(shape)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.RegionProposals(self.anchors, self.selection(bottoms[2]), self.context.num_tops, self.score_axes)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor | list[Tensor]:
        anchors, chosen = len(self.anchors), self.selection(x[2].shape)
        refuse_batches(g, x[0])
        info = g.op("Reshape", x[2], g.ints([-1]))
        limit = g.add(g.op("Gather", info, g.ints([1, 0]), axis=0), -1.0)
        scale = g.op("Gather", info, g.ints([3, 2] if chosen.own_scales else [2, 2]), axis=0)
        low, high = onnx_decoded(g, self.anchors, x[1], limit)
        sides = g.add(g.op("Sub", high, low), 1.0)
        large = g.cast(g.op("GreaterOrEqual", sides, g.mul(scale, chosen.min_size)), "float")
        large = g.op("Reshape", g.reduce("ReduceMin", large, [4], keepdims=False), g.ints([-1]))
        boxes = g.op("Reshape", g.op("Concat", low, high, axis=4), g.ints([-1, 4]))
        scores = g.op("Transpose", g.slice(x[0], [1], [anchors], [2 * anchors]), perm=[0, 2, 3, 1])
        scores = g.op("Reshape", scores, g.ints([-1]))
        if chosen.keep_small:
            scores = g.op("Mul", scores, large)
        else:
            places = g.op("Reshape", g.op("NonZero", large), g.ints([-1]))
            boxes, scores = (g.op("Gather", array, places, axis=0) for array in (boxes, scores))
        total = g.op("Shape", scores)
        if chosen.pre_top_n > 0:
            total = g.op("Min", total, g.ints([chosen.pre_top_n]))
        scores, best = g.ops("TopK", 2, scores, total)
        boxes = g.op("Gather", boxes, best, axis=0)
        if chosen.threshold is not None:
            indices = onnx_suppressed(g, boxes, total, chosen.threshold, chosen.post_top_n)
            boxes, scores = (g.op("Gather", array, indices, axis=0) for array in (boxes, scores))
        elif chosen.post_top_n > 0:
            boxes, scores = (g.slice(array, [0], [0], [chosen.post_top_n]) for array in (boxes, scores))
        rows = g.pad(boxes, [0, 1], [0, 0])
        if chosen.fallback is not None:
            rows = onnx_or_else(g, rows, g.const([chosen.fallback]), g.ints([1]))
        if self.score_axes == 2:
            scores = g.unsqueeze(scores, [1])
        return [rows, scores][: self.context.num_tops]


class PythonProposals(RegionProposals):
    """A proposal layer whose settings stand in param_str, and its limits in the Python code's configuration."""

    schemas = {"python_param": PythonParameter}
    known_settings: ClassVar[tuple[str, ...]] = ("feat_stride", "scales", "ratios", "base_size")

    def setup(self) -> None:
        values = settings(self.p.param_str)
        if values is None:
            self.fail(f"param_str is no dictionary of settings: {self.p.param_str!r}")
        self.settings = values
        unknown = [name for name in values if name not in self.known_settings]
        if unknown:
            self.fail(
                f'param_str has the setting "{unknown[0]}", which is not known here (known: '
                f"{', '.join(self.known_settings)}); an operator class of your own can read it (custom_layers=[...])"
            )
        if "feat_stride" not in values:
            self.fail("expected feat_stride in param_str")
        (stride,) = self.numbers("feat_stride", values["feat_stride"])
        (base_size,) = self.numbers("base_size", values.get("base_size", 16))
        ratios = self.numbers("ratios", values.get("ratios", [0.5, 1, 2]))
        scales = self.numbers("scales", values.get("scales", [8, 16, 32]))
        self.check_anchors(ratios, scales)
        self.anchors = Anchors(rounded_sizes(base_size, ratios, scales), base_size, stride)


@layer_type("Python:ProposalLayer")
class ProposalLayer(PythonProposals):
    """Proposals of Faster R-CNN and R-FCN; rbgirshick/py-faster-rcnn ``lib/rpn/proposal_layer.py``.

    param_str: feat_stride, scales, ratios, base_size. The limits are options (``layer_options``) with the names and
    defaults of the Python configuration: rpn_pre_nms_top_n (6000; 12000 in the TRAIN phase), rpn_post_nms_top_n (300;
    2000), rpn_nms_thresh (0.7), rpn_min_size (16). No gradient passes.
    """

    option_names = ("rpn_pre_nms_top_n", "rpn_post_nms_top_n", "rpn_nms_thresh", "rpn_min_size")

    def selection(self, info: Shape) -> Selection:
        train = self.phase is Phase.TRAIN
        return Selection(
            min_size=self.option("rpn_min_size", 16.0),
            pre_top_n=self.option("rpn_pre_nms_top_n", 12000 if train else 6000),
            post_top_n=self.option("rpn_post_nms_top_n", 2000 if train else 300),
            threshold=self.option("rpn_nms_thresh", 0.7),
        )


@layer_type("Python:pylayer.proposal_layer.ProposalLayer")
class CascadeProposalLayer(ProposalLayer):
    """The same of Multi-task Network Cascades; daijifeng001/MNC ``lib/pylayer/proposal_layer.py``.

    The anchors are fixed; use_clip, clip_base and gradient_scale are for its backward pass, which nothing here has, so
    that it is for the TEST phase alone.
    """

    known_settings = ("feat_stride", "use_clip", "clip_base", "gradient_scale")

    def setup(self) -> None:
        super().setup()
        if self.phase is Phase.TRAIN:
            self.fail("its gradient to the boxes, which it defines by itself, is not supported; load the TEST phase")


@layer_type("Python:SSH.layers.proposal_layer.ProposalLayer")
class SSHProposalLayer(PythonProposals):
    """Faces of one detection module; mahyarnajibi/SSH ``SSH/layers/proposal_layer.py``.

    In the TEST phase the n_dets_per_module (1000) best are given without suppression; in the TRAIN phase
    anchor_n_pre_nms (1000), nms_thresh (0.3) and anchor_n_post_nms (300) hold. anchor_min_size is 0, and 4 in training.
    Where nothing is left the rows are [0, 0, 0, 16, 16].
    """

    option_names = ("n_dets_per_module", "anchor_min_size", "anchor_n_pre_nms", "anchor_n_post_nms", "nms_thresh")

    def selection(self, info: Shape) -> Selection:
        nothing = (0.0, 0.0, 0.0, 16.0, 16.0)
        if self.phase is Phase.TEST:
            most = self.option("n_dets_per_module", 1000)
            return Selection(self.option("anchor_min_size", 0.0), most, 0, None, fallback=nothing)
        return Selection(
            min_size=self.option("anchor_min_size", 4.0),
            pre_top_n=self.option("anchor_n_pre_nms", 1000),
            post_top_n=self.option("anchor_n_post_nms", 300),
            threshold=self.option("nms_thresh", 0.3),
            fallback=nothing,
        )


@schema
class ProposalParameter:
    feat_stride: int = 16
    base_size: int = 16
    min_size: int = 16
    ratio: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)
    pre_nms_topn: int = 6000
    post_nms_topn: int = 300
    nms_thresh: float = 0.7


@layer_type("Proposal")
class Proposal(RegionProposals):
    """The C++ layer of PVANET, luoyetx/mini-caffe, intel/caffe (``proposal_layer.cpp``), with the limits in its text.

    A box with a short side gets the score 0 and stays. im_info with four numbers or more has the scales of height and
    width. The second top is (R,). The scales multiply the base box, save with the option ``proposal_scale_in_pixels``
    set to 1: in happynear/caffe-windows they are sides in pixels.
    """

    schemas = {"proposal_param": ProposalParameter}
    score_axes = 1
    option_names = ("proposal_scale_in_pixels",)

    def setup(self) -> None:
        p = self.p
        if min(p.feat_stride, p.base_size, p.pre_nms_topn, p.post_nms_topn) < 1 or not p.nms_thresh >= 0:
            self.fail(f"expected a positive feat_stride, base_size, pre_nms_topn and post_nms_topn, got {p}")
        ratios, scales = self.numbers("ratio", p.ratio), self.numbers("scale", p.scale)
        self.check_anchors(ratios, scales)
        sizes = pixel_sizes if self.option("proposal_scale_in_pixels", 0) else half_up_sizes
        self.anchors = Anchors(sizes(p.base_size, ratios, scales), p.base_size, p.feat_stride)

    def selection(self, info: Shape) -> Selection:
        p = self.p
        return Selection(
            p.min_size, p.pre_nms_topn, p.post_nms_topn, p.nms_thresh, keep_small=True, own_scales=count(info) >= 4
        )
