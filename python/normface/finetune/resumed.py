"""Whether a run that is resumed is the one that was begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import TrainingError
from .config import Config
from .config_file import plain, same
from .position import Position
from .setting_values import flag

MAY_CHANGE = frozenset(
    {"out", "readers", "device", "on_bad_image", "log_every", "checkpoint_every", "validate_every", "patience"}
    | {"tensorboard", "figure", "normalize", "feature_cache", "test", "test_root", "log", "hard_samples"}
    | {"devices", "nodes", "class_parallel"}
)
"""Settings that leave the training's numbers as they are; a resumed run may have others."""
MAY_GROW = frozenset({"steps", "epochs"})
"""Settings that a resumed run may have more of."""


def check_same_run(before: Config, config: Config) -> None:
    """Raises TrainingError that lists the settings of config.toml that a resumed run may not change, but does."""
    old = before.settings()
    changed = [
        f"{flag(name)} was {old[name]}, now {value}"
        for name, value in config.settings().items()
        if name not in MAY_CHANGE and not _same(name, old[name], value) and not _grows(name, old[name], value, config)
    ]
    if config.steps is not None and old["steps"] is not None and config.epochs != old["epochs"]:
        raise TrainingError(
            f"--epochs {config.epochs:g}: the run to resume counts --steps, of which it has {old['steps']}; "
            "leave --epochs out, and give --steps to make it longer"
        )
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
