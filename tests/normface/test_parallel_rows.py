"""Sampled classes, narrow weights, and SGD row by row: to the numbers of a dense optimizer."""

from __future__ import annotations

import pytest
import torch
from normface import losses, parallel
from normface.errors import TrainingError
from support import parallel_cases
from support.ranks import run_ranks

CASES = "support.parallel_cases:"
EXACT = 1e-12
"""float64, after 30 steps of which a row has missed any number."""
ROUNDED = {"value": 2e-6, "features": 2e-6, "weights": 2**-7}
"""float32's arithmetic, but the gradient is rounded to the weights' 8 bits, where a last bit may differ."""


def test_rows_that_wait_for_their_steps_are_those_of_dense_sgd(one_thread):
    for way, found in parallel_cases.all_rows_beside_dense().items():
        assert max(found.values()) <= EXACT, way


@pytest.mark.slow
def test_rows_of_ranks_that_wait_for_their_steps_are_those_of_dense_sgd():
    for ways in run_ranks(3, CASES + "all_rows_beside_dense"):
        for way, found in ways.items():
            assert max(found.values()) <= EXACT, way


def test_narrow_weights_have_wide_statistics(one_thread):
    for name in ("arcface", "c-contrastive", "sphereface"):
        for what, far in parallel_cases.narrow_steps(name).items():
            assert far <= ROUNDED[what.split(" ")[1]], (name, what)


def head_of(rate: float = 1.0, name: str = "arcface", **options: object) -> parallel.ClassParallel:
    torch.manual_seed(0)
    return parallel.make(name, 200, 4, sample_rate=rate, dtype=torch.float64, **options)


X, Y = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(5, 4) ** 3, torch.tensor([0, 7, 7, 150, 199])


def test_a_sampled_gradient_is_of_the_labels_and_others_by_chance():
    head = head_of(0.1)
    rows = []
    for step in range(2):
        head.zero_grad()
        head(X, Y).backward()
        gradient = head.loss.weight.grad.coalesce()
        rows.append(gradient.indices()[0].tolist())
        assert len(rows[-1]) == 20 and {0, 7, 150, 199} <= {*rows[-1]}, step
    assert rows[0] != rows[1]
    again = head_of(0.1)
    again.load_state_dict(head.state_dict())  # which has how often it drew
    again(X, Y).backward()
    head.zero_grad()
    head(X, Y).backward()
    assert again.loss.weight.grad.coalesce().indices().equal(head.loss.weight.grad.coalesce().indices())


def test_labels_of_more_classes_than_are_sampled_are_all_there():
    head = head_of(0.01)
    head(X, Y).backward()
    assert head.loss.weight.grad.coalesce().indices()[0].tolist() == [0, 7, 150, 199]


def test_without_gradients_every_class_counts_and_is_up_to_date():
    head = head_of(0.1)
    optimizer = parallel.RowSGD(head, 0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        head(X, Y).backward()
        optimizer.step()
    with torch.no_grad():
        value = head(X, Y)
    whole = losses.make("arcface", 200, 4, dtype=torch.float64)
    whole.load_state_dict(head.loss.state_dict())
    assert value.item() == pytest.approx(whole(X, Y).item(), rel=1e-12)
    assert (head_of().loss.weight - head.loss.weight).abs().amin(1).gt(0).all()  # by the decay


def test_many_steps_are_kept_in_few_products(monkeypatch):
    monkeypatch.setattr("normface.parallel.row_sgd.MOST_MISSED", 7)
    assert max(parallel_cases.rows_beside_dense(0.2, True).values()) <= EXACT


def test_a_fused_step_has_no_gradient_and_one_backward_pass():
    head = head_of()
    optimizer = parallel.RowSGD(head, 0.1, fused=True)
    before = head.loss.weight.detach().clone()
    head(X, Y).backward()
    assert head.loss.weight.grad is None and not head.loss.weight.equal(before)
    with pytest.raises(TrainingError, match=r"one before each step\(\); with fused=False gradients add up"):
        head(X, Y)
    optimizer.step()
    head(X, Y).backward()


def test_gradients_add_up_in_place():
    head, plain = head_of(), head_of()
    parallel.RowSGD(head, 0.1)
    for one in (head, plain):
        one(X, Y).backward()
    held = head.loss.weight.grad
    for one in (head, plain):
        one(X, Y).backward()
    assert head.loss.weight.grad is held
    torch.testing.assert_close(held, plain.loss.weight.grad)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("softmax+center", {}, "CenterLoss: reads class weights beside the scores"),
        ("sphereface+mhe", {}, "MHELoss: reads class weights beside the scores"),
        ("sub-center-arcface", {}, "SubCenterArcFaceLoss: has sub-centers"),
        ("softmax", {"bias": True}, "SoftmaxLoss: has a bias"),
        ("arcface", {"label_smoothing": 0.1}, "ArcFaceLoss: with label_smoothing computes the scores twice"),
    ],
)
def test_what_does_not_go_row_by_row_is_refused(name, options, words):
    with pytest.raises(TrainingError, match=f"{words}.*does not go with sample_rate"):
        head_of(0.1, name, **options)
    with pytest.raises(TrainingError, match=f"{words}.*does not go with fused"):
        parallel.RowSGD(head_of(1.0, name, **options), 0.1, fused=True)


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.5, float("nan"), "all"])
def test_a_rate_is_a_share(rate):
    with pytest.raises(TrainingError, match="expected a sample_rate above 0, to 1"):
        head_of(rate)


def test_numbers_that_fit_no_optimizer_are_refused():
    with pytest.raises(TrainingError, match="RowSGD: expected momentum of 0 or more, got -1"):
        parallel.RowSGD(head_of(), 0.1, momentum=-1)
