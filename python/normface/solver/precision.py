"""The device and the precision of a solver; mixed is products and convolutions in bfloat16, the rest in float32."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from caffeport.to_torch.module import CaffeModule
from torch import Tensor

from ..errors import TrainingError
from .fields import SolverMode, SolverParameter

_NAMES = {"32": "32", "fp32": "32", "float32": "32", "bf16": "bf16", "bfloat16": "bf16", "bf16-mixed": "bf16"}


def settle_device(name: str | torch.device) -> torch.device:
    """Raises TrainingError for a device that is not there."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).partition("\n")[0]
        raise TrainingError(f'device "{name}" cannot be used here ({said}); "cpu" always can') from error
    return device


def automatic_device(solver: SolverParameter) -> tuple[torch.device, str]:
    """The device of solver_mode and device_id, with a note where a GPU is asked for that is not there.

    Without a word of solver_mode Caffe takes the GPU; here that is one where there is one, and no note else.
    """
    if solver.solver_mode is SolverMode.CPU:
        return torch.device("cpu"), ""
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if solver.device_id < count:
            return settle_device(f"cuda:{solver.device_id}"), ""
        note = f"device_id is {solver.device_id}, and there are GPUs 0 to {count - 1}; GPU 0 computes"
        return settle_device("cuda:0"), note
    if solver.solver_mode is None:
        return torch.device("cpu"), ""
    return torch.device("cpu"), "solver_mode is GPU, and torch sees none here; the CPU computes"


def settle_precision(name: str) -> str:
    """ "32" or "bf16"; raises TrainingError for anything else."""
    if str(name) not in _NAMES:
        raise TrainingError(f'expected precision "32" or "bf16", got "{name}"')
    return _NAMES[str(name)]


def autocast(precision: str, device: torch.device) -> Any:
    """The context of a forward pass."""
    if precision == "32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def keep_full_precision(model: CaffeModule, device: torch.device) -> None:
    """Let the layers that ask for it (losses, margins, normalisation) take and give float32."""
    for module in model.modules():
        if getattr(module, "full_precision", False):
            _wrap(module, device)


def _wrap(module: torch.nn.Module, device: torch.device) -> None:
    forward = module.forward

    def in_float32(*bottoms: Tensor) -> Any:
        with torch.autocast(device.type, enabled=False):
            return forward(*[bottom.float() for bottom in bottoms])

    module.forward = in_float32
