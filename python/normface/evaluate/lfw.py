"""LFW's view 2: pairs.txt, and its ten folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import ProtocolError
from ..reading import printable
from . import roc
from .folds import FoldResult, verify_in_folds
from .names import Image, ImageRows
from .protocols import FoldProtocol, protocol_named
from .textfile import read_lines, whole_number


@dataclass(frozen=True)
class PairList:
    """P pairs: their images, whether each is one person's, and the fold (from 1) it belongs to."""

    left: list[Image]
    right: list[Image]
    same: np.ndarray
    fold: np.ndarray
    source: str = "the pairs"
    """The name that messages have for it."""


def read_pairs(path: str | Path) -> PairList:
    """Read pairs.txt: a line "folds n", then for each fold n lines "name i j" and n lines "name i name j".

    Raises ProtocolError that names file and line.
    """
    path = Path(path)
    lines = read_lines(path)
    number, fields = next(lines, (1, []))
    folds, each = (whole_number(field) or 0 for field in fields) if len(fields) == 2 else (0, 0)
    if not (folds and each):
        raise ProtocolError(
            f'{path}:{number}: expected "folds pairs" such as "10 300", got "{printable(" ".join(fields))}"; '
            "LFW's view 2 is pairs.txt"
        )
    left: list[Image] = []
    right: list[Image] = []
    same: list[bool] = []
    for number, fields in lines:
        numbers = [whole_number(field) for field in (fields[1::2] if len(fields) == 4 else fields[1:])]
        if len(fields) not in (3, 4) or None in numbers:
            raise ProtocolError(
                f'{path}:{number}: expected "name i j" or "name i name j", got "{printable(" ".join(fields))}"'
            )
        genuine = len(same) % (2 * each) < each
        if genuine != (len(fields) == 3):
            expected = "one person" if genuine else "two people"
            raise ProtocolError(f"{path}:{number}: expected a pair of {expected} here: each fold is {each} of either")
        left.append((fields[0], numbers[0] or 0))
        right.append((fields[0] if genuine else fields[2], numbers[1] or 0))
        same.append(genuine)
    if len(same) != folds * 2 * each:
        raise ProtocolError(f"{path}: has {len(same)} pairs; its first line says {folds} x 2 x {each}")
    return PairList(left, right, np.array(same), np.arange(len(same)) // (2 * each) + 1, str(path))


def rows_of(pairs: PairList, names: Sequence[str]) -> np.ndarray:
    """(2P,): the left and then the right images' places in ``names``; ProtocolError that lists missing ones."""
    return ImageRows(names).find([*pairs.left, *pairs.right], pairs.source)


def evaluate_lfw(
    features: np.ndarray,
    names: Sequence[str],
    pairs: str | Path | PairList,
    protocol: str | FoldProtocol = "plain",
    *,
    pca: float | int | None = None,
    metric: str | None = None,
    fars: Sequence[float] = roc.FARS,
) -> FoldResult:
    """Verify LFW's pairs by features (N, D) of images with these names.

    protocol: a name of PROTOCOLS; pca and metric replace its own.

    Raises ProtocolError where an image of the pairs has no features; others are not looked at.
    """
    chosen = protocol_named(protocol) if isinstance(protocol, str) else protocol
    listed = pairs if isinstance(pairs, PairList) else read_pairs(pairs)
    left, right = rows_of(listed, names).reshape(2, -1)
    features = np.asarray(features)
    result = verify_in_folds(
        features[left], features[right], listed.same, listed.fold, chosen.with_options(pca=pca, metric=metric), fars
    )
    return replace(result, names=([names[row] for row in left], [names[row] for row in right]))
