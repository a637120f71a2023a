"""The trainings of ``whole-net``, one a call, in a process of their own: from scratch, then finetuned and measured.

``prepare`` says once to a process where the images are; a net from scratch is kept as a file for what starts from it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from normface.errors import TrainingError
from normface.evaluate.blufr import identification
from normface.evaluate.folds import verify_in_folds
from normface.evaluate.lfw import rows_of
from normface.evaluate.protocols import protocol_named
from torch import nn

from . import small_net
from .people_draws import scored_people
from .whole_net_lists import Faces, Lists, Strangers, split

BEFORE, CONTROL, NORMALISED = "before", "softmax, as long", "normalised softmax"
LOSSES = {
    CONTROL: "softmax",
    NORMALISED: "normalized-softmax",
    "AM-Softmax": "am-softmax",
    "C-triplet": "c-triplet",
    "C-contrastive": "c-contrastive",
}
"""Row -> the loss that finetunes. Softmax goes on with its own class weights, the others start at the means."""
START_RATE = 0.1
"""Of the training from scratch, which all rows share; it is not chosen."""
FAR, SHOWN_FARS, DIR_FAR = 1e-3, (1e-3, 1e-4), 1e-2
DRAWS = 400


@dataclass(frozen=True)
class Plan:
    """part: of whole_net_lists. first: channels of the net's first stage. epochs: from scratch; again: finetuning.

    batch: images a step, in both.
    """

    part: str
    height: int
    width: int
    first: int
    batch: int
    seeds: int
    epochs: int
    again: int
    rows: tuple[str, ...]
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Job:
    """One training: row None is the one from scratch, at START_RATE.

    development: it trains on two thirds of the known people, and what it finetunes is measured on the last third.
    """

    plan: Plan
    seed: int
    development: bool
    row: str | None = None
    rate: float = START_RATE

    def __str__(self) -> str:
        who = "development" if self.development else f"seed {self.seed}"
        return f"{self.plan.part}, {who}, {self.row or 'from scratch'}, rate {self.rate:g}"


@dataclass(frozen=True)
class Place:
    """lists: their pixels are in the file ``pixels``. folder: for the nets from scratch."""

    lists: Lists
    pixels: Path
    folder: Path
    device: str


_place: Place


def prepare(place: Place) -> None:
    global _place
    _place = place
    torch.set_num_threads(1)  # the processes are as many as the cores


@lru_cache(maxsize=4)
def faces(part: str, development: bool) -> tuple[Faces, Faces | Strangers]:
    """(those who train, those who measure), the images on the device."""
    known, strangers = replace(_place.lists, pixels=np.load(_place.pixels, mmap_mode="r")).part(part)
    device = _place.device
    if development:
        train, others = split(known)
        return train.to(device), others.to(device)
    return known.to(device), replace(strangers, faces=strangers.faces.to(device))


def work(job: Job) -> dict[str, Any]:
    """Train, and return what was measured with "seconds" and "images a second"; {"failed": why} where it diverges.

    A finetuning of the development split returns "tar" alone, a training from scratch there nothing.
    """
    began = time.monotonic()
    train, others = faces(job.plan.part, job.development)
    epochs = job.plan.epochs if job.row is None else job.plan.again
    images = epochs * small_net.batches_of(len(train.labels), job.plan.batch) * job.plan.batch
    try:
        trained = time.monotonic()
        net = from_scratch(job, train) if job.row is None else finetuned(job, train)
        if _place.device != "cpu":
            torch.cuda.synchronize(_place.device)
        speed = images / (time.monotonic() - trained)
        answer = measured(job, net, others)
    except TrainingError as error:
        return {"failed": str(error)}
    return answer | {"seconds": round(time.monotonic() - began, 2), "images a second": round(speed)}


def fresh(plan: Plan, row: str, people: int) -> tuple[nn.Module, nn.Module]:
    device = torch.device(_place.device)
    net = small_net.small_net(plan.first, plan.height, plan.width)
    return net.to(device), small_net.head(LOSSES[row], people).to(device)


def kept(job: Job) -> Path:
    who = "development" if job.development else "known"
    return _place.folder / f"{'-'.join(job.plan.part.split())}-{who}-{job.seed}.pt"


def from_scratch(job: Job, train: Faces) -> nn.Module:
    torch.manual_seed(job.seed)
    net, softmax = fresh(job.plan, CONTROL, train.people)
    plan = job.plan
    small_net.train(net, softmax, train.images, train.labels, plan.batch, plan.epochs, job.rate, job.seed)
    torch.save((net.state_dict(), softmax.state_dict()), kept(job))
    return net


def finetuned(job: Job, train: Faces) -> nn.Module:
    """All of the net from scratch trained on by the row's loss."""
    assert job.row is not None
    torch.manual_seed(job.seed)
    net, loss = fresh(job.plan, job.row, train.people)
    start, softmax = torch.load(kept(job), map_location=_place.device)
    net.load_state_dict(start)
    if job.row == CONTROL:
        loss.load_state_dict(softmax)
    else:
        small_net.agents_at_means(loss, net, train.images, train.labels)
    plan = job.plan
    small_net.train(net, loss, train.images, train.labels, plan.batch, plan.again, job.rate, job.seed + 1)
    return net


def measured(job: Job, net: nn.Module, others: Faces | Strangers) -> dict[str, Any]:
    if isinstance(others, Strangers):
        return measured_on(net, others)
    return {} if job.row is None else {"tar": accepted(net, others)}


def accepted(net: nn.Module, people: Faces) -> float:
    """Percent of the genuine pairs at FAR."""
    features = small_net.features_of(net, people.images)
    return 100 * scored_people(features, people.labels.cpu().numpy(), FAR).tar(FAR)


def measured_on(net: nn.Module, strangers: Strangers) -> dict[str, Any]:
    """In percent: true accepts by FAR, those of FAR by draws of people, DIR; "right": a 1 for each pair told right."""
    features = small_net.features_of(net, strangers.faces.images)
    if not np.isfinite(features).all():
        raise TrainingError("the net's features are no finite numbers")
    labels = strangers.faces.labels.cpu().numpy()
    people = scored_people(features, labels, max(SHOWN_FARS))
    left, right = rows_of(strangers.pairs, strangers.names).reshape(2, -1)
    folds = verify_in_folds(
        features[left], features[right], strangers.pairs.same, strangers.pairs.fold, protocol_named("plain")
    )
    answers = identification(features, labels, strangers.trial)
    return {
        "tar": {f"{far:g}": 100 * people.tar(far) for far in SHOWN_FARS},
        "drawn": np.round(100 * people.drawn(FAR, DRAWS, 0), 4).tolist(),
        "dir": 100 * answers.rate(DIR_FAR, 1)[0],
        "right": "".join("01"[value] for value in folds.right.tolist()),
    }
