"""Margins on the label's angle, of xialuxi/arcface-caffe and gehaocool/CombinedMargin-caffe. They need labels."""

from __future__ import annotations

import math
from typing import Any

from ..formats.schema import schema
from .base import Shape, layer_type, nn
from .face import LabelSpecific


@schema
class CosinAddmParameter:
    m: float = 0.5  # in radians
    transform_test: bool = False
    t: float = 1.0


@layer_type("CosinAddm")
class CosinAddm(LabelSpecific):
    """cos(theta + m) at the label, m in radians (ArcFace); with t another score x above that is t x + t - 1.

    xialuxi/arcface-caffe; t is of its folder SV_X_Softmax (Wang et al. 2020). Beyond theta + m = pi the score is
    cos(theta) - m sin m (Deng et al. 2019). The gradient is the derivative, with a sin(theta) of at least 1e-3. It acts
    in TRAIN, with transform_test in TEST too.
    """

    schemas = {"cosin_add_m_param": CosinAddmParameter}
    in_test = "transform_test"

    def setup(self) -> None:
        if not self.p.t >= 1:
            self.fail(f"expected a t of 1 or more, got {self.p.t:g}")

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.AngleMargin(1.0, self.p.m, 0.0, self.p.t, self.p.transform_test)


@schema
class CombinedMarginParameter:
    m1: float = 4.0
    m2: float = 0.5  # in radians
    m3: float = 0.35
    transform_test: bool = False


@layer_type("CombinedMargin")
class CombinedMargin(LabelSpecific):
    """cos(m1 theta + m2) - m3 at the label, m2 in radians.

    gehaocool/CombinedMargin-caffe, xialuxi/arcface-caffe. Where m1 theta + m2 leaves [0, pi] the score goes on as the
    cosine does, without a jump (see nn.angle_margins); the published CPU code lets it rise again, the CUDA code keeps
    it at -1 - m3. The gradient is the derivative, with a sin(theta) of at least 1e-3. It acts in TRAIN, with
    transform_test in TEST too.
    """

    schemas = {"combined_margin_param": CombinedMarginParameter}
    in_test = "transform_test"

    def setup(self) -> None:
        if not self.p.m1 > 0:
            self.fail(f"expected an m1 above 0, got {self.p.m1:g}")

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        return nn.AngleMargin(p.m1, p.m2, p.m3, 1.0, p.transform_test)


@schema
class AdaCosAddmScaleParameter:
    m: float = 0.5  # in radians
    num_classes: float = 8750.0
    transform_test: bool = False


@layer_type("AdaCosAddmScale")
class AdaCosAddmScale(LabelSpecific):
    """s x, with cos(theta + m) for the label's x; s = log B / cos(min(pi / 4, mean angle of all scores)) at every pass.

    xialuxi/arcface-caffe, folder AdaCos (Zhang et al. 2019). B is the mean over the samples of 1 + the sum of exp(s x)
    over the other classes, with the s of the pass before, at first sqrt(2) log(num_classes - 1). The gradient takes s
    for a constant; the margin is CosinAddm's. It acts in TRAIN, with transform_test in TEST too.
    """

    schemas = {"adacos_add_m_scale_param": AdaCosAddmScaleParameter}
    in_test = "transform_test"

    def setup(self) -> None:
        if not self.p.num_classes > 2:
            self.fail(f"expected a num_classes above 2, got {self.p.num_classes:g}")
        if not math.isfinite(self.p.num_classes):
            self.fail("expected a finite num_classes")

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.AdaptiveScaleMargin(self.p.m, self.p.num_classes, self.p.transform_test)
