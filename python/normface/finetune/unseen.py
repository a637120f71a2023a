"""The test on people that neither trained the model nor chose it: once, at the end, on the files that were exported."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import caffeport
import numpy as np
import torch

from ..data import open_reader
from ..errors import DataError
from ..evaluate.resampled_people import interval
from .backbone import Backbone
from .config import Config
from .export import CAFFEMODEL, DEPLOY
from .feeding import ImageSource
from .figures import Measured
from .notes import counted
from .sampling import fewer
from .validation import Validation


@dataclass(frozen=True)
class Tested:
    """``before``: the net as it was given; ``exported``: the model in the files. Both on the same people, afterwards.

    gain: the exported model's true accepts less those before; gain_low, gain_high: 95 % of draws of people, the same
    for both models, lie between them. held: what is compared, as Result.held_out.
    """

    data: str
    held: dict[str, int]
    before: Measured
    exported: Measured
    gain: float
    gain_low: float | None
    gain_high: float | None


class Unseen:
    """The images of ``--test``, opened before the training, so that what is wrong with them is told then."""

    def __init__(self, config: Config, source: ImageSource, labels: np.ndarray) -> None:
        self.source, self._config = source, config
        self._validation = Validation(
            source, labels, config.val_far, config.batch_size, config.readers, seed=config.seed, name="--test",
            without="leave it out to train without",
        )  # fmt: skip

    @classmethod
    def opened(cls, config: Config, backbone: Backbone) -> Unseen:
        assert config.test is not None
        images = open_reader(config.test, root=config.test_root, color=backbone.channels == 3)
        if images.labels is None:
            raise DataError(f"{images.path}: has no labels; --test compares people, so it needs them")
        places = fewer(images.labels, config.most_val_images, config.seed)
        labels = np.unique(images.labels[places], return_inverse=True)[1].reshape(-1)
        return cls(config, ImageSource(images, backbone, config.on_bad_image, places), labels)

    def run(self, backbone: Backbone, folder: Path, step: int, device: torch.device) -> Tested:
        """Measure the net as it was given, and the files of ``folder``, of the model after ``step`` steps."""
        whole = backbone.whole
        exported = caffeport.load(folder / DEPLOY, folder / CAFFEMODEL, custom_layers=whole.options.custom_layers)
        measurements, draws = [], []
        for net, of_step in ((whole, 0), (exported, step)):
            score, drawn = self._validation.run_with_draws(net.to_torch().to(device), device)
            measurements.append(Measured(of_step, None, **asdict(score)))
            draws.append(drawn)
        before, after = measurements
        assert before.tar is not None and after.tar is not None
        between: tuple[Any, Any] = interval(draws[1] - draws[0]) or (None, None)
        held = counted(self._validation)
        return Tested(str(self._config.test), held, before, after, after.tar - before.tar, *between)
