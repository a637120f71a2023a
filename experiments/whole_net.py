"""A weak network made better than it was: finetuned whole, and measured on people whom no training has seen.

Of those who are known two thirds train and one third chooses the learning rates, once; then each seed trains on all of
them from scratch by softmax, and goes on from there by softmax and by other losses, as long each, at those rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from normface.errors import TrainingError

from . import small_net, style
from .intervals import Interval, interval, plain, verdict
from .lfw_lists import IMAGES, PROTOCOL
from .report import prepared_folder
from .result import Claim, Figure, Options, Result
from .whole_net_jobs import BEFORE, CONTROL, DIR_FAR, FAR, LOSSES, NORMALISED, Plan
from .whole_net_lists import BLUFR_TRIAL, LFW_FOLDS, PAIRS

CLAIM = (
    "A whole network that softmax trained and that verifies poorly verifies people whom it has never seen better after "
    "finetuning by normalised softmax, and better than after softmax for as long."
)
ON_PAIRS = "The same of LFW's pairs: more of those of unseen people are told right."
FULL = Plan(LFW_FOLDS, 112, 96, 24, 128, 10, 40, 20, tuple(LOSSES), (0.01, 0.03, 0.1, 0.3))
SMALL = Plan(BLUFR_TRIAL, 56, 48, 12, 64, 10, 40, 20, (CONTROL, NORMALISED), (0.03, 0.1, 0.3, 1.0))
PLANS: dict[bool, tuple[Plan, ...]] = {False: (SMALL,), True: (FULL, replace(FULL, part=BLUFR_TRIAL, epochs=60))}
"""By --full. The default takes two cores some three quarters of an hour."""
PAIR_DRAWS = 400


def run(options: Options) -> Result:
    if options.lfw is None:
        return Result(
            CLAIM, f"Not measured: --lfw is needed, a folder with {IMAGES}, {PROTOCOL}, {PAIRS}.", {}, None, []
        )
    import torch

    from .whole_net_trainings import train_all

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError(f"--device {options.device}: this PyTorch finds no CUDA device; leave --device out")
    plans = PLANS[options.full]
    folder = prepared_folder(options.out, "whole-net")
    return judged(plans, train_all(plans, options.seed, options.lfw, folder, options.device))


def judged(plans: Sequence[Plan], trained: Mapping[str, Any]) -> Result:
    """trained: as whole_net_trainings.train_all returns it."""
    parts = {plan.part: Part(plan, trained["seeds"][plan.part], trained["people"][plan.part]) for plan in plans}
    rates = {part: trained["rates"][part] for part in parts}
    against = (BEFORE, CONTROL)
    verified = [part.verified_over(NORMALISED, row) for part in parts.values() for row in against]
    by_seeds = [part.by_seeds(NORMALISED, row) for part in parts.values() for row in against]
    on_pairs = [part.right_over(NORMALISED, row) for part in parts.values() for row in against]
    measured = {
        name: {
            "people": part.people,
            "learning rates": rates[name],
            "development, TAR at FAR 0.1 % by rate": trained["development"][name],
            "TAR at FAR 0.1 % by seed": {row: part.tar(row) for row in part.rows},
            "TAR at FAR 0.01 % by seed": {row: part.tar(row, 1e-4) for row in part.rows},
            "DIR at FAR 1 % by seed": {row: part.dir(row) for row in part.rows},
            "LFW's pairs told right by seed": {row: part.right(row).mean(1) for row in part.rows},
            "gains over, of TAR at FAR 0.1 %": {
                other: plain({row: part.verified_over(row, other) for row in part.rows if row not in (BEFORE, other)})
                for other in against
            },
            "gains over, over the seeds alone": {
                other: plain({row: part.by_seeds(row, other) for row in part.rows if row not in (BEFORE, other)})
                for other in against
            },
            "gains over, of LFW's pairs told right": {
                other: plain({row: part.right_over(row, other) for row in part.rows if row not in (BEFORE, other)})
                for other in against
            },
        }
        for name, part in parts.items()
    }
    finding = " ".join(part.told(rates[name]) for name, part in parts.items())
    return Result(
        CLAIM, finding, measured, verdict([*verified, *by_seeds]), [figure(parts)],
        timings={"seconds": trained["seconds"], "images a second, of all trainings": speeds(trained)},
        also=[Claim(ON_PAIRS, verdict(on_pairs))],
    )  # fmt: skip


class Part:
    """What one part of LFW's people measured. seeds: seed -> row -> whole_net_jobs.measured_on."""

    def __init__(
        self, plan: Plan, seeds: Mapping[str, Mapping[str, Mapping[str, Any]]], people: Mapping[str, int]
    ) -> None:
        self.plan, self.people, self.rows = plan, people, (BEFORE, *plan.rows)
        self.seeds = [seeds[key] for key in sorted(seeds, key=int)]
        for seed in self.seeds:
            for row in self.rows:
                if "failed" in seed[row]:
                    raise TrainingError(f"{plan.part}, {row}: {seed[row]['failed']}")

    def tar(self, row: str, far: float = FAR) -> list[float]:
        """Percent of the strangers' genuine pairs, one a seed."""
        return [seed[row]["tar"][f"{far:g}"] for seed in self.seeds]

    def dir(self, row: str) -> list[float]:
        return [seed[row]["dir"] for seed in self.seeds]

    def drawn(self, row: str) -> np.ndarray:
        """(S, draws of people), the same people in each column."""
        return np.array([seed[row]["drawn"] for seed in self.seeds])

    def right(self, row: str) -> np.ndarray:
        """(S, P): 100 where a pair of LFW's was told right, else 0."""
        return np.array([[100.0 * (value == "1") for value in seed[row]["right"]] for seed in self.seeds])

    def by_seeds(self, row: str, other: str) -> Interval:
        return interval([one - less for one, less in zip(self.tar(row), self.tar(other), strict=True)])

    def verified(self, row: str) -> Interval:
        return over_seeds_and_people(self.drawn(row), float(np.mean(self.tar(row))))

    def verified_over(self, row: str, other: str) -> Interval:
        point = float(np.mean(self.tar(row)) - np.mean(self.tar(other)))
        return over_seeds_and_people(self.drawn(row) - self.drawn(other), point)

    def right_over(self, row: str, other: str) -> Interval:
        return over_seeds_and_pairs(self.right(row) - self.right(other))

    def told(self, rates: Mapping[str, float]) -> str:
        plan, people = self.plan, self.people
        net = small_net.small_net(plan.first, plan.height, plan.width)
        weights = sum(weight.numel() for weight in net.parameters())
        rows = "; ".join(
            f"{row}{f' (rate {rates[row]:g})' if row in rates else ''} {self._told(row)}" for row in self.rows
        )
        gains = "; ".join(
            f"over {other} {self.verified_over(NORMALISED, other)} points (over the seeds alone "
            f"{self.by_seeds(NORMALISED, other)}), of LFW's pairs {self.right_over(NORMALISED, other)}"
            for other in (BEFORE, CONTROL)
        )
        return (
            f"{plan.part}: a net of {weights:,} weights on {plan.height}x{plan.width} pixels, trained by softmax for "
            f"{plan.epochs} epochs on {people['training images']:,} images of {people['training people']:,} people, "
            f"then whole for {plan.again} by each loss, {len(self.seeds)} seeds; on {people['measuring people']:,} "
            f"people that it never saw ({people['measuring images']:,} images, {people['LFW pairs']:,} of LFW's "
            f"pairs), genuine pairs accepted at FAR 0.1 %, DIR at FAR {100 * DIR_FAR:g} %, LFW's pairs told right: "
            f"{rows}. Normalised softmax {gains} (95 %, over seeds and people)."
        )

    def _told(self, row: str) -> str:
        verified, tars = self.verified(row), self.tar(row)
        return (
            f"{verified.mean:.1f} % ({verified.low:.1f} to {verified.high:.1f}; by seed {min(tars):.1f} to "
            f"{max(tars):.1f}), {np.mean(self.dir(row)):.1f} %, {self.right(row).mean():.1f} %"
        )


def over_seeds_and_people(drawn: np.ndarray, point: float) -> Interval:
    """The middle 95 % where both the seeds and the people are drawn with replacement; drawn (S, draws of people).

    ``point``, what all of both gave, need not lie in the middle: one person may have most of the genuine pairs.
    """
    seeds, draws = drawn.shape
    chosen = np.random.default_rng(0).integers(0, seeds, (draws, seeds))
    means = drawn[chosen, np.arange(draws)[:, None]].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(point, float(low), float(high))


def over_seeds_and_pairs(values: np.ndarray) -> Interval:
    """The mean of values (S, P), and the middle 95 % where both seeds and pairs are drawn with replacement."""
    random = np.random.default_rng(0)
    seeds, pairs = values.shape
    means = [
        values[random.integers(0, seeds, seeds)].mean(0)[random.integers(0, pairs, pairs)].mean()
        for _ in range(PAIR_DRAWS)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def speeds(trained: Mapping[str, Any]) -> dict[str, float]:
    """Part -> the mean over its trainings, of which many run at once."""
    return {
        part: float(np.mean([answer["images a second"] for rows in seeds.values() for answer in rows.values()]))
        for part, seeds in trained["seeds"].items()
    }


def figure(parts: Mapping[str, Part]) -> Figure:
    drawing, panels = style.subplots(1, len(parts), width=4.5 * len(parts), height=2.8)
    for axes, (name, part) in zip(np.atleast_1d(panels), parts.items(), strict=True):
        for place, row in enumerate(part.rows):
            color = style.BLUE if row == NORMALISED else style.GREY
            people, tars = part.verified(row), part.tar(row)
            axes.plot([people.low, people.high], [place, place], color=color, linewidth=2)
            axes.plot(tars, [place] * len(tars), "o", color=color, alpha=0.5, markersize=4)
        axes.set_yticks(range(len(part.rows)), part.rows)
        axes.invert_yaxis()
        axes.set_title(name)
        axes.set_xlabel("percent of strangers' pairs at FAR 0.1 %")
    words = "A dot a seed; the bar is where their mean lies when other seeds and other people are drawn (95 %)."
    return Figure("strangers.png", words, drawing)
