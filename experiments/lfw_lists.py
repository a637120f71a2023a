"""BLUFR's first trial on LFW, as a frozen net sees it: what it makes of every face and of its mirror image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from normface.data import open_reader
from normface.errors import TrainingError
from normface.evaluate.blufr_config import read_config
from normface.evaluate.names import ImageRows, image_of
from normface.features import Extractor, Features, load_features
from normface.features.job import extract_to

from .embedding import Shown
from .result import Options

IMAGES, PROTOCOL = "lfw-112x96.zip", "blufr_lfw_config.mat"


def first_trial(options: Options, folder: Path) -> tuple[Shown, Shown]:
    """(training list, test list): 1,500 people and 4,249 others. ``folder`` keeps the features for the next run.

    Features have the length sqrt(D). Raises TrainingError where an option is missing.
    """
    missing = [name for name in ("lfw", "net", "weights") if getattr(options, name) is None]
    if missing or options.lfw is None:
        raise TrainingError(f"faces need --{', --'.join(missing)} too")
    config = read_config(options.lfw / PROTOCOL)
    front, mirrored = (_features(options, folder, side) for side in (False, True))
    rows = ImageRows(front.names).find([image_of(image) for image in config.images], "BLUFR")
    trial = config.trials[0]

    def part(indices: np.ndarray) -> Shown:
        sides = [F.normalize(torch.from_numpy(side.features[rows[indices]])) for side in (front, mirrored)]
        _, labels = np.unique(config.labels[indices], return_inverse=True)
        return Shown(*(side * math.sqrt(side.shape[1]) for side in sides), torch.from_numpy(labels))

    return part(trial.train), part(trial.test)


def _features(options: Options, folder: Path, mirrored: bool) -> Features:
    assert options.lfw is not None and options.net is not None
    extractor = Extractor(options.net, options.weights, preset=options.preset)
    images: Any = open_reader(options.lfw / IMAGES)
    path = folder / f"{options.net.stem}_{'mirrored' if mirrored else 'front'}.npz"
    if path.exists():
        stored = load_features(path)
        settings = {name: stored.settings.get(name) for name in extractor.settings}  # a file tells more than these
        if settings == extractor.settings and stored.names == list(images.names):
            return stored
    return extract_to(path, extractor, Mirrored(images) if mirrored else images).features


class Mirrored:
    """The images of a source, left and right exchanged."""

    def __init__(self, images: Any) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images, name)

    def read(self, index: int) -> np.ndarray:
        return self._images.read(index)[:, ::-1]
