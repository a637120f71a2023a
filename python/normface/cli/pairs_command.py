"""normface evaluate pairs: a list of pairs of one's own, or all pairs of some people's images."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffeport.cli.parser import OneLineParser

from ..errors import NormfaceError, NormfaceWarning

if TYPE_CHECKING:
    import numpy as np

    from ..evaluate.pairs import PairsResult
    from ..features import Features

MOST_IMAGES = 3000
"""All pairs of so many are 4.5 million."""


def add(parser: OneLineParser) -> OneLineParser:
    parser.add_argument(
        "--pairs", type=Path, metavar="LIST", help="a list of pairs in any common form (default: all pairs of --images)"
    )
    parser.add_argument(
        "--most-images",
        type=int,
        default=MOST_IMAGES,
        metavar="N",
        help="of all pairs: at most about so many images, of whole people (default %(default)s)",
    )
    return parser


def measured(
    options: argparse.Namespace,
    protocol: Any,
    fars: tuple[float, ...],
    images: Any,
    features: Callable[[Any], Features],
) -> tuple[PairsResult, dict[str, Any]]:
    """The result, and the settings of the features.

    features: of the images whose rows a function of all names gives. images: those of --images, or None.
    """
    from ..evaluate.pair_lists import read_pair_list
    from ..evaluate.pairs import evaluate_all_pairs, evaluate_pairs

    if options.pairs is not None:
        pairs = read_pair_list(options.pairs)
        held = features(pairs.rows_of)
        labels = _labels(held, images)
        result = evaluate_pairs(held.features, held.names, pairs, protocol, labels=labels, fars=fars)
        return result, held.settings
    if protocol.centre or protocol.pca is not None:
        raise NormfaceError(f"--protocol {protocol.name} fits on folds, and all pairs have none; choose plain")
    if options.most_images < 4:
        raise NormfaceError(f"--most-images {options.most_images}: expected 4 or more")
    held = features(lambda names: _chosen(images.labels, options) if images is not None else range(len(names)))
    labels = _labels(held, images)
    if labels is None:
        raise NormfaceError(
            "all pairs need to know who is who: give --images with a folder for each person, features with labels, "
            "or a list as --pairs"
        )
    rows = _chosen(labels, options)
    result = evaluate_all_pairs(held.features[rows], labels[rows], metric=protocol.metric, fars=fars)
    return result, held.settings


def _chosen(labels: np.ndarray | None, options: argparse.Namespace) -> np.ndarray:
    """Rows of at most about --most-images images, of whole people."""
    from ..finetune.sampling import fewer

    if labels is None:
        raise NormfaceError(f"{options.images}: has no labels; all pairs need a folder for each person, or --pairs")
    rows = fewer(labels, options.most_images, 0)
    if len(rows) < len(labels):
        words = f"all pairs of {len(rows)} of {len(labels)} images, of whole people; --most-images takes more"
        warnings.warn(NormfaceWarning(words), stacklevel=2)
    return rows


def _labels(held: Features, images: Any) -> np.ndarray | None:
    """Return whose image each of the features' is: as they say, as the images' source does, or their names' folders."""
    import numpy as np

    if held.labels is not None:
        return held.labels
    if images is not None and images.labels is not None:
        known = dict(zip(images.names, images.labels.tolist(), strict=True))
        if all(name in known for name in held.names):
            return np.array([known[name] for name in held.names])
    folders = [name.replace("\\", "/").rpartition("/")[0] for name in held.names]
    if not all(folders) or len(set(folders)) < 2:
        return None
    return np.unique(folders, return_inverse=True)[1].reshape(-1)


def save_figures(folder: Path, result: PairsResult, title: str, read: Callable[[str], Any] | None) -> None:
    """roc.png, scores.png and, of a list whose images are there, wrong_pairs.png."""
    from ..evaluate.figures import save_fold_figures, save_histogram, save_roc
    from ..evaluate.roc import roc_curve

    if result.folds is not None:
        save_fold_figures(folder, result.folds, title, read)
        return
    far, tar, _ = roc_curve(result.scores, result.same)
    save_roc(folder / "roc.png", {f"AUC {result.verification.auc:.4f}": (far, tar)}, title)
    thresholds = {f"FAR {far:g}": threshold for far, threshold in result.thresholds.items()}
    save_histogram(folder / "scores.png", result.scores[result.same], result.scores[~result.same], thresholds, title)
