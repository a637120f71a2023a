"""The random numbers of a training run (dropout), apart from everyone else's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..errors import TrainingError


class Randomness:
    """A generator state of its own, put in place of torch's global one while a net runs.

    So a run that is resumed draws what it would have drawn, whatever else uses torch's numbers meanwhile.
    ``needed`` False: the net draws nothing, and nothing is swapped.
    """

    def __init__(self, seed: int, device: torch.device, needed: bool) -> None:
        self.device, self.needed = device, needed
        self._state = torch.Generator(device).manual_seed(seed).get_state()

    def _get(self) -> torch.Tensor:
        return torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()

    def _set(self, state: torch.Tensor) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state, self.device)
        else:
            torch.set_rng_state(state)

    @contextlib.contextmanager
    def own(self) -> Iterator[None]:
        if not self.needed:
            yield
            return
        others = self._get()
        self._set(self._state)
        try:
            yield
        finally:
            self._state = self._get()
            self._set(others)

    def state(self) -> dict[str, Any]:
        return {self.device.type: self._state.numpy()} if self.needed else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state of the same kind of device; one of another kind, or none, leaves things as they are."""
        state_bytes = state.get(self.device.type)
        if state_bytes is None:
            return
        numbers = torch.from_numpy(np.array(state_bytes, np.uint8))
        if numbers.shape != self._state.shape:
            raise TrainingError(f"the snapshot's random numbers are {numbers.numel()} bytes, not {self._state.numel()}")
        self._state = numbers
