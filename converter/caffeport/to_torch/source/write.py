"""A net as one file of PyTorch source that needs nothing of this project, and its weights beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CaffeportError
from ...files import replacing_path, same_file
from ...graph.layer import Value
from ...graph.net import Net
from ...graph.preprocessing import Preprocessing
from ...graph.walk import read_inputs, wanted_values
from ...operators.base import Role
from ..safetensors_file import write_arrays
from .name import check_source_name
from .program import Program


def write_python(
    net: Net,
    path: str | Path,
    *,
    weights: str | Path | None = None,
    outputs: Sequence[str] | None = None,
    mean: Any = None,
    scale: float | None = None,
    rgb: bool = False,
) -> list[Path]:
    """Write the net as PyTorch source and its weights as safetensors, both or neither; return the files' paths.

    path: the file of source, whose name is a module's: ``face.py``.
    weights: the file of weights, by default ``face.safetensors`` beside it. Its keys are the source's attributes.
    outputs, mean, scale, rgb: as in ``Net.to_torch``; inputs that the outputs do not depend on are left out.

    Raises ExportError for a loss or metric layer, and for a layer without a source form, by name and type.
    """
    path = Path(path)
    weights = path.with_suffix(".safetensors") if weights is None else Path(weights)
    text, state = python_source(net, path, weights, outputs=outputs, mean=mean, scale=scale, rgb=rgb)
    if state and same_file(path, weights):
        raise CaffeportError(f"{path}: is the name of two files to write; choose another for one of them")
    with ExitStack() as stack:
        stack.enter_context(replacing_path(path)).write_text(text, "utf-8")
        if state:
            save_state(state, stack.enter_context(replacing_path(weights)))
    return [path, weights] if state else [path]


def save_state(state: dict[str, np.ndarray], path: Path) -> None:
    """Write a state_dict straight into ``path``."""
    write_arrays(state, path, {"format": "pt"})


def python_source(
    net: Net,
    path: Path,
    weights: Path,
    *,
    outputs: Sequence[str] | None = None,
    mean: Any = None,
    scale: float | None = None,
    rgb: bool = False,
) -> tuple[str, dict[str, np.ndarray]]:
    """The text for a file ``path`` that loads ``weights``, and the state_dict for that; nothing is written."""
    path = check_source_name(path)
    wanted = wanted_values(net, outputs)
    preprocessing = Preprocessing.of(net, wanted, mean, scale, rgb)
    program = Program(net, wanted, read_inputs(net, wanted), preprocessing)
    state = program.state()
    place = _from_here(path, weights) if state else ""
    return program.text(_docstring(net, program, path.stem, place, preprocessing), place), state


def _from_here(path: Path, weights: Path) -> str:
    return Path(os.path.relpath(weights.absolute(), path.absolute().parent)).as_posix()


def _docstring(net: Net, program: Program, module: str, weights: str, preprocessing: Preprocessing | None) -> list[str]:
    """What the file is, what goes in and comes out, and how the model is loaded."""
    name = _plain(net.name, 30) or "A net"
    count = sum(int(np.prod(param.shape)) for param in net.params)
    size = f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
    layers = sum(layer.op.role is not Role.DATA for layer in net.layers)
    lines = [f"{name}, converted from Caffe: {layers} layer{'s' if layers > 1 else ''}, {size} parameters.", ""]
    batched = _batched(net)
    lines += _described("Input", program.inputs, batched) + _described("Output", program.wanted, batched)
    lines += _preprocessing_text(preprocessing, program)
    lines += ["", "The model with its weights, in eval mode:", "", f"    model = {module}.load()"]
    if program.has_weights:
        lines += ["", "or step by step, with safetensors.torch.load_file:", "", f"    model = {module}.Model().eval()"]
        lines.append(f'    model.load_state_dict(load_file("{weights}"))')
    return lines


def _plain(name: str, most: int) -> str:
    """A name for the docstring: without what could end it, and no longer than that."""
    text = "".join(one for one in name if one.isprintable() and one not in '"\\')
    return text if len(text) <= most else f"{text[:most]}…"


def _batched(net: Net) -> set[Value]:
    """The blobs whose first axis is the batch, if the layers allow any batch size."""
    doubled = {value: (2 * value.shape[0], *value.shape[1:]) for value in net.input_values if value.shape}
    try:
        shapes = net.infer(doubled)
    except CaffeportError:
        return set()
    return {value for value, shape in shapes.items() if value.shape and shape[0] == 2 * value.shape[0]}


def _described(title: str, values: Sequence[Value], batched: set[Value]) -> list[str]:
    """A line for each blob, or one for the only one; N is any batch size."""
    texts = []
    for value in values:
        sizes = ["N" if value in batched and axis == 0 else str(size) for axis, size in enumerate(value.shape)]
        name = _plain(value.name, 48)
        texts.append(f"``{name}`` ({', '.join(sizes)})")
    if len(texts) == 1:
        return [f"{title}: {texts[0]}."]
    return [f"{title}s:", *(f"    {text}" for text in texts)]


def _preprocessing_text(preprocessing: Preprocessing | None, program: Program) -> list[str]:
    if preprocessing is None:
        channels = [value.shape[1] for value in program.inputs if len(value.shape) == 4]
        return ["Images are BGR, as Caffe reads them, and preprocessed as in training."] if 3 in channels else []
    order = "RGB" if preprocessing.rgb else "BGR"
    return [f"Images are {order} pixels; the model subtracts the mean and scales by itself."]
