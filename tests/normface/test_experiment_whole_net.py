"""``whole-net``: the figures against loops over pairs and people, the net, the lists, and how the claim is judged."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from normface.errors import ProtocolError
from normface.evaluate.lfw import PairList
from normface.evaluate.names import image_of
from normface.evaluate.resampled_people import drawn_tars

from experiments import people_draws, small_net, whole_net
from experiments.people_draws import scored_people
from experiments.result import Options
from experiments.threads import one_thread

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield


@pytest.fixture
def cloud():
    random = np.random.default_rng(5)
    labels = np.sort(random.integers(0, 12, 80))
    _, labels = np.unique(labels, return_inverse=True)
    centres = random.normal(size=(12, 6))
    return (centres[labels] + random.normal(size=(80, 6))).astype(np.float32), labels


def pairs_of(features, labels):
    genuine, impostor = [], []
    for i, j in itertools.combinations(range(len(labels)), 2):
        a, b = features[i].astype(float), features[j].astype(float)
        value = a @ b / math.hypot(*a) / math.hypot(*b)
        (genuine if labels[i] == labels[j] else impostor).append(value)
    return np.array(genuine), np.array(impostor)


def test_true_accepts_are_those_of_all_pairs(cloud, monkeypatch):
    monkeypatch.setattr(people_draws, "ROWS", 17)
    features, labels = cloud
    people = scored_people(features, labels, 0.05)
    genuine, impostor = pairs_of(features, labels)
    assert people.impostors == len(impostor) and len(people.genuine) == len(genuine)
    for far in (0.01, 0.05):
        threshold = np.sort(impostor)[-math.floor(far * len(impostor) + 0.5)]
        assert people.tar(far) == pytest.approx(np.mean(genuine >= threshold - 1e-6))


def test_draws_of_people_are_those_of_the_package(cloud):
    """Against normface.evaluate.resampled_people, which needs all scores: the same spread over draws, whose random
    numbers are others."""
    features, labels = cloud
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    scores = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
    theirs = drawn_tars(scores, labels, 0.05, draws=1000)
    ours = scored_people(features, labels, 0.05).drawn(0.05, 1000, 1)
    assert ours.mean() == pytest.approx(np.nanmean(theirs), abs=0.02)
    assert ours.std() == pytest.approx(np.nanstd(theirs), rel=0.15)
    again = scored_people(features, labels, 0.05).drawn(0.05, 1000, 1)
    np.testing.assert_array_equal(ours, again)


def test_one_kind_of_pair_only_is_refused():
    with pytest.raises(ProtocolError, match="3 genuine and 0 impostor pairs; both are needed"):
        scored_people(np.ones((3, 2), np.float32), np.zeros(3, int), 0.1)


def test_the_net_and_its_images():
    torch.manual_seed(0)
    net = small_net.small_net().eval()
    images = torch.randint(0, 256, (3, 3, small_net.HEIGHT, small_net.WIDTH), dtype=torch.uint8)
    features = small_net.features_of(net, images)
    assert features.shape == (3, small_net.SIZE)
    with torch.no_grad():
        scaled = (images.double() - 127.5) / 128
        expected = net.double()(scaled) + net.double()(scaled.flip(3))
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)
    np.testing.assert_array_equal(small_net.features_of(net.float(), images.flip(3)), features)


def test_images_are_moved_and_mirrored_whole():
    images = torch.arange(2 * 3 * 8 * 10, dtype=torch.float32).reshape(2, 3, 8, 10)
    random = torch.Generator().manual_seed(3)
    seen = set()
    for _ in range(60):
        varied = small_net.varied(images, random)
        assert varied.shape == images.shape
        for before, after in zip(images, varied, strict=True):
            inner = after[:, 3:5, 4:6]  # nothing of the repeated edge comes here
            left_right = {False: before, True: before.flip(2)}
            found = [
                (down, right, flipped)
                for flipped, whole in left_right.items()
                for down in range(-3, 4)
                for right in range(-3, 4)
                if torch.equal(whole[:, 3 + down : 5 + down, 4 + right : 6 + right], inner)
            ]
            assert found
            seen.add(found[0])
    assert len(seen) > 30 and {flipped for *_, flipped in seen} == {False, True}


@pytest.mark.slow
def test_training_learns_and_agents_begin_at_their_classes():
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (4, 3, 4, 4), generator=random, dtype=torch.uint8)  # large, as they are moved about
    faces = blocks.repeat_interleave(small_net.HEIGHT // 4, 2).repeat_interleave(small_net.WIDTH // 4, 3)
    labels = torch.arange(4).repeat_interleave(8)
    noise = torch.randint(-20, 20, (32, *faces.shape[1:]), generator=random)
    images = (faces[labels].int() + noise).clamp(0, 255).to(torch.uint8)
    net, loss = small_net.small_net(4), small_net.head("softmax", 4)
    before = loss(net.train()(small_net.as_input(images)), labels).item()
    small_net.train(net, loss, images, labels, 25, 0.05, 0)
    net.train()
    assert loss(net(small_net.as_input(images)), labels).item() < before / 3
    normalised = small_net.head("normalized-softmax", 4)
    small_net.agents_at_means(normalised, net, images, labels)
    features = torch.from_numpy(small_net.features_of(net, images))
    weights = dict(normalised.named_parameters())["weight"].detach()
    nearest = (torch.nn.functional.normalize(features) @ weights.T).argmax(1)
    assert torch.equal(nearest, labels) and torch.allclose(weights.norm(dim=1), torch.ones(4))


def test_lfws_pairs_of_the_people_that_measure():
    pairs = PairList(
        [("a", 1), ("b", 1), ("x", 1), ("a", 1), ("x", 1), ("b", 2)],
        [("a", 2), ("b", 2), ("x", 2), ("b", 1), ("b", 1), ("a", 2)],
        np.array([True, True, True, False, False, False]),
        np.array([1, 1, 1, 1, 1, 2]),
    )
    found = whole_net.balanced(pairs, {"a", "b"})
    assert found.left == [("a", 1), ("a", 1)] and found.right == [("a", 2), ("b", 1)]  # one of either kind in fold 1
    np.testing.assert_array_equal(found.same, [True, False])


def measured(tar, spread=1.0):
    drawn = tar + spread * np.random.default_rng(1).normal(size=400)
    return {"tar": {1e-3: tar, 1e-4: tar / 2}, "drawn": drawn, "dir": tar / 3, "folds": np.linspace(60, 70, 10) + tar}


STRANGERS = whole_net.Strangers(
    whole_net.Faces(torch.zeros(4, 1), torch.arange(4)),
    ["a"] * 4,
    None,
    PairList([], [], np.zeros(6, bool), np.ones(6)),
)


@pytest.mark.parametrize(
    ("seeds", "holds"),
    [
        ([(5, 6, 9), (5, 6, 8)], True),
        ([(5, 6, 9), (5, 8.5, 8)], None),  # with one seed softmax is better
        ([(9, 6, 5), (9, 6, 5)], False),
        ([(5, 6, 9)], None),  # one training decides nothing
    ],
)
def test_the_claim_is_judged_by_people_and_seeds(seeds, holds):
    rows = (whole_net.BEFORE, whole_net.CONTROL, whole_net.NORMALISED)
    of_seeds = [{row: measured(tar) for row, tar in zip(rows, tars, strict=True)} for tars in seeds]
    result = whole_net.judged(of_seeds, [dict.fromkeys(whole_net.LOSSES, 0.1)] * len(seeds), STRANGERS, (2, 1))
    assert result.holds is holds
    gain = np.mean([tars[2] - tars[0] for tars in seeds])
    assert result.measured["gain over"]["before"]["mean"] == pytest.approx(gain)
    told = "one seed" if len(seeds) == 1 else f"means of {len(seeds)} seeds"
    assert f"{told} on 4 people that neither has" in result.finding
    assert ("by seed" in result.finding) == (len(seeds) > 1)


def test_the_rate_is_chosen_on_development_people_alone(monkeypatch):
    faces = whole_net.Faces(torch.zeros(6, 1), torch.arange(6))
    train, development = (
        whole_net.Faces(faces.images[:4], torch.arange(4)),
        whole_net.Faces(faces.images[4:], torch.arange(2)),
    )
    rates = {whole_net.CONTROL: 0.03, whole_net.NORMALISED: 0.1}

    class Scored:
        def __init__(self, tar):
            self.tar = lambda far: tar

    def scored(net, people):
        assert people is development
        row, rate = net
        return Scored(float(rate == rates[row]))

    monkeypatch.setattr(whole_net, "started", lambda known, seed, epochs: (("start", 0), None))
    monkeypatch.setattr(whole_net, "finetuned", lambda row, start, known, seed, epochs, rate: (row, rate))
    monkeypatch.setattr(whole_net, "scored", scored)
    nets, chosen = whole_net.trained(train, development, 0, 2, 1)
    assert chosen == rates and nets == {"before": ("start", 0)} | {row: (row, rate) for row, rate in rates.items()}


def test_without_faces_it_says_what_it_needs(tmp_path):
    result = whole_net.run(Options(out=tmp_path))
    assert result.holds is None and "--lfw is needed" in result.finding and not result.figures


LFW = Path("../shared/lfw")


@pytest.mark.slow
@pytest.mark.skipif(not LFW.is_dir(), reason=f"needs {LFW}: aligned LFW with its protocols")
def test_nobody_measures_who_trained():
    known, strangers = whole_net.lists(LFW)
    assert known.people == 1500 and strangers.faces.people == 4249
    train, development = whole_net.split(known)
    assert (train.people, development.people) == (1000, 500)
    assert len(train.images) + len(development.images) == len(known.images)
    trained, chose, everyone, others = (
        {image.numpy().tobytes() for image in part.images} for part in (train, development, known, strangers.faces)
    )
    assert trained | chose == everyone
    # LFW has a few photos twice, under two names.
    assert len(trained & chose) <= 2 and len(everyone & others) <= 5
    names = {image_of(name)[0] for name in strangers.names}
    assert len(names) == 4249 and {name for name, _ in strangers.pairs.left + strangers.pairs.right} <= names
    assert len(strangers.pairs.same) == 2 * int(strangers.pairs.same.sum())
