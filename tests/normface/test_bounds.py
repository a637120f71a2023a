"""The bounds of softmax losses against their formulas in 60 digits, and against the published figures."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from normface.bounds import l2_softmax_lower_alpha, scale_for_loss, softmax_lower_bound
from normface.errors import TrainingError

COUNTS = [2, 3, 10, 1000, 10575, 85742, 10**9, 10**12]
SCALES = [0.0, 1e-6, 0.5, 1.0, 16.0, 30.0, 64.0, 700.0, 1e4]


def in_digits(n: int, scale: float) -> float:
    """The formula as it stands."""
    with localcontext() as context:
        context.prec = 60
        odds = (n - 1) * (-Decimal(scale) * n / (n - 1)).exp()
        # Decimal's ln(1 + x) of an x below its digits is x.
        return float((1 + odds).ln() if odds > Decimal("1e-40") else odds)


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("scale", SCALES)
def test_the_formula(n, scale):
    # A float64 exponent of size s n / (n-1) is rounded by 1e-16 of itself, which is the relative error of exp.
    assert softmax_lower_bound(n, scale) == pytest.approx(in_digits(n, scale), rel=4e-16 * (30 + scale), abs=1e-300)


def test_the_papers_figure():
    """10,575 classes, no scale: 8.27, from 9.27 at the start."""
    assert softmax_lower_bound(10575, 1.0) == pytest.approx(8.27, abs=0.005)
    assert softmax_lower_bound(10575, 0.0) == pytest.approx(math.log(10575), rel=1e-15)
    assert math.log(10575) == pytest.approx(9.27, abs=0.005)


def test_it_falls_with_the_scale_and_rises_with_the_classes():
    scales = np.linspace(0, 60, 241)
    assert (np.diff(softmax_lower_bound(10575, scales)) < 0).all()
    assert (np.diff([softmax_lower_bound(n, 5.0) for n in range(1, 200)]) > 0).all()


def test_one_class_has_nothing_to_lose():
    assert softmax_lower_bound(1, 3.0) == 0
    assert softmax_lower_bound(1, [1.0, 2.0]).tolist() == [0, 0]


def test_an_array_of_scales():
    bounds = softmax_lower_bound(10575, SCALES)
    assert isinstance(bounds, np.ndarray)
    assert bounds.tolist() == [softmax_lower_bound(10575, scale) for scale in SCALES]
    assert isinstance(softmax_lower_bound(10575, np.float32(2)), float)


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("part", [1e-300, 1e-12, 1e-3, 0.1, 0.5, 0.9])
def test_the_scale_for_a_loss(n, part):
    loss = part * math.log(n)
    scale = scale_for_loss(n, loss)
    assert scale > 0
    # log(exp(L) - 1) of L near 0 is about log L: its rounding, 1e-16 of at most 700, is L's relative error.
    assert softmax_lower_bound(n, scale) == pytest.approx(loss, rel=1e-12, abs=1e-307)


def test_the_scale_for_chance_is_none():
    assert scale_for_loss(10575, math.log(10575)) == pytest.approx(0, abs=1e-14)
    assert scale_for_loss(2, math.log(2)) == pytest.approx(0, abs=1e-14)


def test_the_l2_softmax_bound():
    """Ranjan et al.: log(p (C-2) / (1-p))."""
    assert l2_softmax_lower_alpha(13403, 0.9) == pytest.approx(math.log(0.9 * 13401 / 0.1), rel=1e-14)
    assert l2_softmax_lower_alpha(102, 0.5) == pytest.approx(math.log(100), rel=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax_lower_bound(0, 1.0), "expected 1 or more classes, a whole number, got 0"),
        (lambda: softmax_lower_bound(2.5, 1.0), "expected 1 or more classes, a whole number, got 2.5"),
        (lambda: softmax_lower_bound(True, 1.0), "expected 1 or more classes, a whole number, got True"),
        (lambda: softmax_lower_bound(10, -1.0), "expected a scale of 0 or more, got -1.0"),
        (lambda: softmax_lower_bound(10, math.nan), "expected a scale of 0 or more, got nan"),
        (lambda: softmax_lower_bound(10, [1.0, -2.0]), "expected a scale of 0 or more"),
        (lambda: scale_for_loss(1, 0.5), "expected 2 or more classes"),
        (lambda: scale_for_loss(10, 0.0), "expected a target loss above 0, which no finite scale reaches, got 0.0"),
        (lambda: scale_for_loss(10, math.nan), "expected a target loss above 0"),
        (lambda: scale_for_loss(10, 2.31), r"at most log 10 = 2.303, which equal scores have, got 2.31"),
        (lambda: scale_for_loss(10, math.inf), "at most log 10"),
        (lambda: l2_softmax_lower_alpha(2, 0.9), "expected 3 or more classes"),
        (lambda: l2_softmax_lower_alpha(10, 1.0), "expected a probability between 0 and 1, got 1.0"),
        (lambda: l2_softmax_lower_alpha(3, 0.5), "no lower bound above 0; ask for a higher one"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(TrainingError, match=message):
        call()
