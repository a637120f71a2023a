"""Telling whether torch.func is at work: what changes state, or needs numbers in memory, is then left out."""

from __future__ import annotations

from typing import Any, NoReturn

import torch

from ..errors import TrainingError


def is_transformed() -> bool:
    """Return whether torch.func (grad, vmap, jvp and what is made of them) runs this code.

    Torch has no public question for it; this is the one that its own modules ask.
    """
    if torch.compiler.is_compiling():
        return False  # the compiler looks through the transform by itself
    return torch._C._functorch.peek_interpreter_stack() is not None


def no_forward_mode(ctx: Any, *tangents: Any) -> NoReturn:
    """Raise what a loss says to torch.autograd.forward_ad."""
    raise TrainingError(
        "the losses have no forward-mode derivatives under torch.autograd.forward_ad; "
        "torch.func.jvp and torch.func.jacrev have them"
    )
