"""``metrics`` on faces: a softmax embedding of some people, and pairs of others by distance, inner product and cosine.

What the toy's digits leave open, since ten classes have few strangers: the 4,249 people of BLUFR's first test list,
with all their impostor pairs, after training on 1,500 others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from normface.evaluate import roc
from normface.evaluate.top_scores import TopScores
from normface.progress import progress

from .embedding import BEFORE, Task, chosen_rates, softmax_of
from .finetune_table import faces
from .intervals import Interval, paired
from .result import Options
from .threads import one_thread
from .toy_geometry import SCORES

SEEDS = 5
FARS = (1e-2, 1e-3)
ROWS = 512
"""Rows of the score matrix in memory at once."""


def of_seeds(options: Options) -> list[dict[str, dict[str, float]]]:
    """For each seed, FAR (as text) -> score -> percent of the strangers' genuine pairs accepted."""
    task = faces(options)
    rate = chosen_rates(task, "faces", ())[BEFORE]
    made = []
    with one_thread(), progress("faces: seeds", SEEDS) as bar:
        for seed in range(options.seed, options.seed + SEEDS):
            made.append(measured(task, seed, rate))
            bar.advance()
    return made


@torch.no_grad()
def features_of(task: Task, net: torch.nn.Module) -> np.ndarray:
    return (net(task.unseen.front) + net(task.unseen.mirrored)).numpy()


def measured(task: Task, seed: int, rate: float) -> dict[str, dict[str, float]]:
    features = features_of(task, softmax_of(task, seed, rate)[0])
    labels = task.unseen.labels.numpy()
    by_score = {score: accepted(features, labels, score, FARS) for score in SCORES}
    return {f"{far:.1%}": {score: 100 * rates[far] for score, rates in by_score.items()} for far in FARS}


def accepted(features: np.ndarray, labels: np.ndarray, score: str, fars: Sequence[float]) -> dict[float, float]:
    """FAR -> share of the genuine pairs accepted by a score of SCORES, over all pairs of the images, each once."""
    features = features.astype(np.float64)
    counts = np.bincount(labels)
    impostors = len(labels) * (len(labels) - 1) // 2 - int(np.sum(counts * (counts - 1) // 2))
    top = TopScores(max(max(1, roc.impostors_accepted(far, impostors)) for far in fars))
    genuine = []
    for start in range(0, len(labels), ROWS):
        stop = min(start + ROWS, len(labels))
        scores = SCORES[score](features[start:stop], features[start:])
        upper = np.triu(np.ones(scores.shape, bool), 1)
        same = labels[start:stop, None] == labels[None, start:]
        genuine.append(scores[upper & same])
        top.add(scores[upper & ~same])
    of_same, highest = np.concatenate(genuine), top.largest()
    return {far: float(np.mean(of_same >= highest[max(1, roc.impostors_accepted(far, impostors)) - 1])) for far in fars}


def differences(of_seeds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Interval]]:
    """FAR -> each other score -> by how many points the cosine accepts more: mean and interval over the seeds."""
    others = [score for score in SCORES if score != "cosine"]
    gained = {}
    for far in of_seeds[0]:
        cosines = [dict.fromkeys(others, seed[far]["cosine"]) for seed in of_seeds]
        gained[far] = paired(cosines, [dict(seed[far]) for seed in of_seeds], others)
    return gained
