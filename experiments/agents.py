"""Metric losses with class agents against those on pairs: how soon they verify, and what the sampling does to it.

C-contrastive and C-triplet (NormFace) compare a feature with one agent a class instead of with other features.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from normface import losses
from normface.evaluate.roc import tar_at_far
from normface.progress import progress
from torch import Tensor, nn

from . import pair_losses
from .agents_figures import figures
from .identities import People, people
from .mnist import read_digits
from .pair_losses import Sampler, distances
from .result import Claim, Options, Result
from .threads import one_thread

CLAIM = (
    "With class agents in place of the other features, contrastive and triplet loss need no sampling of pairs: from "
    "plain shuffled images, C-contrastive and C-triplet get further and sooner than these from drawn pairs."
)
FURTHER = (
    "C-contrastive and C-triplet get further, and sooner, than contrastive and triplet loss with any sampling, that of "
    "all pairs or the hardest of a batch too; and how the images are drawn matters less to them."
)
"""What the slides would have besides; it is more than is found."""
BATCH, HIDDEN, EMBEDDING = 64, 128, 32
RATES = (1e-3, 2e-3)
"""Of Adam, whose steps do not depend on a loss's scale; every loss and sampling takes the better of them."""
AGENT_RATE = 50
"""Times the net's for the agents, which have few steps of their own: NormFace's cosine heads have lr_mult 100. Chosen
of 1, 10 and 50 by trainings on the made-up people, which the losses on pairs, having no agents, had no equal of: at 1
C-contrastive fell behind mined batches, and C-triplet learned next to nothing in as many steps."""
FAR = 0.01
SIZES = {False: (3, 400, 10), True: (5, 2000, 20)}
"""full -> seeds, steps of a training, how often it is measured."""
TARGET = 0.9
"""Of the best final rate of a family: the mark that the time is taken to."""
KINDS = ("agents", "drawn", "mined")
"""With class agents; on pairs or triplets that are drawn; on all or the hardest that a batch of few classes has."""
Step = Callable[["Trainer"], Tensor]


@dataclass(frozen=True)
class Method:
    """A loss with a way of sampling. family: "contrastive" or "triplet"; kind: one of KINDS."""

    family: str
    kind: str
    sampling: str
    step: Step

    @property
    def agents(self) -> bool:
        return self.kind == "agents"

    @property
    def name(self) -> str:
        return f"{'C-' * self.agents}{self.family}, {self.sampling}"


class Trainer:
    """A small net, and where a method needs them the class agents."""

    def __init__(self, data: People, agents: str | None, rate: float, seed: int) -> None:
        torch.manual_seed(seed)
        size = data.images.shape[1]
        self.data = data
        self.net = nn.Sequential(
            nn.Linear(size, HIDDEN), nn.PReLU(), nn.Linear(HIDDEN, HIDDEN), nn.PReLU(), nn.Linear(HIDDEN, EMBEDDING)
        )
        self.loss = losses.make(agents, data.count, EMBEDDING) if agents else None
        groups: list[dict[str, Any]] = [{"params": list(self.net.parameters())}]
        if self.loss is not None:
            groups.append({"params": list(self.loss.parameters()), "lr": AGENT_RATE * rate})
        self.optimiser = torch.optim.Adam(groups, lr=rate)
        self.sampler = Sampler(data.labels, seed)

    def features(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        at = torch.from_numpy(rows.reshape(-1))
        return self.net(self.data.images[at]), self.data.labels[at]

    def with_agents(self, rows: np.ndarray) -> Tensor:
        return self.loss(*self.features(rows))

    def in_batch(self, rows: np.ndarray, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        features, labels = self.features(rows)
        return loss(distances(features), labels)

    def on_pairs(self, rows: np.ndarray) -> Tensor:
        """rows (n, 2)"""
        features, labels = self.features(rows)
        d = distances(features).diagonal(1)[::2]
        return pair_losses.contrastive(d, labels[::2] == labels[1::2])

    def on_triplets(self, rows: np.ndarray) -> Tensor:
        """rows (n, 3)"""
        d = distances(self.features(rows)[0])
        return pair_losses.triplet(d.diagonal(1)[::3], d.diagonal(2)[::3])


def with_agents(family: str) -> list[Method]:
    return [
        Method(family, "agents", "any images", lambda t: t.with_agents(t.sampler.any(BATCH))),
        Method(family, "agents", "16 classes x 4", lambda t: t.with_agents(t.sampler.people(16, BATCH // 16))),
        Method(family, "agents", "4 classes x 16", lambda t: t.with_agents(t.sampler.people(4, BATCH // 4))),
    ]


METHODS = [
    *with_agents("contrastive"),
    Method("contrastive", "drawn", "any pairs", lambda t: t.on_pairs(t.sampler.pairs(BATCH // 2, None))),
    Method("contrastive", "drawn", "half positive", lambda t: t.on_pairs(t.sampler.pairs(BATCH // 2, 0.5))),
    Method(
        "contrastive", "mined", "all pairs of 16 x 4",
        lambda t: t.in_batch(t.sampler.people(16, BATCH // 16), pair_losses.all_pairs),
    ),
    *with_agents("triplet"),
    Method("triplet", "drawn", "any triplets", lambda t: t.on_triplets(t.sampler.triplets(BATCH // 3))),
    Method(
        "triplet", "mined", "all of 16 x 4",
        lambda t: t.in_batch(t.sampler.people(16, BATCH // 16), pair_losses.all_triplets),
    ),
    Method(
        "triplet", "mined", "hardest of 16 x 4",
        lambda t: t.in_batch(t.sampler.people(16, BATCH // 16), pair_losses.hardest_triplets),
    ),
]  # fmt: skip
FAMILIES = ("contrastive", "triplet")


def run(options: Options) -> Result:
    seeds, steps, checks = SIZES[options.full]
    sets = data_sets(options)
    curves: dict[str, Any] = {}
    with one_thread(), progress("trainings", len(sets) * seeds * len(METHODS) * len(RATES)) as bar:
        for name in sets:
            curves[name] = {}
            for method in METHODS:
                runs = {rate: [] for rate in RATES}
                for rate in RATES:
                    for seed in range(options.seed, options.seed + seeds):
                        runs[rate].append(training(method, *sets[name](seed), rate, seed, steps, checks))
                        bar.advance(words=method.name)
                curves[name][method.name] = better_rate(runs)
    measured = {name: {"curves": rates_only(of_set), **compared(of_set)} for name, of_set in curves.items()}
    timings = {name: timed(of_set, measured[name]) for name, of_set in curves.items()}
    families = [family for name in curves for family in measured[name]["families"].values()]
    holds = all(family["sooner_than_drawn"] and family["further_than_drawn"] for family in families)
    further = all(
        family["sooner_than_mined"] and family["further_than_mined"] and family["less_sensitive"] for family in families
    )
    finding = " ".join([summary(measured), *(sentence(name, measured[name], timings[name]) for name in curves)])
    also = (Claim(FURTHER, further),)
    return Result(CLAIM, finding, measured, holds, figures(measured, timings), timings, also)


def data_sets(options: Options) -> Mapping[str, Callable[[int], tuple[People, People]]]:
    """Name -> what gives the training and the test set of a seed."""
    known, unseen = (2000, 200) if options.full else (500, 100)
    digits = tuple(
        People(torch.from_numpy(part.as_input().reshape(len(part), -1)), torch.from_numpy(part.labels), 10)
        for part in (part.first(each) for part, each in zip(read_digits(options.mnist), (400, 60), strict=True))
    )
    return {
        f"{known} made-up people, measured on {unseen} others": lambda seed: people(seed, known, unseen, each=20),
        "ten digits, measured on new images of them": lambda seed: digits,
    }


def training(
    method: Method, known: People, unseen: People, rate: float, seed: int, steps: int, checks: int
) -> dict[str, Any]:
    """Verification rate at FAR 1 % after every steps/checks steps, and the seconds of a step."""
    trainer = Trainer(known, f"c-{method.family}" if method.agents else None, rate, seed)
    rates, seconds = [verification_rate(trainer.net, unseen)], 0.0
    for step in range(1, steps + 1):
        started = time.process_time()
        value = method.step(trainer)
        trainer.optimiser.zero_grad()
        value.backward()
        trainer.optimiser.step()
        seconds += time.process_time() - started  # of the one thread, however busy the machine
        if step % (steps // checks) == 0:
            rates.append(verification_rate(trainer.net, unseen))
    return {"steps": list(range(0, steps + 1, steps // checks)), "rates": rates, "seconds": seconds / steps}


@torch.no_grad()
def verification_rate(net: nn.Module, data: People) -> float:
    """TAR at FAR, of the cosines of all pairs."""
    x = nn.functional.normalize(net(data.images))
    one, other = torch.triu_indices(len(x), len(x), 1)
    scores, same = (x @ x.t())[one, other].numpy(), (data.labels[one] == data.labels[other]).numpy()
    return float(tar_at_far(scores[same], scores[~same], FAR)[0])


def better_rate(runs: Mapping[float, list[dict[str, Any]]]) -> dict[str, Any]:
    """The seeds of the learning rate with the higher final mean."""
    rate = max(runs, key=lambda rate: np.mean([run["rates"][-1] for run in runs[rate]]))
    seconds = float(np.median([run["seconds"] for of_rate in runs.values() for run in of_rate]))
    of_seeds = [run["rates"] for run in runs[rate]]
    return {"rate": rate, "steps": runs[rate][0]["steps"], "of_seeds": of_seeds, "seconds_a_step": seconds}


def rates_only(of_set: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What does not depend on the machine."""
    return {name: {k: v for k, v in curve.items() if k != "seconds_a_step"} for name, curve in of_set.items()}


def compared(of_set: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Final rates, the images until a family's mark, and the spread over samplings by family."""
    means = {name: np.mean(curve["of_seeds"], 0) for name, curve in of_set.items()}
    images, families = {}, {}
    for family in FAMILIES:
        kinds = {kind: names_of(family, kind) for kind in KINDS}
        plain = kinds["agents"][0]
        mark = TARGET * max(means[name][-1] for names in kinds.values() for name in names)
        for name in (name for names in kinds.values() for name in names):
            steps = reached(of_set[name]["steps"], means[name], mark)
            images[name] = None if steps is None else BATCH * steps
        ends = {kind: [means[name][-1] for name in names] for kind, names in kinds.items()}
        soonest = {kind: min(images[name] or math.inf for name in names) for kind, names in kinds.items()}
        own = images[plain] or math.inf
        spread = {"agents": np.ptp(ends["agents"]), "pairs": np.ptp([*ends["drawn"], *ends["mined"]])}
        families[family] = {
            "mark": mark,
            "spread_over_samplings": spread,
            "sooner_than_drawn": own < soonest["drawn"],
            "sooner_than_mined": own < soonest["mined"],
            "further_than_drawn": means[plain][-1] > max(ends["drawn"]),
            "further_than_mined": means[plain][-1] > max(ends["mined"]),
            "less_sensitive": spread["agents"] < spread["pairs"],
        }
    stds = {name: np.std(curve["of_seeds"], 0, ddof=1) for name, curve in of_set.items()}
    final = {name: {"mean": mean[-1], "std": stds[name][-1]} for name, mean in means.items()}
    return {"final": final, "images_to_mark": images, "families": families}


def names_of(family: str, kind: str) -> list[str]:
    return [method.name for method in METHODS if method.family == family and method.kind == kind]


def reached(steps: list[int], rates: np.ndarray, target: float) -> float | None:
    """Where the curve, straight between its points, first gets to the target; None where it does not."""
    above = np.flatnonzero(rates >= target)
    if not len(above):
        return None
    i = int(above[0])
    if i == 0:
        return float(steps[0])
    share = (target - rates[i - 1]) / (rates[i] - rates[i - 1])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))


def timed(of_set: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Of one core of this machine: milliseconds of a step, and seconds to the mark."""
    steps = {name: curve["seconds_a_step"] for name, curve in of_set.items()}
    to_mark = {
        name: None if images is None else images / BATCH * steps[name]
        for name, images in measured["images_to_mark"].items()
    }
    return {"ms_a_step": {name: 1000 * s for name, s in steps.items()}, "seconds_to_mark": to_mark}


def summary(measured: Mapping[str, Any]) -> str:
    families = [family for of_set in measured.values() for family in of_set["families"].values()]

    def times(key: str) -> str:
        return f"{sum(family[key] for family in families)} of {len(families)}"

    return (
        f"Two families of losses on {len(measured)} sets of data, one net, as many images for all; agents "
        f"learn at {AGENT_RATE} times the net's rate, which was chosen for them. From plain "
        f"shuffled images, agents end further than drawn pairs or triplets in {times('further_than_drawn')} "
        f"comparisons, and reach the mark (90 % of the family's best) sooner in {times('sooner_than_drawn')}. Against "
        f"all pairs, all triplets or the hardest of batches of few classes they end further in "
        f"{times('further_than_mined')} and are sooner in {times('sooner_than_mined')}. Three ways to draw images "
        f"end nearer together with agents than three ways without them in {times('less_sensitive')}."
    )


def sentence(name: str, measured: Mapping[str, Any], timings: Mapping[str, Any]) -> str:
    parts = []
    for family, found in measured["families"].items():
        spread = found["spread_over_samplings"]
        shown = [names_of(family, "agents")[0]]
        shown += [max(names_of(family, k), key=lambda m: measured["final"][m]["mean"]) for k in ("drawn", "mined")]
        ends = "; ".join(f"{method} {percent(measured, method)} {after(measured, timings, method)}" for method in shown)
        parts.append(
            f"{ends}; samplings {100 * spread['agents']:.0f} points apart with agents, "
            f"{100 * spread['pairs']:.0f} without"
        )
    what = "true accepts at FAR 1 %; images and seconds of a core to the mark"
    return f"{name[0].upper()}{name[1:]} ({what}): {'. '.join(parts)}."


def percent(measured: Mapping[str, Any], method: str) -> str:
    final = measured["final"][method]
    return f"{100 * final['mean']:.1f} ± {100 * final['std']:.1f} %"


def after(measured: Mapping[str, Any], timings: Mapping[str, Any], method: str) -> str:
    images, seconds = measured["images_to_mark"][method], timings["seconds_to_mark"][method]
    return "(never)" if images is None else f"({images:,.0f}, {seconds:.2f} s)"
