"""Where a run's figures go beside metrics.csv: TensorBoard, Weights & Biases, MLflow, each where it is asked for.

The latter two have Lightning Fabric's ``Logger`` as their interface; those that Lightning has itself need its trainer.
A run that is resumed goes on in the same run there, whose name is kept in the folder's ``loggers.json``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import NormfaceWarning, TrainingError, did_you_mean

INSTALL = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow-skinny"}
"""{name: the package to install}, which is imported by the name."""
FILE = "loggers.json"
PROJECT = "normface"
"""The project of Weights & Biases, and the experiment of MLflow, unless their own variables name another."""


def parse(text: str) -> tuple[str, ...]:
    """Read ``wandb,mlflow``. Raises TrainingError for a name that is unknown, and for what is not installed."""
    names = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
    if not names:
        raise TrainingError(f'"{text}" names nothing; there are {", ".join(INSTALL)}')
    for name in names:
        if name not in INSTALL:
            raise TrainingError(f'"{name}" is unknown{did_you_mean(name, INSTALL)}; there are {", ".join(INSTALL)}')
        if importlib.util.find_spec(name) is None:
            raise TrainingError(f"{name} is not installed: pip install {INSTALL[name]}")
    return names


class Loggers:
    """The loggers that ``names`` says, for the run in ``folder``. What fails while it logs is left out, and told once.

    settings: of the run, which are logged at its start. Raises TrainingError where one cannot start.
    """

    def __init__(self, names: tuple[str, ...], folder: Path, settings: Mapping[str, Any], purge_step: int) -> None:
        ids = _ids(folder, names)
        self._loggers: dict[str, Any] = {}
        for name in names:
            try:
                self._loggers[name] = _MAKERS[name](folder, ids[name], dict(settings), purge_step)
            except Exception as error:  # whatever the service, its network or its configuration meets
                raise TrainingError(f"--log {name}: {_words(error)}") from error

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, logger in list(self._loggers.items()):
            self._guarded(name, logger.log_metrics, dict(metrics), step)

    def close(self) -> None:
        for name, logger in list(self._loggers.items()):
            self._guarded(name, logger.finalize, "success")

    def _guarded(self, name: str, call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # a service that is gone must not end a training
            del self._loggers[name]
            warnings.warn(f"{name} is left out from here on: {_words(error)}", NormfaceWarning, stacklevel=4)


def _ids(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """{logger: the id of this run there}, kept in the folder."""
    from caffeport.files import replacing
    from caffeport.json_text import to_json

    try:
        kept = json.loads((folder / FILE).read_text("utf-8"))
        ids = {str(name): str(one) for name, one in kept.items()}
    except (OSError, ValueError, AttributeError):
        ids = {}
    new = {name: uuid.uuid4().hex[:16] for name in names if name != "tensorboard" and name not in ids}
    if new:
        ids |= new
        with replacing(folder / FILE) as stream:
            stream.write((to_json(ids, indent=None) + "\n").encode())
    return ids | {"tensorboard": ""}


def _tensorboard(folder: Path, run_id: str, settings: dict[str, Any], purge_step: int) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from torch.utils.tensorboard import SummaryWriter

    class TensorBoard:
        """TensorBoard's files in the folder; steps from ``purge_step`` on, of a part that was killed, go."""

        def __init__(self) -> None:
            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step)

        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)

        def finalize(self, status: str) -> None:
            self._writer.close()

    return TensorBoard()


def _wandb(folder: Path, run_id: str, settings: dict[str, Any], purge_step: int) -> Any:
    import wandb
    from lightning_fabric.loggers.logger import Logger

    class WeightsAndBiases(Logger):
        """One run of Weights & Biases; WANDB_PROJECT, WANDB_MODE and its other variables hold."""

        def __init__(self) -> None:
            project = os.environ.get("WANDB_PROJECT", PROJECT)
            self._run = wandb.init(project=project, name=folder.name, id=run_id, dir=str(folder), resume="allow")
            self.log_hyperparams(settings)

        @property
        def name(self) -> str:
            return "wandb"

        @property
        def version(self) -> str:
            return run_id

        def log_hyperparams(self, params: Any, *arguments: Any, **options: Any) -> None:
            self._run.config.update(params, allow_val_change=True)

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            self._run.log(metrics, step=step)

        def finalize(self, status: str) -> None:
            self._run.finish()

    return WeightsAndBiases()


def _mlflow(folder: Path, run_id: str, settings: dict[str, Any], purge_step: int) -> Any:
    import mlflow
    from lightning_fabric.loggers.logger import Logger

    class MLflow(Logger):
        """One run of MLflow, at MLFLOW_TRACKING_URI, in the experiment of MLFLOW_EXPERIMENT_NAME."""

        def __init__(self) -> None:
            self._client = mlflow.MlflowClient()
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = self._client.get_experiment_by_name(name)
            place = experiment.experiment_id if experiment is not None else self._client.create_experiment(name)
            known = self._client.search_runs([place], f"tags.normface_run = '{run_id}'", max_results=1)
            made = (
                known[0]
                if known
                else self._client.create_run(place, tags={"normface_run": run_id}, run_name=folder.name)
            )
            self._id = made.info.run_id
            if known:
                self._client.update_run(self._id, status="RUNNING")
            else:
                self.log_hyperparams(settings)

        @property
        def name(self) -> str:
            return "mlflow"

        @property
        def version(self) -> str:
            return self._id

        def log_hyperparams(self, params: Any, *arguments: Any, **options: Any) -> None:
            for name, value in params.items():
                self._client.log_param(self._id, name, str(value)[:500])

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            for name, value in metrics.items():
                self._client.log_metric(self._id, name, value, step=step)

        def finalize(self, status: str) -> None:
            self._client.set_terminated(self._id, status="FINISHED" if status == "success" else "FAILED")

    return MLflow()


_MAKERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
