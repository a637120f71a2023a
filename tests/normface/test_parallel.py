"""Class weights sharded over ranks: to the numbers of one process, whatever the loss, the shards and the batches."""

from __future__ import annotations

import pytest
import torch
from normface import losses, parallel
from normface.errors import TrainingError
from normface.losses.class_shard import ClassShard
from support import parallel_cases
from support.ranks import run_ranks

CASES = "support.parallel_cases:"
VALUES, STEPS = 1e-10, 1e-9
"""How far apart float64 may be, relative to the largest number: sums in another order, once and in ten steps."""


def too_far(found: list[dict[str, dict[str, float]]], most: float) -> list[tuple[int, str, str, float]]:
    return [
        (rank, case, what, far)
        for rank, cases in enumerate(found)
        for case, numbers in cases.items()
        for what, far in numbers.items()
        if not far <= most
    ]


def test_one_process_without_a_group_is_a_group_of_one(one_thread):
    found = parallel_cases.of_each_loss()
    assert not too_far([found], VALUES)
    assert not too_far([parallel_cases.ten_steps_of_each()], STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_values_and_all_gradients_are_those_of_one_process(ranks):
    found = run_ranks(ranks, CASES + "of_each_loss")
    names = {name for case in found[0] for name in case.split(" ")[0].split("+")}
    assert {name.rpartition("*")[2] for name in names} == {*losses.LOSSES, *losses.REGULARISERS}
    assert not too_far(found, VALUES)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ten_steps_are_those_of_one_process(ranks):
    found = run_ranks(ranks, CASES + "ten_steps_of_each")
    assert len(found[0]) == len(parallel_cases.STEPPED)
    assert not too_far(found, STEPS)


@pytest.mark.slow
def test_the_start_depends_on_no_number_of_ranks():
    alone = parallel_cases.started_rows()
    assert len({tuple(row) for row in alone}) == 11
    for rows in run_ranks(3, CASES + "started_rows"):
        assert rows == alone


@pytest.mark.slow
def test_all_ranks_are_told_what_one_was_given():
    first, second = run_ranks(2, CASES + "refusals")
    assert second[0] == "expected floating-point embeddings (N, 5), got (3, 4) of torch.float32"
    assert second[1] == "expected 3 whole-number labels, got (2,) of torch.int64"
    assert first[0] == first[1] == "rank 1 was given no samples that fit; its own error says why"
    assert "with sample weights and torch.float32 without sample weights" in first[2] and first[2] == second[2]
    assert "ranks 0 and 1 were given samples of two kinds" in first[3] and "torch.float64" in second[3]
    assert first[4] == second[4] == "ArcFaceLoss: expected labels from 0 to 6, got 9"
    assert "expected one embedding or more, got none" in first[5] and first[5] == second[5]
    assert first[6] == second[6] == ""
    assert "no second derivative" in first[7] and first[7] == second[7]


class FakeRank(ClassShard):
    """A shard as another rank has it."""

    def __init__(self, num_classes, rank, size):
        super().__init__(num_classes)
        most = -(-num_classes // size)
        self.rank, self.size, self.first = rank, size, min(rank * most, num_classes)
        self.count = min(most, num_classes - self.first)


@pytest.mark.parametrize(("classes", "size"), [(1, 1), (11, 4), (8, 4), (9, 4), (3, 4), (1, 3), (5, 4)])
def test_shards_are_those_of_dtensor(classes, size):
    """torch.chunk's, whose parts DTensor's Shard(0) has."""
    chunks = torch.arange(classes).chunk(size)
    shards = [FakeRank(classes, rank, size) for rank in range(size)]
    for rank, shard in enumerate(shards):
        expected = chunks[rank] if rank < len(chunks) else torch.arange(0)
        assert shard.own_rows(torch.arange(classes)).tolist() == expected.tolist()
        assert len(expected) == shard.count
        everyone = shard.local(torch.arange(classes))
        assert everyone[everyone >= 0].tolist() == list(range(shard.count))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("sphereface", {"exact_gradient": False}, "SphereFaceLoss: exact_gradient=False needs all class weights"),
        ("c-contrastive", {"exact_gradient": False}, "CContrastiveLoss: exact_gradient=False needs all"),
        ("c-contrastive", {"max_negative_only": True}, "max_negative_only needs all class weights in one process"),
        ("c-contrastive", {"max_positive_only": True}, "max_positive_only needs all class weights in one process"),
        ("c-triplet", {"exact_gradient": False}, "CTripletLoss: exact_gradient=False needs all class weights"),
        ("softmax+mhe", {"over": "all"}, 'MHELoss: over="all" needs all class weights in one process'),
    ],
)
def test_what_needs_all_classes_in_one_process_is_refused(name, options, words):
    with pytest.raises(TrainingError, match=words):
        parallel.make(name, 7, 3, **options)


def test_a_head_takes_a_loss_that_was_made_with_one_shard():
    with pytest.raises(TrainingError, match="made with one shard"):
        parallel.ClassParallel(losses.make("arcface", 7, 3))
    with pytest.raises(TrainingError, match="made with one shard"):
        two = [losses.make("softmax", 7, 3, shard=ClassShard(7)) for _ in range(2)]
        parallel.ClassParallel(two[0] + two[1])
    with pytest.raises(TrainingError, match="expected a shard of 7 classes, got one of 8"):
        losses.make("softmax", 7, 3, shard=ClassShard(8))
    with pytest.raises(TrainingError, match=r"expected a ClassShard of normface\.parallel for shard, got 'all'"):
        losses.make("softmax", 7, 3, shard="all")
    with pytest.raises(TrainingError, match="expected backbone_gradients averaged or summed, got 'mean'"):
        parallel.make("softmax", 7, 3, backbone_gradients="mean")


@pytest.mark.parametrize("transform", ["func", "compile"])
def test_transforms_are_refused(transform):
    loss = parallel.make("arcface", 7, 3).loss
    x, labels = torch.randn(2, 3), torch.tensor([1, 2])
    with pytest.raises(Exception, match=r"neither within torch\.func nor within torch\.compile"):
        if transform == "func":
            torch.func.grad(lambda x: loss(x, labels))(x)
        else:
            torch.compile(loss, backend="eager", fullgraph=True)(x, labels)


def test_logits_are_those_of_a_ranks_classes():
    whole = losses.make("arcface", 7, 3)
    part = losses.make("arcface", 7, 3, shard=FakeRank(7, 0, 1))
    with torch.no_grad():
        part.weight.copy_(whole.weight)
    x = torch.randn(4, 3)
    torch.testing.assert_close(part.logits(x), whole.logits(x))
