"""``agents``: the classic losses against their formulas, the sampling, and what agents are worth over seeds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from experiments import Options, agents, pair_losses, run
from experiments.identities import people
from experiments.pair_losses import Sampler
from experiments.threads import one_thread

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, list[list[float]], list[int]]:
    """Features of four people, and their squared chords by angles and loops."""
    random = np.random.default_rng(1)
    points, labels = random.normal(size=(12, 3)), [0, 0, 1, 1, 2, 2, 3, 3, 0, 1, 2, 3]
    rows = [point / math.sqrt(sum(point**2)) for point in points]
    d = [[sum((a - b) ** 2) for b in rows] for a in rows]
    return torch.from_numpy(points), torch.tensor(labels), d, labels


def test_distances(batch):
    points, _, d, _ = batch
    torch.testing.assert_close(pair_losses.distances(points), torch.tensor(d, dtype=torch.float64), atol=1e-10, rtol=0)


def test_contrastive_on_all_pairs(batch):
    points, tensor, d, labels = batch
    terms = [
        d[i][j] if labels[i] == labels[j] else max(0.0, 1.0 - d[i][j])
        for i, j in itertools.combinations(range(len(labels)), 2)
    ]
    value = pair_losses.all_pairs(pair_losses.distances(points), tensor)
    assert value.item() == pytest.approx(sum(terms) / len(terms), abs=1e-10)


def test_triplets(batch):
    points, tensor, d, labels = batch
    n = range(len(labels))
    hinges = [
        d[a][p] + 0.2 - d[a][q]
        for a in n for p in n for q in n
        if a != p and labels[a] == labels[p] and labels[a] != labels[q]
    ]  # fmt: skip
    broken = [hinge for hinge in hinges if hinge > 0]
    assert 0 < len(broken) < len(hinges)
    value = pair_losses.all_triplets(pair_losses.distances(points), tensor)
    assert value.item() == pytest.approx(sum(broken) / len(broken), abs=1e-10)
    hardest = [
        max(
            0,
            max(d[a][p] for p in n if labels[p] == labels[a]) + 0.2 - min(d[a][q] for q in n if labels[q] != labels[a]),
        )
        for a in n
    ]
    value = pair_losses.hardest_triplets(pair_losses.distances(points), tensor)
    assert value.item() == pytest.approx(sum(hardest) / len(hardest), abs=1e-10)


def test_a_batch_of_pairs_and_of_triplets(batch):
    """The trainer takes images 2k and 2k + 1 for a pair, and 3k to 3k + 2 for a triplet."""
    points, tensor, d, labels = batch
    known, _ = people(0, known=4, unseen=2, each=4)
    trainer = agents.Trainer(known, None, 1e-3, seed=0)
    trainer.features = lambda rows: (points[rows.reshape(-1)], tensor[rows.reshape(-1)])
    pairs = [(0, 1), (2, 5), (6, 7), (3, 8)]
    expected = [d[i][j] if labels[i] == labels[j] else max(0.0, 1 - d[i][j]) for i, j in pairs]
    assert trainer.on_pairs(np.array(pairs)).item() == pytest.approx(sum(expected) / 4, abs=1e-10)
    triplets = [(0, 1, 2), (6, 7, 0), (2, 3, 10)]
    expected = [max(0.0, d[a][p] + 0.2 - d[a][q]) for a, p, q in triplets]
    assert trainer.on_triplets(np.array(triplets)).item() == pytest.approx(sum(expected) / 3, abs=1e-10)


def test_the_sampling():
    labels = torch.arange(20).repeat_interleave(5)
    sampler = Sampler(labels, 0)
    assert len(set(sampler.any(60))) == 60
    drawn = labels[sampler.people(8, 4)].reshape(8, 4)
    assert (drawn == drawn[:, :1]).all() and len(set(drawn[:, 0].tolist())) == 8
    same = [labels[i] == labels[j] for i, j in sampler.pairs(40, 0.5)]
    assert sum(same) == 20
    assert all(i != j for i, j in sampler.pairs(40, 1.0))
    by_chance = np.mean([[labels[i] == labels[j] for i, j in sampler.pairs(40, None)] for _ in range(50)])
    assert 0.02 < by_chance < 0.065  # 4 / 99, of 2,000 draws
    for a, p, q in sampler.triplets(30):
        assert labels[a] == labels[p] and a != p and labels[a] != labels[q]
    again = Sampler(labels, 0)
    assert len(set(again.any(60))) == 60 and (again.people(8, 4) == people_after_any(labels)).all()


def people_after_any(labels: torch.Tensor) -> np.ndarray:
    sampler = Sampler(labels, 0)
    sampler.any(60)
    return sampler.people(8, 4)


def test_people_cannot_be_told_apart_at_sight_but_show_what_they_are():
    known, unseen = people(3, known=30, unseen=20, each=6)
    assert len(known.images) == 180 and len(unseen.images) == 160 and known.count == 30
    assert not torch.equal(known.images[:1], unseen.images[:1])
    again, _ = people(3, known=30, unseen=20, each=6)
    assert torch.equal(known.images, again.images)
    at_sight = agents.verification_rate(torch.nn.Identity(), unseen)
    assert 0.1 < at_sight < 0.6


def test_reached():
    assert agents.reached([0, 10, 20], np.array([0.0, 0.4, 0.8]), 0.5) == pytest.approx(12.5)
    assert agents.reached([0, 10, 20], np.array([0.6, 0.4, 0.8]), 0.5) == 0
    assert agents.reached([0, 10, 20], np.array([0.0, 0.4, 0.8]), 0.9) is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_agents_from_shuffled_images_beat_pairs_that_are_drawn(seed):
    """A margin of 0.1 in true accepts over either family's best drawing, on people whom none has seen."""
    known, unseen = people(seed, known=150, unseen=100, each=20)
    ends = {}
    for method in agents.METHODS:
        if method.kind == "drawn" or method.sampling == "any images":
            ends[method.name] = agents.training(method, known, unseen, 2e-3, seed, steps=150, checks=1)["rates"][-1]
    for family in agents.FAMILIES:
        best = max(ends[name] for name in agents.names_of(family, "drawn"))
        assert ends[f"C-{family}, any images"] > best + 0.1, ends


def test_the_same_seed_gives_the_same_rates():
    known, unseen = people(0, known=20, unseen=20, each=6)
    method = agents.METHODS[0]
    runs = [agents.training(method, known, unseen, 1e-3, 5, steps=6, checks=3) for _ in range(2)]
    assert runs[0]["rates"] == runs[1]["rates"] and runs[0]["steps"] == [0, 2, 4, 6]


@pytest.mark.slow
def test_the_whole_experiment(tmp_path, monkeypatch):
    """Small: what does not depend on the machine is the same twice; a claim that does not hold is told by numbers."""
    monkeypatch.setattr(agents, "SIZES", {False: (2, 4, 2)})
    monkeypatch.setattr(agents, "data_sets", lambda options: {"people": lambda seed: people(seed, 20, 20, 6)})
    one, again = (run("agents", Options(out=tmp_path, seed=1)) for _ in range(2))
    assert one.measured == again.measured
    final = one.measured["people"]["final"]
    assert set(final) == {method.name for method in agents.METHODS} == set(one.timings["people"]["ms_a_step"])
    for family in agents.FAMILIES:
        found = one.measured["people"]["families"][family]
        ends = [final[name]["mean"] for name in agents.names_of(family, "agents")]
        assert found["spread_over_samplings"]["agents"] == pytest.approx(max(ends) - min(ends))
        drawn = max(final[name]["mean"] for name in agents.names_of(family, "drawn"))
        assert found["further_than_drawn"] == (ends[0] > drawn)
    assert one.holds is False and "points apart with agents" in one.finding
    families = one.measured["people"]["families"].values()
    further = [all(f[key] for key in ("sooner_than_mined", "further_than_mined", "less_sensitive")) for f in families]
    assert [(claim.text, claim.holds) for claim in one.also] == [(agents.FURTHER, all(further))]
    assert f"**Also claimed.** {agents.FURTHER} That " in (tmp_path / "agents" / "claim.md").read_text()
    assert {path.name for path in (tmp_path / "agents").iterdir()} == {
        "convergence.png", "sampling.png", "results.json", "claim.md"
    }  # fmt: skip
