"""The folder of a run: new, an earlier run's to go on with, or one to replace."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .. import model_folder
from ..errors import TrainingError
from ..held import held_folder
from ..parallel.checkpoint import remove_all
from . import checkpoint, config_file, curves, export, hard_samples, loggers, thresholds
from .config import Config
from .records import CSV
from .resumed import check_same_run

CONFIG, METRICS, TENSORBOARD = config_file.NAME, "metrics.json", "tensorboard"
WRITTEN = (
    *(CONFIG, METRICS, CSV, checkpoint.CHECKPOINT, checkpoint.BEST, curves.FILE),
    *(export.DEPLOY, export.CAFFEMODEL, export.ONNX, export.SAFETENSORS, export.HEAD, thresholds.FILE),
    *(model_folder.NAME, loggers.FILE, hard_samples.CSV, hard_samples.SHEET),
)
"""All files that a run writes, beside TensorBoard's."""


def check_folder(config: Config, *, resume: bool, overwrite: bool) -> Path:
    """The folder ``out``, untouched. Raises TrainingError where it is in use, or cannot be written."""
    folder = Path(config.out)
    if resume and overwrite:
        raise TrainingError("--resume goes on with what --overwrite removes; give one of them")
    try:
        held = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise TrainingError(f"--out {folder}: {error.strerror or error}; expected a folder") from error
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise TrainingError(f"--out {folder}: {nearest} is no folder that can be written to")
    if resume and (folder / CONFIG).is_file():
        check_same_run(Config.from_settings(config_file.read(folder / CONFIG)), config)
    elif held and not (overwrite or resume):
        raise TrainingError(
            f"--out {folder}: holds {held[0]}"
            + (f" and {len(held) - 1} more" if len(held) > 1 else "")
            + "; choose another folder, --resume to go on with that run, or --overwrite to replace it"
        )
    return folder


def check_free(folder: Path) -> None:
    """Raise TrainingError where another run has the folder at this moment, before anything is made ready for it."""
    try:
        lock = held_folder(folder) if folder.is_dir() else contextlib.ExitStack()
    except OSError as error:
        raise _unwritable(folder, error) from error
    if lock is None:
        raise _in_use(folder)
    lock.close()


@contextlib.contextmanager
def open_folder(folder: Path, *, clear: bool) -> Iterator[None]:
    """Make the folder, which is this run's alone until the block ends, however it ends.

    What a killed run had half-written goes; with ``clear`` all its files, and nothing else. Raises TrainingError where
    another run has it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = held_folder(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    if lock is None:
        raise _in_use(folder)
    with lock:
        try:
            for name in WRITTEN:
                for part in folder.glob(f".{name}.*.part"):
                    part.unlink(missing_ok=True)
            if clear:
                for name in WRITTEN:
                    (folder / name).unlink(missing_ok=True)
                for name in checkpoint.FOLDERS.values():
                    remove_all(folder / name)
                shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield


def _unwritable(folder: Path, error: OSError) -> TrainingError:
    return TrainingError(f"--out {folder}: cannot be written: {error.strerror or error}")


def _in_use(folder: Path) -> TrainingError:
    return TrainingError(f"--out {folder}: another run is writing there; wait for it, or choose another folder")
