"""``whole-net``: the figures against loops over pairs and people, the net, the lists, and how the claim is judged."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from normface.errors import ProtocolError, TrainingError
from normface.evaluate.lfw import PairList
from normface.evaluate.names import image_of
from normface.evaluate.resampled_people import drawn_tars

from experiments import people_draws, small_net, whole_net, whole_net_jobs, whole_net_lists, whole_net_trainings
from experiments.people_draws import scored_people
from experiments.result import Options
from experiments.threads import one_thread
from experiments.whole_net_jobs import BEFORE, CONTROL, NORMALISED

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
    net = small_net.small_net(4, 28, 24).eval()
    images = torch.randint(0, 256, (3, 3, 28, 24), dtype=torch.uint8)
    features = small_net.features_of(net, images)
    assert features.shape == (3, small_net.SIZE)
    with torch.no_grad():
        scaled = (images.double() - 127.5) / 128
        expected = net.double()(scaled) + net.double()(scaled.flip(3))
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)
    np.testing.assert_array_equal(small_net.features_of(net.float(), images.flip(3)), features)


@pytest.mark.slow
def test_training_learns_and_agents_begin_at_their_classes():
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (4, 3, 4, 4), generator=random, dtype=torch.uint8)  # large, as they are moved about
    faces = blocks.repeat_interleave(28 // 4, 2).repeat_interleave(24 // 4, 3)
    labels = torch.arange(4).repeat_interleave(8)
    noise = torch.randint(-20, 20, (32, *faces.shape[1:]), generator=random)
    images = (faces[labels].int() + noise).clamp(0, 255).to(torch.uint8)
    net, loss = small_net.small_net(4, 28, 24), small_net.head("softmax", 4)
    before = loss(net.train()(small_net.as_input(images)), labels).item()
    small_net.train(net, loss, images, labels, 32, 25, 0.05, 0)
    net.train()
    assert loss(net(small_net.as_input(images)), labels).item() < before / 3
    normalised = small_net.head("normalized-softmax", 4)
    small_net.agents_at_means(normalised, net, images, labels)
    features = torch.from_numpy(small_net.features_of(net, images))
    weights = dict(normalised.named_parameters())["weight"].detach()
    nearest = (torch.nn.functional.normalize(features) @ weights.T).argmax(1)
    assert torch.equal(nearest, labels) and torch.allclose(weights.norm(dim=1), torch.ones(4))


def test_a_training_that_diverges_is_told():
    images, labels = torch.full((8, 3, 28, 24), 255, dtype=torch.uint8), torch.arange(8) % 4
    net, loss = small_net.small_net(4, 28, 24), small_net.head("softmax", 4)
    with pytest.raises(TrainingError, match="SoftmaxLoss, seed 3: the loss is nan"):
        small_net.train(net, loss, images, labels, 8, 9, 1e30, 3)


def test_lfws_pairs_of_the_people_that_measure():
    pairs = PairList(
        [("a", 1), ("b", 1), ("x", 1), ("a", 1), ("x", 1), ("b", 2)],
        [("a", 2), ("b", 2), ("x", 2), ("b", 1), ("b", 1), ("a", 2)],
        np.array([True, True, True, False, False, False]),
        np.array([1, 1, 1, 1, 1, 2]),
    )
    found = whole_net_lists.balanced(pairs, {"a", "b"})
    assert found.left == [("a", 1), ("a", 1)] and found.right == [("a", 2), ("b", 1)]  # one of either kind in fold 1
    np.testing.assert_array_equal(found.same, [True, False])


PEOPLE = {
    "training people": 6,
    "training images": 9,
    "measuring people": 4,
    "measuring images": 8,
    "LFW pairs": 200,
}


def plan(part="here", **changes):
    made = whole_net_jobs.Plan(part, 28, 24, 4, 64, 2, 3, 1, (CONTROL, NORMALISED), (0.1, 0.03))
    return dataclasses.replace(made, **changes)


def measured(tar):
    """True accepts of ``tar`` percent, and as many of 100 pairs and of 100 others told right."""
    drawn = tar + np.random.default_rng(1).normal(size=400)
    right = "".join("1" if number % 100 < round(tar) else "0" for number in range(200))
    speed = {"seconds": 1.0, "images a second": 100}
    return {"tar": {"0.001": tar, "0.0001": tar / 2}, "drawn": drawn, "dir": tar / 3, "right": right} | speed


def trained(of_seeds, part="here"):
    rows = (BEFORE, CONTROL, NORMALISED)
    seeds = {
        str(seed): {row: measured(tar) for row, tar in zip(rows, tars, strict=True)}
        for seed, tars in enumerate(of_seeds)
    }
    rates = dict.fromkeys(rows[1:], 0.1)
    content = {"seeds": seeds, "development": {}, "people": PEOPLE, "rates": rates}
    return {"seconds": 60.0} | {key: {part: value} for key, value in content.items()}


@pytest.mark.parametrize(
    ("seeds", "holds"),
    [
        ([(50, 60, 90), (50, 60, 88)], True),
        ([(50, 60, 90), (50, 89, 88)], None),  # with one seed softmax is better
        ([(90, 60, 50), (90, 60, 52)], False),
        ([(50, 60, 90)], None),  # one training decides nothing
    ],
)
def test_the_claim_is_judged_by_people_and_seeds(seeds, holds):
    result = whole_net.judged([plan()], trained(seeds))
    assert result.holds is holds
    gain = np.mean([tars[2] - tars[0] for tars in seeds])
    gains = result.measured["here"]["gains over, of TAR at FAR 0.1 %"]
    assert gains["before"][NORMALISED]["mean"] == pytest.approx(gain)
    on_pairs = result.measured["here"]["gains over, of LFW's pairs told right"]["before"][NORMALISED]
    assert on_pairs["mean"] == pytest.approx(gain) and on_pairs["low"] < gain < on_pairs["high"]
    assert f"{len(seeds)} seeds; on 4 people that it never saw" in result.finding
    assert f"normalised softmax (rate 0.1) {np.mean([tars[2] for tars in seeds]):.1f} %" in result.finding


def test_both_parts_must_agree():
    good, bad = trained([(50, 60, 90), (50, 60, 88)]), trained([(90, 60, 50), (90, 60, 52)], "there")
    both = {key: good[key] | bad[key] for key in good if key != "seconds"} | {"seconds": 60.0}
    assert whole_net.judged([plan(), plan("there")], both).holds is False


def test_intervals_hold_what_seeds_and_people_spread():
    """Against the normal distribution: independent spreads of seeds and people add up as variances."""
    random = np.random.default_rng(2)
    seeds, people = random.normal(0, 3, (200, 1)), random.normal(0, 2, (1, 4000))
    of_people = whole_net.over_seeds_and_people(5 + seeds + people, 5.0)
    sigma = math.hypot(seeds.std() / math.sqrt(200), people.std())
    assert of_people.high - of_people.low == pytest.approx(2 * 1.96 * sigma, rel=0.1)
    of_pairs = whole_net.over_seeds_and_pairs(5 + seeds + people)
    sigma = math.hypot(seeds.std() / math.sqrt(200), people.std() / math.sqrt(4000))
    assert of_pairs.high - of_pairs.low == pytest.approx(2 * 1.96 * sigma, rel=0.15)  # of 400 draws
    assert of_pairs.mean == pytest.approx(5 + seeds.mean() + people.mean())


def answered(record, rates, plans=None):
    """Answer jobs in their order, best at ``rates``, and return all that were asked for."""
    queue, asked = whole_net_trainings.Queue(plans or [plan(), plan("there")], 5, record), []
    while (job := queue.next()) is not None:
        asked.append(job)
        tar = 9.0 if rates.get((job.plan.part, job.row)) == job.rate else 5.0
        record.add(job, ({"tar": tar} if job.row else {}) if job.development else measured(50))
        queue.ended(job)
    return asked


def test_the_claims_rows_come_first_and_whole_seeds_one_after_another(tmp_path):
    one = plan(rows=(CONTROL, "AM-Softmax", NORMALISED), rates=(0.1,))
    asked = answered(whole_net_trainings.Record(tmp_path / "partial.json", [one], "cpu"), {}, [one])
    assert [(job.seed, job.row) for job in asked] == [
        *((1000, row) for row in (None, CONTROL, NORMALISED)),
        *((seed, row) for seed in (5, 6) for row in (None, CONTROL, NORMALISED)),
        *((seed, "AM-Softmax") for seed in (1000, 5, 6)),
    ]


def test_seeds_and_losses_can_be_added_to_a_run(tmp_path):
    path, few = tmp_path / "partial.json", plan(seeds=1, rows=(CONTROL,), rates=(0.1,))
    answered(whole_net_trainings.Record(path, [few], "cpu"), {}, [few])
    more = dataclasses.replace(few, seeds=2)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 50.0}))
    record = whole_net_trainings.Record(path, [more], "cpu")
    asked = answered(record, {}, [more])
    assert [(job.seed, job.row) for job in asked] == [(6, None), (6, CONTROL)]
    assert record.content["seconds"] >= 50  # of both parts of the run


def test_rates_come_from_the_development_people_and_every_training_once(tmp_path):
    record = whole_net_trainings.Record(tmp_path / "partial.json", [plan(), plan("there")], "cpu")
    rates = {
        (part, row): rate
        for part, row, rate in itertools.product(("here", "there"), (CONTROL, NORMALISED), (0.03, 0.1))
        if (rate == 0.03) == (row == CONTROL)
    }
    asked = answered(record, rates)
    assert len(asked) == len(set(asked)) == 2 * (1 + 2 * 2 + 2 * (1 + 2))
    final = [job for job in asked if not job.development and job.row]
    assert {(job.plan.part, job.row): job.rate for job in final} == rates
    assert {job.seed for job in final} == {5, 6} and all(job.seed == 1000 for job in asked if job.development)
    for job in final:  # none before what it starts from and what it is told by
        before = asked[: asked.index(job)]
        assert dataclasses.replace(job, row=None, rate=whole_net_jobs.START_RATE) in before
        assert sum(one.development and one.plan == job.plan for one in before) == 5


def test_of_equal_rates_the_lower_is_taken_and_a_failed_one_never(tmp_path):
    record = whole_net_trainings.Record(tmp_path / "partial.json", [plan()], "cpu")
    for row, failed, best in ((CONTROL, None, 0.03), (NORMALISED, 0.03, 0.1)):
        for rate in (0.1, 0.03):
            assert record.rate(plan(), row) is None
            answer = {"failed": "the loss is nan"} if rate == failed else {"tar": 5.0}
            record.add(whole_net_jobs.Job(plan(), 1000, True, row, rate), answer)
        assert record.rate(plan(), row) == best


def test_the_rate_rises_and_falls():
    shares = [small_net._share_of_rate(step, 100) for step in range(100)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], abs=0.005)  # over a twentieth
    assert shares[50] == pytest.approx(0.5) and sorted(shares[5:], reverse=True) == shares[5:] and shares[99] < 1e-3


def test_a_broken_off_run_goes_on_without_what_it_has(tmp_path):
    path, plans = tmp_path / "partial.json", [plan(), plan("there")]
    whole = answered(whole_net_trainings.Record(path, plans, "cpu"), {})
    record = whole_net_trainings.Record(path, plans, "cpu")
    assert answered(record, {}) == []
    del record.content["seeds"]["there"]["6"][NORMALISED]
    again = answered(record, {})  # the whole seed: its net from scratch is gone
    assert [(job.plan.part, job.seed, job.row) for job in again] == [
        ("there", 6, row) for row in (None, CONTROL, NORMALISED)
    ]
    other = whole_net_trainings.Record(path, [plan(again=2), plan("there")], "cpu")
    assert not other.content["seeds"] and len(answered(other, {})) == len(whole)


def test_a_seed_that_diverged_is_no_result():
    made = trained([(50, 60, 90), (50, 60, 88)])
    made["seeds"]["here"]["1"][CONTROL] = {"failed": "SoftmaxLoss, seed 1: the loss is nan"}
    with pytest.raises(TrainingError, match="here, softmax, as long: SoftmaxLoss, seed 1: the loss is nan"):
        whole_net.judged([plan()], made)


def test_a_gpu_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="--device cuda: this PyTorch finds no CUDA device; leave --device out"):
        whole_net.run(Options(out=tmp_path, lfw=tmp_path, device="cuda"))


def test_without_faces_it_says_what_it_needs(tmp_path):
    result = whole_net.run(Options(out=tmp_path))
    assert result.holds is None and "--lfw is needed" in result.finding and not result.figures


LFW = Path("../shared/lfw")


@pytest.mark.slow
@pytest.mark.skipif(not LFW.is_dir(), reason=f"needs {LFW}: aligned LFW with its protocols")
def test_nobody_measures_who_trained():
    lists = whole_net_lists.read_lists(LFW, 28, 24)
    counted = {whole_net_lists.BLUFR_TRIAL: (1500, 4249), whole_net_lists.LFW_FOLDS: (4508, 1241)}
    for part, (trains, measures) in counted.items():
        known, strangers = lists.part(part)
        assert (known.people, strangers.faces.people) == (trains, measures)
        assert len(known.images) + len(strangers.faces.images) == 13233
        train, development = whole_net_lists.split(known)
        assert development.people == round(trains / 3) and train.people + development.people == trains
        assert len(train.images) + len(development.images) == len(known.images)
        trained, chose, everyone, others = (
            {image.numpy().tobytes() for image in images}
            for images in (train.images, development.images, known.images, strangers.faces.images)
        )
        assert trained | chose == everyone
        # LFW has a few photos twice, under two names.
        assert len(trained & chose) <= 3 and len(everyone & others) <= 5
        names = {image_of(name)[0] for name in strangers.names}
        assert len(names) == measures
        assert {name for name, _ in strangers.pairs.left + strangers.pairs.right} <= names
        assert len(strangers.pairs.same) == 2 * int(strangers.pairs.same.sum())
    assert len(strangers.pairs.same) == 1800  # whole folds of view 2
    gallery, probes = strangers.trial.gallery, strangers.trial.probes
    labels = strangers.faces.labels.numpy()
    counts = np.bincount(labels)
    assert sorted(labels[gallery]) == np.flatnonzero(counts > 1).tolist()
    assert sorted([*gallery, *probes]) == list(range(len(labels)))


@pytest.mark.slow
@pytest.mark.skipif(not LFW.is_dir(), reason=f"needs {LFW}: aligned LFW with its protocols")
def test_it_runs_and_a_seed_gives_the_same_again(tmp_path, monkeypatch):
    """A training and a finetuning in processes of their own, and once more in this one."""
    only = plan(whole_net_lists.LFW_FOLDS, seeds=1, epochs=1, rows=(CONTROL,), rates=(0.1,))
    made = whole_net_trainings.train_all([only], 5, LFW, tmp_path, "cpu")
    seed = made["seeds"][only.part]["5"]
    assert set(seed) == {BEFORE, CONTROL} and made["rates"][only.part] == {CONTROL: 0.1}
    assert not (tmp_path / whole_net_trainings.PARTIAL).exists() and (tmp_path / "trainings.json").exists()
    known, strangers = whole_net_lists.read_lists(LFW, 28, 24).part(only.part)
    monkeypatch.setattr(whole_net_jobs, "_place", whole_net_jobs.Place(None, None, tmp_path, "cpu"), raising=False)
    job = whole_net_jobs.Job(only, 5, False)
    for row in (BEFORE, CONTROL):
        net = (
            whole_net_jobs.from_scratch(job, known)
            if row == BEFORE
            else whole_net_jobs.finetuned(dataclasses.replace(job, row=row), known)
        )
        again = whole_net_jobs.measured_on(net, strangers)
        assert {key: seed[row][key] for key in again} == again
