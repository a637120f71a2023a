"""What caffeport makes of one Caffe text: built in both phases, trained a step, proven against ONNX Runtime and Caffe.

Each text runs in a process of its own with bounded time and memory, so that no text can stop the others.
"""

from __future__ import annotations

import multiprocessing
import re
import resource
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import caffeport
import numpy as np
from caffeport.formats.upgrade import upgrade

SECONDS, BYTES = 180, 8 << 30
MOST_MULTIPLY_ADDS = 3 * 10**9
"""Beyond this a net is built but not run."""
RTOL = 1e-3
"""Ten times the check's own: with random weights rounding adds up over a hundred layers to a few times 1e-4."""
ASKED = re.compile(r"input_shapes=\{'([^']+)': \(")
SIDES = (224, 28, 512, 64)


@dataclass
class Caffe:
    """Where a real Caffe is: its python/ folder (what PYTHONPATH needs) and the Python that it is built for."""

    python: str
    interpreter: str


@dataclass
class Outcome:
    """What came out for one text.

    ``test`` and ``train`` are "built", "" where the phase does not apply, or why it was refused; ``step`` is "finite"
    where the loss of a batch is, its gradients computed too; ``onnx`` and ``caffe`` are "equal", the difference, or ""
    where nothing was compared.
    """

    types: list[str] = field(default_factory=list)
    test: str = ""
    train: str = ""
    step: str = ""
    onnx: str = ""
    caffe: str = ""
    own_code: bool = False
    """Refused because a layer needs somebody's own Python code."""


def guess(name: str, attempt: int, text: str) -> tuple[int, ...]:
    """A size for an input that the text leaves open; ``attempt`` counts what was tried before."""
    crops = re.findall(r"crop_size\s*:\s*(\d+)", text)
    side, low = int(crops[-1]) if crops else SIDES[attempt], name.lower()
    if "label" in low or low in ("sample_weight", "target", "gt", "sim"):
        return [(2,), (2, 1, 1, 1), (2, 1, side, side), (1, 1, 4, 8)][attempt]
    if "im_info" in low:
        return (1, 3)
    if "rois" in low or "gt_boxes" in low:
        return (1, 5)
    if "clip" in low or "cont" in low:
        return (2, 2)
    return (2, (3, 1, 3, 3)[attempt] * (2 if "pair" in low else 1), side, side)


def load(path: Path, phase: str, text: str) -> caffeport.Net:
    """The net, with sizes guessed where they are asked for. Raises caffeport's first error if no guess fits."""
    shapes: dict[str, tuple[int, ...]] = {}
    attempt, first = 0, None
    while True:
        try:
            return caffeport.load(path, phase=phase, input_shapes=shapes)
        except caffeport.CaffeportError as error:
            asked = ASKED.search(str(error))
            if asked and asked.group(1) not in shapes and len(shapes) < 12:
                shapes[asked.group(1)] = guess(asked.group(1), attempt, text)
                continue
            first = first or error
            attempt += 1
            if not shapes or attempt == len(SIDES):
                raise first from None
            shapes = {name: guess(name, attempt, text) for name in shapes}


def randomise(net: caffeport.Net) -> None:
    """Numbers that keep the blobs of a deep net in range: He's variance, statistics around 1 or 0."""
    random = np.random.default_rng(1)
    for param in net.params:
        name, shape = param.spec.name.lower(), param.shape
        if not param.spec.trained:
            spread = "var" in name or "std" in name
            ones = "factor" in name or "count" in name
            numbers = (
                np.ones(shape) if ones else random.uniform(0.5, 1.5, shape) if spread else random.normal(0, 0.1, shape)
            )
        elif sum(size != 1 for size in shape) >= 2:
            numbers = random.normal(0, np.sqrt(2 / max(1, np.prod(shape) // max(1, shape[0]))), shape)
        else:
            numbers = getattr(param.spec.filler, "value", 0) + random.normal(0, 0.1, shape)
        param.data = np.asarray(numbers, np.float32)


def small_inputs(net: caffeport.Net) -> dict[str, np.ndarray] | None:
    """Random inputs, their common batch cut to what MOST_MULTIPLY_ADDS allows; None if one image is more than that."""
    inputs = {name: np.asarray(array) for name, array in net.sample_inputs(0).items()}
    batch = max((array.shape[0] for array in inputs.values() if array.ndim), default=1)
    most = batch * MOST_MULTIPLY_ADDS // max(1, net.multiply_adds)
    if most >= batch:
        return inputs
    even = most - most % 2 or most  # layers that take pairs or mirrored halves need an even batch
    alike = all(array.ndim and array.shape[0] == batch for array in inputs.values())
    return {name: array[:even] for name, array in inputs.items()} if most and alike else None


def verdict(report: caffeport.Report, source: str) -> str:
    """ "equal" where every blob that ``source`` has is within tolerance, else the first difference; "" for no blob."""
    rows = [row for row in [*report.rows, *report.exported] if any(name.startswith(source) for name in row.errors)]
    bad = next((row for row in rows if not row.ok), None)
    if bad is not None:
        return f"differs at {bad.layer} ({bad.type}): {bad.max_rel:.1e}"
    return "equal" if rows else ""


def first_line(error: BaseException, path: Path) -> str:
    return str(error).replace(str(path), path.name).splitlines()[0]


def test_phase(path: Path, text: str, caffe: Caffe | None, outcome: Outcome) -> None:
    """Build, compare torch with ONNX Runtime, then with a real Caffe that has these layers."""
    net = load(path, "test", text)
    outcome.test = "built"
    inputs = small_inputs(net)
    if inputs is None:
        return
    randomise(net)
    try:
        outcome.onnx = verdict(caffeport.check(net, inputs, rtol=RTOL), "onnx")
    except caffeport.CaffeportError as error:
        outcome.onnx = "" if "nothing" in str(error) else f"refused: {first_line(error, path)}"
    if caffe is None:
        return
    try:
        places = {"caffe_python": caffe.python, "caffe_interpreter": caffe.interpreter}
        report = caffeport.check(net, inputs, backends=("caffe", "torch"), rtol=RTOL, **places)
    except caffeport.CaffeportError:  # a layer that this Caffe lacks; its own log is the reason
        return
    outcome.caffe = verdict(report, "torch")


def train_phase(path: Path, text: str, outcome: Outcome) -> None:
    """Build the train net and compute one loss with its gradients."""
    net = load(path, "train", text)
    outcome.train = "built"
    inputs = small_inputs(net)
    if inputs is None:
        return
    import torch

    randomise(net)
    module: Any = net.to_torch()
    loss = module.loss(module(*(torch.from_numpy(inputs[name]) for name in net.inputs)))
    if loss.requires_grad:
        loss.backward()
    outcome.step = "finite" if bool(loss.isfinite()) else "not finite"


def measure_here(path: Path, caffe: Caffe | None) -> Outcome:
    """The outcome of one text, in this process."""
    outcome = Outcome()
    text = path.read_bytes().decode("latin-1")
    message = upgrade(caffeport.read_prototxt(path))
    outcome.types = sorted({layer.text("type") for layer in message.messages("layer")})
    has_loss = any("loss" in name.lower() or "accuracy" in name.lower() for name in outcome.types)
    has_data = any(name.lower().endswith("data") for name in outcome.types)
    training = (has_data and has_loss) or re.search(r"phase\s*:\s*TRAIN", text) is not None
    warnings.simplefilter("ignore")
    for phase in ("test", "train") if training else ("test",):
        try:
            if phase == "test":
                test_phase(path, text, caffe, outcome)
            else:
                train_phase(path, text, outcome)
        except caffeport.CaffeportError as error:
            line = first_line(error, path)
            outcome.own_code |= "Python" in line and bool(re.search("module|class", line))
            setattr(outcome, phase, getattr(outcome, phase) or line)
        except MemoryError:
            setattr(outcome, phase, getattr(outcome, phase) or "out of memory")
    return outcome


def _child(path: Path, caffe: Caffe | None, answers: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    try:
        answers.send(measure_here(path, caffe))
    except caffeport.CaffeportError as error:
        answers.send(Outcome(test=f"no valid text: {first_line(error, path)}"))
    except Exception as error:  # a fault of caffeport's own, which the page has to show
        answers.send(Outcome(test=f"fault: {type(error).__name__}: {first_line(error, path)}"))


def measure(path: Path, caffes: Sequence[Caffe]) -> Outcome:
    """The outcome of one text, from a process that is stopped after SECONDS; the first Caffe that can run it counts."""
    outcome = Outcome()
    for caffe in caffes or [None]:
        outcome = _bounded(path, caffe)
        if outcome.caffe or outcome.test != "built":
            break
    return outcome


def _bounded(path: Path, caffe: Caffe | None) -> Outcome:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(path, caffe, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(SECONDS):
            return Outcome(test=f"not done after {SECONDS} s")
        return receiver.recv()
    except EOFError:
        return Outcome(test="the process died")
    finally:
        process.kill()
        process.join()
