"""Who trains and who measures in ``whole-net``: two parts of LFW's people, so that nobody is on both sides of one.

LFW_FOLDS: the people of three of the ten folds of view 2 measure, all others train. BLUFR_TRIAL: BLUFR's first trial as
it stands, 1,500 people train and 4,249 measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from normface.data import open_reader
from normface.evaluate.blufr_config import BlufrConfig, Trial, read_config
from normface.evaluate.lfw import PairList, read_pairs
from normface.evaluate.names import ImageRows, image_of
from torch import Tensor

from .lfw_lists import IMAGES, PROTOCOL

PAIRS = "pairs.txt"
LFW_FOLDS, BLUFR_TRIAL = "LFW, three folds", "BLUFR, first trial"
FOLDS = (1, 2, 3)
DEVELOPMENT_SEED, DEVELOPMENT_SHARE = 1000, 1 / 3


@dataclass(frozen=True)
class Faces:
    """images uint8 (N, 3, H, W), labels (N,) from 0."""

    images: Tensor
    labels: Tensor

    @property
    def people(self) -> int:
        return int(self.labels.max()) + 1

    def to(self, device: str) -> Faces:
        return Faces(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Strangers:
    """The people that measure. trial: gallery and probes, rows of ``faces``; pairs: LFW's whose people are these."""

    faces: Faces
    names: list[str]
    trial: Trial
    pairs: PairList


@dataclass(frozen=True)
class Lists:
    """LFW with its protocols. names, labels: of all images; pixels uint8 (N, 3, H, W), in the order of BLUFR's list."""

    config: BlufrConfig
    pairs: PairList
    names: list[str]
    pixels: np.ndarray

    def part(self, name: str) -> tuple[Faces, Strangers]:
        """(those who train, those who measure)"""
        own = self.config.trials[0] if name == BLUFR_TRIAL else self._folds()
        place = np.full(len(self.names), -1)
        place[own.test] = np.arange(len(own.test))
        trial = replace(
            own, train=np.empty(0, np.int64), test=place[own.test], gallery=place[own.gallery],
            probes=place[own.probes],
        )  # fmt: skip
        names = [self.names[row] for row in own.test]
        pairs = balanced(self.pairs, {image_of(name)[0] for name in names})
        return self._faces(own.train), Strangers(self._faces(own.test), names, trial, pairs)

    def _faces(self, rows: np.ndarray) -> Faces:
        _, labels = np.unique(self.config.labels[rows], return_inverse=True)
        return Faces(torch.from_numpy(self.pixels[rows]), torch.from_numpy(labels.reshape(-1)))

    def _folds(self) -> Trial:
        """The people of FOLDS against all others; identification as BLUFR has it, with all people that can be found.

        The gallery has the first image of everyone who has two or more, the probes are all other images.
        """
        chosen = np.isin(self.pairs.fold, FOLDS)
        sides = [np.array([name for name, _ in side])[chosen] for side in (self.pairs.left, self.pairs.right)]
        people = np.array([image_of(name)[0] for name in self.names])
        measures = np.isin(people, np.concatenate(sides))
        test = np.flatnonzero(measures)
        _, first, images = np.unique(people[test], return_index=True, return_counts=True)
        gallery = test[first[images > 1]]
        return Trial(np.flatnonzero(~measures), test, gallery, np.setdiff1d(test, gallery))


def read_lists(folder: Path, height: int, width: int) -> Lists:
    """Raises DataError or ProtocolError for what is missing or does not fit."""
    import cv2

    config, pairs = read_config(folder / PROTOCOL), read_pairs(folder / PAIRS)
    reader: Any = open_reader(folder / IMAGES)
    rows = ImageRows(reader.names).find([image_of(image) for image in config.images], "BLUFR")
    pixels = np.empty((len(rows), 3, height, width), np.uint8)
    for place, row in enumerate(rows.tolist()):
        image = reader.read(row)
        if image.shape[:2] != (height, width):  # by the mean over the pixels that become one
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        pixels[place] = image.transpose(2, 0, 1)
    return Lists(config, pairs, [reader.names[row] for row in rows], pixels)


def balanced(pairs: PairList, people: set[str]) -> PairList:
    """Those of LFW's pairs whose people are all among ``people``: of each fold the first, as many of either kind."""
    inside = np.array([a[0] in people and b[0] in people for a, b in zip(pairs.left, pairs.right, strict=True)])
    rows: list[int] = []
    for fold in np.unique(pairs.fold):
        kinds = [np.flatnonzero(inside & (pairs.fold == fold) & (pairs.same == kind)) for kind in (True, False)]
        count = min(map(len, kinds))
        rows += [*kinds[0][:count].tolist(), *kinds[1][:count].tolist()]
    left, right = ([side[row] for row in rows] for side in (pairs.left, pairs.right))
    return PairList(left, right, pairs.same[rows], pairs.fold[rows], pairs.source)


def split(known: Faces) -> tuple[Faces, Faces]:
    """(those who train, those who choose the rates): no person is in both; the same split for every seed."""
    order = torch.randperm(known.people, generator=torch.Generator().manual_seed(DEVELOPMENT_SEED))
    held_out = round(DEVELOPMENT_SHARE * len(order))
    return only(known, order[held_out:].sort().values), only(known, order[:held_out].sort().values)


def only(faces: Faces, people: Tensor | Sequence[int]) -> Faces:
    """The images of some people, numbered from 0 in their order."""
    people = torch.as_tensor(people)
    numbers = torch.full((faces.people,), -1)
    numbers[people] = torch.arange(len(people))
    labels = numbers[faces.labels]
    return Faces(faces.images[labels >= 0], labels[labels >= 0])
