"""Sampled classes on faces: what a training at rates of 0.1 and 0.2 verifies, beside one with all classes' scores.

The faces and the embedding of ``python -m experiments finetune-table``: MobileFaceNet's features of LFW, an embedding
that softmax trained on the 1,500 people of BLUFR's first training list and that each loss finetunes, its 4,249 other
people to verify. All rows go through normface.parallel and RowSGD, with one seed's start and batches; each row's
learning rate is the best on the development split. A batch of 256 has more classes than a tenth of 1,500, so that a
rate of 0.1 then scores the batch's own alone; ``--batch 64`` leaves room for others.

    python benchmarks/sampled_faces.py --lfw DIR --net NET --weights W [--batch 64] [--json FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
from normface import parallel
from normface.errors import TrainingError
from normface.losses import FaceLoss
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments import embedding  # noqa: E402
from experiments.embedding import BEFORE, Task  # noqa: E402
from experiments.finetune_table import faces  # noqa: E402
from experiments.result import Options  # noqa: E402
from experiments.threads import one_thread  # noqa: E402

SHARES = (1.0, 0.1, 0.2)
LOSSES = ("normalised softmax, learned scale", "normalised softmax, scale 15", "AM-Softmax", "ArcFace")
SEEDS = range(5)


def optimisers(net: nn.Module, head: nn.Module, rate: float) -> embedding.Optimisers:
    """RowSGD of the class weights, SGD of all else."""
    assert isinstance(head, parallel.ClassParallel)
    rows = parallel.RowSGD(head, rate, momentum=embedding.MOMENTUM, weight_decay=embedding.DECAY)
    others = [(name, one) for name, one in head.named_parameters() if one is not head.weight]
    return [embedding.sgd_of([*net.named_parameters(), *others], rate), rows]


def verified(
    task: Task, seed: int, row: str, share: float, rate: float, batch: int, start: tuple[nn.Module, nn.Module]
) -> float:
    """Finetune softmax's ``start`` with a share of the classes; return the genuine pairs accepted, in percent."""
    torch.manual_seed(seed)
    net = copy.deepcopy(start[0])
    name, options = embedding.LOSSES[row]
    head = parallel.make(name, task.known.people, task.size, sample_rate=share, sample_seed=seed, **options)
    assert isinstance(head.loss, FaceLoss)
    embedding.start_from(head.loss, start[1], net, task.known)
    try:
        embedding.train(net, head, task.known, task.epochs, rate, seed, batch=batch, optimisers=optimisers)
        return embedding.verification_rate(net, task.unseen, task.far)
    except TrainingError:
        return 0.0


def chosen_rates(
    task: Task, rows: list[tuple[str, float]], batch: int, before: float
) -> dict[tuple[str, float], float]:
    """(loss, share of the classes) -> the learning rate that verifies most of the development split's strangers."""
    best = {}
    (seed,) = embedding.DEVELOPMENT_SEEDS
    part = task.development(seed)
    start = embedding.softmax_of(part, seed, before)
    for row in rows:
        tried = {rate: verified(part, seed, *row, rate, batch, start) for rate in embedding.RATES}
        best[row] = max(tried, key=lambda rate: tried[rate])
        print(*row, "learning rate", best[row], {rate: round(value, 1) for rate, value in tried.items()}, flush=True)
    return best


def scored(task: Task, share: float, batch: int) -> float:
    """The share of the classes that a step has scores of, in the mean over an epoch's batches."""
    people = task.known.people
    order = torch.randperm(len(task.known.labels), generator=torch.Generator().manual_seed(0))
    labels = [len(task.known.labels[rows].unique()) for rows in order.split(batch)]
    return float(np.mean([max(count, round(share * people)) for count in labels])) / people


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lfw", type=Path, required=True, metavar="DIR", help="with lfw-112x96.zip and BLUFR's lists")
    parser.add_argument("--net", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="keeps the features (default out)")
    parser.add_argument("--batch", type=int, default=embedding.BATCH, help="(default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    (given.out / "finetune-table").mkdir(parents=True, exist_ok=True)
    task = faces(Options(out=given.out, lfw=given.lfw, net=given.net, weights=given.weights))
    with one_thread():
        table = measure(task, given.batch)
    if given.json is not None:
        given.json.write_text(json.dumps(table, indent=1) + "\n")


def measure(task: Task, batch: int) -> list[dict[str, object]]:
    rows = [(row, share) for row in LOSSES for share in SHARES]
    (seed,) = embedding.DEVELOPMENT_SEEDS
    tried = embedding.by_rate(task.development(seed), seed, {}, (BEFORE,))[BEFORE]
    before = max(tried, key=lambda rate: tried[rate])
    rates = chosen_rates(task, rows, batch, before)
    starts = {seed: embedding.softmax_of(task, seed, before) for seed in SEEDS}
    print(
        f"{task.known.people} classes, batch {batch}; accepted at FAR {task.far:.1%}, mean and deviation of the seeds"
    )
    table: list[dict[str, object]] = []
    whole = np.zeros(0)
    for row, share in rows:
        values = np.array(
            [verified(task, s, row, share, rates[row, share], batch, start) for s, start in starts.items()]
        )
        whole = values if share == 1 else whole
        lower, deviation = whole.mean() - values.mean(), whole.std(ddof=1)
        figures = {
            "loss": row,
            "sample rate": share,
            "scored": scored(task, share, batch),
            "learning rate": rates[row, share],
            "verified": values.tolist(),
            "within": bool(abs(lower) <= deviation),
        }
        table.append(figures)
        words = "" if share == 1 else f"; {-lower:+.2f}, deviation of all classes {deviation:.2f}"
        print(
            f"{row}, {share:g} ({figures['scored']:.2f} scored): {values.mean():.2f} ({values.std(ddof=1):.2f}){words}"
        )
    holds = all(figures["within"] for figures in table)
    print(f"within one deviation of all classes' at 0.1 and 0.2: {'holds' if holds else 'missed'}")
    return table


if __name__ == "__main__":
    main()
