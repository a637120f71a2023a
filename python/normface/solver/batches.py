"""Batches that the caller hands over, as the tensors that a net takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from caffeport import Net, NetError
from caffeport.errors import did_you_mean
from torch import Tensor

from ..errors import TrainingError

Batch = Mapping[str, Any]
"""{input blob: array or tensor}"""


class Batches:
    """The batches of one net on one device; channels_last: images in that layout, which a CPU takes faster."""

    def __init__(self, net: Net, device: torch.device, channels_last: bool) -> None:
        self._net, self._device, self._channels_last = net, device, channels_last
        self._fitting = {tuple(value.shape for value in net.input_values)}

    def tensors(self, batch: Batch) -> list[Tensor]:
        """Return the arrays in the order of ``net.inputs``, float32 as everything in Caffe.

        Raises TrainingError for names, values and shapes that do not fit; the batch size is free where the net
        leaves it so.
        """
        names = self._net.inputs
        if not isinstance(batch, Mapping):
            raise TrainingError(f"expected a batch {{input blob: array}}, got {type(batch).__name__}")
        for name in batch:
            if name not in names:
                raise TrainingError(
                    f'the batch has "{name}", which is no input of the net{did_you_mean(str(name), names)}; '
                    f"its inputs are {', '.join(names)}"
                )
        missing = [name for name in names if name not in batch]
        if missing:
            raise TrainingError(f"the batch lacks {', '.join(missing)}; the net's inputs are {', '.join(names)}")
        tensors = [_tensor(batch[name], name).to(self._device, non_blocking=True) for name in names]
        self._check_shapes(tensors)
        if self._channels_last:
            tensors = [t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for t in tensors]
        return tensors

    def _check_shapes(self, tensors: list[Tensor]) -> None:
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        if shapes in self._fitting:
            return
        try:
            self._net.infer(dict(zip(self._net.input_values, shapes, strict=True)))
        except NetError as error:
            raise TrainingError(f"a batch of another shape than the net's does not fit it: {error}") from error
        self._fitting.add(shapes)


def _tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().float()
    try:
        return torch.from_numpy(np.require(value, np.float32, ["C", "W"]))
    except (TypeError, ValueError) as error:
        raise TrainingError(f'"{name}" of the batch is no array of numbers ({error})') from error
