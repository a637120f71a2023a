"""Checkpoints: all that a killed run needs to go on to the same numbers, and the best model so far.

torch's file format, read with ``weights_only``, so that a file from elsewhere can hold tensors and nothing that runs.
Where the run stands in the data and in the schedule follows from its step alone (see sampling and schedule).
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from caffeport.files import replacing
from torch import nn

from ..errors import DivergedError, TrainingError
from .averaging import Averages
from .class_rows import own_optimizer, own_state, shard_of, whole_optimizer, whole_state
from .config import Config
from .config_file import plain, same
from .figures import Measured
from .setting_values import flag

if TYPE_CHECKING:
    from .run import Run

CHECKPOINT, BEST = "checkpoint.pt", "best.pt"
VERSION = 2

MAY_CHANGE = frozenset(
    {"out", "readers", "device", "on_bad_image", "log_every", "checkpoint_every", "validate_every", "patience"}
    | {"tensorboard", "figure", "normalize", "feature_cache", "test", "test_root", "log", "hard_samples"}
    | {"devices", "nodes", "class_parallel"}
)
"""Settings that leave the training's numbers as they are; a resumed run may have others."""
MAY_GROW = frozenset({"steps", "epochs"})
"""Settings that a resumed run may have more of."""


@dataclass
class Position:
    """The position of a run; it is kept beside the weights.

    before, last: the models at the start and of the last measurement. best: of those after a step of training, which
    ``before`` is not, the one that verifies best. rows: one a line of metrics.csv. loss_sum, images: of the steps
    since the last line. seconds: since the start, breaks not counted. exported: the step whose model is exported.
    planned: the steps that the run was to have when this was kept; --resume --steps may have made them more.
    """

    step: int = 0
    before: Measured | None = None
    best: Measured | None = None
    last: Measured | None = None
    worse_in_a_row: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    exported: int = 0
    planned: int = 0

    def count(self, loss: float, images: int) -> None:
        """One more step is done, whose loss is the mean over so many images; none where all were left out."""
        self.step += 1
        self.loss_sum += loss * images
        self.images += images

    def mean_loss(self) -> dict[str, float]:
        """{"loss": mean over the images since this was asked the last time}, empty where there was none."""
        mean = {"loss": self.loss_sum / self.images} if self.images else {}
        self.loss_sum, self.images = 0.0, 0
        return mean

    def judge(self, now: Measured) -> bool:
        """Return whether the model of this step is the best so far."""
        if now.verifies_better_than(self.best):
            self.best, self.worse_in_a_row = now, 0
            return True
        self.worse_in_a_row += 1
        return False

    def out_of_patience(self, patience: int | None) -> str:
        """Why to stop, or nothing."""
        over = patience is not None and self.worse_in_a_row >= patience
        return f"no better for {patience} validations" if over else ""


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


def check_same_run(before: Config, config: Config) -> None:
    """Raises TrainingError that lists the settings of config.toml that a resumed run may not change, but does."""
    old = before.settings()
    changed = [
        f"{flag(name)} was {old[name]}, now {value}"
        for name, value in config.settings().items()
        if name not in MAY_CHANGE and not _same(name, old[name], value) and not _grows(name, old[name], value, config)
    ]
    if changed:
        raise TrainingError(
            f"--resume goes on with the run as it was begun, but {'; '.join(changed)}; "
            "leave these out, or start anew with another --out"
        )


def _grows(name: str, old: Any, new: Any, config: Config) -> bool:
    """Return whether a run is made longer; how long epochs are is not known here, and steps count before them."""
    if name == "epochs" and config.steps is not None:
        return False
    return name in MAY_GROW and new is not None and (old is None or new >= old)


def check_longer(position: Position, steps: int, out: str) -> None:
    """Raises TrainingError where the run of ``out`` was to have more than ``steps``."""
    before = max(position.planned, position.step)
    if position.planned and steps < before:
        raise TrainingError(
            f"--resume can make a run longer, and that of {out} has {before} steps already, more than {steps}; "
            "leave --steps and --epochs out, or give more"
        )


def _same(name: str, old: Any, new: Any) -> bool:
    kind = Config.__dataclass_fields__[name].metadata["kind"]
    if kind in ("path", "paths", "count or path") and old and new and not isinstance(new, int):
        olds, news = ([one] if isinstance(one, str) else one for one in (old, new))
        return [Path(one).resolve() for one in olds] == [Path(one).resolve() for one in news]
    return same(plain(old), plain(new))


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
