"""Every face layer of caffeport against the C++ layer in BVLC Caffe: random configurations, both in double.

The configurations are those that are compared with the forks' own code and with NVCaffe: the C++ layer's numbers, its
parameters and top gradients go into caffeport's module, for as many passes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pytest
import torch
from support import layer_lines, nets, other_layers

CONFIGURATIONS = 60
LIMIT = 1e-9  # relative, and absolute below 1: doubles whose order of sums differs
LIMITS = {
    # Both add 1e-9 to |x| |w|; C++ leaves that out of the derivative of the lengths, seen where those are 0.5.
    "LargeMarginInnerProduct": 2e-8,
    # The eps of a text without one is a float in C++, 1e-6 but for 2e-14: seen where features are 0.01 long.
    "Normalize": 1e-8,
}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")]


class Line(NamedTuple):
    """A configuration, in parts, and what Caffe gives of it by name, each in the order of bottoms, tops or blobs."""

    kind: str
    text: str
    shapes: list[tuple[int, ...]]
    tops: int
    backward: list[str]
    caffe: dict[str, list[np.ndarray]]

    @property
    def net(self) -> str:
        bottoms = {f"b{i}": shape for i, shape in enumerate(self.shapes)}
        names = " ".join(f"t{i}" for i in range(self.tops))
        layer = nets.layer("TYPE", " ".join(bottoms), names, self.text, name="l").replace('type: "TYPE"', "", 1)
        return "force_backward: true\n" + nets.inputs(**bottoms) + layer


def parsed(kind: str, line: str, caffe: dict[str, list[np.ndarray]]) -> Line:
    _, bottoms, tops, backward, text = line.split("|")
    shapes = [tuple(int(dim) for dim in each.split(":")[1].split(",")) for each in bottoms.split()]
    return Line(kind, text, shapes, int(tops), backward.split(), caffe)


def as_caffe_reads(line: str) -> str:
    """Write the fields' numbers as floats have them, which caffeport keeps in double."""
    head, text = line.rsplit("|", 1)
    return head + "|" + re.sub(r"-?\d+\.\d+", lambda number: repr(float(np.float32(number[0]))), text)


def run_caffe(program, kind: str) -> list[Line]:
    lines = [as_caffe_reads(line) for line in other_layers.lines(kind, CONFIGURATIONS)]
    told: list[dict[str, list[np.ndarray]]] = []
    for words in layer_lines.answers(program, lines):
        if words[0] == "line":
            told.append({name: [] for name in ("given", "start", "top", "bottom", "blob", "gradient")})
        else:
            told[-1][words[0]].append(np.array(words[1:], dtype=np.float64))
    return [parsed(kind, line, caffe) for line, caffe in zip(lines, told, strict=True)]


def top_gradient(top: torch.Tensor) -> torch.Tensor:
    """As lines/layer_line.hpp gives it."""
    if top.numel() == 1:
        return torch.ones_like(top)
    return ((torch.arange(top.numel()) * 5 % 7).double() - 2.5).reshape(top.shape)


@torch.no_grad()
def overwrite_blobs(model: torch.nn.Module) -> None:
    """Store what Caffe's layers store before a training pass: unit rows, a scale within its bounds."""
    for module in model.modules():
        if hasattr(module, "overwrite_blobs"):
            module.overwrite_blobs()


def near(found: torch.Tensor | np.ndarray, expected: np.ndarray, what: str, line: Line) -> None:
    ours, limit = np.asarray(found, dtype=np.float64).reshape(-1), LIMITS.get(line.kind, LIMIT)
    np.testing.assert_allclose(ours, expected, limit, limit, err_msg=f"{what} of {line.text} {line.shapes}")


def compare(line: Line, folder) -> int:
    """Run caffeport's layer as Caffe was; the number of arrays compared."""
    net = nets.load(folder, line.net, phase="train")
    model = net.to_torch().double().train()
    layer = next(layer for layer in net.layers if layer.name == "l")
    trained = dict(model.named_parameters())
    blobs = {i: trained.get(f"l.{param.spec.name}") for i, param in enumerate(layer.params)}
    for i, blob in blobs.items():
        if blob is not None:
            blob.data = torch.tensor(line.caffe["start"][i]).reshape(blob.shape)
    bottoms = [
        torch.tensor(array).reshape(shape).requires_grad_(str(i) in line.backward)
        for i, (array, shape) in enumerate(zip(line.caffe["given"], line.shapes, strict=True))
    ]
    for _ in range(6 if line.kind == "NoiseTolerantFR" else 2):
        overwrite_blobs(model)
        tops = model(*bottoms)
    tops = tops if isinstance(tops, dict) else {net.outputs[0]: tops}
    for i, expected in enumerate(line.caffe["top"]):
        near(tops[f"t{i}"].detach(), expected, f"top {i}", line)
    if not line.backward:
        return len(tops)
    reached = [(top * top_gradient(top)).sum() for top in tops.values() if top.requires_grad]
    if reached:
        torch.stack(reached).sum().backward()
    wanted = [bottoms[int(number)] for number in line.backward if number != "w"]
    for number, (bottom, expected) in enumerate(zip(wanted, line.caffe["bottom"], strict=True)):
        near(np.zeros(bottom.shape) if bottom.grad is None else bottom.grad, expected, f"gradient {number}", line)
    if "w" in line.backward:
        for i, blob in blobs.items():
            if blob is not None:
                gradient = np.zeros(blob.shape) if blob.grad is None else blob.grad
                near(gradient, line.caffe["gradient"][i], f"gradient of blob {i}", line)
    return len(tops) + len(line.backward)


@pytest.mark.parametrize("kind", other_layers.KINDS)
def test_same_numbers(kind, run_layers, tmp_path):
    compared = sum(compare(line, tmp_path) for line in run_caffe(run_layers, kind))
    assert compared >= CONFIGURATIONS
