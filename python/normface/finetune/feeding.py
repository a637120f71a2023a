"""The feed of a net: images, read in threads ahead of their use."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..data import Reader
from ..errors import DataError, NormfaceWarning
from ..prefetch import prefetch
from .augmentation import Augmentation
from .backbone import Backbone
from .sampling import Chosen


class Source(Protocol):
    """Inputs of the trained part."""

    def load(self, chosen: Chosen) -> tuple[Tensor, np.ndarray]:
        """Inputs (n, ...) of the chosen images, and which of them could be read, (B,) bool of which n are true."""
        ...


class ImageSource:
    """Reads ``places`` of ``images`` (all by default) and prepares them as the net wants them.

    augmentation: of images that are chosen with a draw.
    """

    def __init__(
        self, images: Reader, backbone: Backbone, on_bad_image: str, places: np.ndarray | None = None,
        *, augmentation: Augmentation | None = None,
    ) -> None:  # fmt: skip
        self.images, self._backbone, self._stops = images, backbone, on_bad_image == "stop"
        self._augmentation = augmentation
        self.places = np.arange(len(images)) if places is None else places
        self.bad: dict[int, str] = {}
        """{number of the image: why it was left out}"""

    def __len__(self) -> int:
        return len(self.places)

    def load(self, chosen: Chosen) -> tuple[Tensor, np.ndarray]:
        read: list[np.ndarray] = []
        readable = np.zeros(len(chosen), bool)
        for number, place in enumerate(chosen.places):
            index = int(self.places[place])
            try:
                if index in self.bad:
                    continue
                image = self.prepared(index)
            except DataError as error:
                if self._stops:
                    raise DataError(f"{error}; --on-bad-image skip leaves such images out") from error
                self.bad[index] = str(error)
                self.check_any_is_left()
                continue
            readable[number] = True
            if self._augmentation is not None and chosen.draws is not None:
                image = self._augmentation(image, int(chosen.draws[number]))
            read.append(image[:, ::-1] if chosen.mirrored[number] else image)
        if not read:
            return torch.empty(0), readable
        return torch.from_numpy(self._backbone.preprocessing.batch(read)), readable

    def check_any_is_left(self) -> None:
        """Raises DataError where all images are among ``bad``."""
        if len(self.bad) == len(self.places):
            last = next(reversed(self.bad.values()))
            raise DataError(f"{self.images.path}: not one image could be read; {last}")

    def prepared(self, index: int) -> np.ndarray:
        """Return the image as the net wants it, uint8 (H, W, C). Raises DataError that names it."""
        image = self.images.read(index)
        name = self.images.title(index)
        image = self._backbone.preprocessing.fitted(image, self._backbone.size, name)
        if image.shape[2] != self._backbone.channels:
            raise DataError(f"{name}: has {image.shape[2]} channels, and the net takes {self._backbone.channels}")
        return image


def in_order(
    images: int, batch_size: int, mirrored: bool = False, *, places: np.ndarray | None = None
) -> Iterator[Chosen]:
    """Every image once, or each of ``places``, of which there are ``images``."""
    for start in range(0, images, batch_size):
        numbers = np.arange(start, min(start + batch_size, images))
        yield Chosen(numbers if places is None else places[numbers], np.full(len(numbers), mirrored))


def ahead(
    source: Source, batches: Iterable[Chosen], readers: int
) -> Generator[tuple[Chosen, Tensor, np.ndarray], None, None]:
    """(chosen, inputs, kept) of every batch, in order; the next ones are read meanwhile, by ``readers`` threads.

    An image that was left out is told once, with its path.
    """
    reported = set(getattr(source, "bad", ()))

    def load(chosen: Chosen) -> tuple[Chosen, Tensor, np.ndarray]:
        return chosen, *source.load(chosen)

    with closing(prefetch(load, batches, threads=readers, ahead=2 * readers)) as loaded:
        for batch in loaded:
            for index, reason in list(getattr(source, "bad", {}).items()):
                if index not in reported:
                    reported.add(index)
                    warnings.warn(f"left out: {reason}", NormfaceWarning, stacklevel=2)
            yield batch
