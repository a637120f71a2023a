"""SSD's last layer, which decodes boxes and keeps the best."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CaffeportWarning
from ..formats.schema import Word, schema
from .base import Operator, Shape, count, layer_type, nn
from .detection_sources import Sources

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

FLOAT_MIN = float(np.finfo(np.float32).min)


class CodeType(enum.Enum):
    CORNER = 1
    CENTER_SIZE = 2
    CORNER_SIZE = 3


@schema
class NonMaximumSuppressionParameter:
    nms_threshold: float = 0.3
    top_k: int = -1
    eta: float = 1.0


@schema
class ResizeParameter:
    """The way in which images were resized that the detections, if saved to files, are mapped back to."""

    prob: float = 1.0
    resize_mode: Word = Word()
    height: int = 0
    width: int = 0
    height_scale: int = 0
    width_scale: int = 0
    pad_mode: Word = Word()
    pad_value: list[float] = field(default_factory=list)
    interp_mode: list[Word] = field(default_factory=list)


@schema
class SaveOutputParameter:
    output_directory: str = ""
    output_name_prefix: str = ""
    output_format: str = ""
    label_map_file: str = ""
    name_size_file: str = ""
    num_test_image: int = 0
    resize_param: ResizeParameter = field(default_factory=ResizeParameter)


@schema
class DetectionOutputParameter:
    num_classes: int | None = None
    share_location: bool = True
    background_label_id: int = 0
    nms_param: NonMaximumSuppressionParameter = field(default_factory=NonMaximumSuppressionParameter)
    save_output_param: SaveOutputParameter = field(default_factory=SaveOutputParameter)
    code_type: CodeType = CodeType.CORNER
    variance_encoded_in_target: bool = False
    keep_top_k: int = -1
    confidence_threshold: float = FLOAT_MIN
    visualize: bool = False
    visualize_threshold: float = 0.6
    save_file: str = ""
    objectness_score: float = 0.01  # RefineDet's
    nbottom: int = 6  # this and what follows: Synopsys' fork
    ratio_permute: bool = False
    no_permute: bool = False
    ratio0: int = 3
    ratio1: int = 6
    ratio2: int = 6
    ratio3: int = 6
    ratio4: int = 6
    ratio5: int = 6


@layer_type("DetectionOutput")
class DetectionOutput(Operator):
    """Rows [image, label, score, x1, y1, x2, y2] from offsets (N, 4 P), scores (N, P C) and priors; of SSD.

    Boxes are decoded by code_type and not clipped. For every image and class but the background: the top_k
    best scores above (not at) confidence_threshold; of those, from the best on, each that overlaps none
    kept before by more than nms_threshold, which after each box kept is multiplied by eta while above 0.5.
    Then the keep_top_k best of each image, ordered by label and falling score. Where nothing is kept in
    the whole batch there is one row [image, -1 ...] for every image. A fourth bottom that is an image, which Caffe
    only draws on, changes nothing. The declared shape counts as many rows as there can be.

    RefineDet (sfzhang15/RefineDet) has a fourth bottom (N, 2 P), where the first stage's scores of an object below
    objectness_score leave a prior to the background, and a fifth (N, 4 P), the offsets that its priors are moved by
    first. Synopsys' fork has 2 nbottom + 1 bottoms or 3 nbottom: see Sources.
    """

    schemas = {"detection_output_param": DetectionOutputParameter}
    varying_axis = 2
    bottoms = (3, None)
    bottom_axes = ((2, None), (2, None), (2, None), (0, None))

    def setup(self) -> None:
        p, nms = self.p, self.p.nms_param
        classes = p.num_classes or 0
        self.num_labels = classes - (0 <= p.background_label_id < classes)
        if self.num_labels < 1:
            self.fail(f"expected num_classes of 1 or more beside the background, got {p.num_classes}")
        if not nms.nms_threshold >= 0 or not 0 < nms.eta <= 1:
            self.fail(f"expected nms_threshold >= 0 and 0 < eta <= 1, got {nms.nms_threshold} and {nms.eta}")
        if nms.top_k == 0 or p.keep_top_k == 0:
            self.fail("top_k or keep_top_k of 0 keeps nothing; -1 keeps all")
        if p.visualize:
            self.fail("visualize is not supported")
        self.sources = self._sources()
        save = p.save_output_param
        if save.output_directory and save.label_map_file and save.name_size_file:
            warnings.warn(
                f'layer "{self.name}" ({self.type}): detections are not written to "{save.output_directory}", '
                "which only Caffe does",
                CaffeportWarning,
                stacklevel=2,
            )

    def _sources(self) -> Sources:
        p, number = self.p, self.context.num_bottoms
        maps = p.nbottom if number > 2 * p.nbottom else 0
        if p.nbottom < 1 or p.nbottom <= number <= 2 * p.nbottom or (maps and number > 3 * maps):
            self.fail(f"expected 3 to 5 bottoms, 2 nbottom + 1 or 3 nbottom, with nbottom {p.nbottom}, got {number}")
        order = "ratios" if p.ratio_permute else "maps" if p.no_permute else "cells"
        ratios = (p.ratio0, p.ratio1, p.ratio2, p.ratio3, p.ratio4, p.ratio5)
        priors = maps if maps > 1 and number == 3 * maps else 1
        if maps and order == "ratios" and (not p.share_location or min(ratios) < 1 or (maps > 6 and priors == 1)):
            self.fail("ratio_permute needs share_location, positive ratios and at most 6 feature maps")
        if maps and order == "maps" and priors > 1:
            self.fail("no_permute needs the priors in one bottom")
        return Sources(maps, priors, order, ratios, p.num_classes, 1 if p.share_location else p.num_classes)

    def arms(self, bottoms: Sequence[Shape]) -> int:
        """Return the number of bottoms of RefineDet's first stage."""
        if self.sources.maps or len(bottoms) < 4:
            return 0
        priors = count(bottoms[2], 2) // 4
        if count(bottoms[3], 1) != 2 * priors:
            if len(bottoms) == 4:
                return 0  # an image
            self.fail(f"the first stage's scores are {bottoms[3]}; expected 2 numbers for each of {priors} priors")
        if len(bottoms) > 4 and (count(bottoms[4], 1) != 4 * priors or not self.p.share_location):
            self.fail(
                f"the first stage's offsets are {bottoms[4]}; expected 4 numbers for each of {priors} priors, shared"
            )
        return len(bottoms) - 3

    @property
    def labels(self) -> list[int]:
        """Return the classes but the background, once ``sizes`` has found a score for each of them."""
        return [label for label in range(self.p.num_classes) if label != self.p.background_label_id]

    def sizes(self, bottoms: list[Shape]) -> tuple[int, int]:
        """Return (priors, candidates of each class)."""
        loc, conf, prior = self.sources.shapes(bottoms)
        priors = count(prior, 2) // 4
        if len(prior) < 3 or prior[1] != 2 or count(prior, 2) % 4:
            title = "the priors are" if self.sources.maps else "bottom 2, the priors, is"
            self.fail(f"{title} {prior}; expected (1, 2, 4 x priors)")
        located = 4 if self.p.share_location else 4 * self.p.num_classes
        for title, bottom, each in (("offsets", loc, located), ("scores", conf, self.p.num_classes)):
            if count(bottom, 1) != each * priors:
                self.fail(f"{title} are {bottom}; expected {each} numbers for each of {priors} priors")
        if loc[0] != conf[0]:
            self.fail(f"offsets are for {loc[0]} images, scores for {conf[0]}")
        self.arms(bottoms)
        return priors, priors if self.p.nms_param.top_k < 0 else min(self.p.nms_param.top_k, priors)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        rows = self.sizes(bottoms)[1] * self.num_labels
        return [(1, 1, bottoms[0][0] * (rows if self.p.keep_top_k < 0 else min(rows, self.p.keep_top_k)), 7)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        role = self.sources.role(index)
        if role == "conf" or (role == "more" and index == 3):
            return random.random(shape)
        if role == "prior":
            return random_priors(shape, random)
        return None

    def module(self, bottoms: list[Shape]) -> Any:
        p, nms = self.p, self.p.nms_param
        code = (p.code_type.name, p.variance_encoded_in_target)
        suppression = (p.confidence_threshold, nms.top_k, nms.nms_threshold, nms.eta)
        arms = (self.arms(bottoms), p.objectness_score)
        return nn.DetectionOutput(self.sources, self.labels, p.share_location, code, suppression, p.keep_top_k, arms)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        nms = self.p.nms_param
        if nms.eta < 1 and nms.nms_threshold > 0.5:
            g.refuse("NonMaxSuppression has no threshold that eta changes as boxes are kept (set eta to 1)")
        shapes, keep = [bottom.shape for bottom in x], g.const(self.labels, np.int64)
        loc, conf, prior = self.sources.onnx(g, x)
        arms = x[3 : 3 + self.arms(shapes)]
        scores = g.op("Reshape", conf, g.ints([0, -1, self.p.num_classes]))
        if arms:
            scores = self._onnx_things(g, scores, arms[0])
        scores = g.op("Gather", g.op("Transpose", scores, perm=[0, 2, 1]), keep, axis=1)
        dynamic = any(bottom.dynamic - {0} for bottom in (x if self.sources.maps else x[:3]))
        candidates = self._onnx_candidates(g, dynamic, shapes, scores)
        scores, best = g.ops("TopK", 2, scores, candidates, axis=2)  # (N, labels, K), best first
        boxes = self._onnx_boxes(g, loc, prior, arms[1] if len(arms) > 1 else None)
        boxes = g.op("Squeeze", boxes, g.ints([1])) if self.p.share_location else g.op("Gather", boxes, keep, axis=1)
        batch_dims = 1 if self.p.share_location else 2
        boxes = g.op("GatherND", boxes, g.unsqueeze(best, [3]), batch_dims=batch_dims)  # (N, labels, K, 4)
        mask = self._onnx_kept(g, boxes, scores, candidates, self.sizes(shapes)[1])
        place = g.op("Transpose", g.op("NonZero", mask), perm=[1, 0])  # row by row: Caffe's order
        image, label, _ = g.split(place, 1, [1, 1, 1], 3)
        label = g.op("Gather", g.const(self.labels), label, axis=0)
        score = g.unsqueeze(g.op("GatherND", scores, place), [1])
        rows = g.op("Concat", g.cast(image, "float"), label, score, g.op("GatherND", boxes, place), axis=1)
        return onnx_detections(g, rows, g.op("Gather", g.op("Shape", scores), g.ints([0]), axis=0))

    def _onnx_things(self, g: Emitter, scores: Tensor, arm: Tensor) -> Tensor:
        """Return scores (N, P, C) where a prior with too little of an object is all background, class 0."""
        thing = g.slice(g.op("Reshape", arm, g.ints([0, -1, 2])), [2], [1], [2])
        nothing = g.const(np.arange(self.p.num_classes) == 0)
        return g.op("Where", g.op("Less", thing, g.const(self.p.objectness_score)), nothing, scores)

    def _onnx_candidates(self, g: Emitter, dynamic: bool, shapes: list[Shape], scores: Tensor) -> Tensor:
        """Return [K], how many of each class are looked at."""
        if not dynamic:
            return g.ints([self.sizes(shapes)[1]])
        priors = g.slice(g.op("Shape", scores), [0], [2], [3])
        top_k = self.p.nms_param.top_k
        return priors if top_k < 0 else g.op("Min", priors, g.ints([top_k]))

    def _onnx_boxes(self, g: Emitter, loc: Tensor, prior: Tensor, arm: Tensor | None) -> Tensor:
        """Return boxes (N, 1 or classes, P, 4)."""
        prior = g.op("Reshape", g.slice(prior, [0], [0], [1]), g.ints([2, -1, 4]))
        prior, variance = (g.unsqueeze(part, [0]) for part in g.split(prior, 0, [1, 1], 2))  # (1, 1, P, 4)
        for offsets, located in ((arm, 1), (loc, 1 if self.p.share_location else self.p.num_classes)):
            if offsets is not None:
                offsets = g.op("Reshape", offsets, g.ints([0, -1, located, 4]))
                prior = self._onnx_decoded(g, g.op("Transpose", offsets, perm=[0, 2, 1, 3]), prior, variance)
        return prior

    def _onnx_decoded(self, g: Emitter, loc: Tensor, prior: Tensor, variance: Tensor) -> Tensor:
        """Return the boxes that offsets make of priors, all of 4 axes."""
        if not self.p.variance_encoded_in_target:
            loc = g.op("Mul", loc, variance)
        if self.p.code_type is CodeType.CORNER:
            return g.op("Add", loc, prior)
        low, high = g.split(prior, 3, [2, 2], 2)
        size = g.op("Sub", high, low)
        if self.p.code_type is CodeType.CORNER_SIZE:
            return g.op("Add", g.op("Mul", loc, g.op("Concat", size, size, axis=3)), prior)
        move, grow = g.split(loc, 3, [2, 2], 2)
        center = g.op("Add", g.op("Mul", move, size), g.mul(g.op("Add", low, high), 0.5))
        half = g.mul(g.op("Mul", g.op("Exp", grow), size), 0.5)
        return g.op("Concat", g.op("Sub", center, half), g.op("Add", center, half), axis=3)

    def _onnx_kept(self, g: Emitter, boxes: Tensor, scores: Tensor, candidates: Tensor, most: int) -> Tensor:
        """Return which candidates (N, labels, K) survive, as bool; ``most`` is K at the declared size.

        Every image and class is a batch of its own for NonMaxSuppression, whose own limit on boxes counts
        those kept, where Caffe's top_k counts candidates. It takes corners in any order; Caffe's box whose
        corners are the wrong way round overlaps nothing, as one without area does here.
        """
        low, high = g.split(boxes, 3, [2, 2], 2)
        flat = g.op("Concat", low, g.op("Max", low, high), axis=3)
        flat = g.op("Reshape", flat, g.op("Concat", g.ints([-1]), candidates, g.ints([4]), axis=0))
        alone = g.op("Reshape", scores, g.op("Concat", g.ints([-1, 1]), candidates, axis=0))
        # No overlap is above 1, and ONNX knows no larger threshold.
        threshold = g.const([min(self.p.nms_param.nms_threshold, 1.0)])
        least = g.const([self.p.confidence_threshold])
        chosen = g.op("NonMaxSuppression", flat, alone, candidates, threshold, least)
        ones = g.op("Expand", g.const(1.0), g.slice(g.op("Shape", chosen), [0], [0], [1]))
        zeros = g.op("Expand", g.const(0.0), g.op("Shape", alone))
        mask = g.op("ScatterND", zeros, chosen, ones)
        mask = g.cast(g.op("Reshape", mask, g.op("Shape", scores)), "bool")
        keep, resized = self.p.keep_top_k, candidates.name not in g.constants
        if keep < 0 or (keep >= most * self.num_labels and not resized):
            return mask
        count = g.ints([keep])
        if resized:
            count = g.op("Min", count, g.op("Mul", candidates, g.ints([self.num_labels])))
        ranked = g.op("Flatten", g.op("Where", mask, scores, g.const(-np.inf)), axis=1)
        _, best = g.ops("TopK", 2, ranked, count, axis=1)
        ones = g.op("Expand", g.const(1.0), g.op("Shape", best))
        zeros = g.op("Expand", g.const(0.0), g.op("Shape", ranked))
        among = g.op("ScatterElements", zeros, best, ones, axis=1)
        among = g.cast(g.op("Reshape", among, g.op("Shape", scores)), "bool")
        return g.op("And", mask, among)


def random_boxes(count: int, random: np.random.Generator) -> np.ndarray:
    """Return boxes (count, 4) of corners x1, y1, x2, y2, with an area."""
    low, high = random.random((2, count, 2)) * 0.5
    return np.concatenate([low, low + high + 0.1], 1)


def random_priors(shape: Shape, random: np.random.Generator) -> np.ndarray:
    """Priors (N, 2, 4 P): boxes, the same for every image, and a variance of 0.1 for each number."""
    boxes = random_boxes(count(shape, 2) // 4, random).ravel()
    return np.broadcast_to(np.stack([boxes, np.full(boxes.shape, 0.1)]).reshape(1, *shape[1:]), shape)


def onnx_range(g: Emitter, length: Tensor) -> Tensor:
    """Return (1, n) of 0 to n - 1 for an ONNX value [n]."""
    return g.op("NonZero", g.op("Expand", g.const(1.0), length))


def onnx_or_else(g: Emitter, rows: Tensor, others: Tensor, most: Tensor) -> Tensor:
    """The rows (R, C) or, if there are none, the others (M, C), which are ``most`` [1]."""
    count = g.slice(g.op("Shape", rows), [0], [0], [1])
    needed = g.op("Mul", most, g.cast(g.op("Equal", count, g.ints([0])), "int64"))
    return g.op("Concat", rows, g.op("Slice", others, g.ints([0]), needed, g.ints([0])), axis=0)


def onnx_detections(g: Emitter, rows: Tensor, images: Tensor) -> Tensor:
    """Rows (1, 1, R, 7) of (R, 7) or, if there are none, a row [image, -1 ...] for each of the ``images`` [1]."""
    numbers = g.op("Transpose", g.cast(onnx_range(g, images), "float"), perm=[1, 0])
    nothing = g.op("Pad", numbers, g.ints([0, 0, 0, 6]), g.const(-1.0))
    return g.unsqueeze(onnx_or_else(g, rows, nothing, images), [0, 1])
