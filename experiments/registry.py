"""The experiments by name, in the slides' order, and how one is run."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from normface.errors import TrainingError, did_you_mean

from .result import Options, Result


@dataclass(frozen=True)
class Experiment:
    """module: below this package, imported when the experiment is run; it has ``run(options) -> Result``."""

    name: str
    title: str
    module: str

    def function(self) -> Callable[[Options], Result]:
        return importlib.import_module(f".{self.module}", __package__).run


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment("toy", "Softmax spreads features along rays; normalisation puts them on the sphere", "toy"),
        Experiment("metrics", "Strangers are told apart best by the cosine", "metrics"),
        Experiment("bias", "A bias term before softmax damages the geometry", "bias"),
        Experiment("bound", "Without a scale, the loss on cosines cannot fall below a bound", "bound"),
        Experiment("scale", "A small scale acts as a margin", "scale"),
        Experiment("positive-scale", "The label's score scaled down is a margin too", "positive_scale"),
        Experiment("gradient", "The gradient through a normalisation moves points along the sphere", "gradient"),
        Experiment("agents", "Metric losses with class agents need no sampling of pairs", "agents"),
        Experiment("margins", "Margins larger than the class span: the losses on the toy", "margins"),
        Experiment("finetune-table", "Finetuned by a normalised loss, a net tells strangers apart", "finetune_table"),
        Experiment("whole-net", "Normalised softmax betters a whole weak net on strangers", "whole_net"),
    )
}  # fmt: skip


def named(name: str) -> Experiment:
    """Raises TrainingError, with the names there are."""
    if name not in EXPERIMENTS:
        hint = did_you_mean(name, EXPERIMENTS)
        raise TrainingError(f"there is no experiment {name!r}{hint}; there are: {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def run(name: str, options: Options) -> Result:
    """Run an experiment and write ``options.out/NAME`` (see ``report``); the same numbers for the same seed.

    The caller's random numbers and matplotlib settings are as they were afterwards.
    """
    import numpy as np
    import torch

    from . import report, style

    experiment = named(name)
    folder = report.prepared_folder(options.out, name)
    started = time.monotonic()
    numpy_state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]), style.applied():
            torch.manual_seed(options.seed)
            np.random.seed(options.seed % 2**32)
            result = experiment.function()(options)
            report.write(folder, experiment, options, result, time.monotonic() - started)
    finally:
        np.random.set_state(numpy_state)
    return result
