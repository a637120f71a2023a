"""A class-parallel training of a small net that checkpoints as it goes: a killed rank breaks it off, others resume.

Each step's batch follows from the step alone, so that any number of ranks trains on the same.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch
from normface import parallel
from torch import Tensor, nn

CLASSES, SAMPLES, D = 23, 12, 6


def batch(step: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 + step)
    labels = torch.randint(classes, (SAMPLES,), generator=generator)
    images = torch.randn(SAMPLES, D, generator=generator, dtype=torch.float64)
    images[:, 0] += labels
    return images, labels


def train(
    folder: str, steps: int, save_every: int, loss: str = "curricularface", classes: list[str] | None = None,
    optimizer_name: str = "sgd", kill: dict[str, int] | None = None,
) -> dict[str, object]:  # fmt: skip
    """Train from the latest checkpoint to the last step; return the losses of the steps made and the last weights.

    kill: {"rank", "step", "written"}: the rank that ends itself by SIGKILL in that step, or while it saves, once so
    many bytes of the checkpoint are there.
    """
    names = classes or [f"person {number}" for number in range(CLASSES)]
    torch.manual_seed(3)
    net = nn.Linear(D, D, dtype=torch.float64)
    head = parallel.make(loss, len(names), D, dtype=torch.float64, scale=16.0, backbone_gradients="summed")
    modules = {"net": net, "head": head}
    parameters = [*net.parameters(), *head.parameters()]
    optimizer: torch.optim.Optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)
    if optimizer_name == "adamw":
        optimizer = torch.optim.AdamW(parameters, lr=0.01)
    newest = parallel.latest(folder)
    first = 0
    if newest is not None:
        first, notes = parallel.load(newest, modules, [optimizer], classes=names)
        assert notes == {"seed": 3}
    losses = {}
    shard = head.shard
    share = slice(shard.rank, None, shard.size)
    for step in range(first, steps):
        images, labels = batch(step, len(names))
        optimizer.zero_grad()
        if kill and (kill["rank"], kill["step"]) == (shard.rank, step):
            _kill_in_a_moment(Path(folder), kill["written"])
        value = head(net(images[share]), labels[share])
        value.backward()
        for parameter in net.parameters():
            assert parameter.grad is not None
            shard.sum(parameter.grad)
        optimizer.step()
        losses[step] = value.item()
        if (step + 1) % save_every == 0:
            parallel.save(folder, step + 1, modules, [optimizer], classes=names, notes={"seed": 3})
    return {"losses": losses, "first": first, "shard": [shard.first, head.loss.weight.tolist()]}


def _kill_in_a_moment(folder: Path, written: int) -> None:
    """End this process at once, or as soon as a checkpoint is under way in the folder."""
    if written < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    import threading

    def watch() -> None:
        while True:
            sizes = [path.stat().st_size for path in folder.glob(".step-*/*") if path.exists()]
            if sizes and sum(sizes) >= written:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def resumed_rows(folder: str, names: list[str], loss: str) -> dict[str, list[list[float]]]:
    """This rank's class weights and their momentum, from the latest checkpoint."""
    torch.manual_seed(3)
    net = nn.Linear(D, D, dtype=torch.float64)
    head = parallel.make(loss, len(names), D, dtype=torch.float64, scale=16.0)
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.05, momentum=0.9)
    newest = parallel.latest(folder)
    assert newest is not None
    parallel.load(newest, {"net": net, "head": head}, [optimizer], classes=names)
    rows = {}
    for name, parameter in head.loss.named_parameters():
        for title, tensor in (name, parameter), (f"{name} momentum", optimizer.state[parameter]["momentum_buffer"]):
            tensor = tensor.transpose(0, 1).flatten(1) if name == "more" else tensor
            rows[title.replace("weight momentum", "momentum")] = tensor.tolist()
    return rows
