"""Sampled classes: what each stands for, and that the sums of the others are right in the mean."""

from __future__ import annotations

import pytest
import torch
from normface import losses, parallel
from support import sampled_cases
from support.ranks import run_ranks

EXACT = 1e-12
"""float64, the same sums in another order."""


def test_a_sampled_class_counts_as_often_as_it_stands_for_others(one_thread):
    for name, found in sampled_cases.beside_copies().items():
        assert max(found.values()) <= EXACT, (name, found)


@pytest.mark.slow
def test_a_sampled_class_stands_for_others_of_its_own_rank():
    for cases in run_ranks(3, "support.sampled_cases:beside_copies"):
        for name, found in cases.items():
            assert max(found.values()) <= EXACT, (name, found)


@pytest.mark.parametrize(
    ("name", "options", "others"),
    [
        ("normalized-softmax", {"scale": 10.0}, torch.expm1),
        ("c-contrastive", {}, torch.Tensor.clone),
        ("sphereface2", {}, torch.Tensor.clone),
    ],
)
def test_the_sum_of_the_others_is_right_in_the_mean(name, options, others, one_thread):
    """``others``: what of the loss is linear in that sum. The mean of the draws is within four standard errors."""
    draws = 400
    torch.manual_seed(1)
    head = parallel.make(name, 30, 4, dtype=torch.float64, sample_rate=0.3, **options)
    whole = losses.make(name, 30, 4, dtype=torch.float64, **options)
    whole.load_state_dict(head.loss.state_dict())
    x, label = torch.randn(1, 4, dtype=torch.float64), torch.tensor([17])
    drawn = torch.stack([others(head(x, label).detach()) for _ in range(draws)])
    error = drawn.std() / draws**0.5
    assert error > 0
    assert (drawn.mean() - others(whole(x, label).detach())).abs() < 4 * error


def test_a_label_alone_stands_for_itself():
    """Where the labels fill the sample, and a rank has no other class, nothing is divided by 0."""
    head = parallel.make("normalized-softmax", 10, 4, dtype=torch.float64, sample_rate=0.1)
    x = torch.randn(1, 4, dtype=torch.float64).requires_grad_()
    value = head(x, torch.tensor([3]))
    value.backward()
    assert value.item() == 0
    assert torch.equal(x.grad, torch.zeros_like(x))
