"""The records that a run writes as it goes: metrics.csv line by line, and what loggers take."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path

from ..errors import NormfaceWarning, TrainingError
from ..row_log import RowLog
from . import loggers
from .config import Config

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
    written between the last checkpoint and a kill, goes. columns: further ones, of the sets that are validated on.
    """

    def __init__(
        self, folder: Path | None, rows: list[dict[str, float]], config: Config, columns: Sequence[str] = ()
    ) -> None:
        self.rows = rows
        self._validation = {*VALIDATION, *columns}
        self._log: RowLog | None = None
        self._loggers: loggers.Loggers | None = None
        if folder is None:
            return
        self._log = RowLog(folder / CSV, (*COLUMNS, *columns), rows)
        names = loggers.parse(config.log) if config.log else ()
        purge_step = int(rows[-1]["step"]) + 1 if rows else 0
        if names:
            self._loggers = loggers.Loggers(names, folder, config.settings(), purge_step)
        self._quiet: loggers.Loggers | None = None
        if config.tensorboard and "tensorboard" not in names and importlib.util.find_spec("tensorboard") is not None:
            try:
                self._quiet = loggers.Loggers(("tensorboard",), folder, {}, purge_step)
            except TrainingError as error:  # an installation that does not work must not stop a training
                warnings.warn(f"TensorBoard's files are left out: {error}", NormfaceWarning, stacklevel=2)

    def write(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        if self._log is None:
            return
        self._log.write(row)
        groups = {True: "validation", False: "training"}
        metrics = {f"{groups[k in self._validation]}/{k}": v for k, v in row.items() if k not in ("step", "epoch")}
        for one in (self._loggers, self._quiet):
            if one is not None:
                one.log(metrics, int(row["step"]))

    def close(self) -> None:
        if self._log is None:
            return
        self._log.close()
        for one in (self._loggers, self._quiet):
            if one is not None:
                one.close()
