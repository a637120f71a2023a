"""A coarser file layer by layer: each on the file's own numbers, against the Net's float32 layer on the same numbers.

What two number formats make of a whole net drifts apart with every layer, by how much depends on the net. What one
layer makes of the same numbers differs by its own roundings alone, and these have a bound: caffeport.rounding. So the
file and the Net run side by side in one graph, in which every float32 layer reads the file's blobs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError
from ..graph.layer import Value
from ..graph.net import Net
from ..lazy import LazyModule, require
from ..to_onnx.export import OPSETS, trace, write
from .coarser import Own
from .onnx_run import FOLDER, options_of, session_of
from .side_by_side import EXACT, SideBySide

onnx: Any = LazyModule("onnx")


def on_own_inputs(
    net: Net,
    model: Any,
    blobs: Mapping[str, Value],
    feed: Mapping[str, np.ndarray],
    fed: Mapping[str, np.ndarray],
    tolerance: tuple[float, float],
) -> dict[str, Own]:
    """Return {Value key: Own} of the blobs that the file names.

    model: the file's ModelProto; its weights are in it. blobs: {tensor: Value}. feed, fed: {input: array} of the file
    and of the Net. tolerance: rtol and atol of float32, which stand on top of every bound.

    Raises CaffeportError where the two cannot run side by side.
    """
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset not in OPSETS:
        raise CaffeportError(f"is of opset {opset}; files are compared from {OPSETS.start} to {OPSETS.stop - 1}")
    wanted = [value for value in net.values if value in blobs.values()]
    graph = trace(net, opset, True, False, wanted)
    twins = {value: port.name for port, value in zip(graph.outputs, wanted, strict=True)}
    given = {**feed, **{EXACT + port.name: np.asarray(fed[port.blob], np.float32) for port in graph.inputs}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exact.onnx"
        write(graph, path, True)  # its weights beside it, so that the two together stay below protobuf's limit
        both = SideBySide(model, onnx.load(str(path), load_external_data=False), tolerance)
        both.measure({name: twins[value] for name, value in blobs.items()})
        options = options_of(lean=True)
        options.graph_optimization_level = require("onnxruntime").GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry(FOLDER, folder)
        session = session_of(both.message().SerializeToString(), options)
        results = session.run(both.outputs, given)
    owns = both.owns(dict(zip(both.outputs, results, strict=True)))
    return {blobs[name].key: own for name, own in owns.items()}
