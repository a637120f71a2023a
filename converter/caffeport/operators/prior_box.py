"""SSD's default boxes, in the dialects that forks have of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import Operator, Shape, layer_type, nn
from .detection import onnx_range

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

MAX_SIZE = 2**31 - 1  # Caffe makes ints of the sizes
MAX_BOXES, MAX_RATIOS = 100_000, 1_000  # of one cell; SSD has up to 6 boxes, from 2 ratios
DIALECTS = ("ssd", "textboxes", "faceboxes")
"""The meanings that a text without a fork's own fields can have: see PriorBox."""
DENSE = {32: (range(-2, 2), 8), 64: (range(-1, 1), 16)}
"""FaceBoxes: {min_size: (steps from the center, both ways, and how many pixels one is)}."""


@schema
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
    denser_prior_boxes: bool = False  # MhLiao/TextBoxes_plusplus
    faceboxes: bool = False  # Synopsys' fork
    offset_w: list[float] = field(default_factory=list)  # julimueller/tl_ssd
    offset_h: list[float] = field(default_factory=list)
    width: list[float] = field(default_factory=list)  # openvinotoolkit/training_toolbox_caffe
    height: list[float] = field(default_factory=list)
    box_width: list[float] = field(default_factory=list)  # Synopsys' fork
    box_height: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Prior:
    """A box of a cell: ``size`` (height, width) in pixels; its center in shares of the cell, moved by pixels."""

    size: tuple[float, float]
    center: tuple[float, float]
    move: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class PriorBoxes:
    """Pairs (height, width). ``cell``: the boxes of one cell; image and step None: the bottoms'."""

    cell: tuple[Prior, ...]
    image: tuple[int, int] | None
    step: tuple[float, float] | None
    clip: bool
    variance: tuple[float, float, float, float]

    def blob(self, cells: tuple[int, int], image: tuple[int, int]) -> np.ndarray:
        """Return (1, 2, 4 P): corners relative to the image, x before y, cell by cell; then their variances."""
        image = self.image or image
        step = self.step or (image[0] / cells[0], image[1] / cells[1])
        sides = []  # low and high, of rows (cells, 1, boxes) and of columns (1, cells, boxes)
        for i in (0, 1):
            size, center, move = (np.array([getattr(box, part)[i] for box in self.cell]) for part in PARTS)
            middle = (np.arange(cells[i])[:, None] + center) * step[i] + move
            pair = np.stack([middle - size / 2, middle + size / 2]) / image[i]
            sides.append(np.broadcast_to(np.expand_dims(pair, 2 - i), (2, *cells, len(self.cell))))
        corners = np.stack([sides[1][0], sides[0][0], sides[1][1], sides[0][1]], -1)
        if self.clip:
            corners = corners.clip(0, 1)
        variances = np.broadcast_to(np.array(self.variance), corners.shape)
        return np.stack([corners.ravel(), variances.ravel()])[None].astype(np.float32)


PARTS = ("size", "center", "move")


@layer_type("PriorBox", "PriorBoxClustered")
class PriorBox(Operator):
    """Default boxes of a feature map (bottom 0) on the image (bottom 1); of SSD.

    Each cell has, for every min_size m: m x m; sqrt(m max_size) squared; m sqrt(r) x m / sqrt(r) for every
    further aspect ratio r (and 1 / r with flip). Sizes lose their fraction, a ratio that is there already is
    dropped. Top (1, 2, 4 P): corners, each divided by the image's size, then variances.

    Forks make other boxes of the same text: TextBoxes (MhLiao/TextBoxes) each of them twice, the second around the
    cell's lower edge; FaceBoxes (sfzhang15/FaceBoxes) 16 for a min_size of 32 and 4 for one of 64, 8 and 16 pixels
    apart, and m - 1 squared for m. Which is meant is seen by the channels of the convolutions that read the feature
    map; the option ``prior_boxes`` (ssd, textboxes, faceboxes) says it. Where a fork has fields of its own they decide:
    denser_prior_boxes is as TextBoxes; faceboxes as FaceBoxes; offset_w and offset_h (tl_ssd) are the centers, each
    with boxes of the ratios alone; width and height, or box_width and box_height, are the boxes themselves.
    """

    schemas = {"prior_box_param": PriorBoxParameter}
    bottoms = (2, 2)
    bottom_axes = ((4, 4),)  # a feature map and an image

    def setup(self) -> None:
        p = self.p
        explicit = self.explicit()
        if not explicit and (not p.min_size or not all(1 <= size <= MAX_SIZE for size in p.min_size)):
            self.fail(f"expected a min_size, and none below 1 or above {MAX_SIZE}, got {p.min_size}")
        if any(not size <= MAX_SIZE for size in p.max_size):
            self.fail(f"expected no max_size above {MAX_SIZE}, got {p.max_size}")
        if p.max_size and (len(p.max_size) != len(p.min_size) or any(map(float.__le__, p.max_size, p.min_size))):
            self.fail(f"expected a larger max_size for every min_size, got {p.max_size} for {p.min_size}")
        if len(p.variance) not in (0, 1, 4) or min(p.variance, default=1) <= 0:
            self.fail(f"expected 1 or 4 positive variances, got {p.variance}")
        if not all(0 < ratio < math.inf for ratio in p.aspect_ratio):
            self.fail(f"expected positive aspect ratios, got {p.aspect_ratio}")
        many = len(p.min_size) * (2 + 2 * len(p.aspect_ratio)) * max(1, len(p.offset_w) * len(p.offset_h))
        if max(many, len(explicit)) > MAX_BOXES or len(p.aspect_ratio) > MAX_RATIOS:
            self.fail(f"{len(p.min_size)} sizes with {len(p.aspect_ratio)} aspect ratios are too many for one cell")
        if bool(p.offset_w) != bool(p.offset_h) or not all(0 <= place <= 1 for place in [*p.offset_w, *p.offset_h]):
            self.fail(f"expected offset_w and offset_h, from 0 to 1, got {p.offset_w} and {p.offset_h}")
        self.image = self.pair("img_size", "img_h", "img_w")
        self.step = self.pair("step", "step_h", "step_w")
        self.variance = tuple(p.variance if len(p.variance) == 4 else (p.variance or [0.1]) * 4)
        self.decided = bool(p.denser_prior_boxes or p.faceboxes or p.offset_w or explicit)
        self.speak("textboxes" if p.denser_prior_boxes else "faceboxes" if p.faceboxes else "ssd")

    def speak(self, dialect: str) -> None:
        """Make the boxes that this dialect makes of the text."""
        self.boxes = PriorBoxes(tuple(self.cell(dialect)), self.image, self.step, self.p.clip, self.variance)

    def pair(self, both: str, height: str, width: str) -> tuple[Any, Any] | None:
        """Return (height, width) from the field for both or the field for each; None where neither is given."""
        one, each = getattr(self.p, both), (getattr(self.p, height), getattr(self.p, width))
        if one is not None and each != (None, None):
            self.fail(f"expected {both}, or {height} and {width}, not both")
        sizes = (one, one) if one is not None else each
        if sizes == (None, None):
            return None
        if any(size is None or size <= 0 for size in sizes):
            self.fail(f"expected a positive {both}, or {height} and {width}, got {sizes}")
        return sizes

    def explicit(self) -> list[tuple[float, float]]:
        """Return (height, width) of the boxes that the text gives one by one."""
        heights, widths = [*self.p.height, *self.p.box_height], [*self.p.width, *self.p.box_width]
        if len(heights) != len(widths) or not all(0 < size <= MAX_SIZE for size in heights + widths):
            self.fail(f"expected a positive height for every width, got {heights} and {widths}")
        return list(zip(heights, widths, strict=True))

    def cell(self, dialect: str) -> list[Prior]:
        """Return the boxes of one cell, in Caffe's order."""
        p, middle = self.p, (self.p.offset, self.p.offset)
        if explicit := self.explicit():
            return [Prior(size, middle) for size in explicit]
        ratios = [] if p.offset_w else [1.0]
        for ratio in p.aspect_ratio:
            if all(abs(ratio - known) >= 1e-6 for known in ratios):
                ratios += [ratio, 1 / ratio] if p.flip else [ratio]
        if p.offset_w:
            return self._centered(ratios)
        boxes = []
        for index, size in enumerate(map(int, p.min_size)):
            if dialect == "faceboxes":
                steps, pixels = DENSE.get(size, (range(1), 0))
                square = (size - 1.0, size - 1.0)
                boxes += [Prior(square, middle, (float(i * pixels), float(j * pixels))) for i in steps for j in steps]
            else:
                boxes.append(Prior((float(size), float(size)), middle))
            if p.max_size:
                boxes.append(Prior((math.sqrt(size * int(p.max_size[index])),) * 2, middle))
            boxes += [Prior((size / math.sqrt(ratio), size * math.sqrt(ratio)), middle) for ratio in ratios[1:]]
        if dialect == "textboxes":
            lower = (1.0, p.offset)
            boxes = [box for upper in boxes for box in (upper, Prior(upper.size, lower))]
        return boxes

    def _centered(self, ratios: list[float]) -> list[Prior]:
        """Return tl_ssd's boxes."""
        if not ratios or any(abs(ratio - 1) < 1e-6 for ratio in ratios):
            self.fail(f"offset_w and offset_h need aspect ratios, none of them 1, which has no box; got {ratios}")
        return [
            Prior((size / math.sqrt(ratio), size * math.sqrt(ratio)), (down, right))
            for right in self.p.offset_w
            for down in self.p.offset_h
            for size in map(int, self.p.min_size)
            for ratio in ratios
        ]

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [(1, 2, 4 * len(self.boxes.cell) * bottoms[0][2] * bottoms[0][3])]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.PriorBox(self.boxes)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        boxes = self.boxes
        if not (x[0].dynamic | (x[1].dynamic if boxes.image is None else set())) & {2, 3}:
            return g.const(
                boxes.blob((x[0].static(2), x[0].static(3)), boxes.image or (x[1].static(2), x[1].static(3)))
            )
        cells = g.slice(g.op("Shape", x[0]), [0], [2], [4])
        image = g.const(boxes.image) if boxes.image else g.cast(g.slice(g.op("Shape", x[1]), [0], [2], [4]), "float")
        step = g.const(boxes.step) if boxes.step else g.op("Div", image, g.cast(cells, "float"))
        each = g.op("Concat", cells, g.ints([len(boxes.cell), 1]), axis=0)
        low: list[Tensor] = []
        high: list[Tensor] = []
        for i in (0, 1):
            size, center, move = (g.const([getattr(box, part)[i] for box in boxes.cell]) for part in PARTS)
            number = g.cast(onnx_range(g, g.slice(cells, [0], [i], [i + 1])), "float")
            middle = g.op("Add", g.op("Transpose", number, perm=[1, 0]), center)  # (cells, boxes)
            middle = g.op("Add", g.op("Mul", middle, g.slice(step, [0], [i], [i + 1])), move)
            for sides, sign in ((low, -0.5), (high, 0.5)):
                side = g.op("Div", g.op("Add", middle, g.mul(size, sign)), g.slice(image, [0], [i], [i + 1]))
                sides.append(g.op("Expand", g.unsqueeze(side, [1 - i, 3]), each))
        corners = g.op("Concat", low[1], low[0], high[1], high[0], axis=3)
        if boxes.clip:
            corners = g.op("Clip", corners, g.const(0.0), g.const(1.0))
        variances = g.op("Expand", g.const(boxes.variance), g.op("Shape", corners))
        flat = g.ints([1, 1, -1])
        return g.op("Concat", g.op("Reshape", corners, flat), g.op("Reshape", variances, flat), axis=1)
