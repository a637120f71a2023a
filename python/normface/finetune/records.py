"""What a run writes down as it goes: metrics.csv line by line, and TensorBoard's files."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caffeport.files import replacing

from ..errors import NormfaceWarning, TrainingError

CSV = "metrics.csv"
COLUMNS = ("step", "epoch", "loss", "lr", "scale", "tar", "accuracy", "auc", "eer", "training_loss")
"""A cell is empty where nothing was measured at that step. loss: the mean over the steps since the last line;
training_loss: of the model of this step, on the same training pictures each time."""
VALIDATION = ("tar", "accuracy", "auc", "eer")


class Records:
    """Without a folder nothing is written, only kept.

    rows: what an earlier part of the run has recorded, to which ``write`` adds; what stands behind it in the file,
    written between the last checkpoint and a kill, goes.
    """

    def __init__(self, folder: Path | None, rows: list[dict[str, float]], tensorboard: bool) -> None:
        self.rows = rows
        self._path = folder / CSV if folder is not None else None
        self._writer: Any = None
        if folder is None or self._path is None:
            return
        with replacing(self._path) as stream:
            stream.write((",".join(COLUMNS) + "\n" + "".join(map(_line, rows))).encode())
        if tensorboard:
            self._writer = _tensorboard(folder, int(rows[-1]["step"]) + 1 if rows else 0)

    def write(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        if self._path is None:
            return
        try:
            with open(self._path, "a") as stream:
                stream.write(_line(row))
                stream.flush()
        except OSError as error:
            raise TrainingError(f"{self._path}: cannot be written: {error.strerror or error}") from error
        if self._writer is not None:
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    group = "validation" if name in VALIDATION else "training"
                    self._writer.add_scalar(f"{group}/{name}", value, int(row["step"]))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _line(row: Mapping[str, float]) -> str:
    text = io.StringIO()
    # repr of a float gives it back exactly, so that two runs can be compared by their files.
    csv.writer(text, lineterminator="\n").writerow([repr(row[name]) if name in row else "" for name in COLUMNS])
    return text.getvalue()


def _tensorboard(folder: Path, purge_step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step)
    except Exception as error:  # an installation that does not work must not stop a training
        warnings.warn(f"TensorBoard's files are left out: {error}", NormfaceWarning, stacklevel=2)
        return None
