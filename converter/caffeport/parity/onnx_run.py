"""ONNX Runtime's blobs of a graph, in one run where they are few, else part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cores import usable_cores
from ..lazy import require
from ..shelf import Shelf
from .parts import Part, cut, submodel, types_of

FOLDER = "session.model_external_initializers_file_folder_path"


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
    model: Any, sizes: Mapping[str, int], feed: Mapping[str, np.ndarray], folder: Path, shelf: Shelf | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (tensor's name, array) of every wanted tensor, in the order in which the graph makes them.

    model: an ONNX message. sizes: {wanted tensor: bytes}. folder: where weights lie that the model refers to.
    An array is dropped here as soon as no later part reads it; between the parts it lies on the ``shelf``.
    """
    types = types_of(model)
    parts = cut(model.graph, sizes, types)
    live = dict(feed)
    for number, part in enumerate(parts):
        made = _run_part(model, part, types, folder, live)
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
    model: Any, part: Part, types: Mapping[str, Any], folder: Path, live: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    options = options_of(lean=True)
    options.add_session_config_entry(FOLDER, str(folder))
    session = session_of(submodel(model, part, types).SerializeToString(), options)
    names = list(dict.fromkeys(part.outputs + part.carried))
    return dict(zip(names, session.run(names, {name: live[name] for name in part.inputs}), strict=True))
