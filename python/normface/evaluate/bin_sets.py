"""InsightFace's .bin verification sets (lfw, cfp_fp, agedb_30, …): encoded images in pairs, and who is who.

Such a file is a pickle of (2P encoded images, P booleans); it is read without executing it (plain_pickle).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import DataError, ProtocolError
from .folds import FoldResult, contiguous_folds, verify_in_folds
from .plain_pickle import read_plain_pickle
from .protocols import FoldProtocol, protocol_named
from .roc import FARS

FOLDS = 10


@dataclass(frozen=True)
class BinSet:
    """images: 2P encoded files (JPEG as a rule), pair i at 2i and 2i + 1; same: (P,) bool. A sequence of images
    as normface.data has them: names, and read(i) for uint8 (H, W, 3) BGR."""

    path: Path
    images: list[bytes]
    same: np.ndarray
    labels: None = None

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def names(self) -> list[str]:
        sides = ("left", "right")
        return [f"{self.path.name} pair {i // 2 + 1} {sides[i % 2]}" for i in range(len(self))]

    def read(self, i: int) -> np.ndarray:
        from ..data import decode

        return decode(self.images[i], self.names[i])


def read_bin(path: str | Path) -> BinSet:
    """Read a set; raises DataError where it is anything but images and booleans. Runs nothing that it holds."""
    path = Path(path)
    value = read_plain_pickle(path)
    if not (isinstance(value, (tuple, list)) and len(value) == 2):
        raise DataError(f"{path}: holds a {type(value).__name__}; expected (images, who is who)")
    images, same = value
    if not isinstance(images, (list, tuple)) or not all(_is_encoded(image) for image in images):
        raise DataError(f"{path}: its first part is no list of encoded images")
    if not isinstance(same, (list, tuple, np.ndarray)) or not all(_is_truth(truth) for truth in same):
        raise DataError(f"{path}: its second part is no list of true and false")
    if len(images) != 2 * len(same) or not len(same):
        raise DataError(f"{path}: has {len(images)} images for {len(same)} pairs; expected two a pair")
    # A pickle may hold one array and refer to it a thousand times.
    encoded = {id(image): image if isinstance(image, bytes) else image.tobytes() for image in images}
    return BinSet(path, [encoded[id(image)] for image in images], np.array([bool(truth) for truth in same]))


def evaluate_bin(
    features: np.ndarray,
    same: np.ndarray,
    protocol: str | FoldProtocol = "insightface",
    *,
    pca: float | int | None = None,
    metric: str | None = None,
    fars: tuple[float, ...] = FARS,
    names: list[str] | None = None,
) -> FoldResult:
    """Features (2P, D) in the set's order, by a protocol of PROTOCOLS in ten equal runs of pairs."""
    chosen = protocol_named(protocol) if isinstance(protocol, str) else protocol
    features = np.asarray(features)
    if len(features) != 2 * len(same):
        raise ProtocolError(f"{len(features)} features for a set of {len(same)} pairs; expected two a pair")
    result = verify_in_folds(
        features[0::2],
        features[1::2],
        same,
        contiguous_folds(len(same), FOLDS),
        chosen.with_options(pca=pca, metric=metric),
        fars,
    )
    return result if names is None else replace(result, names=(names[0::2], names[1::2]))


def _is_encoded(image: object) -> bool:
    return isinstance(image, bytes) or (isinstance(image, np.ndarray) and image.dtype == np.uint8)


def _is_truth(truth: object) -> bool:
    return isinstance(truth, (bool, np.bool_)) or (isinstance(truth, int) and truth in (0, 1))
