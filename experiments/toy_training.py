"""Trains the toy's nets by normface.Solver, several at a time, and keeps what came out for the next experiment.

A training has a folder of its own, OUT/toy_runs/NAME: the nets' and the solver's text, the weights that it started
from and ended with, and features.npz. Caffe trains the same files.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import caffeport
import numpy as np
import torch
from caffeport.cores import usable_cores
from caffeport.files import replacing
from normface.errors import DataError
from normface.npz import read_arrays
from normface.progress import Progress, progress
from normface.reading import opened, parsing
from normface.solver import Solver

from . import toy_nets
from .mnist import SIDE, Digits, read_digits
from .result import Options
from .toy_heads import HEADS, Head
from .toy_nets import Plan, Recipe

RUNS = "toy_runs"
FEATURES = "features.npz"
UNSEEN_EACH = 200
"""Training images of each digit that a net was not trained on, which it is asked about beside the test images."""
START_LENGTH = 3.0
"""Of class weights whose direction alone counts: the longer, the slower they turn. At s = 30 short ones reel."""
FORWARD = 250
"""Images in a pass for features."""


@dataclass(frozen=True)
class Trained:
    """features (N, size), labels (N,) int64: of the test images, and more of digits that were not trained on.

    weights (C, size), as the scores take them; bias (C,), zeros where there is none; column c is digits[c].
    losses (iterations,); scales: the learned or fixed scale at each iteration, empty where there is none.
    """

    recipe: Recipe
    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    losses: np.ndarray
    scales: np.ndarray

    @property
    def digits(self) -> tuple[int, ...]:
        return self.recipe.digits

    @property
    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """(features, labels) of the digits that it was trained on."""
        known = np.isin(self.labels, self.digits)
        return self.features[known], self.labels[known]

    @property
    def unseen(self) -> tuple[np.ndarray, np.ndarray]:
        known = np.isin(self.labels, self.digits)
        return self.features[~known], self.labels[~known]

    @property
    def right(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of ``seen`` that are put into their class."""
        features, labels = self.seen
        correct = self._classified(features) == labels
        return features[correct], labels[correct]

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(N, C): what the class is chosen by; no scale, no margin."""
        return features @ self.weights.T + self.bias

    @property
    def accuracy(self) -> float:
        """Of the test images of its digits."""
        features, labels = self.seen
        return float(np.mean(self._classified(features) == labels))

    def _classified(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self.digits)[self.scores(features).argmax(1)]


def train_all(
    recipes: Sequence[Recipe], options: Options, plan: Plan, digits: tuple[Digits, Digits] | None = None
) -> list[Trained]:
    """Every recipe's training, in order; those that ``options.out`` holds already are read.

    digits: (train, test), by default those that the options name. Each training runs on one core and is the same on
    any number of them.
    """
    digits = read_digits(options.mnist) if digits is None else digits
    folder = Path(options.out) / RUNS
    folder.mkdir(parents=True, exist_ok=True)
    content = _digest(*(array for part in digits for array in (part.images, part.labels)))
    starts = [start for recipe in recipes if (start := recipe.start()) is not None]
    rounds = [list(dict.fromkeys(starts)), list(dict.fromkeys(recipes))]
    trainings = {recipe: Training(recipe, plan, content, folder, digits) for wanted in rounds for recipe in wanted}
    missing = [training for training in trainings.values() if training.read() is None]
    if missing:
        total = sum(plan.of(training.recipe) for training in missing)
        threads = torch.get_num_threads()
        with progress("training", total) as bar:
            try:
                for wanted in rounds:
                    _train([trainings[recipe] for recipe in wanted if trainings[recipe] in missing], trainings, bar)
                    missing = [training for training in missing if training.recipe not in wanted]
            finally:
                torch.set_num_threads(threads)
    return [trainings[recipe].result() for recipe in recipes]


def _train(wanted: Sequence[Training], trainings: dict[Recipe, Training], bar: Progress) -> None:
    lock, stop = threading.Lock(), threading.Event()

    def run(training: Training) -> None:
        torch.set_num_threads(1)
        start = training.recipe.start()
        with contextlib.closing(training.run(None if start is None else trainings[start])) as iterations:
            for _ in iterations:
                if stop.is_set():
                    return
                with lock:
                    bar.advance()

    with ThreadPoolExecutor(max(1, min(len(wanted), usable_cores()))) as pool:
        futures = [pool.submit(run, training) for training in wanted]
        try:
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


class Training:
    """One recipe on these digits."""

    def __init__(self, recipe: Recipe, plan: Plan, content: str, folder: Path, digits: tuple[Digits, Digits]) -> None:
        self.recipe, self.plan, self.digits = recipe, plan, digits
        self.net, self.solver = toy_nets.net_text(recipe, plan), toy_nets.solver_text(recipe, plan)
        start = recipe.start()
        before = "" if start is None else toy_nets.net_text(start, plan) + toy_nets.solver_text(start, plan)
        digest = _digest(self.net, self.solver, before, repr((recipe, plan.side, START_LENGTH)), content)
        self.folder = folder / f"{recipe.head}-{recipe.size}d-{digest[:12]}"

    def read(self) -> Trained | None:
        """None where it is not there, or is broken; it is made anew then."""
        try:
            with opened(self.folder / FEATURES) as (stream, size), parsing(self.folder / FEATURES, "is no features"):
                stored = read_arrays(stream, size)
                return Trained(self.recipe, **{name: stored[name] for name in _stored_names()})
        except DataError:
            return None

    def result(self) -> Trained:
        trained = self.read()
        if trained is None:
            raise DataError(f"{self.folder / FEATURES}: was written and cannot be read; is the disk full?")
        return trained

    def run(self, start: Training | None) -> Generator[None, None, None]:
        """Train, one iteration for each value that is asked for, and write the folder."""
        train, _ = self.digits
        shown = train.only(self.recipe.digits)
        images, labels = network_input(shown, self.plan.side), np.searchsorted(self.recipe.digits, shown.labels)
        if len(shown) < self.plan.batch:
            raise DataError(f"expected {self.plan.batch} images or more of the digits {self.recipe.digits}")
        # Made beside its place: two commands may train the same.
        with tempfile.TemporaryDirectory(prefix=".", dir=self.folder.parent) as scratch:
            made = Path(scratch) / "run"
            made.mkdir()
            (made / "train_test.prototxt").write_text(self.net)
            (made / "solver.prototxt").write_text(self.solver)
            (made / "deploy.prototxt").write_text(toy_nets.deploy_text(self.recipe.size))
            solver = Solver(made / "solver.prototxt")
            if start is not None:
                _write_start(solver, start, HEADS[self.recipe.head], made / "start.caffemodel")
                solver = Solver(made / "solver.prototxt", weights=made / "start.caffemodel")
            scale = dict(solver.model.named_parameters()).get("cosine_scale.weight")
            losses, scales = [], []
            for batch in _batches(len(shown), self.plan, self.plan.of(self.recipe), self.recipe.seed):
                solver.step({"data": images[batch], "label": labels[batch]})
                losses.append(solver.loss)
                scales += [] if scale is None else [scale.item()]
                yield
            solver.net().save(made / "trained.caffemodel")
            self._write_features(made, losses, scales)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            made.rename(self.folder)

    def _write_features(self, made: Path, losses: list[float], scales: list[float]) -> None:
        train, test = self.digits
        unseen = train.only(set(range(10)) - set(self.recipe.digits)).first(UNSEEN_EACH)
        asked = Digits(np.concatenate([test.images, unseen.images]), np.concatenate([test.labels, unseen.labels]))
        weights, bias = class_weights(made / "train_test.prototxt", made / "trained.caffemodel", self.recipe)
        features = features_of(made, network_input(asked, self.plan.side))
        with replacing(made / FEATURES) as stream:
            np.savez(
                stream, features=features, labels=asked.labels, weights=weights, bias=bias,
                losses=np.asarray(losses, np.float32), scales=np.asarray(scales, np.float32),
            )  # fmt: skip


def network_input(digits: Digits, side: int) -> np.ndarray:
    """(N, 1, side, side): each pixel the mean of those that fall together. ``side`` divides 28."""
    if side < 1 or SIDE % side:
        raise DataError(f"expected a side that {SIDE} is a multiple of, got {side}")
    images = digits.as_input()
    by = SIDE // side
    return images.reshape(len(images), 1, side, by, side, by).mean((3, 5)) if by > 1 else images


def features_of(folder: Path, images: np.ndarray) -> np.ndarray:
    """ip1 of the deploy net in a training's folder."""
    shape = (min(FORWARD, len(images)), *images.shape[1:])
    net = caffeport.load(folder / "deploy.prototxt", folder / "trained.caffemodel", input_shapes={"data": shape})
    model = net.to_torch().eval()
    with torch.inference_mode():
        parts = [model(torch.from_numpy(images[i : i + FORWARD])) for i in range(0, len(images), FORWARD)]
    return torch.cat(parts).numpy()


def class_weights(net: Path, weights: Path, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """(weights (C, size), bias (C,)) as the scores take them."""
    head = HEADS[recipe.head]
    layers = {layer.name: layer for layer in caffeport.load(net, weights, phase="train").layers}
    blobs = layers[head.weight_layer].blobs
    rows = blobs[0].copy()
    if head.unit_weights:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, blobs[1].copy() if len(blobs) > 1 else np.zeros(len(rows), np.float32)


def _write_start(solver: Solver, start: Training, head: Head, path: Path) -> None:
    """The softmax start's net with this head on it, whose class weights start as the softmax's."""
    started = caffeport.load(start.folder / "train_test.prototxt", start.folder / "trained.caffemodel", phase="train")
    blobs = {layer.name: list(layer.blobs) for layer in started.layers if layer.blobs}
    rows = blobs.pop(HEADS["softmax"].weight_layer)[0]
    net = solver.net()
    arrays = {layer.name: list(layer.blobs) for layer in net.layers if layer.blobs} | blobs
    if head.unit_weights:
        rows = rows * (START_LENGTH / np.linalg.norm(rows, axis=1, keepdims=True))
    arrays[head.weight_layer][0] = rows
    net.with_weights(arrays).save(path)


def _batches(count: int, plan: Plan, iterations: int, seed: int) -> Iterator[np.ndarray]:
    """Indices of each batch; every image once before any comes again."""
    random = np.random.default_rng(seed)
    order = np.empty(0, np.int64)
    for _ in range(iterations):
        if len(order) < plan.batch:
            order = np.concatenate([order, random.permutation(count)])
        yield order[: plan.batch]
        order = order[plan.batch :]


def _stored_names() -> tuple[str, ...]:
    return tuple(name for name in Trained.__dataclass_fields__ if name != "recipe")


def _digest(*parts: str | np.ndarray) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else np.ascontiguousarray(part).tobytes())
        digest.update(b"\0")
    return digest.hexdigest()
