"""Lightning Fabric: where a run computes, in which precision, and which of its processes speaks."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from ..errors import MissingDependencyError, TrainingError
from ..progress import progress
from .config import Config


def make_fabric(config: Config) -> Any:
    """A Fabric that is still to be launched. Raises MissingDependencyError where the library is not installed."""
    fabric_class = _fabric_class()
    import torch

    accelerator = config.device
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    many = config.devices * config.nodes > 1
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return fabric_class(
            accelerator=accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy="ddp" if many else "auto",
            precision="32-true" if config.precision == "32" else config.precision,
        )
    except (ValueError, RuntimeError) as error:
        raise TrainingError(f"this machine cannot run as asked: {' '.join(str(error).split())}") from error


class Silent:
    """A progress that shows nothing."""

    def advance(self, steps: int = 1, words: str = "") -> None:
        pass


def progress_of(fabric: Any, title: str, total: int, start: int = 0) -> contextlib.AbstractContextManager[Any]:
    """A progress bar in the leading process, silence in the others."""
    return progress(title, total, start) if fabric.is_global_zero else contextlib.nullcontext(Silent())


def _fabric_class() -> Any:
    """Import it from ``lightning_fabric``, or from the package ``lightning``, which holds the same."""
    try:
        from lightning_fabric import Fabric

        return Fabric
    except ImportError:
        try:
            from lightning.fabric import Fabric as SameFabric

            return SameFabric
        except ImportError as error:
            raise MissingDependencyError(
                f"lightning_fabric cannot be imported ({error}); install Lightning Fabric: pip install lightning-fabric"
            ) from error
