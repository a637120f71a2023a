"""Checks of what every loss is given: sizes, embeddings, labels."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from ..errors import TrainingError

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def checked_size(name: str, value: int) -> int:
    """Return a number of classes or features; refuse what is no whole number of 1 or more."""
    try:
        size = operator.index(value)
    except TypeError:
        size = 0
    if size < 1 or isinstance(value, bool):
        raise TrainingError(f"expected {name} to be a whole number of 1 or more, got {value!r}")
    return size


def check_embeddings(name: str, embeddings: Tensor, weight: Tensor) -> None:
    """Refuse embeddings that are not (N, D) floating-point numbers beside the class weights (C, D)."""
    if not torch.is_tensor(embeddings) or not embeddings.is_floating_point():
        kind = embeddings.dtype if torch.is_tensor(embeddings) else type(embeddings).__name__
        raise TrainingError(f"{name}: expected a tensor of floating-point embeddings, got {kind}")
    if embeddings.dim() != 2 or embeddings.shape[1] != weight.shape[1]:
        raise TrainingError(f"{name}: expected embeddings (N, {weight.shape[1]}), got {tuple(embeddings.shape)}")
    if not embeddings.shape[0]:
        raise TrainingError(f"{name}: expected one embedding or more, got none: the mean loss has no value")
    if embeddings.device != weight.device:
        raise TrainingError(
            f"{name}: embeddings are on {embeddings.device}, the class weights on {weight.device}; "
            f"move the loss there with .to()"
        )


def checked_labels(name: str, labels: Tensor, embeddings: Tensor, num_classes: int) -> Tensor:
    """Return the labels as int64 on the embeddings' device; refuse what are not N whole numbers from 0 to C - 1."""
    if not torch.is_tensor(labels) or labels.dtype not in INTEGERS:
        kind = labels.dtype if torch.is_tensor(labels) else type(labels).__name__
        raise TrainingError(f"{name}: expected a tensor of whole-number labels (such as int64), got {kind}")
    if labels.shape != embeddings.shape[:1]:
        raise TrainingError(
            f"{name}: expected {embeddings.shape[0]} labels, one for each embedding, in one axis, "
            f"got {tuple(labels.shape)}"
        )
    labels = labels.to(embeddings.device, torch.int64)
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        least, most = (int(bound) for bound in labels.aminmax())
        if least < 0 or most >= num_classes:
            wrong = least if least < 0 else most
            raise TrainingError(f"{name}: expected labels from 0 to {num_classes - 1}, got {wrong}")
    return labels
