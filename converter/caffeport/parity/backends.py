"""A Net's blobs from each backend that runs in this process."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError
from ..graph.layer import Layer, Value
from ..graph.module_names import state_names
from ..graph.net import Net
from ..lazy import require
from ..operators.base import Role
from ..shelf import Shelf
from .onnx_run import options_of, run_parts, session_of
from .parts import are_large
from .report import Blobs


def run_torch(net: Net, inputs: Blobs, training: bool = False) -> Blobs:
    """{value key: array} of a forward pass of the torch module, in eval mode or in training mode."""
    return {**{value.key: inputs[value.name] for value in net.input_values}, **dict(torch_blobs(net, inputs, training))}


def torch_blobs(
    net: Net, inputs: Blobs, training: bool = False, shelf: Shelf | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (value key, array) of every blob of such a pass as it is made, and keep none that no layer still reads.

    What is kept lies on the ``shelf`` between the layers, if there is one.
    """
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
    keep = None if shelf is None else lambda tensor: torch.from_numpy(shelf.put(tensor.numpy()))
    made = module.stream(*(torch.from_numpy(inputs[name]) for name in net.inputs), keep=keep)
    while True:
        try:
            with torch.no_grad():  # not beyond this step: others run between the steps
                key, tensor = next(made, ("", None))
        except CaffeportError:  # which names the layer itself
            raise
        except (RuntimeError, IndexError) as error:  # torch's, of a label beyond the classes, say
            raise CaffeportError(f"{running}: torch: {str(error).splitlines()[0]}") from error
        if tensor is None:
            return
        array = tensor.numpy()
        del tensor
        if shelf is not None:
            shelf.rest()
        yield key, array
        del array


def run_onnx(net: Net, inputs: Blobs, wanted: list[Value], fold: bool) -> Blobs:
    """{value key: array} of these Values from ONNX Runtime, on the CPU."""
    return dict(onnx_blobs(net, inputs, wanted, fold))


def onnx_blobs(
    net: Net, inputs: Blobs, wanted: list[Value], fold: bool, shelf: Shelf | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (value key, array) of these Values from ONNX Runtime, on the CPU.

    All of them come of one run where they are small together; else part by part, and none is kept that nobody reads;
    those that are lie on the ``shelf``, if there is one.
    """
    from ..to_onnx.export import trace, write

    if not wanted:
        return
    require("onnxruntime")
    graph = trace(net, 17, True, fold, wanted)
    keys = {port.name: value.key for port, value in zip(graph.outputs, wanted, strict=True)}
    feed = {port.name: inputs[port.blob] for port in graph.inputs}
    shapes = shapes_of(net, inputs)
    asked = {port.name: shapes[value] for port, value in zip(graph.outputs, wanted, strict=True)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        in_parts = are_large(4 * math.prod(shape) for shape in asked.values())
        write(graph, path, True if in_parts else None)
        del graph
        try:
            if in_parts:
                model = require("onnx").load(str(path), load_external_data=False)
                for name, array in run_parts(model, asked, feed, path.parent, shelf):
                    yield keys[name], array
                    del array
                return
            session = session_of(
                str(path), options_of(lean=are_large(4 * math.prod(shape) for shape in shapes.values()))
            )
            arrays = dict(zip(keys, session.run(None, feed), strict=True))
        except CaffeportError:
            raise
        except Exception as error:  # ONNX Runtime's own classes have no public base
            raise CaffeportError(f"ONNX Runtime: {str(error).splitlines()[0]}") from error
    for name in list(arrays):
        yield keys[name], arrays.pop(name)


def shapes_of(net: Net, inputs: Blobs) -> Mapping[Value, tuple[int, ...]]:
    """{Value: shape} of every blob, for these inputs."""
    return net.infer({value: inputs[value.name].shape for value in net.input_values})


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
