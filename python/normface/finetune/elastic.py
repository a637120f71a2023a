"""What torchrun says about a run that it has started: how many processes there are, and whether it starts anew."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from .config import Config

ELASTIC = "TORCHELASTIC_RUN_ID"
"""The variable that torchrun's processes have, and no others."""


def as_started(config: Config, environment: Mapping[str, str] = os.environ) -> Config:
    """Return the settings with the devices and nodes that torchrun has started; without torchrun as they are."""
    if ELASTIC not in environment:
        return config
    devices = int(environment["LOCAL_WORLD_SIZE"])
    return replace(config, devices=devices, nodes=int(environment["WORLD_SIZE"]) // devices)


def as_restarted(
    resume: bool, overwrite: bool, environment: Mapping[str, str] = os.environ
) -> tuple[bool, bool]:  # fmt: skip
    """Return whether to resume and to overwrite: what torchrun starts again goes on with what it had begun."""
    if ELASTIC in environment and int(environment.get("TORCHELASTIC_RESTART_COUNT", "0")):
        return True, False
    return resume, overwrite


def meet(device: str, environment: Mapping[str, str] = os.environ) -> None:
    """Form the process group of torchrun's processes, under a name of this attempt's own; without torchrun do nothing.

    torchrun's store outlives its processes, and with Gloo those that it starts again would find the addresses there of
    those that are gone.
    """
    if ELASTIC not in environment:
        return
    import torch.distributed as dist

    if not dist.is_initialized():
        store, rank, size = next(dist.rendezvous("env://"))
        attempt = dist.PrefixStore(f"attempt{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, store=attempt, rank=rank, world_size=size)
