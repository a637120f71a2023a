"""Checkpoints: all that a killed run needs to go on to the same numbers, and the best model so far.

A file of torch's format, read with ``weights_only``, so that one from elsewhere can hold tensors and nothing that
runs. Where the class weights' rows are shared among the ranks it is a folder of normface.parallel, to which each rank
writes its own; a run reads either, whichever it writes itself. Where the run stands in the data and in the schedule
follows from its step alone (see sampling and schedule).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from caffeport.files import replacing
from torch import Tensor, nn

from .. import parallel
from ..errors import DivergedError, TrainingError
from ..parallel.checkpoint import read_about, remove_all
from ..parallel.row_sgd import settle
from .averaging import Averages
from .class_rows import own_optimizer, own_states, shard_of
from .collectives import connected
from .figures import Measured
from .position import Position

if TYPE_CHECKING:
    from .run import Run

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
FOLDERS = {CHECKPOINT: "checkpoint", BEST: "best"}
"""{a file: the folder in its place where the ranks share the class weights' rows}"""
VERSION = 2


def saved(folder: Path, name: str = CHECKPOINT) -> Path | None:
    """Return the checkpoint of a run's folder, or its best weights: a file, or a folder that the ranks wrote together.

    Where a run was killed between writing the one and removing the other, both are whole, and the newer one counts.
    """
    written = [folder / name, parallel.latest(folder / FOLDERS[name])]
    return max((one for one in written if one and one.exists()), key=lambda one: one.stat().st_mtime, default=None)


class Checkpoints:
    """The checkpoints of one run, in its folder; only the leading process of several writes files.

    optimizers: as they are, not yet wrapped by Fabric; one, and where classes are sampled another for their rows.
    averages: what is exported instead of the weights that train, where there are any. Every rank calls ``save``,
    ``save_best`` and ``restore``.
    """

    def __init__(
        self, folder: Path, run: Run, optimizers: Sequence[torch.optim.Optimizer], averages: Averages | None,
        fabric: Any,
    ) -> None:  # fmt: skip
        self._folder, self._run, self._leads = folder, run, fabric.is_global_zero
        self._modules: dict[str, nn.Module] = {"trunk": run.trunk, "loss": run.loss}
        self._optimizers, self._averages = list(optimizers), averages
        if run.sampled is not None:
            self._modules["rows"] = run.sampled.rows  # how often classes were drawn
        if averages is not None:
            self._modules["averages"] = averages
        self._scaler = getattr(fabric.strategy.precision, "scaler", None)
        self._identity, self._shard = _identity(run), shard_of(run.loss)

    def settle(self) -> None:
        """Bring all class weights up to date: where classes are sampled, most of them wait for their steps."""
        settle(self._optimizers)

    def broken(self) -> str:
        """The name of a weight that is NaN or infinite, or nothing; such weights are not to be saved."""
        self.settle()
        tensors = [*self._run.trunk.state_dict().items(), *self._run.loss.state_dict().items()]
        found = next((n for n, t in tensors if t.is_floating_point() and not _finite(t)), "")
        return found if self._shard is None else next(filter(None, self._shard.gather_objects(found)), "")

    def save(self, position: Position) -> None:
        """Everything a killed run needs to go on."""
        notes: dict[str, Any] = {"position": asdict(position)}
        if self._scaler is not None:
            notes["scaler"] = self._scaler.state_dict()
        random: dict[str, Any] = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if _cuda() else [],
        }
        if self._shard is not None:
            notes["random"] = {"cpu": _text(random["cpu"]), "cuda": [_text(one) for one in random["cuda"]]}
            self._write_together(CHECKPOINT, position.step, self._modules, self._optimizers, notes)
            return
        content = {name: module.state_dict() for name, module in self._modules.items()}
        self._write(CHECKPOINT, content | notes | {"optimizer": self._optimizers[0].state_dict(), "random": random})

    def save_best(self, step: int) -> None:
        """The weights alone, as they are exported."""
        self.settle()
        exported = self._averages or self._run
        modules = {"trunk": exported.trunk, "loss": exported.loss}
        if self._shard is not None:
            self._write_together(BEST, step, modules, [], {})
        else:
            self._write(BEST, {name: module.state_dict() for name, module in modules.items()})

    def restore(self) -> Position:
        """Everything as it was. Raises TrainingError where the checkpoint belongs to another run."""
        path = saved(self._folder)
        assert path is not None
        content = self._read(path)
        if content.get("identity") != self._identity:
            raise TrainingError(
                f"{path}: the images or the weights changed since it was written; "
                "--overwrite starts anew, or use another --out"
            )
        try:
            self._restore(path, content)
            torch.set_rng_state(_state(content["random"]["cpu"]))
            if _cuda() and len(content["random"]["cuda"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all([_state(one) for one in content["random"]["cuda"]])
            held = content["position"]
            models = {key: Measured(**held[key]) for key in ("before", "best", "last") if held[key]}
            return Position(**(held | models))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            words = " ".join(str(error).split())[:200]
            raise TrainingError(f"{path}: does not fit this run: {words}; --overwrite starts anew") from error

    def _restore(self, path: Path, content: dict[str, Any]) -> None:
        if path.is_dir():
            _load(path, self._modules, self._optimizers)
        else:
            self._restore_modules(content, self._modules)
            held = content["optimizer"]
            if self._shard is not None:
                held = own_optimizer(held, self._optimizers[0], self._run.loss)
            self._optimizers[0].load_state_dict(held)
        if self._scaler is not None:
            self._scaler.load_state_dict(content["scaler"])

    def _restore_modules(self, content: dict[str, Any], modules: dict[str, nn.Module]) -> None:
        for name, state in own_states(content, modules).items():
            modules[name].load_state_dict(state)

    def restore_best(self, position: Position, problem: str = "") -> int:
        """The best weights, or the last checkpoint's where none were the best; returns their step.

        The leading rank calls it, and every rank where they share the rows. Raises DivergedError, for ``problem``,
        where there are neither.
        """
        self.settle()  # so that no row waits for steps that were of other numbers
        path = saved(self._folder, BEST)
        if path is None:
            if saved(self._folder) is None:
                raise DivergedError(f"{problem}, before the first checkpoint; nothing is exported")
            step = self.restore().step
            if self._averages is not None:
                self._averages.copy_to(self._run.trunk, self._run.loss)
            return step
        modules: dict[str, nn.Module] = {"trunk": self._run.trunk, "loss": self._run.loss}
        if path.is_dir():
            step = _load(path, modules, [])
            return position.best.step if position.best else step
        content = self._read(path)
        try:
            self._restore_modules(content, modules)
            return position.best.step if position.best else position.step
        except (KeyError, TypeError, RuntimeError) as error:
            raise TrainingError(f"{path}: does not fit this run; --overwrite starts anew") from error

    def _write(self, name: str, content: dict[str, Any]) -> None:
        if self._leads:
            with replacing(self._folder / name) as stream:
                torch.save({"version": VERSION, "identity": self._identity, **content}, stream)
            remove_all(self._folder / FOLDERS[name])

    def _write_together(
        self, name: str, step: int, modules: dict[str, nn.Module], optimizers: list[torch.optim.Optimizer],
        notes: dict[str, Any],
    ) -> None:  # fmt: skip
        notes = {"version": VERSION, "identity": self._identity, **notes}
        with connected():
            parallel.save(self._folder / FOLDERS[name], step, modules, optimizers, notes=notes, keep=1)
        if self._leads:
            (self._folder / name).unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, Any]:
        """Return all of a file, whose rows stay on the disk where a rank has a share of them; a folder's notes."""
        try:
            if path.is_dir():
                content = read_about(path)["notes"]
            else:
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=self._shard is not None)
        except TrainingError as error:
            raise TrainingError(f"{error}; --overwrite starts anew") from error
        except OSError as error:
            raise TrainingError(f"{path}: {error.strerror or error}") from error
        except Exception as error:  # torch raises whatever reading a zip and a pickle meets
            raise TrainingError(f"{path}: is damaged, or no checkpoint; --overwrite starts anew") from error
        if not isinstance(content, dict) or content.get("version") != VERSION:
            raise TrainingError(f"{path}: is no checkpoint of this version; --overwrite starts anew")
        return content


def _finite(tensor: Tensor) -> bool:
    """Return whether all numbers are finite, without a copy of them, as torch.isfinite makes."""
    return not tensor.numel() or bool(torch.isfinite(torch.stack(tensor.aminmax())).all())


def _load(path: Path, modules: dict[str, nn.Module], optimizers: list[torch.optim.Optimizer]) -> int:
    try:
        with connected():
            return parallel.load(path, modules, optimizers)[0]
    except TrainingError as error:
        raise TrainingError(f"{error}; --overwrite starts anew") from error


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


def _text(state: Tensor) -> str:
    """Return a random generator's state as JSON can hold it."""
    return base64.b64encode(state.numpy().tobytes()).decode()


def _state(held: Tensor | str) -> Tensor:
    return held if isinstance(held, Tensor) else torch.tensor(list(base64.b64decode(held)), dtype=torch.uint8)
