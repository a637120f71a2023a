"""Errors of torch that come from an input of a wrong size, and the shapes that are not what the net declares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import shape_text

FAULTS = (RuntimeError, IndexError, ValueError)
"""The errors that torch raises for shapes that do not fit, but for other things too."""


def differences(values: Sequence[Tensor], declared: Sequence[tuple[str, tuple[int, ...]]]) -> list[str]:
    """Return what is not as declared, by (blob name, shape): any batch size will do unless nothing else differs."""
    pairs = [(name, shape, tuple(value.shape)) for value, (name, shape) in zip(values, declared, strict=True)]
    inner = [pair for pair in pairs if len(pair[1]) != len(pair[2]) or pair[1][1:] != pair[2][1:]]
    return [
        f'"{name}" has the shape {shape_text(got)}, expected {_batched(shape) if inner else shape_text(shape)}'
        for name, shape, got in inner or [pair for pair in pairs if pair[1] != pair[2]]
    ]


def _batched(shape: Sequence[int]) -> str:
    return "x".join(["N", *map(str, shape[1:])]) if shape else "scalar"


@torch.no_grad()
def fails_on_zeros(module: nn.Module, inputs: Sequence[Tensor]) -> bool:
    """Return whether the shapes alone are at fault, in eval mode, which changes nothing: zeros are good labels."""
    training = module.training
    module.eval()
    try:
        module(*[torch.zeros_like(x) for x in inputs])
    except FAULTS:
        return True
    finally:
        module.train(training)
    return False
