"""Softmax on cosines without a scale: how low its loss can get, what optimisers reach, and why training stalls.

The bound of n classes and a scale s is log(1 + (n-1) exp(-s n/(n-1))), ``normface.bounds``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from normface.bounds import softmax_lower_bound
from normface.losses import NormalizedSoftmaxLoss
from normface.progress import progress
from torch import Tensor

from .bound_figures import figures
from .result import Options, Result
from .threads import one_thread

CLAIM = (
    "With features and weights normalised and no scale, the softmax loss over n classes cannot fall below "
    "log(1 + (n-1) exp(-n/(n-1))): 8.27 for n = 10,575, where training starts at 9.27 and stalls near 8.5; an easy "
    "sample's gradient is nearly a hard one's. A scale, learned or large, removes the bound."
)
CASIA = 10_575
"""Identities of CASIA-WebFace, the slides' example."""
COUNTS = (10, 100, 1_000, CASIA, 100_000, 1_000_000)
SCALES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
BEST_COUNTS = (10, 30, 100)
SPACES = (2, 4, 8, 16, 32, 64, 99)
"""Dimensions in which 100 classes are placed; a simplex of 100 needs 99."""
TRAINING = {False: (32, 6), True: (128, 12)}
"""full -> dimensions and epochs."""
LEARNED = "learned, from 1"
ROUNDING = 2e-6
"""Of float32 in a mean loss of about 9."""
Curve = dict[str, Any]


def run(options: Options) -> Result:
    size, epochs = TRAINING[options.full]
    counts = (*BEST_COUNTS, 300) if options.full else BEST_COUNTS
    formula = {str(n): dict(zip(map(str, SCALES), softmax_lower_bound(n, SCALES), strict=True)) for n in COUNTS}
    with one_thread(), progress("optimisers", len(counts) * len(SCALES) + len(SPACES)) as bar:
        best = {}
        for n in counts:
            best[n] = {}
            for scale in SCALES:
                best[n][scale] = optimised(n, n, scale, options.seed)
                bar.advance(words=f"{n} classes, scale {scale:g}")
        in_spaces = {}
        for space in SPACES:
            in_spaces[space] = optimised(100, space, 1.0, options.seed)
            bar.advance(words=f"100 classes, {space}-D")
    curves = {}
    for name, scale in (("no scale", 1.0), ("scale 16", 16.0), ("scale 64", 64.0), (LEARNED, None)):
        curves[name] = training_curve(CASIA, size, scale, epochs, options.seed, title=name)
    pulls = easy_and_hard(10_000, SCALES)

    gaps = [best[n][scale] - softmax_lower_bound(n, scale) for n in counts for scale in SCALES]
    crossed = [*gaps, *(loss - bound for curve in curves.values() for loss, bound in margins(curve))]
    unscaled, learned = curves["no scale"]["loss"], curves[LEARNED]["loss"]
    bound = softmax_lower_bound(CASIA, 1.0)
    measured = {
        "bound": formula,
        "bound_casia": bound,
        "start_casia": math.log(CASIA),
        "optimisers_best": best,
        "optimisers_largest_gap": max(gaps),
        "best_of_100_classes_by_dimension": in_spaces,
        "least_over_the_bound": min(crossed),
        "training": curves,
        "dimension_of_training": size,
        "easy_and_hard": pulls,
    }
    one, large = pulls["1.0"], pulls["64.0"]
    holds = min(crossed) > -ROUNDING and max(gaps) < 1e-2 and unscaled[-1] - bound < 0.3 and learned[-1] < bound - 3
    finding = (
        f"The formula gives {bound:.3f} for n = {CASIA:,} without a scale, from log n = {math.log(CASIA):.3f}. L-BFGS "
        f"on free features and weights, {min(counts)} to {max(counts)} classes and scales 1 to 64, comes within "
        f"{max(gaps):.0e} of the bound; no loss, there or in training, was lower than it by more than rounding "
        f"(smallest difference {min(crossed):.0e}). Trained on {CASIA:,} classes in {size} dimensions with a free "
        f"feature for each, the loss without a scale goes from {unscaled[0]:.2f} to {unscaled[-1]:.2f} and stays "
        f"({unscaled[-2] - unscaled[-1]:.0e} less in the last epoch), nearer its bound than the slides' network on "
        f"photos; "
        f"with a learned scale it is {learned[-1]:.2f} by then, at s = {curves[LEARNED]['scale'][-1]:.1f}. In "
        f"{SPACES[0]} dimensions the best for 100 classes is {in_spaces[SPACES[0]]:.3f}, in {SPACES[-1]} "
        f"{in_spaces[SPACES[-1]]:.3f} (the bound: {softmax_lower_bound(100, 1.0):.3f}). Of 10,000 classes, a sample at "
        f"its own weight and opposite to the 9,999 others still has a gradient of {one['easy']:.4f} on its score, "
        f"where one that is as near to all has {one['hard']:.4f}; at s = 64 it is {large['easy']:.0e} against "
        f"{large['hard']:.4f}."
    )
    return Result(CLAIM, finding, measured, holds, figures(formula, best, in_spaces, curves, pulls))


def margins(curve: Curve) -> list[tuple[float, float]]:
    """(loss, the bound of the scale that it had) of every point."""
    return [
        (loss, float(softmax_lower_bound(curve["classes"], scale)))
        for loss, scale in zip(curve["loss"], curve["scale"], strict=True)
    ]


def optimised(classes: int, size: int, scale: float, seed: int, steps: int = 200) -> float:
    """The lowest mean loss that L-BFGS finds with a free feature for every class, in float64.

    It optimises at a scale of at most 4 and is scored at ``scale``: the best places are the same, the simplex's,
    and a loss of 1e-20 has no slope to follow.
    """
    random = torch.Generator().manual_seed(seed)
    features, weights = (torch.randn(classes, size, generator=random, dtype=torch.float64) for _ in range(2))
    followed = NormalizedSoftmaxLoss(classes, size, min(scale, 4.0), dtype=torch.float64)
    followed.weight.data.copy_(weights)
    features.requires_grad_()
    labels = torch.arange(classes)
    optimiser = torch.optim.LBFGS(
        [features, followed.weight],
        max_iter=steps, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=1e-13,
    )  # fmt: skip

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = followed(features, labels)
        value.backward()
        return value

    optimiser.step(closure)
    scored = NormalizedSoftmaxLoss(classes, size, scale, dtype=torch.float64)
    scored.load_state_dict({"weight": followed.weight.detach(), "scale": torch.tensor(scale)}, strict=False)
    with torch.no_grad():
        return float(scored(features, labels))


def training_curve(
    classes: int, size: int, scale: float | None, epochs: int, seed: int, batches: int = 15, title: str = "training"
) -> Curve:
    """Gradient descent in batches, with one free feature a class: nothing but the loss holds it back.

    scale: fixed, or None for one that is learned from 1 on. The curve has the mean loss over all classes, which the
    bound is about, before and after every epoch, and the scale at that time.
    """
    random = torch.Generator().manual_seed(seed)
    loss = NormalizedSoftmaxLoss(classes, size, scale, initial_scale=1.0)
    features = F.normalize(torch.randn(classes, size, generator=random))
    loss.weight.data.copy_(F.normalize(torch.randn(classes, size, generator=random)))
    each = math.ceil(classes / batches)
    curve: Curve = {"classes": classes, "loss": [], "scale": []}
    with progress(title, epochs) as bar:
        for epoch in range(epochs + 1):
            curve["loss"].append(whole_loss(loss, features, each))
            curve["scale"].append(max(loss.scale.item(), loss.min_scale))
            if epoch < epochs:
                for labels in torch.randperm(classes, generator=random).split(each):
                    step(loss, features, labels)
                bar.advance(words=f"loss {curve['loss'][-1]:.3f}")
    return curve


def step(loss: NormalizedSoftmaxLoss, features: Tensor, labels: Tensor) -> None:
    """A feature and a weight at a right angle to each other get half their length nearer, whatever the scale."""
    x = features[labels].requires_grad_()
    dx, dw, *ds = torch.autograd.grad(loss(x, labels), [x, *loss.parameters()])
    rate = 0.5 * len(labels) / max(loss.scale.item(), loss.min_scale)
    with torch.no_grad():
        features[labels] = F.normalize(x - rate * dx)
        loss.weight.copy_(F.normalize(loss.weight - rate * dw))
        for slope in ds:
            loss.scale.sub_(0.5 * slope)


@torch.no_grad()
def whole_loss(loss: NormalizedSoftmaxLoss, features: Tensor, each: int) -> float:
    parts = torch.arange(len(features)).split(each)
    return sum(loss(features[labels], labels).item() * len(labels) for labels in parts) / len(features)


def easy_and_hard(classes: int, scales: Sequence[float]) -> Mapping[str, Mapping[str, float]]:
    """Size of dL/d(s cos_y), which is 1 - p_y, of an easy and a hard sample of ``classes``, by the loss's own gradient.

    Easy: at its weight, all others opposite (the best there is). Hard: at a right angle to all. One feature of three
    dimensions, the label's weight and one that stands for the others.
    """
    easy, hard = ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    pulls = {}
    for scale in scales:
        loss = NormalizedSoftmaxLoss(classes, 3, scale, dtype=torch.float64)
        with torch.no_grad():
            loss.weight.copy_(torch.tensor([-1.0, 0.0, 0.0]).expand(classes, 3))
            loss.weight[0] = torch.tensor([1.0, 0.0, 0.0])
        pulls[str(scale)] = {name: score_gradient(loss, x) for name, x in (("easy", easy), ("hard", hard))}
    return pulls


def score_gradient(loss: NormalizedSoftmaxLoss, feature: Sequence[float]) -> float:
    """|d/dz_y cross-entropy(z)| at the loss's scores z of a feature whose label is 0."""
    scores = loss.logits(torch.tensor([feature], dtype=torch.float64)).detach().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(scores, torch.tensor([0])), scores)
    # 1 - p_y as the sum of the others' p, which does not cancel where p_y is near 1.
    return float(slope[0, 1:].sum())
