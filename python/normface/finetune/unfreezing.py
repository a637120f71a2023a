"""Which part of the net trains from which step on: --freeze-steps and --unfreeze."""

from __future__ import annotations

from torch import nn

from ..errors import TrainingError, did_you_mean
from .backbone import Backbone, Trunk
from .config import Config
from .schedule import in_steps


def check_blobs(config: Config, backbone: Backbone) -> None:
    """Raise TrainingError where a blob of --unfreeze is none of the part that trains."""
    blobs = backbone.trained.blobs if backbone.trained is not None else {}
    for blob in config.unfreeze:
        if blob not in blobs:
            raise TrainingError(
                f'--unfreeze "{blob}" is no blob of the part of the net that trains{did_you_mean(blob, blobs)}'
            )
        if not backbone.keys_before(blob):
            raise TrainingError(f'--unfreeze "{blob}": nothing that trains comes before this blob')


def starts(config: Config, backbone: Backbone, steps: int) -> dict[str, int]:
    """{key in the trunk's state_dict: the step (from 0) from which it trains} of a run of so many steps.

    All of the net starts at --freeze-steps, new layers at once; what a blob of --unfreeze needs, not before its step.
    """
    layers = backbone.trained_keys()
    first = {key: 0 if new else in_steps(config.freeze_steps, steps) for key, new in layers.items()}
    for blob, at in config.unfreeze.items():
        for key in backbone.keys_before(blob):
            first[key] = max(first[key], in_steps(at, steps))
    return first


class Unfreezing:
    """Switches the weights of a trunk on, each at its step. What is off has no gradient, momentum, decay or average.

    Which of them train at all is what ``requires_grad`` says when this is made.
    """

    def __init__(self, trunk: Trunk, starts: dict[str, int]) -> None:
        self._trunk = trunk
        self._weights = [
            (blob, starts.get(key, 0)) for key, blob in trunk.named_blobs() if blob.requires_grad and starts.get(key)
        ]
        self._rests = _modules_with_statistics(trunk, starts)
        self._changes = {0, *(at for _, at in self._weights), *(at for _, at in self._rests)}
        self._began = False

    def at(self, step: int) -> None:
        """Set the trunk for this step, the first one asked for or the one behind the last."""
        if self._began and step not in self._changes:
            return
        self._began = True
        for blob, at in self._weights:
            blob.requires_grad_(step >= at)
        self._trunk.rest([module for module, at in self._rests if step < at])


def _modules_with_statistics(trunk: Trunk, starts: dict[str, int]) -> list[tuple[nn.Module, int]]:
    """The modules with buffers, such as BatchNorm, and when they start, where that is not at once."""
    of_buffer = {id(value): starts.get(key, 0) for key, value in trunk.state_dict(keep_vars=True).items()}
    found = []
    for module in trunk.modules():
        at = [of_buffer.get(id(one), 0) for one in module.buffers(recurse=False)]
        if at and max(at) > 0:
            found.append((module, max(at)))
    return found
