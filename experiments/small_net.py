"""A small face network, trained whole: four stages of a stride and a residual block, as SphereFace's, on 56x48 pixels.

It trains from scratch on a CPU in minutes, so that all of a training can be looked at: before, after, and against
another training.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from normface import losses
from normface.errors import TrainingError
from torch import Tensor, nn

HEIGHT, WIDTH, FIRST, STAGES, SIZE = 56, 48, 8, 4, 64
"""Pixels, channels of the first stage (doubled in each of the next), stages, numbers of the embedding."""
BATCH, MOMENTUM, DECAY = 128, 0.9, 5e-4
SHIFT = 3
"""Pixels that an image is moved by at the most while training, up to so many in each direction."""


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


def small_net(first: int = FIRST) -> nn.Sequential:
    """Images (B, 3, HEIGHT, WIDTH), (pixel - 127.5) / 128, to embeddings (B, SIZE)."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in range(STAGES):
        wider = first << stage
        layers += [nn.Conv2d(channels, wider, 3, 2, 1, bias=False), nn.BatchNorm2d(wider), nn.PReLU(wider)]
        layers += [Residual(wider)]
        channels = wider
    cells = math.ceil(HEIGHT / 2**STAGES) * math.ceil(WIDTH / 2**STAGES)
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * cells, SIZE))
    return net.to(memory_format=torch.channels_last)  # which a CPU takes faster


def as_input(images: Tensor) -> Tensor:
    """Pixels uint8 (B, 3, H, W) as the net takes them."""
    return ((images.float() - 127.5) / 128).contiguous(memory_format=torch.channels_last)


def train(net: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float, seed: int) -> None:
    """SGD on everything, net and loss, with a rate that falls to 0 by a cosine; mirrored and shifted by chance.

    images uint8 (N, 3, HEIGHT, WIDTH), labels (N,). A learned scale never decays. Raises TrainingError where the loss
    is no number.
    """
    random = torch.Generator().manual_seed(seed)
    named = [*net.named_parameters(), *loss.named_parameters()]
    free = [parameter for name, parameter in named if "scale" in name]
    others = [parameter for name, parameter in named if "scale" not in name]
    groups = [{"params": others, "weight_decay": DECAY}, {"params": free, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD([group for group in groups if group["params"]], lr=rate, momentum=MOMENTUM)
    batches = len(labels) // BATCH or 1
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=random)
        for rows in order[: batches * BATCH].split(BATCH):  # whole batches: a few images make poor statistics
            value = loss(net(varied(as_input(images[rows]), random)), labels[rows])
            if not torch.isfinite(value):
                raise TrainingError(f"{type(loss).__name__}, seed {seed}: the loss is {value.item()}")
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
    net.eval()


def varied(images: Tensor, random: torch.Generator) -> Tensor:
    """Mirror half of the images, and move each batch by up to SHIFT pixels, its edge repeated."""
    flipped = torch.rand(len(images), 1, 1, 1, generator=random) < 0.5
    images = torch.where(flipped, images.flip(3), images)
    down, right = torch.randint(0, 2 * SHIFT + 1, (2,), generator=random).tolist()
    padded = F.pad(images, (SHIFT,) * 4, mode="replicate")
    return padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]


@torch.no_grad()
def features_of(net: nn.Module, images: Tensor) -> np.ndarray:
    """(N, SIZE): the sum over each image and its mirror image, as NormFace measures; batch statistics stay out."""
    net.eval()
    parts = [net(as_input(some)) + net(as_input(some.flip(3))) for some in images.split(256)]
    return torch.cat(parts).numpy()


@torch.no_grad()
def agents_at_means(loss: nn.Module, net: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Let a loss's class weights begin at the mean direction of every class's features."""
    features = F.normalize(torch.from_numpy(features_of(net, images)))
    for name, parameter in loss.named_parameters():
        if name.split(".")[-1] == "weight":
            parameter.copy_(F.normalize(torch.zeros_like(parameter).index_add_(0, labels, features)))


def head(name: str, people: int) -> losses.Loss:
    return losses.make(name, people, SIZE)
