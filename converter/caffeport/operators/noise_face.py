"""The layers of huangyangyu/NoiseFace (layer/): NormL2, Arcface and NoiseTolerantFR (Hu et al. 2019)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import schema
from .base import MAX_INT, Operator, Shape, count, layer_type, nn
from .face import LabelSpecific

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

NORM_EPS = 1e-7
"""The epsilon under the root."""


@layer_type("NormL2")
class NormL2(Operator):
    """x / sqrt(|x|^2 + 1e-7), all axes but the first at once; the top has four axes, (N, C, 1, 1) for a 2-D bottom"""

    bottom_axes = ((1, 4),)
    full_precision = True

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [(*bottoms[0], *[1] * (4 - len(bottoms[0])))]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.NormL2(NORM_EPS)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        x4 = g.unsqueeze(x[0], list(range(x[0].rank, 4)))
        squares = g.reduce("ReduceSumSquare", x4, [1, 2, 3])
        return g.op("Div", x4, g.op("Sqrt", g.add(squares, NORM_EPS)))


@schema
class ArcfaceParameter:
    m: float = 0.5
    transform_test: bool = False  # read by no version of the layer


@layer_type("Arcface")
class Arcface(LabelSpecific):
    """cos(theta + m) for the label's class, theta its angle; cos theta - m sin m where theta > pi - m.

    The other scores stay, and so does a row with a label below 0. It acts in both phases. Where theta is 0 the score is
    cos m, the slope's sin(theta) at least 1e-3; the fork takes the second form there too, so that the score falls.
    """

    schemas = {"arcface_param": ArcfaceParameter}
    onnx_support = "no (training)"

    def setup(self) -> None:
        if not 0 <= self.p.m < math.pi:
            self.fail(f"expected an m from 0 to below pi, got {self.p.m:g}")

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.AngleMargin(1.0, self.p.m, 0.0, 1.0, in_test=True)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        g.refuse("it needs labels")


@schema
class NoiseTolerantFRParameter:
    shield_forward: bool = False
    start_iter: int = 1
    bins: int = 200
    slide_batch_num: int = 1000
    value_low: float = -1.0
    value_high: float = 1.0
    debug: bool = False
    debug_prefix: str = ""
    func: int = 0  # AUTO_FIT, the only one


@layer_type("NoiseTolerantFR")
class NoiseTolerantFR(Operator):
    """Rows times a weight, by where the cosine of the label's class lies among those of the batches before.

    Bottoms: what is weighed (N, C), the cosines, the labels, and for the fork's log whether each is noise. A histogram
    of ``bins`` over the last slide_batch_num batches, smoothed over five bins, gives the ends l and r of the middle
    99 % and its peaks lt and rt, which follow it by a bin a pass. For bin b, with alpha the cosine of r within 0 and 1
    and beta = 2 - 1 / (1 + e^(5 - 20 alpha)) - 1 / (1 + e^(20 alpha - 15)), the weight is (1 - beta) w2 and beta w1
    (alpha < 0.5) or beta w3 (alpha > 0.5): w1 = 1, w2 = log(1 + e^(10 (b - lt) / (r - lt))) / log(1 + e^10) within 0
    and 1, w3 = exp(-(b - rt)^2 / (2 a^2)), a = (r - rt) / 2.576 above rt and (rt - l) / 2.576 below.

    The TEST phase passes rows through; so do passes before start_iter (at least slide_batch_num), and rows with a
    label below 0. shield_forward leaves the weight to the gradient.
    """

    schemas = {"noise_tolerant_fr_param": NoiseTolerantFRParameter}
    bottoms = (3, 4)
    bottom_axes = ((2, None), (2, None), (0, None))
    onnx_support = "passes rows through"
    full_precision = True

    def setup(self) -> None:
        p = self.p
        for name in ("start_iter", "bins", "slide_batch_num"):
            if not 1 <= getattr(p, name) <= MAX_INT:
                self.fail(f"expected a {name} of 1 or more, got {getattr(p, name)}")
        if not p.value_low < p.value_high:
            self.fail(f"expected a value_high above value_low, got {p.value_high:g} and {p.value_low:g}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        rows = bottoms[0][0]
        if count(bottoms[1]) != count(bottoms[0]) or any(count(bottom) != rows for bottom in bottoms[2:]):
            self.fail(f"expected as many cosines as {bottoms[0]} and {rows} labels, got {bottoms[1:]}")
        return [bottoms[0]]

    def classes(self, bottoms: list[Shape]) -> int | None:
        return count(bottoms[0], 1)

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        return random.integers(0, 2, shape) if index >= 2 else None

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        start = max(p.start_iter, p.slide_batch_num)
        return nn.NoiseTolerantFR(p.bins, p.slide_batch_num, start, p.value_low, p.value_high, p.shield_forward)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Identity", x[0])
