"""The convergence facts of NormFace, on optimisers that try: where cosine softmax stalls, and what a scale does."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from normface import losses
from normface.bounds import scale_for_loss, softmax_lower_bound
from torch import Tensor

ROUNDING = 2e-6  # of float32 in a mean loss of about 8


@pytest.fixture(autouse=True)
def one_thread():
    """So that the runs are the same everywhere, and no slower beside others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("n", "scale"), [(2, 1.0), (5, 1.0), (5, 8.0), (20, 4.0)])
def test_an_optimiser_reaches_the_bound_and_does_not_pass_it(n, scale):
    """A feature for each class and its weight, all free, in n dimensions: the simplex is there to be found."""
    torch.manual_seed(n)
    loss = losses.NormalizedSoftmaxLoss(n, n, scale, dtype=torch.float64)
    features = torch.randn(n, n, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([features, loss.weight], max_iter=400, line_search_fn="strong_wolfe")
    seen: list[float] = []

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(features, torch.arange(n))
        value.backward()
        seen.append(value.item())
        return value

    optimiser.step(closure)
    bound = math.log(1 + (n - 1) * math.exp(-n / (n - 1) * scale))
    assert seen[0] > bound + 0.1
    assert min(seen) >= bound - 1e-12
    assert min(seen) <= bound + 1e-3
    assert softmax_lower_bound(n, scale) == pytest.approx(bound, rel=1e-12)


@pytest.mark.slow
def test_a_target_loss_can_be_reached():
    """The scale that the bound gives for a loss of 0.05 is enough for it, and not too large."""
    torch.manual_seed(0)
    loss = losses.NormalizedSoftmaxLoss(6, 6, target_loss=0.05, dtype=torch.float64)
    assert loss.scale.item() == pytest.approx(scale_for_loss(6, 0.05), rel=1e-12)
    features = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([features, loss.weight], lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        value = loss(features, torch.arange(6))
        value.backward()
        optimiser.step()
    assert 0.05 - 1e-12 <= value.item() <= 0.051


N, D = 10575, 16


class Faces:
    """CASIA-WebFace's 10,575 classes with one free feature each: nothing but the loss holds the training back."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.features = F.normalize(torch.randn(N, D))
        self.loss = losses.NormalizedSoftmaxLoss(N, D, scale=1.0)

    def epoch(self) -> None:
        """Plain gradient steps in batches; a feature and a weight at a right angle get half their length nearer."""
        for labels in torch.randperm(N).split(705):
            x = self.features[labels].requires_grad_()
            dx, dw, *ds = torch.autograd.grad(self.loss(x, labels), [x, *self.loss.parameters()])
            step = 0.5 * len(labels) / self.loss.scale.item()
            with torch.no_grad():
                self.features[labels] = F.normalize(x - step * dx)
                self.loss.weight.copy_(F.normalize(self.loss.weight - step * dw))
                for slope in ds:
                    self.loss.scale.sub_(2 * slope)

    def learn_the_scale(self) -> None:
        """From here on."""
        learned = losses.NormalizedSoftmaxLoss(N, D, initial_scale=1.0)
        learned.load_state_dict(self.loss.state_dict())
        self.loss = learned

    @torch.no_grad()
    def whole_loss(self) -> float:
        """The mean over all classes, which the bound is about."""
        parts = torch.arange(N).split(705)
        return sum(self.loss(self.features[labels], labels).item() * len(labels) for labels in parts) / N


@pytest.mark.slow
def test_cosine_softmax_on_10575_classes_stalls_and_a_learned_scale_does_not():
    """From chance, 9.27, the unscaled loss comes close to 8.27 and no further; the learned scale leaves it behind."""
    bound = math.log(1 + 10574 * math.exp(-10575 / 10574))
    assert bound == pytest.approx(8.27, abs=0.005)
    faces = Faces()
    assert faces.whole_loss() == pytest.approx(9.27, abs=0.05)
    for _ in range(2):
        faces.epoch()
        value = faces.whole_loss()
        assert value >= bound - ROUNDING
    assert value <= bound + 0.05, "the optimiser did not try hard enough to show the bound"

    faces.learn_the_scale()
    assert faces.whole_loss() == value
    faces.epoch()
    value, scale = faces.whole_loss(), faces.loss.scale.item()
    assert value < bound - 1
    assert value >= softmax_lower_bound(N, scale) - ROUNDING  # it is the bound of a scale, and holds for this one
