"""ONNX Runtime's blobs of a graph, in one run where they are few, else part by part."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..cores import usable_cores
from ..lazy import require
from ..shelf import Shelf, is_large
from .parts import Part, cut, submodel, types_of

FOLDER = "session.model_external_initializers_file_folder_path"
_FLOAT = 1
"""ONNX's number of the element type float32."""


def options_of(lean: bool = False) -> Any:
    """ONNX Runtime's options of a session; ``lean``: without the arena, which keeps twice what the largest run took."""
    options = require("onnxruntime").SessionOptions()
    options.intra_op_num_threads = usable_cores()  # by itself it counts the machine's
    options.log_severity_level = 3
    if lean:
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
    return options


def session_of(model: str | bytes, options: Any) -> Any:
    """A session on the CPU of a model's path or bytes."""
    # With a fallback its wrapper prints an "EP Error" of its own, and opens a bad file once more.
    runtime = require("onnxruntime")
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def run_parts(
    model: Any,
    shapes: Mapping[str, tuple[int, ...]],
    feed: Mapping[str, np.ndarray],
    folder: Path,
    shelf: Shelf | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (tensor's name, array) of every wanted tensor, in the order in which the graph makes them.

    model: an ONNX message. shapes: {wanted tensor: shape}. folder: where weights lie that the model refers to.
    An array is dropped here as soon as no later part reads it; between the parts it lies on the ``shelf``.
    """
    types = types_of(model)
    parts = cut(model.graph, {name: 4 * math.prod(shape) for name, shape in shapes.items()}, types)
    live = dict(feed)
    floats = {name for name, type in types.items() if type.tensor_type.elem_type == _FLOAT}
    known = {name: shape for name, shape in shapes.items() if name in floats}
    for number, part in enumerate(parts):
        made = _run_part(model, part, types, folder, live, known, shelf)
        if shelf is not None:
            for name in list(made):
                made[name] = shelf.put(made[name])
            shelf.rest()
        later = {name for other in parts[number + 1 :] for name in other.inputs}
        for name in [name for name in live if name not in later]:
            del live[name]
        live.update({name: made[name] for name in part.carried})
        for name in part.outputs:
            yield name, made.pop(name)  # and no name here keeps it


def _run_part(
    model: Any,
    part: Part,
    types: Mapping[str, Any],
    folder: Path,
    live: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    shelf: Shelf | None,
) -> dict[str, np.ndarray]:
    options = options_of(lean=True)
    options.add_session_config_entry(FOLDER, str(folder))
    session = session_of(submodel(model, part, types).SerializeToString(), options)
    names = list(dict.fromkeys(part.outputs + part.carried))
    feed = {name: live[name] for name in part.inputs}
    large = [name for name in names if name in shapes and is_large(shapes[name])]
    if shelf is not None and large:
        places = {name: shelf.room(shapes[name]) for name in large}
        with contextlib.suppress(Exception):  # the numbers may decide on other shapes; what else is wrong comes below
            return _run_into(session, names, feed, places)
        del places
    return dict(zip(names, session.run(names, feed), strict=True))


def _run_into(
    session: Any, names: Sequence[str], feed: Mapping[str, np.ndarray], places: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Run a session that writes some of its outputs where they are to lie, {output: float32 array}.

    Its own memory would be new to the process each time: the first touch of all its pages can take longer than a layer.
    """
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, array)
    for name in names:
        if name in places:
            binding.bind_output(name, "cpu", 0, np.float32, places[name].shape, places[name].ctypes.data)
        else:
            binding.bind_output(name)
    options = require("onnxruntime").RunOptions()
    options.log_severity_level = 4  # an output of another shape is no error to print
    session.run_with_iobinding(binding, options)
    outputs = zip(names, binding.get_outputs(), strict=True)
    return {name: places[name] if name in places else output.numpy() for name, output in outputs}
