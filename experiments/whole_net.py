"""A weak network made better than it was: finetuned whole, and measured on people whom no training has seen.

Data are aligned LFW at 56x48 pixels. Of the 1,500 people of BLUFR's first training list two thirds train, and one third
chooses the learning rates; the 4,249 others of its test list measure.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from normface.data import open_reader
from normface.evaluate.blufr import identification
from normface.evaluate.blufr_config import Trial, read_config
from normface.evaluate.folds import verify_in_folds
from normface.evaluate.lfw import PairList, read_pairs, rows_of
from normface.evaluate.names import ImageRows, image_of
from normface.evaluate.protocols import protocol_named
from normface.progress import progress
from torch import Tensor, nn

from . import small_net, style
from .intervals import Interval, interval, plain, verdict
from .lfw_lists import IMAGES, PROTOCOL
from .people_draws import ScoredPeople, scored_people
from .result import Figure, Options, Result
from .threads import one_thread

CLAIM = (
    "A whole network that softmax trained and that verifies poorly verifies people whom it has never seen better after "
    "finetuning by normalised softmax, and better than after softmax for as long."
)
PAIRS = "pairs.txt"
BEFORE, CONTROL, NORMALISED = "before", "softmax, as long again", "normalised softmax"
LOSSES = {CONTROL: "softmax", NORMALISED: "normalized-softmax"}
SIZES = {False: (1, 24, 12), True: (5, 60, 30)}
"""full -> seeds, epochs from scratch by softmax, epochs of each finetuning."""
START_RATE, RATES = 0.1, (0.01, 0.03, 0.1)
"""Of the training from scratch, not chosen; and those that each finetuning has the best of, on held-out people."""
DEVELOPMENT_SEED, DEVELOPMENT_SHARE = 1000, 1 / 3
FAR, SHOWN_FARS, DIR_FAR = 1e-3, (1e-3, 1e-4), 1e-2
DRAWS = 400


@dataclass(frozen=True)
class Faces:
    """images uint8 (N, 3, 56, 48), labels (N,) from 0."""

    images: Tensor
    labels: Tensor

    @property
    def people(self) -> int:
        return int(self.labels.max()) + 1


@dataclass(frozen=True)
class Strangers:
    """The people that measure. trial: of BLUFR, its indices those of ``faces``; pairs: LFW's whose people are these."""

    faces: Faces
    names: list[str]
    trial: Trial
    pairs: PairList


def run(options: Options) -> Result:
    if options.lfw is None:
        return Result(
            CLAIM, f"Not measured: --lfw is needed, a folder with {IMAGES}, {PROTOCOL}, {PAIRS}.", {}, None, []
        )
    known, strangers = lists(options.lfw)
    train, development = split(known)
    seeds, epochs, again = SIZES[options.full]
    rates: list[dict[str, float]] = []
    measured: list[dict[str, Any]] = []
    with one_thread(), progress("seeds", seeds) as bar:
        for seed in range(options.seed, options.seed + seeds):
            nets, chosen = trained(train, development, seed, epochs, again)
            rates.append(chosen)
            measured.append({row: measured_net(net, strangers) for row, net in nets.items()})
            bar.advance()
    return judged(measured, rates, strangers, (epochs, again))


def lists(folder: Path) -> tuple[Faces, Strangers]:
    """(those who train, those who measure), of BLUFR's first trial."""
    config = read_config(folder / PROTOCOL)
    reader: Any = open_reader(folder / IMAGES)
    rows = ImageRows(reader.names).find([image_of(image) for image in config.images], "BLUFR")
    trial = config.trials[0]

    def faces(indices: np.ndarray) -> Faces:
        images = np.stack([smaller(reader.read(int(row))) for row in rows[indices]])
        _, labels = np.unique(config.labels[indices], return_inverse=True)
        return Faces(torch.from_numpy(images), torch.from_numpy(labels.reshape(-1)))

    place = np.full(len(config.images), -1)
    place[trial.test] = np.arange(len(trial.test))
    own = replace(
        trial, train=np.empty(0, np.int64), test=place[trial.test], gallery=place[trial.gallery],
        probes=place[trial.probes],
    )  # fmt: skip
    names = [reader.names[row] for row in rows[trial.test]]
    pairs = balanced(read_pairs(folder / PAIRS), {image_of(name)[0] for name in names})
    return faces(trial.train), Strangers(faces(trial.test), names, own, pairs)


def smaller(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) in BGR -> uint8 (3, 56, 48), by the mean over the pixels that become one."""
    import cv2

    size = (small_net.WIDTH, small_net.HEIGHT)
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA).transpose(2, 0, 1))


def balanced(pairs: PairList, people: set[str]) -> PairList:
    """Those of LFW's pairs whose people are all among ``people``: of each fold the first, as many of either kind."""
    inside = np.array([a[0] in people and b[0] in people for a, b in zip(pairs.left, pairs.right, strict=True)])
    rows: list[int] = []
    for fold in np.unique(pairs.fold):
        kinds = [np.flatnonzero(inside & (pairs.fold == fold) & (pairs.same == kind)) for kind in (True, False)]
        count = min(map(len, kinds))
        rows += [*kinds[0][:count].tolist(), *kinds[1][:count].tolist()]
    left, right = ([side[row] for row in rows] for side in (pairs.left, pairs.right))
    return PairList(left, right, pairs.same[rows], pairs.fold[rows], pairs.source)


def split(known: Faces) -> tuple[Faces, Faces]:
    """(those who train, those who choose the rates): no person is in both; the same split for every seed."""
    order = torch.randperm(known.people, generator=torch.Generator().manual_seed(DEVELOPMENT_SEED))
    held_out = round(DEVELOPMENT_SHARE * len(order))
    return only(known, order[held_out:].sort().values), only(known, order[:held_out].sort().values)


def only(faces: Faces, people: Tensor) -> Faces:
    """The images of some people, numbered from 0 in their order."""
    numbers = torch.full((faces.people,), -1)
    numbers[people] = torch.arange(len(people))
    labels = numbers[faces.labels]
    return Faces(faces.images[labels >= 0], labels[labels >= 0])


def trained(
    train: Faces, development: Faces, seed: int, epochs: int, again: int
) -> tuple[dict[str, nn.Module], dict[str, float]]:
    """(row -> net, row -> rate): all from one start, each at the rate of RATES that verifies most of development."""
    start = started(train, seed, epochs)
    nets: dict[str, nn.Module] = {BEFORE: start[0]}
    rates: dict[str, float] = {}
    for row in LOSSES:
        tried = {rate: finetuned(row, start, train, seed, again, rate) for rate in RATES}
        tars = {rate: scored(net, development).tar(FAR) for rate, net in tried.items()}
        rates[row] = max(RATES, key=tars.__getitem__)
        nets[row] = tried[rates[row]]
    return nets, rates


def started(known: Faces, seed: int, epochs: int) -> tuple[nn.Module, nn.Module]:
    """(net, softmax) trained from scratch."""
    torch.manual_seed(seed)
    net, softmax = small_net.small_net(), small_net.head("softmax", known.people)
    small_net.train(net, softmax, known.images, known.labels, epochs, START_RATE, seed)
    return net, softmax


def finetuned(
    row: str, start: tuple[nn.Module, nn.Module], known: Faces, seed: int, epochs: int, rate: float
) -> nn.Module:
    """The net of ``start``, all of it trained on by the row's loss; softmax goes on with its own class weights."""
    net = copy.deepcopy(start[0])
    if row == CONTROL:
        loss: nn.Module = copy.deepcopy(start[1])
    else:
        loss = small_net.head(LOSSES[row], known.people)
        small_net.agents_at_means(loss, net, known.images, known.labels)
    small_net.train(net, loss, known.images, known.labels, epochs, rate, seed + 1)
    return net


def scored(net: nn.Module, faces: Faces) -> ScoredPeople:
    return scored_people(small_net.features_of(net, faces.images), faces.labels.numpy(), max(SHOWN_FARS))


def measured_net(net: nn.Module, strangers: Strangers) -> dict[str, Any]:
    """True accepts by FAR with their draws of people, BLUFR's DIR, and the accuracy of LFW's folds."""
    features = small_net.features_of(net, strangers.faces.images)
    labels = strangers.faces.labels.numpy()
    people = scored_people(features, labels, max(SHOWN_FARS))
    left, right = rows_of(strangers.pairs, strangers.names).reshape(2, -1)
    folds = verify_in_folds(
        features[left], features[right], strangers.pairs.same, strangers.pairs.fold, protocol_named("plain")
    )
    answers = identification(features, labels, strangers.trial)
    return {
        "tar": {far: 100 * people.tar(far) for far in SHOWN_FARS},
        "drawn": 100 * people.drawn(FAR, DRAWS, 0),
        "dir": 100 * answers.rate(DIR_FAR, 1)[0],
        "folds": 100 * folds.accuracies,
    }


def judged(
    measured: Sequence[Mapping[str, Any]],
    rates: Sequence[Mapping[str, float]],
    strangers: Strangers,
    epochs: tuple[int, int],
) -> Result:
    """measured: a mapping row -> measured_net's answer for each seed; rates: the chosen ones of each."""
    rows = (BEFORE, *LOSSES)
    tars = {row: [one[row]["tar"][FAR] for one in measured] for row in rows}
    drawn = {row: np.mean([one[row]["drawn"] for one in measured], 0) for row in rows}
    folds = {row: np.mean([one[row]["folds"] for one in measured], 0) for row in rows}
    gains = {
        against: middle(drawn[NORMALISED] - drawn[against], float(np.mean(tars[NORMALISED]) - np.mean(tars[against])))
        for against in (BEFORE, CONTROL)
    }
    lfw_gains = {against: interval(folds[NORMALISED] - folds[against]) for against in (BEFORE, CONTROL)}
    seeds_agree = len(measured) > 1 and all(  # one training decides nothing
        one > other for against in gains for one, other in zip(tars[NORMALISED], tars[against], strict=True)
    )
    holds = verdict([*gains.values(), *lfw_gains.values()])
    if holds and not seeds_agree:
        holds = None
    told = []
    for row in rows:
        people, dirs = middle(drawn[row], float(np.mean(tars[row]))), [one[row]["dir"] for one in measured]
        by_seed = f", {min(tars[row]):.1f} to {max(tars[row]):.1f} by seed" if len(measured) > 1 else ""
        told.append(
            f"{row}: {people.mean:.1f} % ({people.low:.1f} to {people.high:.1f} by who is measured{by_seed}), "
            f"DIR at FAR 1 % {np.mean(dirs):.1f} %, LFW "
            f"{folds[row].mean():.1f} %"
        )
    weights = sum(weight.numel() for weight in small_net.small_net().parameters())
    chosen = "; ".join(f"{row} {', '.join(f'{of[row]:g}' for of in rates)}" for row in LOSSES)
    strange, pairs = strangers.faces.people, len(strangers.pairs.same)
    finding = (
        f"A net of {weights:,} weights on 56x48 pixels, trained by softmax for {epochs[0]} epochs on 1,000 people of "
        f"LFW, then whole for {epochs[1]} by each loss at a rate chosen on 500 others ({chosen}); "
        f"{count(len(measured))} on {strange:,} people that neither has: genuine pairs accepted at FAR 0.1 % (BLUFR, "
        f"first trial): {'; '.join(told)} (of {pairs:,} pairs of these people, in ten folds). Normalised softmax over "
        f"before {gains[BEFORE]} points, over softmax {gains[CONTROL]} (95 %, people drawn); on LFW "
        f"{lfw_gains[BEFORE]} and {lfw_gains[CONTROL]} (95 %, over the folds)."
    )
    content = {
        "learning rates": [dict(of) for of in rates],
        "TAR at FAR 0.1 % by seed": tars,
        "TAR at FAR 0.01 % by seed": {row: [one[row]["tar"][1e-4] for one in measured] for row in rows},
        "DIR at FAR 1 % by seed": {row: [one[row]["dir"] for one in measured] for row in rows},
        "LFW accuracy by fold": {row: folds[row] for row in rows},
        "gain over": plain(gains),
        "gain on LFW over": plain(lfw_gains),
        "images": {"measuring": len(strangers.names), "LFW pairs": len(strangers.pairs.same)},
    }
    return Result(CLAIM, finding, content, holds, [figure(tars, drawn)])


def count(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"means of {seeds} seeds"


def middle(draws: np.ndarray, point: float) -> Interval:
    """What was measured of all people, and the middle 95 % of the draws of people.

    The two need not lie close: a person of 530 images has most of LFW's genuine pairs, and is in two draws of three.
    """
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(point, float(low), float(high))


def figure(tars: Mapping[str, Sequence[float]], drawn: Mapping[str, np.ndarray]) -> Figure:
    drawing, axes = style.subplots(width=7, height=2.6)
    for place, row in enumerate(tars):
        color = style.BLUE if row == NORMALISED else style.GREY
        people = middle(drawn[row], float(np.mean(tars[row])))
        axes.plot([people.low, people.high], [place, place], color=color, linewidth=2)
        axes.plot(tars[row], [place] * len(tars[row]), "o", color=color, alpha=0.6)
    axes.set_yticks(range(len(tars)), list(tars))
    axes.invert_yaxis()
    axes.set_xlabel("genuine pairs of strangers accepted at FAR 0.1 %, in percent")
    words = "A dot a seed; the bar is where their mean lies when other people are drawn (95 %)."
    return Figure("strangers.png", words, drawing)
