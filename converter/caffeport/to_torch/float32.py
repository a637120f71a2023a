"""Convolutions on a GPU in float32, as on a CPU: cuDNN else takes TF32, whose products have ten bits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def whole_float32() -> Iterator[None]:
    """Keep cuDNN from TF32 within the block, forward and backward; what computes in fewer bits anyway is as it was.

    The setting is the process's: threads that compute meanwhile have it too.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before
