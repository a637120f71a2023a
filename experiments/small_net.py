"""A small face network, trained whole: four stages of a stride and a residual block, as SphereFace's.

It is trained from scratch, so that all of a training can be looked at: before, after, and against another training.
On a GPU all images lie there as bytes, and nothing of a step waits for the processor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from normface import losses
from normface.errors import TrainingError
from torch import Tensor, nn

from .face_augmentation import augmented

STAGES, SIZE = 4, 128
"""Stages, each with twice the channels of the one before; numbers of the embedding."""
MOMENTUM, DECAY, WARM = 0.9, 5e-4, 0.05


class Residual(nn.Module):
    """x + f(x), f two 3x3 convolutions with batch normalisation and PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
            layers += [nn.PReLU(channels)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def small_net(first: int, height: int, width: int) -> nn.Sequential:
    """Images (B, 3, height, width), (pixel - 127.5) / 128, to embeddings (B, SIZE); ``first``: channels of stage 1."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in range(STAGES):
        wider = first << stage
        layers += [nn.Conv2d(channels, wider, 3, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.PReLU(wider)]
        layers += [Residual(wider)]
        channels = wider
    cells = math.ceil(height / 2**STAGES) * math.ceil(width / 2**STAGES)
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * cells, SIZE))
    # CPUs and tensor cores take this order faster; torch's own types forget the argument.
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def as_input(images: Tensor, random: torch.Generator | None = None) -> Tensor:
    """Pixels uint8 (B, 3, H, W) as the net takes them, changed at random where there is a generator."""
    values = (images.float() - 127.5) / 128
    values = values if random is None else augmented(values, random)
    return values.contiguous(memory_format=torch.channels_last)


def train(
    net: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, batch: int, epochs: int, rate: float, seed: int
) -> None:
    """SGD on everything, net and loss, with a rate that rises and falls (_share_of_rate), on images changed at random.

    images uint8 (N, 3, H, W), labels (N,), all on the net's device; on a GPU the net works in bfloat16, the loss in
    float32. A learned scale never decays. Raises TrainingError where the loss is no number at the end of an epoch.
    """
    device = images.device
    random = torch.Generator(device).manual_seed(seed)
    named = [*net.named_parameters(), *loss.named_parameters()]
    free = [parameter for name, parameter in named if "scale" in name]
    others = [parameter for name, parameter in named if "scale" not in name]
    groups = [{"params": others, "weight_decay": DECAY}, {"params": free, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD([group for group in groups if group["params"]], lr=rate, momentum=MOMENTUM)
    steps = epochs * batches_of(len(labels), batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _share_of_rate(step, steps))
    net.train()
    for _ in range(epochs):
        total = torch.zeros((), device=device)
        for rows in _batches(len(labels), batch, random):
            inputs = as_input(images[rows], random)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                features = net(inputs)
            value = loss(features.float(), labels[rows])
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
            total += value.detach()
        if not torch.isfinite(total):  # looked at once an epoch: a GPU would wait
            raise TrainingError(f"{type(loss).__name__}, seed {seed}: the loss is {total.item()}")
    net.eval()


def _share_of_rate(step: int, steps: int) -> float:
    """A straight rise over the first WARM of the steps, without which fresh weights may diverge; a cosine's fall."""
    rise = math.ceil(WARM * steps)
    return min(1.0, (step + 1) / rise) * (1 + math.cos(math.pi * step / steps)) / 2


def batches_of(images: int, batch: int) -> int:
    """The steps of an epoch: whole batches, since a few images make poor statistics."""
    return images // batch or 1


def _batches(images: int, batch: int, random: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(images, generator=random, device=random.device)
    yield from order[: batches_of(images, batch) * batch].split(batch)


@torch.no_grad()
def features_of(net: nn.Module, images: Tensor) -> np.ndarray:
    """(N, SIZE): the sum over each image and its mirror image, as NormFace measures; batch statistics stay out."""
    net.eval()
    parts = [net(as_input(some)) + net(as_input(some.flip(3))) for some in images.split(256)]
    return torch.cat(parts).cpu().numpy()


@torch.no_grad()
def agents_at_means(loss: nn.Module, net: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Let a loss's class weights begin at the mean direction of every class's features."""
    features = F.normalize(torch.from_numpy(features_of(net, images))).to(labels.device)
    for name, parameter in loss.named_parameters():
        if name.split(".")[-1] == "weight":
            parameter.copy_(F.normalize(torch.zeros_like(parameter).index_add_(0, labels, features)))


def head(name: str, people: int) -> losses.Loss:
    return losses.make(name, people, SIZE)
