"""A small embedding, trained by plain softmax and then finetuned by each loss; strangers are verified with it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
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

BEFORE = "softmax (before)"
LOSSES: dict[str, tuple[str, dict[str, float]]] = {
    "softmax, as long again": ("softmax", {}),
    "normalised softmax, learned scale": ("normalized-softmax", {}),
    "normalised softmax, scale 15": ("normalized-softmax", {"scale": 15.0}),
    "scale 15, label's score times 0.75": ("positive-scale-softmax", {}),
    "C-contrastive": ("c-contrastive", {}),
    "C-triplet": ("c-triplet", {}),
    "normalised softmax + 0.01 C-contrastive": ("normalized-softmax+0.01*c-contrastive", {}),
    "SphereFace": ("sphereface", {}),
    "AM-Softmax": ("am-softmax", {}),
    "ArcFace": ("arcface", {}),
}
"""Row of a table -> name and options for normface.losses.make."""


@dataclass(frozen=True)
class Shown:
    """What is known of images: front (N, D), mirrored (N, D) or the same again, labels (N,) from 0."""

    front: Tensor
    mirrored: Tensor
    labels: Tensor

    @property
    def people(self) -> int:
        return int(self.labels.max()) + 1


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
    rate: float = 0.03
    finetuning_rate: float = 0.1

    def embedding(self) -> nn.Module:
        inputs = self.known.front.shape[1]
        return nn.Sequential(nn.Linear(inputs, self.hidden), nn.PReLU(), nn.Linear(self.hidden, self.size))


def table(task: Task, seeds: Sequence[int], title: str, rows: Sequence[str] = tuple(LOSSES)) -> dict[str, list[float]]:
    """Row -> verification rate in percent, one a seed; the seeds run side by side, a process and a thread each."""
    made: dict[str, list[float]] = {row: [] for row in (BEFORE, *rows)}
    workers = min(usable_cores(), len(seeds))
    with progress(title, len(seeds)) as bar, ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for rates in pool.map(one_seed, [task] * len(seeds), seeds, [tuple(rows)] * len(seeds)):
            for row, rate in rates.items():
                made[row].append(rate)
            bar.advance()
    return made


def one_seed(task: Task, seed: int, rows: Sequence[str]) -> dict[str, float]:
    """Row -> verification rate in percent."""
    with one_thread():
        torch.manual_seed(seed)
        before, softmax = task.embedding(), losses.make("softmax", task.known.people, task.size)
        train(before, softmax, task.known, task.epochs, task.rate, seed)
        rates = {BEFORE: verification_rate(before, task.unseen, task.far)}
        for row in rows:
            name, options = LOSSES[row]
            torch.manual_seed(seed)
            net, loss = copy.deepcopy(before), losses.make(name, task.known.people, task.size, **options)
            start_from(loss, softmax, net, task.known)
            train(net, loss, task.known, task.epochs, task.finetuning_rate, seed)
            rates[row] = verification_rate(net, task.unseen, task.far)
    return rates


def train(net: nn.Module, loss: nn.Module, shown: Shown, epochs: int, rate: float, seed: int) -> None:
    """SGD with a rate that falls to 0 by a cosine; fronts and mirror images by chance; a learned scale never decays."""
    random = torch.Generator().manual_seed(seed)
    named = [*net.named_parameters(), *loss.named_parameters()]
    scales = [parameter for name, parameter in named if "scale" in name]
    others = [parameter for name, parameter in named if "scale" not in name]
    groups = [{"params": others, "weight_decay": DECAY}, {"params": scales, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD([group for group in groups if group["params"]], lr=rate, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * math.ceil(len(shown.labels) / BATCH))
    for _ in range(epochs):
        for rows in torch.randperm(len(shown.labels), generator=random).split(BATCH):
            flipped = torch.rand(len(rows), 1, generator=random) < 0.5
            images = torch.where(flipped, shown.mirrored[rows], shown.front[rows])
            value = loss(net(images), shown.labels[rows])
            if not torch.isfinite(value):
                raise TrainingError(f"{type(loss).__name__}, seed {seed}: the loss is {value.item()}")
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
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
def verification_rate(net: nn.Module, shown: Shown, far: float) -> float:
    """Percent of genuine pairs accepted at that false accept rate; features of both sides added, cosine."""
    features = (net(shown.front) + net(shown.mirrored)).numpy()
    genuine, impostor, total = verification_scores(features, shown.labels.numpy(), [far])
    k = max(1, roc.impostors_accepted(far, total))
    return 100 * float(np.mean(genuine >= impostor[k - 1]))
