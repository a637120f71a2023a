"""The records that a run writes as it goes: metrics.csv line by line, and TensorBoard's files."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

from ..errors import NormfaceWarning
from ..row_log import RowLog

CSV = "metrics.csv"
INTERVAL = ("tar_low", "tar_high")
COLUMNS = ("step", "epoch", "loss", "lr", "scale", "tar", "accuracy", "auc", "eer", "training_loss", *INTERVAL)
"""A cell is empty where nothing was measured at that step. loss: the mean over the steps since the last line;
training_loss: of the model of this step, on the same training images each time; INTERVAL: that of tar, over people
drawn anew."""
VALIDATION = ("tar", "accuracy", "auc", "eer", *INTERVAL)


class Records:
    """Without a folder nothing is written, only kept.

    rows: what an earlier part of the run has recorded, to which ``write`` adds; what stands behind it in the file,
    written between the last checkpoint and a kill, goes.
    """

    def __init__(self, folder: Path | None, rows: list[dict[str, float]], tensorboard: bool) -> None:
        self.rows = rows
        self._log: RowLog | None = None
        self._writer: Any = None
        if folder is None:
            return
        self._log = RowLog(folder / CSV, COLUMNS, rows)
        if tensorboard:
            self._writer = _tensorboard(folder, int(rows[-1]["step"]) + 1 if rows else 0)

    def write(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        if self._log is not None:
            self._log.write(row)
        if self._writer is not None:
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    group = "validation" if name in VALIDATION else "training"
                    self._writer.add_scalar(f"{group}/{name}", value, int(row["step"]))

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
        if self._writer is not None:
            self._writer.close()


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
