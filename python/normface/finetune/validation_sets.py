"""Validation by the field's own sets: InsightFace's .bin sets, a list of pairs, BLUFR; by each one's own protocol.

Features are those of a face and of its mirror image summed up, as ``normface evaluate`` has them unless told otherwise,
so that the exported model gives these very figures there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..data import Reader, open_reader
from ..data.headers import read_header
from ..errors import NotFiniteError
from ..evaluate.bin_sets import BinSet, evaluate_bin, read_bin
from ..evaluate.blufr import evaluate_blufr
from ..evaluate.blufr import rows_of as rows_of_blufr
from ..evaluate.blufr_config import BlufrConfig, read_config
from ..evaluate.folds import FoldResult, verify_in_folds
from ..evaluate.pair_lists import read_pair_list, with_folds
from ..evaluate.protocols import protocol_named
from .backbone import Backbone
from .config import Config
from .feeding import ImageSource, Source
from .validation import embed

Judge = Callable[[np.ndarray], dict[str, float]]
"""From features (N, D) of a set's images to its figures by name."""
IDENTIFICATION_FAR = 1e-2


@dataclass
class ValidationSet:
    """One set: its images, and what makes figures of their features.

    figures: the names of the figures; the first is the one that models are compared by, the second where they tie.
    """

    name: str
    images: ImageSource
    source: Source
    judge: Judge
    figures: tuple[str, ...]

    def run(self, trunk: nn.Module, batch_size: int, readers: int, device: torch.device) -> dict[str, float]:
        """Return the figures of the model as it is, in float32. Raises NotFiniteError where features are no numbers."""
        both = [
            embed(trunk, self.source, len(self.images), batch_size, readers, device, mirrored=mirrored)[0]
            for mirrored in (False, True)
        ]
        features = both[0] + both[1]
        if not torch.isfinite(features).all():
            raise NotFiniteError(f"the features of the images of {self.name} are no numbers (NaN or infinite)")
        found = self.judge(features.numpy())
        return {name: found[name] for name in self.figures}


def opened(config: Config, backbone: Backbone, through: Callable[[ImageSource, bool], Source]) -> list[ValidationSet]:
    """Open the sets that the settings name. through: gives an image source behind the frozen part, where there is one.

    An unreadable image of a set ends the run: without it the figures would be of another set.
    """
    color = backbone.channels == 3
    sets: list[ValidationSet] = []
    of_folds = ("accuracy", "auc", "std", "tar", "eer")

    def add(name: str, images: Reader, places: np.ndarray | None, judge: Judge, figures: tuple[str, ...]) -> None:
        taken = {one.name for one in sets}
        if figures == of_folds:
            size = len(images) if places is None else len(places)
            judge(np.random.default_rng(0).normal(size=(size, 4)))  # pairs that make no folds are told before the work
        free = next(one for one in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if one not in taken)
        source = ImageSource(images, backbone, "stop", places)
        sets.append(ValidationSet(free, source, through(source, True), judge, figures))

    for path in config.val_bin or ():
        held = read_bin(path)
        add(Path(path).stem, _BinImages(held, color), None, partial(_of_bin, held.same, config.val_far), of_folds)
    if config.val_pairs is not None:
        pairs = with_folds(read_pair_list(config.val_pairs))
        images = open_reader(str(config.val_images), color=color)
        rows = pairs.rows_of(images.names)
        places, rows = np.unique(rows, return_inverse=True)
        assert pairs.fold is not None
        judge = partial(_of_pairs, rows.reshape(2, -1), pairs.same, pairs.fold, config.val_far)
        add(Path(config.val_pairs).stem, images, places, judge, of_folds)
    if config.val_blufr is not None:
        protocol = read_config(config.val_blufr)
        images = open_reader(str(config.val_images), color=color)
        places = np.unique(rows_of_blufr(protocol, images.names))
        names = [images.names[place] for place in places]
        add("blufr", images, places, partial(_of_blufr, names, protocol, config.val_far), ("vr", "dir"))
    return sets


class _BinImages(Reader):
    """The images of a .bin set."""

    def __init__(self, held: BinSet, color: bool) -> None:
        super().__init__(held.path, held.names, color)
        self._encoded = held.images
        for index, raw in enumerate(held.images):
            if read_header(raw) is None:
                self.read(index)  # which tells what it is

    def title(self, index: int) -> str:
        return self.names[index]

    def raw(self, index: int) -> bytes:
        return self._encoded[index]


def _of_bin(same: np.ndarray, far: float, features: np.ndarray) -> dict[str, float]:
    return _figures(evaluate_bin(features, same, "insightface", fars=(far,)), far)


def _of_pairs(
    rows: np.ndarray, same: np.ndarray, fold: np.ndarray, far: float, features: np.ndarray
) -> dict[str, float]:
    left, right = features[rows[0]], features[rows[1]]
    return _figures(verify_in_folds(left, right, same, fold, protocol_named("plain"), (far,)), far)


def _figures(result: FoldResult, far: float) -> dict[str, float]:
    pooled = result.pooled
    return {
        "accuracy": result.accuracy,
        "auc": pooled.auc,
        "std": result.std,
        "tar": pooled.tar[far],
        "eer": pooled.eer,
    }


def _of_blufr(names: list[str], protocol: BlufrConfig, far: float, features: np.ndarray) -> dict[str, float]:
    """vr: the verification rate at ``far``; dir: that of rank 1 at 1 %. Mean less deviation over the trials."""
    result = evaluate_blufr(features, names, protocol, fars=(far,), identification_fars=(IDENTIFICATION_FAR,))
    return {"vr": result.vr[far].reported / 100, "dir": result.dir[IDENTIFICATION_FAR].reported / 100}
