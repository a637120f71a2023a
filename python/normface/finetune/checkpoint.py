"""Checkpoints: all that a killed run needs to go on to the same numbers, and the best model so far.

torch's file format, read with ``weights_only``, so that a file from elsewhere can hold tensors and nothing that runs.
Where the run stands in the data and in the schedule follows from its step alone (see sampling and schedule).
"""

from __future__ import annotations

import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from caffeport.files import replacing
from torch import nn

from ..errors import DivergedError, TrainingError
from .averaging import Averages
from .class_rows import own_optimizer, own_state, shard_of, whole_optimizer, whole_state
from .figures import Measured
from .position import Position

if TYPE_CHECKING:
    from .run import Run

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
VERSION = 2


class Checkpoints:
    """The checkpoints of one run, in its folder; only the leading process of several writes.

    optimizer: torch's own, not yet wrapped by Fabric, which keeps it. averages: what is exported instead of the
    weights that train, where there are any.
    """

    def __init__(
        self, folder: Path, run: Run, optimizer: torch.optim.Optimizer, averages: Averages | None, fabric: Any
    ) -> None:
        self._folder, self._run, self._leads = folder, run, fabric.is_global_zero
        self._parts: dict[str, Any] = {"trunk": run.trunk, "loss": run.loss, "optimizer": optimizer}
        self._averages = averages
        if averages is not None:
            self._parts["averages"] = averages
        if getattr(fabric.strategy.precision, "scaler", None) is not None:
            self._parts["scaler"] = fabric.strategy.precision.scaler
        self._identity, self._shard = _identity(run), shard_of(run.loss)

    def broken(self) -> str:
        """The name of a weight that is NaN or infinite, or nothing; such weights are not to be saved."""
        tensors = [*self._parts["trunk"].state_dict().items(), *self._parts["loss"].state_dict().items()]
        found = next((n for n, t in tensors if t.is_floating_point() and not torch.isfinite(t).all()), "")
        return found if self._shard is None else next(filter(None, self._shard.gather_objects(found)), "")

    def use(self, loss: nn.Module) -> None:
        """Restore the best model into this loss, which has all class weights."""
        self._parts["loss"], self._shard = loss, None

    def save(self, position: Position) -> None:
        """Everything a killed run needs to go on."""
        content = {name: part.state_dict() for name, part in self._parts.items()}
        if self._shard is not None:
            content["loss"] = whole_state(content["loss"], self._shard)
            content["optimizer"] = whole_optimizer(self._parts["optimizer"], self._parts["loss"])
        random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if _cuda() else []}
        self._write(CHECKPOINT, content | {"position": asdict(position), "random": random})

    def save_best(self) -> None:
        """The weights alone, as they are exported."""
        exported = self._averages or self._run
        content = {name: getattr(exported, name).state_dict() for name in ("trunk", "loss")}
        self._write(BEST, content | {"loss": whole_state(content["loss"], self._shard)})

    def restore(self) -> Position:
        """Everything as it was. Raises TrainingError where the checkpoint belongs to another run."""
        path = self._folder / CHECKPOINT
        content = self._read(path)
        if content.get("identity") != self._identity:
            raise TrainingError(
                f"{path}: the images or the weights changed since it was written; "
                "--overwrite starts anew, or use another --out"
            )
        try:
            if self._shard is not None:
                content["loss"] = own_state(content["loss"], self._shard)
                own = own_optimizer(content["optimizer"], self._parts["optimizer"], self._parts["loss"])
                content["optimizer"] = own
            for name, part in self._parts.items():
                part.load_state_dict(content[name])
            torch.set_rng_state(content["random"]["cpu"])
            if _cuda() and len(content["random"]["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(content["random"]["cuda"])
            held = content["position"]
            models = {key: Measured(**held[key]) for key in ("before", "best", "last") if held[key]}
            return Position(**(held | models))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            words = " ".join(str(error).split())[:200]
            raise TrainingError(f"{path}: does not fit this run: {words}; --overwrite starts anew") from error

    def restore_best(self, position: Position, problem: str = "") -> int:
        """The best weights, or the last checkpoint's where none were the best; returns their step.

        Raises DivergedError, for ``problem``, where there are neither.
        """
        path = next((p for p in (self._folder / BEST, self._folder / CHECKPOINT) if p.is_file()), None)
        if path is None:
            raise DivergedError(f"{problem}, before the first checkpoint; nothing is exported")
        content = self._read(path)
        try:
            for name in ("trunk", "loss"):
                self._parts[name].load_state_dict(content[name])
            if path.name == CHECKPOINT and self._averages is not None:
                self._averages.load_state_dict(content["averages"])
                self._averages.copy_to(self._run.trunk, self._run.loss)
            step = position.best.step if path.name == BEST and position.best else int(content["position"]["step"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise TrainingError(f"{path}: does not fit this run; --overwrite starts anew") from error
        return step

    def _write(self, name: str, content: dict[str, Any]) -> None:
        if self._leads:
            with replacing(self._folder / name) as stream:
                torch.save({"version": VERSION, "identity": self._identity, **content}, stream)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise TrainingError(f"{path}: {error.strerror or error}") from error
        except Exception as error:  # torch raises whatever reading a zip and a pickle meets
            raise TrainingError(f"{path}: is damaged, or no checkpoint; --overwrite starts anew") from error
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise TrainingError(f"{path}: is no checkpoint of this version; --overwrite starts anew")
        return content


Diverged = DivergedError
"""The name that it had before."""


def _identity(run: Run) -> str:
    """A mark of the images' names and labels and of the weights file: a checkpoint belongs to them."""
    mark = zlib.crc32("\n".join(run.images.names).encode("utf-8", "surrogatepass"))
    mark = zlib.crc32(np.ascontiguousarray(run.images.labels).tobytes(), mark)
    with open(run.config.weights, "rb") as stream:
        while piece := stream.read(1 << 20):
            mark = zlib.crc32(piece, mark)
    return f"{mark:08x}"


def _cuda() -> bool:
    return torch.cuda.is_available()
