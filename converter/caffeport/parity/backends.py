"""A Net's blobs from each backend that runs in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..cores import usable_cores
from ..errors import CaffeportError
from ..graph.layer import Layer, Value
from ..graph.module_names import state_names
from ..graph.net import Net
from ..lazy import require
from ..operators.base import Role
from .report import Blobs


def run_torch(net: Net, inputs: Blobs, training: bool = False) -> Blobs:
    """{value key: array} of a forward pass of the torch module, in eval mode or in training mode."""
    torch = require("torch")
    module: Any = net.to_torch().train(training)
    running = ""

    def follow(title: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            nonlocal running
            running = title

        return note

    for layer, name in state_names(net.layers).items():
        module.get_submodule(module.layer_paths[name]).register_forward_pre_hook(follow(layer.title))
    try:
        with torch.no_grad():
            tensors = module.blobs(*(torch.from_numpy(inputs[name]) for name in net.inputs))
    except CaffeportError:  # which names the layer itself
        raise
    except (RuntimeError, IndexError) as error:  # torch's, of a label beyond the classes, say
        raise CaffeportError(f"{running}: torch: {str(error).splitlines()[0]}") from error
    return {key: tensor.numpy() for key, tensor in tensors.items()}


def run_onnx(net: Net, inputs: Blobs, wanted: list[Value], fold: bool) -> Blobs:
    """{value key: array} of these Values from ONNX Runtime, on the CPU."""
    from ..to_onnx.export import trace, write

    if not wanted:
        return {}
    runtime = require("onnxruntime")
    graph = trace(net, 17, True, fold, wanted)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = usable_cores()  # by itself it counts the machine's
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write(graph, path)
        try:
            session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            arrays = session.run(None, {port.name: inputs[port.blob] for port in graph.inputs})
        except Exception as error:  # ONNX Runtime's own classes have no public base
            raise CaffeportError(f"ONNX Runtime: {str(error).splitlines()[0]}") from error
    return {value.key: array for value, array in zip(wanted, arrays, strict=True)}


def exportable(net: Net) -> list[Value]:
    """Values that depend on no layer without an ONNX form (losses, metrics, margins)."""
    without = spoiled(net, lambda layer: not layer.op.has_onnx())
    return [value for value in net.values if value.layer.op.role is not Role.DATA and value not in without]


def spoiled(net: Net, by: Callable[[Layer], bool]) -> set[Value]:
    """Values that depend on a layer of that kind."""
    values: set[Value] = set()
    for layer in net.layers:
        if by(layer) or values.intersection(layer.inputs):
            values.update(layer.outputs)
    return values
