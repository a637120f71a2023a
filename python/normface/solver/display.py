"""The lines that Caffe prints while it trains, in its words, so that people and scripts find them as before."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

Say = Callable[[str], None]


class Display:
    """``display`` and ``average_loss`` are the solver's; weights: {top: loss_weight}, of tops that have one."""

    def __init__(self, say: Say, display: int, average_loss: int) -> None:
        self.say, self.every = say, display
        self._losses: deque[float] = deque(maxlen=average_loss)
        self._iteration, self._time = 0, time.monotonic()

    def due(self, iteration: int) -> bool:
        return bool(self.every) and iteration % self.every == 0

    @property
    def loss(self) -> float:
        """The mean of the last average_loss losses."""
        return sum(self._losses) / max(len(self._losses), 1)

    def trained(
        self, iteration: int, loss: float, rate: float, outputs: Mapping[str, Tensor], weights: Mapping[str, float]
    ) -> None:
        """An iteration is done; ``iteration`` counts from 0."""
        self._losses.append(loss)
        if not self.due(iteration):
            return
        now = time.monotonic()
        seconds = now - self._time
        speed = (iteration - self._iteration) / (seconds or 1.0)
        self._iteration, self._time = iteration, now
        self.say(f"Iteration {iteration} ({speed:g} iter/s, {seconds:g}s/{self.every} iters), loss = {self.loss:g}")
        for line in _outputs("Train", outputs, weights):
            self.say(line)
        self.say(f"Iteration {iteration}, lr = {rate:g}")

    def ended(self, iteration: int, loss: float) -> None:
        """All iterations are done; ``loss`` is that of one more batch, by the weights as they are now."""
        self._losses.append(loss)
        self.say(f"Iteration {iteration}, loss = {self.loss:g}")

    def tested(self, outputs: Mapping[str, Tensor], weights: Mapping[str, float], loss: float | None) -> None:
        if loss is not None:
            self.say(f"Test loss: {loss:g}")
        for line in _outputs("Test", outputs, weights):
            self.say(line)


def _outputs(phase: str, outputs: Mapping[str, Tensor], weights: Mapping[str, float]) -> Iterator[str]:
    number = 0
    for name, top in outputs.items():
        weight = weights.get(name, 0.0)
        for value in top.detach().float().reshape(-1).tolist():
            part = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            yield f"    {phase} net output #{number}: {name} = {value:g}{part}"
            number += 1
