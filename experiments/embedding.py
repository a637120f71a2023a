"""A small embedding, trained by plain softmax and then finetuned by each loss, or trained by it from the start.

Strangers are verified with it. Every training's learning rate is chosen on a development split of the people that are
known: the strangers that decide a table have chosen nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import torch
import torch.nn.functional as F
from caffeport.cores import usable_cores
from normface import losses
from normface.errors import TrainingError
from normface.evaluate import roc
from normface.evaluate.blufr import verification_scores
from normface.progress import progress
from torch import Tensor, nn

from .threads import one_thread

BATCH, MOMENTUM, DECAY = 256, 0.9, 5e-4
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""The learning rates that are tried on the development split."""
DEVELOPMENT_SEEDS = (1000,)
"""Of the splits of people that the rates are chosen on, and of the trainings there: none of a table's own seeds."""
DEVELOPMENT_SHARE = 1 / 3
"""Of the known people, who then are the strangers."""

BEFORE = "softmax (before)"
CONTROL = "softmax, as long again"
LOSSES: dict[str, tuple[str, dict[str, float]]] = {
    CONTROL: ("softmax", {}),
    "normalised softmax, learned scale": ("normalized-softmax", {}),
    "normalised softmax, scale 15": ("normalized-softmax", {"scale": 15.0}),
    "scale 15, label's score times 0.75": ("positive-scale-softmax", {}),
    "C-contrastive": ("c-contrastive", {}),
    "C-triplet": ("c-triplet", {}),
    "SphereFace": ("sphereface", {}),
    "AM-Softmax": ("am-softmax", {}),
    "ArcFace": ("arcface", {}),
}
"""Row of a table -> name and options for normface.losses.make."""
FROM_SCRATCH = "from scratch: "
"""What the name of a row begins with whose loss trained from the start, as long as softmax and finetuning together."""


@dataclass(frozen=True)
class Shown:
    """What is known of images: front (N, D), mirrored (N, D) or the same again, labels (N,) from 0."""

    front: Tensor
    mirrored: Tensor
    labels: Tensor

    @property
    def people(self) -> int:
        return int(self.labels.max()) + 1

    def only(self, people: Tensor) -> Shown:
        """Return the images of some people, numbered from 0 in their order."""
        numbers = torch.full((self.people,), -1)
        numbers[people] = torch.arange(len(people))
        labels = numbers[self.labels]
        rows = labels >= 0
        return Shown(self.front[rows], self.mirrored[rows], labels[rows])


@dataclass(frozen=True)
class Task:
    """known: to train on; unseen: nobody of them is in known. The embedding is D-hidden-size, with a PReLU.

    far: the false accept rate at which genuine pairs of unseen are counted.
    """

    known: Shown
    unseen: Shown
    hidden: int
    size: int
    epochs: int
    far: float

    def embedding(self) -> nn.Module:
        inputs = self.known.front.shape[1]
        return nn.Sequential(nn.Linear(inputs, self.hidden), nn.PReLU(), nn.Linear(self.hidden, self.size))

    def development(self, seed: int) -> Task:
        """Return the same task with some of the known people, drawn by ``seed``, in the strangers' place."""
        order = torch.randperm(self.known.people, generator=torch.Generator().manual_seed(seed))
        strangers = max(2, round(DEVELOPMENT_SHARE * len(order)))
        known, unseen = order[strangers:].sort().values, order[:strangers].sort().values
        return replace(self, known=self.known.only(known), unseen=self.known.only(unseen))


def row_of(row: str) -> tuple[str, bool]:
    """(row of LOSSES, whether it is trained from scratch)"""
    return row.removeprefix(FROM_SCRATCH), row.startswith(FROM_SCRATCH)


def all_rows(losses_rows: Iterable[str] = tuple(LOSSES)) -> tuple[str, ...]:
    """Return every loss finetuning, then every loss from scratch."""
    rows = tuple(losses_rows)
    return rows + tuple(FROM_SCRATCH + row for row in rows)


def table(
    task: Task, seeds: Sequence[int], rates: Mapping[str, float], title: str, rows: Sequence[str] = all_rows()
) -> dict[str, list[float]]:
    """Row -> verification rate in percent, one a seed; the seeds run side by side, a process and a thread each."""
    made: dict[str, list[float]] = {row: [] for row in (BEFORE, *rows)}
    for verified in side_by_side(one_seed, [(task, seed, rates, tuple(rows)) for seed in seeds], title):
        for row, rate in verified.items():
            made[row].append(rate)
    return made


def side_by_side(function: Callable[..., dict], calls: Sequence[tuple], title: str) -> list[dict]:
    """Return ``function(*call)`` of every call, in their order; a process and a thread each."""
    made = []
    workers = min(usable_cores(), len(calls))
    with progress(title, len(calls)) as bar, ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for answer in pool.map(function, *zip(*calls, strict=True)):
            made.append(answer)
            bar.advance()
    return made


def chosen_rates(task: Task, title: str, rows: Sequence[str] = all_rows()) -> dict[str, float]:
    """Row -> the learning rate of RATES that verifies most of the development splits' strangers.

    Softmax's own comes first, since every finetuning begins at what it makes.
    """
    splits = [(task.development(seed), seed) for seed in DEVELOPMENT_SEEDS]
    first = side_by_side(by_rate, [(*split, {}, (BEFORE,)) for split in splits], f"{title}: rate of softmax")
    before = _best(first)
    if not rows:
        return before
    rest = side_by_side(by_rate, [(*split, before, tuple(rows)) for split in splits], f"{title}: rates")
    return before | _best(rest)


def _best(tried: Sequence[Mapping[str, Mapping[float, float]]]) -> dict[str, float]:
    """The rate with the highest mean over the splits; where two are equal the lower."""
    return {row: max(RATES, key=lambda rate: np.mean([split[row][rate] for split in tried])) for row in tried[0]}


def by_rate(task: Task, seed: int, before: Mapping[str, float], rows: Sequence[str]) -> dict[str, dict[float, float]]:
    """Row -> rate of RATES -> verification rate in percent; 0 where the training diverges."""
    made: dict[str, dict[float, float]] = {}
    with one_thread():
        start = softmax_of(task, seed, before[BEFORE]) if before else None
        for row in rows:
            made[row] = {}
            for rate in RATES:
                try:
                    if start is None:
                        net = softmax_of(task, seed, rate)[0]
                        made[row][rate] = verification_rate(net, task.unseen, task.far)
                    else:
                        made[row][rate] = one_row(task, seed, row, rate, start)
                except TrainingError:
                    made[row][rate] = 0.0
    return made


def one_seed(task: Task, seed: int, rates: Mapping[str, float], rows: Sequence[str]) -> dict[str, float]:
    """Row -> verification rate in percent, of BEFORE and of ``rows``, each trained at its rate."""
    with one_thread():
        start = softmax_of(task, seed, rates[BEFORE])
        verified = {BEFORE: verification_rate(start[0], task.unseen, task.far)}
        return verified | {row: one_row(task, seed, row, rates[row], start) for row in rows}


def one_row(task: Task, seed: int, row: str, rate: float, start: tuple[nn.Module, nn.Module]) -> float:
    """Train a row at that rate, from softmax's ``start`` or from scratch; return its verification rate in percent."""
    key, from_scratch = row_of(row)
    name, options = LOSSES[key]
    torch.manual_seed(seed)
    net = task.embedding() if from_scratch else copy.deepcopy(start[0])
    loss = losses.make(name, task.known.people, task.size, **options)
    if not from_scratch:
        start_from(loss, start[1], net, task.known)
    train(net, loss, task.known, (1 + from_scratch) * task.epochs, rate, seed)
    return verification_rate(net, task.unseen, task.far)


def softmax_of(task: Task, seed: int, rate: float) -> tuple[nn.Module, nn.Module]:
    """(net, loss) that plain softmax trained: what every finetuning begins with."""
    torch.manual_seed(seed)
    net, softmax = task.embedding(), losses.make("softmax", task.known.people, task.size)
    train(net, softmax, task.known, task.epochs, rate, seed)
    return net, softmax


Optimisers = list[torch.optim.Optimizer]


def sgd(net: nn.Module, loss: nn.Module, rate: float) -> Optimisers:
    """SGD of both; a learned scale never decays."""
    return [sgd_of([*net.named_parameters(), *loss.named_parameters()], rate)]


def sgd_of(named: Iterable[tuple[str, nn.Parameter]], rate: float) -> torch.optim.Optimizer:
    """Return SGD of these parameters, of which a scale never decays."""
    scales: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in named:
        (scales if "scale" in name else others).append(parameter)
    groups = [{"params": others, "weight_decay": DECAY}, {"params": scales, "weight_decay": 0.0}]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=rate, momentum=MOMENTUM)


def train(
    net: nn.Module, loss: nn.Module, shown: Shown, epochs: int, rate: float, seed: int, *, batch: int = BATCH,
    optimisers: Callable[[nn.Module, nn.Module, float], Optimisers] = sgd,
) -> None:  # fmt: skip
    """SGD with a rate that falls to 0 by a cosine; fronts and mirror images by chance."""
    random = torch.Generator().manual_seed(seed)
    steps = epochs * math.ceil(len(shown.labels) / batch)
    steppers = optimisers(net, loss, rate)
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(one, steps) for one in steppers]
    for _ in range(epochs):
        for rows in torch.randperm(len(shown.labels), generator=random).split(batch):
            flipped = torch.rand(len(rows), 1, generator=random) < 0.5
            images = torch.where(flipped, shown.mirrored[rows], shown.front[rows])
            value = loss(net(images), shown.labels[rows])
            if not torch.isfinite(value):
                raise TrainingError(f"{type(loss).__name__}, seed {seed}: the loss is {value.item()}")
            for optimiser in steppers:
                optimiser.zero_grad()
            value.backward()
            for optimiser in steppers:
                optimiser.step()
            for schedule in schedules:
                schedule.step()


@torch.no_grad()
def start_from(loss: nn.Module, softmax: nn.Module, net: nn.Module, shown: Shown) -> None:
    """Class weights: softmax goes on with its own; a loss on the sphere starts at every class's mean direction."""
    if isinstance(loss, losses.SoftmaxLoss):
        loss.load_state_dict(softmax.state_dict())
        return
    both = F.normalize(net(shown.front) + net(shown.mirrored))
    means = torch.zeros(shown.people, both.shape[1]).index_add_(0, shown.labels, both)
    for name, parameter in loss.named_parameters():
        if name.split(".")[-1] == "weight":
            parameter.copy_(F.normalize(means))


@torch.no_grad()
def verification_rate(net: nn.Module, shown: Shown, far: float, metric: str = "cosine") -> float:
    """Percent of genuine pairs accepted at that false accept rate; features of both sides added."""
    features = (net(shown.front) + net(shown.mirrored)).numpy()
    if not np.isfinite(features).all():
        raise TrainingError("the net's features are no finite numbers")
    genuine, impostor, total = verification_scores(features, shown.labels.numpy(), [far], metric)
    k = max(1, roc.impostors_accepted(far, total))
    return 100 * float(np.mean(genuine >= impostor[k - 1]))
