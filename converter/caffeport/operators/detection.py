"""SSD's default boxes, and its last layer, which decodes boxes and keeps the best."""

from __future__ import annotations

import enum
import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CaffeportWarning
from ..formats.schema import Word
from .base import Operator, Shape, count, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

FLOAT_MIN = float(np.finfo(np.float32).min)
MAX_SIZE = 2**31 - 1  # Caffe makes ints of the sizes
MAX_BOXES, MAX_RATIOS = 100_000, 1_000  # of one cell; SSD has up to 6 boxes, from 2 ratios


class CodeType(enum.Enum):
    CORNER = 1
    CENTER_SIZE = 2
    CORNER_SIZE = 3


@dataclass
class PriorBoxParameter:
    min_size: list[float] = field(default_factory=list)
    max_size: list[float] = field(default_factory=list)
    aspect_ratio: list[float] = field(default_factory=list)
    flip: bool = True
    clip: bool = True  # in the recorded fork, as OpenCV reads it; some copies of SSD's caffe.proto say false
    variance: list[float] = field(default_factory=list)
    img_size: int | None = None
    img_h: int | None = None
    img_w: int | None = None
    step: float | None = None
    step_h: float | None = None
    step_w: float | None = None
    offset: float = 0.5


@dataclass(frozen=True)
class PriorBoxes:
    """Pairs (height, width). ``shapes``: the boxes of one cell, in pixels; image and step None: the bottoms'."""

    shapes: tuple[tuple[float, float], ...]
    image: tuple[int, int] | None
    step: tuple[float, float] | None
    offset: float
    clip: bool
    variance: tuple[float, float, float, float]

    def blob(self, cells: tuple[int, int], image: tuple[int, int]) -> np.ndarray:
        """(1, 2, 4 P): corners relative to the image, x before y, cell by cell; then their variances."""
        image = self.image or image
        step = self.step or (image[0] / cells[0], image[1] / cells[1])
        rows, columns = ((np.arange(cells[i]) + self.offset) * step[i] for i in (0, 1))
        y, x = np.meshgrid(rows, columns, indexing="ij")
        center = np.stack([x, y], -1)[:, :, None]
        half = np.array(self.shapes)[:, ::-1] / 2
        corners = np.concatenate([center - half, center + half], -1) / np.array([image[1], image[0]] * 2)
        if self.clip:
            corners = corners.clip(0, 1)
        variances = np.broadcast_to(np.array(self.variance), corners.shape)
        return np.stack([corners.ravel(), variances.ravel()])[None].astype(np.float32)


@layer_type("PriorBox")
class PriorBox(Operator):
    """Default boxes of a feature map (bottom 0) on the image (bottom 1); of SSD.

    Each cell has, for every min_size m: m x m; sqrt(m max_size) squared; m sqrt(r) x m / sqrt(r) for every
    further aspect ratio r (and 1 / r with flip). Sizes lose their fraction, a ratio that is there already is
    dropped. Top (1, 2, 4 P): corners, each divided by the image's size, then variances.
    """

    schemas = {"prior_box_param": PriorBoxParameter}
    bottoms = (2, 2)
    bottom_axes = ((4, 4),)  # a feature map and an image

    def setup(self) -> None:
        p = self.p
        if not p.min_size or not all(1 <= size <= MAX_SIZE for size in p.min_size):
            self.fail(f"expected a min_size, and none below 1 or above {MAX_SIZE}, got {p.min_size}")
        if any(not size <= MAX_SIZE for size in p.max_size):
            self.fail(f"expected no max_size above {MAX_SIZE}, got {p.max_size}")
        if p.max_size and (len(p.max_size) != len(p.min_size) or any(map(float.__le__, p.max_size, p.min_size))):
            self.fail(f"expected a larger max_size for every min_size, got {p.max_size} for {p.min_size}")
        if len(p.variance) not in (0, 1, 4) or min(p.variance, default=1) <= 0:
            self.fail(f"expected 1 or 4 positive variances, got {p.variance}")
        if not all(0 < ratio < math.inf for ratio in p.aspect_ratio):
            self.fail(f"expected positive aspect ratios, got {p.aspect_ratio}")
        if len(p.min_size) * (2 + 2 * len(p.aspect_ratio)) > MAX_BOXES or len(p.aspect_ratio) > MAX_RATIOS:
            self.fail(f"{len(p.min_size)} sizes with {len(p.aspect_ratio)} aspect ratios are too many for one cell")
        image = self.pair("img_size", "img_h", "img_w")
        step = self.pair("step", "step_h", "step_w")
        variance = p.variance if len(p.variance) == 4 else (p.variance or [0.1]) * 4
        self.boxes = PriorBoxes(tuple(self.cell()), image, step, p.offset, p.clip, tuple(variance))

    def pair(self, both: str, height: str, width: str) -> tuple[Any, Any] | None:
        """(height, width) from the field for both or the field for each; None where neither is given."""
        one, each = getattr(self.p, both), (getattr(self.p, height), getattr(self.p, width))
        if one is not None and each != (None, None):
            self.fail(f"expected {both}, or {height} and {width}, not both")
        given = (one, one) if one is not None else each
        if given == (None, None):
            return None
        if any(size is None or size <= 0 for size in given):
            self.fail(f"expected a positive {both}, or {height} and {width}, got {given}")
        return given

    def cell(self) -> list[tuple[float, float]]:
        """(height, width) of the boxes of one cell, in Caffe's order."""
        ratios = [1.0]
        for ratio in self.p.aspect_ratio:
            if all(abs(ratio - known) >= 1e-6 for known in ratios):
                ratios += [ratio, 1 / ratio] if self.p.flip else [ratio]
        made = []
        for index, size in enumerate(map(int, self.p.min_size)):
            made.append((float(size), float(size)))
            if self.p.max_size:
                made.append((math.sqrt(size * int(self.p.max_size[index])),) * 2)
            made += [(size / math.sqrt(ratio), size * math.sqrt(ratio)) for ratio in ratios[1:]]
        return made

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [(1, 2, 4 * len(self.boxes.shapes) * bottoms[0][2] * bottoms[0][3])]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.PriorBox(self.boxes)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        image = self.boxes.image or (x[1].static(2), x[1].static(3))
        return g.const(self.boxes.blob((x[0].static(2), x[0].static(3)), image))


@dataclass
class NonMaximumSuppressionParameter:
    nms_threshold: float = 0.3
    top_k: int = -1
    eta: float = 1.0


@dataclass
class ResizeParameter:
    """How the images were resized that the detections, if saved to files, are mapped back to."""

    prob: float = 1.0
    resize_mode: Word = Word()
    height: int = 0
    width: int = 0
    height_scale: int = 0
    width_scale: int = 0
    pad_mode: Word = Word()
    pad_value: list[float] = field(default_factory=list)
    interp_mode: list[Word] = field(default_factory=list)


@dataclass
class SaveOutputParameter:
    output_directory: str = ""
    output_name_prefix: str = ""
    output_format: str = ""
    label_map_file: str = ""
    name_size_file: str = ""
    num_test_image: int = 0
    resize_param: ResizeParameter = field(default_factory=ResizeParameter)


@dataclass
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


@layer_type("DetectionOutput")
class DetectionOutput(Operator):
    """Rows [image, label, score, x1, y1, x2, y2] from offsets (N, 4 P), scores (N, P C) and priors; of SSD.

    Boxes are decoded by code_type and not clipped. For every image and class but the background: the top_k
    best scores above (not at) confidence_threshold; of those, from the best on, each that overlaps none
    kept before by more than nms_threshold, which after each box kept is multiplied by eta while above 0.5.
    Then the keep_top_k best of each image, ordered by label and falling score. Where nothing is kept in
    the whole batch there is one row [image, -1 ...] for every image. A fourth bottom, which Caffe only
    draws on, changes nothing. The declared shape counts as many rows as there can be.
    """

    schemas = {"detection_output_param": DetectionOutputParameter}
    varying_axis = 2
    bottoms = (3, 4)
    bottom_axes = ((2, None), (2, None), (3, None), (0, None))

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
        save = p.save_output_param
        if save.output_directory and save.label_map_file and save.name_size_file:
            warnings.warn(
                f'layer "{self.name}" ({self.type}): detections are not written to "{save.output_directory}", '
                "which only Caffe does",
                CaffeportWarning,
                stacklevel=2,
            )

    @property
    def labels(self) -> list[int]:
        """The classes but the background. Asked for when ``sizes`` has found a score for each of them."""
        return [label for label in range(self.p.num_classes) if label != self.p.background_label_id]

    def sizes(self, bottoms: list[Shape]) -> tuple[int, int]:
        """(priors, candidates of each class)"""
        loc, conf, prior = bottoms[:3]
        priors = count(prior, 2) // 4
        if prior[1] != 2 or count(prior, 2) % 4:
            self.fail(f"bottom 2, the priors, is {prior}; expected (1, 2, 4 x priors)")
        located = 4 if self.p.share_location else 4 * self.p.num_classes
        for title, bottom, each in (("offsets", loc, located), ("scores", conf, self.p.num_classes)):
            if count(bottom, 1) != each * priors:
                self.fail(f"{title} are {bottom}; expected {each} numbers for each of {priors} priors")
        if loc[0] != conf[0]:
            self.fail(f"offsets are for {loc[0]} images, scores for {conf[0]}")
        return priors, priors if self.p.nms_param.top_k < 0 else min(self.p.nms_param.top_k, priors)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        rows = self.sizes(bottoms)[1] * self.num_labels
        return [(1, 1, bottoms[0][0] * (rows if self.p.keep_top_k < 0 else min(rows, self.p.keep_top_k)), 7)]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        if index == 1:
            return random.random(shape)
        if index == 2:
            boxes = random_boxes(count(shape, 2) // 4, random).ravel()
            return np.broadcast_to(np.stack([boxes, np.full(boxes.shape, 0.1)]).reshape(1, *shape[1:]), shape)
        return None

    def module(self, bottoms: list[Shape]) -> Any:
        p, nms = self.p, self.p.nms_param
        code = (p.code_type.name, p.variance_encoded_in_target)
        suppression = (p.confidence_threshold, nms.top_k, nms.nms_threshold, nms.eta)
        return nn.DetectionOutput(p.num_classes, self.labels, p.share_location, code, suppression, p.keep_top_k)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        nms = self.p.nms_param
        if nms.eta < 1 and nms.nms_threshold > 0.5:
            g.refuse("NonMaxSuppression has no threshold that eta changes as boxes are kept (set eta to 1)")
        priors, candidates = self.sizes([bottom.shape for bottom in x])
        keep = g.const(self.labels, np.int64)
        scores = g.op("Reshape", x[1], g.ints([-1, priors, self.p.num_classes]))
        scores = g.op("Gather", g.op("Transpose", scores, perm=[0, 2, 1]), keep, axis=1)
        scores, best = g.ops("TopK", 2, scores, g.ints([candidates]), axis=2)  # (N, labels, K), best first
        boxes = self._onnx_decoded(g, x[0], x[2])
        if self.p.share_location:
            boxes = g.op("Reshape", boxes, g.ints([-1, priors, 4]))
        else:
            boxes = g.op("Gather", boxes, keep, axis=1)
        batch_dims = 1 if self.p.share_location else 2
        boxes = g.op("GatherND", boxes, g.unsqueeze(best, [3]), batch_dims=batch_dims)  # (N, labels, K, 4)
        kept = self._onnx_kept(g, boxes, scores)
        place = g.op("Transpose", g.op("NonZero", kept), perm=[1, 0])  # row by row: Caffe's order
        image, label, _ = g.split(place, 1, [1, 1, 1], 3)
        label = g.op("Gather", g.const(self.labels), label, axis=0)
        score = g.unsqueeze(g.op("GatherND", scores, place), [1])
        rows = g.op("Concat", g.cast(image, "float"), label, score, g.op("GatherND", boxes, place), axis=1)
        # The rows that say "nothing": as many as images if there is no other row, else none.
        images = g.op("Gather", g.op("Shape", scores), g.ints([0]), axis=0)
        numbers = g.op("Transpose", g.cast(onnx_range(g, images), "float"), perm=[1, 0])
        nothing = g.op("Pad", numbers, g.ints([0, 0, 0, 6]), g.const(-1.0))
        found = g.op("Gather", g.op("Shape", place), g.ints([0]), axis=0)
        needed = g.op("Mul", images, g.cast(g.op("Equal", found, g.ints([0])), "int64"))
        nothing = g.op("Slice", nothing, g.ints([0]), needed, g.ints([0]))
        return g.unsqueeze(g.op("Concat", rows, nothing, axis=0), [0, 1])

    def _onnx_decoded(self, g: Emitter, loc: Tensor, prior: Tensor) -> Tensor:
        """Boxes (N, 1 or classes, P, 4)."""
        priors = count(prior.shape, 2) // 4
        prior = g.op("Reshape", g.slice(prior, [0], [0], [1]), g.ints([2, priors, 4]))
        prior, variance = (g.op("Squeeze", part, g.ints([0])) for part in g.split(prior, 0, [1, 1], 2))
        loc = g.op("Reshape", loc, g.ints([-1, priors, 1 if self.p.share_location else self.p.num_classes, 4]))
        loc = g.op("Transpose", loc, perm=[0, 2, 1, 3])
        if not self.p.variance_encoded_in_target:
            loc = g.op("Mul", loc, variance)
        if self.p.code_type is CodeType.CORNER:
            return g.op("Add", loc, prior)
        low, high = g.split(prior, 1, [2, 2], 2)
        size = g.op("Sub", high, low)
        if self.p.code_type is CodeType.CORNER_SIZE:
            return g.op("Add", g.op("Mul", loc, g.op("Concat", size, size, axis=1)), prior)
        move, grow = g.split(loc, 3, [2, 2], 2)
        center = g.op("Add", g.op("Mul", move, size), g.mul(g.op("Add", low, high), 0.5))
        half = g.mul(g.op("Mul", g.op("Exp", grow), size), 0.5)
        return g.op("Concat", g.op("Sub", center, half), g.op("Add", center, half), axis=3)

    def _onnx_kept(self, g: Emitter, boxes: Tensor, scores: Tensor) -> Tensor:
        """Which candidates (N, labels, K) survive, as bool.

        Every image and class is a batch of its own for NonMaxSuppression, whose own limit on boxes counts
        those kept, where Caffe's top_k counts candidates. It takes corners in any order; Caffe's box whose
        corners are the wrong way round overlaps nothing, as one without area does here.
        """
        candidates = scores.static(2)
        low, high = g.split(boxes, 3, [2, 2], 2)
        flat = g.op("Concat", low, g.op("Max", low, high), axis=3)
        flat = g.op("Reshape", flat, g.ints([-1, candidates, 4]))
        alone = g.op("Reshape", scores, g.ints([-1, 1, candidates]))
        # No overlap is above 1, and ONNX knows no larger threshold.
        threshold = g.const([min(self.p.nms_param.nms_threshold, 1.0)])
        least = g.const([self.p.confidence_threshold])
        chosen = g.op("NonMaxSuppression", flat, alone, g.ints([candidates]), threshold, least)
        ones = g.op("Expand", g.const(1.0), g.op("Gather", g.op("Shape", chosen), g.ints([0]), axis=0))
        zeros = g.op("Expand", g.const(0.0), g.op("Shape", alone))
        kept = g.op("ScatterND", zeros, chosen, ones)
        kept = g.cast(g.op("Reshape", kept, g.ints([-1, self.num_labels, candidates])), "bool")
        keep = self.p.keep_top_k
        if keep < 0 or keep >= candidates * self.num_labels:
            return kept
        ranked = g.op("Flatten", g.op("Where", kept, scores, g.const(-np.inf)), axis=1)
        _, best = g.ops("TopK", 2, ranked, g.ints([keep]), axis=1)
        ones = g.op("Expand", g.const(1.0), g.op("Shape", best))
        zeros = g.op("Expand", g.const(0.0), g.op("Shape", ranked))
        among = g.op("ScatterElements", zeros, best, ones, axis=1)
        among = g.cast(g.op("Reshape", among, g.ints([-1, self.num_labels, candidates])), "bool")
        return g.op("And", kept, among)


def random_boxes(count: int, random: np.random.Generator) -> np.ndarray:
    """Boxes (count, 4) of corners x1, y1, x2, y2, with an area."""
    low, high = random.random((2, count, 2)) * 0.5
    return np.concatenate([low, low + high + 0.1], 1)


def onnx_range(g: Emitter, length: Tensor) -> Tensor:
    """(1, n) of 0 to n - 1 for an ONNX value [n]."""
    return g.op("NonZero", g.op("Expand", g.const(1.0), length))
