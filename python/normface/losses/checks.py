"""Checks of what every loss is given: sizes, embeddings, labels."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from ..errors import TrainingError
from .transforms import is_transformed

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


def check_embeddings(name: str, embeddings: Tensor, size: int, weight: Tensor) -> None:
    """Refuse embeddings that are not (N, size) floating-point numbers, on the device of the class weights."""
    if not torch.is_tensor(embeddings) or not embeddings.is_floating_point():
        kind = embeddings.dtype if torch.is_tensor(embeddings) else type(embeddings).__name__
        raise TrainingError(f"{name}: expected a tensor of floating-point embeddings, got {kind}")
    if embeddings.dim() != 2 or embeddings.shape[1] != size:
        raise TrainingError(f"{name}: expected embeddings (N, {size}), got {tuple(embeddings.shape)}")
    if not embeddings.shape[0]:
        raise TrainingError(f"{name}: expected one embedding or more, got none: the mean loss has no value")
    if embeddings.device != weight.device:
        raise TrainingError(
            f"{name}: embeddings are on {embeddings.device}, the class weights on {weight.device}; "
            f"move the loss there with .to()"
        )


def checked_labels(
    name: str, labels: Tensor, embeddings: Tensor, num_classes: int, ignore_index: int | None = None
) -> Tensor:
    """Return the labels as int64 on the embeddings' device; refuse what are not N whole numbers from 0 to C - 1.

    ignore_index: another number that is a label.
    """
    if not torch.is_tensor(labels) or labels.dtype not in INTEGERS:
        kind = labels.dtype if torch.is_tensor(labels) else type(labels).__name__
        raise TrainingError(f"{name}: expected a tensor of whole-number labels (such as int64), got {kind}")
    if labels.shape != embeddings.shape[:1]:
        raise TrainingError(
            f"{name}: expected {embeddings.shape[0]} labels, one for each embedding, in one axis, "
            f"got {tuple(labels.shape)}"
        )
    labels = labels.to(embeddings.device, torch.int64)
    if _readable(labels):
        counted = labels if ignore_index is None else labels[labels != ignore_index]
        least, most = (int(bound) for bound in counted.aminmax()) if len(counted) else (0, 0)
        if least < 0 or most >= num_classes:
            wrong = least if least < 0 else most
            also = "" if ignore_index is None else f" or {ignore_index}, which is ignored"
            raise TrainingError(f"{name}: expected labels from 0 to {num_classes - 1}{also}, got {wrong}")
    return labels


def checked_sample_weight(name: str, sample_weight: Tensor, embeddings: Tensor) -> Tensor:
    """Return the weights of the samples on the embeddings' device; refuse what are not N numbers of 0 or more."""
    if not torch.is_tensor(sample_weight) or sample_weight.is_complex() or sample_weight.dtype == torch.bool:
        kind = sample_weight.dtype if torch.is_tensor(sample_weight) else type(sample_weight).__name__
        raise TrainingError(f"{name}: expected a tensor of numbers for sample_weight, got {kind}")
    if sample_weight.shape != embeddings.shape[:1]:
        raise TrainingError(
            f"{name}: expected a sample_weight of {embeddings.shape[0]} numbers, one for each embedding, in one axis, "
            f"got {tuple(sample_weight.shape)}"
        )
    sample_weight = sample_weight.to(embeddings.device)
    if _readable(sample_weight) and not (torch.isfinite(sample_weight) & (sample_weight >= 0)).all():
        raise TrainingError(f"{name}: expected a sample_weight of finite numbers of 0 or more")
    return sample_weight


def _readable(tensor: Tensor) -> bool:
    """Return whether its numbers are at hand, without waiting for a device."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling() and not is_transformed()
