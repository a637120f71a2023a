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
from ..evaluate.blufr_draws import drawn_rates
from ..evaluate.folds import FoldResult, verify_in_folds
from ..evaluate.pair_lists import ListedPairs, people_of, read_pair_list, with_folds
from ..evaluate.protocols import protocol_named
from ..evaluate.resampled_people import drawn_figures, drawn_folds, interval
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
    drawn: what the intervals (``NAME_low`` and ``NAME_high``, 95 % of draws) are over, "people" or "folds".
    """

    name: str
    images: ImageSource
    source: Source
    judge: Judge
    figures: tuple[str, ...]
    drawn: str

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
        return {name: found[name] for name in self.figures if name in found}  # of few draws there is no interval


def opened(config: Config, backbone: Backbone, through: Callable[[ImageSource, bool], Source]) -> list[ValidationSet]:
    """Open the sets that the settings name. through: gives an image source behind the frozen part, where there is one.

    An unreadable image of a set ends the run: without it the figures would be of another set.
    """
    color = backbone.channels == 3
    sets: list[ValidationSet] = []
    of_folds = ("accuracy", "auc", "std", "tar", "eer", *limits("accuracy"), *limits("tar"))
    of_blufr = ("vr", "dir", *limits("vr"), *limits("dir"))

    def add(
        name: str, images: Reader, places: np.ndarray | None, judge: Judge, figures: tuple[str, ...], drawn: str
    ) -> None:
        taken = {one.name for one in sets}
        if figures == of_folds:
            size = len(images) if places is None else len(places)
            judge(np.random.default_rng(0).normal(size=(size, 4)))  # pairs that make no folds are told before the work
        free = next(one for one in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if one not in taken)
        source = ImageSource(images, backbone, "stop", places)
        sets.append(ValidationSet(free, source, through(source, True), judge, figures, drawn))

    for path in config.val_bin or ():
        held = read_bin(path)
        judge = partial(_of_bin, held.same, config.val_far, [config.seed, 19])
        add(Path(path).stem, _BinImages(held, color), None, judge, of_folds, "folds")
    if config.val_pairs is not None:
        pairs = with_folds(read_pair_list(config.val_pairs))
        images = open_reader(str(config.val_images), color=color)
        rows = pairs.rows_of(images.names)
        places, rows = np.unique(rows, return_inverse=True)
        rows = rows.reshape(-1)
        judge = partial(
            _of_pairs, rows.reshape(2, -1), people_of(pairs, rows, None), pairs, config.val_far, config.seed
        )
        add(Path(config.val_pairs).stem, images, places, judge, of_folds, "people")
    if config.val_blufr is not None:
        protocol = read_config(config.val_blufr)
        images = open_reader(str(config.val_images), color=color)
        places = np.unique(rows_of_blufr(protocol, images.names))
        names = [images.names[place] for place in places]
        add(
            "blufr",
            images,
            places,
            partial(_of_blufr, names, protocol, config.val_far, config.seed),
            of_blufr,
            "people",
        )
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


def _of_bin(same: np.ndarray, far: float, seed: list[int], features: np.ndarray) -> dict[str, float]:
    result = evaluate_bin(features, same, "insightface", fars=(far,))
    tars, accuracies = drawn_folds(result, far, seed=seed)
    return _figures(result, far) | _between("accuracy", accuracies) | _between("tar", tars)


def _of_pairs(
    rows: np.ndarray, people: np.ndarray, pairs: ListedPairs, far: float, seed: int, features: np.ndarray
) -> dict[str, float]:
    assert pairs.fold is not None
    left, right = rows
    result = verify_in_folds(features[left], features[right], pairs.same, pairs.fold, protocol_named("plain"), (far,))
    drawn = people[left], people[right]
    tars, accuracies = drawn_figures(result.scores, result.right, drawn, (far,), seed=[seed, 17])
    return _figures(result, far) | _between("accuracy", accuracies) | _between("tar", tars[far])


def limits(figure: str) -> tuple[str, str]:
    """The names of a figure's interval."""
    return f"{figure}_low", f"{figure}_high"


def _between(figure: str, draws: np.ndarray) -> dict[str, float]:
    """The interval of a figure's draws; nothing where these are too few."""
    return dict(zip(limits(figure), interval(draws) or (), strict=False))


def _figures(result: FoldResult, far: float) -> dict[str, float]:
    pooled = result.pooled
    return {
        "accuracy": result.accuracy,
        "auc": pooled.auc,
        "std": result.std,
        "tar": pooled.tar[far],
        "eer": pooled.eer,
    }


def _of_blufr(names: list[str], protocol: BlufrConfig, far: float, seed: int, features: np.ndarray) -> dict[str, float]:
    """vr: the verification rate at ``far``; dir: that of rank 1 at 1 %. Mean less deviation over the trials."""
    result = evaluate_blufr(features, names, protocol, fars=(far,), identification_fars=(IDENTIFICATION_FAR,))
    rates = {"vr": result.vr[far].reported / 100, "dir": result.dir[IDENTIFICATION_FAR].reported / 100}
    vr, dir_ = drawn_rates(features, names, protocol, far, IDENTIFICATION_FAR, seed=[seed, 23])
    return rates | _between("vr", vr) | _between("dir", dir_)
