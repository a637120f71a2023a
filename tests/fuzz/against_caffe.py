"""Nets of the grammar in torch and in real Caffe: blobs are to be equal, and gradients of inputs and weights."""

from __future__ import annotations

import json
import random
import re
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import caffeport
import numpy as np
import torch
from caffeport.operators.base import Role
from support import caffe_trees

from .caffes_own import FORWARD_ONLY, depends_on_blas, loss_as_label, overwritten, right_in_caffe, weighted
from .nets import Dialect, Drawn, draw
from .runner import Outcome, record_finding, silent
from .targets import OWN

SCRIPT = Path(__file__).with_name("pycaffe_nets.py")
BATCH = 100
"""Nets for one start of Caffe."""
LEFT_OUT = {"HDF5Output"}
"""What writes files."""
LOWEST = -float(np.finfo(np.float32).max)
"""What Caffe makes of the largest of no numbers."""
RTOL, ATOL = 1e-3, 1e-4
"""float32 in another order through up to five layers, beside the largest number of the blob."""


class DifferentError(AssertionError):
    """A blob or gradient that is not Caffe's; ``place`` is the layer types and what differs."""

    def __init__(self, kinds: str, title: str, problem: str) -> None:
        super().__init__(f"{kinds}: {title} {problem}")
        self.place = f"{kinds}: {title}"


@dataclass(frozen=True)
class Case:
    """A net with its weights, what goes in, and the gradient at its end."""

    text: str
    net: caffeport.Net
    inputs: dict[str, np.ndarray]
    top_diffs: dict[str, np.ndarray]
    forward: bool
    backward: bool
    """Whether Caffe computes what the net says: no layer reads what one in place has overwritten."""

    def job(self) -> dict[str, Any]:
        """Return the job that tests/fuzz/pycaffe_nets.py runs."""
        weights = {
            f"weight/{layer.name}/{index}": param.data
            for layer in self.net.layers
            for index, param in enumerate(layer.params)
        }
        inputs = {f"input/{name}": array for name, array in self.inputs.items()}
        diffs = {f"top_diff/{name}": array for name, array in self.top_diffs.items()}
        return {"net": self.text, "phase": self.net.phase.name.lower(), **weights, **inputs, **diffs}


def fuzz_against_caffe(
    tree: caffe_trees.Tree,
    seed: int,
    count: int | None = None,
    seconds: float | None = None,
    kinds: Sequence[str] = (),
) -> Outcome:
    """Draw ``count`` nets, or as many as ``seconds`` allow, in batches; the n-th follows from the seed and n.

    What became of them is in ``errors``: "" where all is equal, "forward" where there is no gradient to compare, "in
    place" where a warning says that Caffe computes something else, or who refused the net.
    """
    outcome, start, number = Outcome(), time.perf_counter(), 0
    dialect = known(tree)
    while (count is None or number < count) and (seconds is None or time.perf_counter() - start < seconds):
        size = BATCH if count is None else min(BATCH, count - number)
        names = [f"caffe {seed} {number + index}" for index in range(size)]
        with silent():
            for act, raw in batch(tree, {name: _sensible(random.Random(name), kinds, dialect) for name in names}):
                outcome.executions += 1
                record_finding(outcome, act, raw)
        number += size
    outcome.seconds = time.perf_counter() - start
    return outcome


def _sensible(random_: random.Random, kinds: Sequence[str], dialect: Dialect) -> Drawn:
    """Draw a net that caffeport takes; one in ten may be another, to see what Caffe says of it."""
    drawn = _propagating(draw(random_, kinds, dialect))
    with tempfile.TemporaryDirectory() as folder:
        while random_.random() > 0.1 and isinstance(prepared(drawn.text, random.Random(0), Path(folder)), str):
            drawn = _propagating(draw(random_, kinds, dialect))
    return drawn


def _propagating(drawn: Drawn) -> Drawn:
    """Leave ``propagate_down`` out: the force_backward that brings gradients to the inputs has Caffe ignore it."""
    return Drawn(drawn.text.replace("propagate_down: false", ""), drawn.kinds)


def known(tree: caffe_trees.Tree) -> Dialect:
    """Ask a Caffe for its layer types and fields."""
    with tempfile.TemporaryDirectory() as folder:
        _run(tree, Path(folder))
        content = json.loads((Path(folder) / "known.json").read_text())
    return Dialect(tuple(set(content["types"]) - LEFT_OUT), content["fields"])


def batch(tree: caffe_trees.Tree, nets: dict[str, Drawn]) -> list[tuple[Callable[[], str], bytes]]:
    """Run the nets in one start of Caffe; return (the comparison, the text) of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {key: prepared(drawn.text, random.Random(key), folder) for key, drawn in nets.items()}
        jobs = {}
        for index, (key, case) in enumerate(cases.items()):
            refused = {"net": nets[key].text, "phase": "test"}
            np.savez(folder / f"{index:04}.job.npz", **(case.job() if isinstance(case, Case) else refused))
            jobs[key] = folder / f"{index:04}"
        _run(tree, folder)
        results = {key: _result(path) for key, path in jobs.items()}

    def act(key: str) -> Callable[[], str]:
        return lambda: compare(cases[key], *results[key])

    return [(act(key), nets[key].text.encode()) for key in nets]


def prepared(text: str, random_: random.Random, folder: Path) -> Case | str:
    """Return the net with random weights, inputs and gradients, or the name of the error that refuses it."""
    (folder / "net.prototxt").write_text(text)
    numbers = np.random.default_rng(random_.getrandbits(32))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = caffeport.load(folder / "net.prototxt", phase=random_.choice(("train", "test")))
            net = net.with_weights(
                {layer.name: [_weight(p, numbers) for p in layer.params] for layer in net.layers if layer.params}
            )
            inputs = net.sample_inputs(random_.getrandbits(32))
    except OWN as error:
        return str(error).replace(f"{folder}/", "")
    losses = weighted(net)
    diffs = {
        value.name: numbers.standard_normal(value.shape).astype(np.float32)
        for value in net.output_values
        if value not in losses and value.layer.op.role is not Role.DATA
    }
    return Case(f"force_backward: true\n{text}", net, inputs, diffs, *right_in_caffe(net))


def compare(case: Case | str, forward: dict | None, backward: dict | None, said: str) -> str:
    """Return what became of a net; raises DifferentError for a number that is not Caffe's."""
    if isinstance(case, str):
        return "both refuse" if forward is None else f"only Caffe takes it: {case}"
    if not case.forward:
        return "in place"
    if forward is None:
        return f"Caffe refuses: {said}"
    if case.net.phase.name == "TRAIN" and any(layer.op.random for layer in case.net.layers):
        return "random"
    try:
        model = case.net.to_torch()
    except OWN as error:
        return f"no torch: {error}"
    inputs = {name: torch.tensor(array, requires_grad=True) for name, array in case.inputs.items()}
    try:
        blobs = model.blobs(*(inputs[name] for name in case.net.inputs))
    except IndexError:  # a random number where an index is meant; Caffe reads past its weights
        return "no index"
    except RuntimeError as error:
        if "out of bounds" in str(error):
            return "no index"
        raise
    if any(layer.type == "Upsample" and len(layer.inputs) > 1 for layer in case.net.layers):
        return "another layer of that name"  # SegNet's has two bottoms; the SSD fork's passes over the second
    if depends_on_blas(case.net, case.text, forward):
        return "forward: not finite"
    whole = case.net.blobs.keys() - overwritten(case.net)
    for name in whole & {name.removeprefix("data/") for name in forward}:
        _equal(f"blob {name}", case, blobs[name], forward[f"data/{name}"])
    if backward is None:
        return f"forward: {said}"
    if not case.backward:
        return "forward: in place"
    if not FORWARD_ONLY.isdisjoint(layer.type for layer in case.net.layers):
        return "forward: Caffe has no gradient"
    if loss_as_label(case.net):
        return "forward: a loss for a label"
    if not all(np.isfinite(array).all() for array in forward.values()):
        return "forward: not finite"  # Caffe's running sums keep a NaN that is gone from the window
    if any((array <= LOWEST).any() for array in forward.values()):
        return "forward: an empty window"  # of a MAX pooling, whose gradient Caffe adds before the blob
    made = _gradients(case, model, inputs, blobs)
    try:
        for title, (key, gradient) in made.items():
            _equal(title, case, gradient, backward[key])
    except DifferentError:
        if not _rounding(case, made, backward):
            raise
        return "forward: rounding"
    return ""


def _gradients(
    case: Case, model: torch.nn.Module, inputs: dict[str, torch.Tensor], blobs: dict[str, torch.Tensor]
) -> dict[str, tuple[str, torch.Tensor | None]]:
    """Return {what it is the gradient of: (its name in Caffe's file, the gradient)} of inputs and weights."""
    total = torch.zeros(())
    for value, weight in weighted(case.net).items():
        total = total + weight * blobs[value.key].sum()
    for name, diff in case.top_diffs.items():
        total = total + (blobs[name] * torch.tensor(diff)).sum()
    if total.requires_grad:
        total.backward()
    made = {f"gradient of {name}": (f"diff/{name}", tensor.grad) for name, tensor in inputs.items()}
    state = model.state_dict(keep_vars=True)
    for layer in case.net.layers:
        for index, spec in enumerate(layer.specs):
            if spec.trained:
                title = f"gradient of {layer.name}'s {spec.name}"
                made[title] = (f"blob_diff/{layer.name}/{index}", state[f"{layer.name}.{spec.name}"].grad)
    return made


def _rounding(case: Case, made: dict[str, tuple[str, torch.Tensor | None]], backward: dict[str, np.ndarray]) -> bool:
    """Return whether float32 itself errs as far: in float64 the gradients are as far from ours as Caffe's are."""
    model = case.net.to_torch().double()
    inputs = {name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in case.inputs.items()}
    exact = _gradients(case, model, inputs, model.blobs(*(inputs[name] for name in case.net.inputs)))
    for title, (key, gradient) in made.items():
        true = np.zeros_like(backward[key], np.float64) if exact[title][1] is None else exact[title][1].numpy()
        ours = np.zeros_like(true) if gradient is None else gradient.numpy()
        scale = max(1.0, float(np.abs(true).max(initial=0)))
        error, caffes = np.abs(ours - true).max(initial=0), np.abs(backward[key] - true).max(initial=0)
        if not caffes <= 10 * error + ATOL * scale:
            return False
    return True


def _weight(param: Any, numbers: np.random.Generator) -> np.ndarray:
    """Return normal numbers; for statistics, such as variances, positive ones."""
    array = numbers.standard_normal(param.shape).astype(np.float32)
    return array if param.trained else np.abs(array) + 0.5


def _equal(title: str, case: Case, made: torch.Tensor | None, expected: np.ndarray) -> None:
    kinds = " ".join(layer.type for layer in case.net.layers if layer.op.role is not Role.DATA)
    numbers = np.zeros_like(expected) if made is None else made.detach().numpy()
    if numbers.shape != expected.shape:
        raise DifferentError(kinds, title, f"is {numbers.shape}, Caffe's {expected.shape}")
    usual = np.abs(expected[np.isfinite(expected) & (np.abs(expected) < 1e30)])
    scale = max(1.0, float(usual.max(initial=0)))
    with np.errstate(invalid="ignore"):
        same = np.isclose(numbers, expected, RTOL, ATOL * scale, equal_nan=True)
    if not same.all():
        place = np.unravel_index(np.argmin(same), same.shape)
        problem = f"at {tuple(map(int, place))} is {numbers[place]:g}, Caffe's {expected[place]:g}"
        raise DifferentError(f"{kinds} ({case.net.phase.name})", title, problem)


def _run(tree: caffe_trees.Tree, folder: Path) -> None:
    result = caffe_trees.run([tree.interpreter, str(SCRIPT), str(folder)], env=tree.environment(), cwd=folder)
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)


def _result(path: Path) -> tuple[dict | None, dict | None, str]:
    """Return what a net gave forward and backward, and Caffe's last words."""
    arrays = []
    for name in ("forward", "backward"):
        file = path.with_suffix(f".{name}.npz")
        try:
            with np.load(file) as stored:
                arrays.append({key: stored[key] for key in stored.files})
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # none, or cut where Caffe ended
            arrays.append(None)
    log = path.with_suffix(".log").read_text(errors="replace") if path.with_suffix(".log").exists() else ""
    lines = [line for line in log.splitlines() if re.match(r"F\d|\w*Error|.*proto.*: ", line)]
    return arrays[0], arrays[1], lines[0][:200] if lines else log[-200:]
