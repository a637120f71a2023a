"""A Net as an ONNX file, emitted from the graph and streamed to disk.

The file is the serialised graph without weights, followed by one chunk for each weight: serialised
protobuf messages merge when they are concatenated, so no weight is ever copied into a message.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import fold as folding
from . import wire
from .errors import CaffeportWarning, ExportError, NetError
from .files import replacing, write_numbers
from .layers.base import Role
from .lazy import LazyModule
from .net import Layer, Net, Value
from .onnx_emitter import OPSETS, Emitter, Initializer, NeedsStaticShape, Node, Subgraph, Tensor
from .preprocessing import METADATA_KEY, Preprocessing
from .walk import needed_layers, wanted_values

onnx: Any = LazyModule("onnx")

PROTOBUF_LIMIT = 2**31 - 2**20
"""A protobuf message may have 2 GiB; what the graph itself takes is left out of the sum of the weights."""
ALIGNMENT = 4096
"""External weights start at pages, so that a runtime can map them."""

_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9


def export(
    net: Net,
    path: str | Path,
    *,
    opset: int = 17,
    dynamic_batch: bool = True,
    fold: bool = True,
    outputs: Sequence[str] | None = None,
    mean: Any = None,
    scale: float | None = None,
    rgb: bool = False,
    external_data: bool | None = None,
) -> None:
    """Write the net as ONNX; inputs and outputs have the names of Caffe's blobs.

    opset: 13 to 21.
    dynamic_batch: leave the batch axis free, and height and width too where every layer allows it.
    fold: fold BatchNorm, Scale and Bias into the convolution or inner product that feeds them.
    outputs: blobs to export up to, instead of the net's own outputs.
    mean, scale, rgb: put preprocessing in front; see caffeport.to_torch.build.
    external_data: weights in ``<path>.data`` beside it; by default only beyond protobuf's 2 GB.

    Raises ExportError for a loss or metric layer, by name, and for what ONNX cannot express.
    """
    if opset not in OPSETS:
        raise ExportError(f"opset {opset} is not supported; expected {OPSETS.start} to {OPSETS.stop - 1}")
    graph = trace(net, opset, dynamic_batch, fold, wanted_values(net, outputs), Preprocessing.of(net, mean, scale, rgb))
    write(graph, Path(path), external_data)


class Graph:
    """An emitted graph: nodes, constants, initializers, inputs and outputs."""

    def __init__(
        self,
        name: str,
        emitter: Emitter,
        inputs: list[Tensor],
        outputs: list[Tensor],
        axes: Axes,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.name, self.emitter, self.inputs, self.outputs, self.axes = name, emitter, inputs, outputs, axes
        self.preprocessing = preprocessing
        used = {name for node in emitter.nodes for name in _reads(node)} | {output.name for output in outputs}
        self.initializers = [entry for name, entry in emitter.initializers.items() if name in used]

    @property
    def weight_bytes(self) -> int:
        return sum(4 * math.prod(entry.shape) for entry in self.initializers)


def _reads(node: Node) -> list[str]:
    body = node.attributes.get("body")
    return node.inputs + ([name for inner in body.nodes for name in inner.inputs] if body else [])


class Axes:
    """Which axes of each Value change with the batch, the height and the width of the inputs."""

    def __init__(self, net: Net, batch: bool, size: bool) -> None:
        self.names: dict[Value, dict[int, str]] = {value: {} for value in net.values}
        if batch:
            self._vary(net, {0: "N"})
        if size:
            self._vary(net, {2: "H", 3: "W"})

    def _vary(self, net: Net, names: dict[int, str]) -> None:
        """Double these axes of every input that has them as the first (image) input has, and see what follows.

        Raises NetError if a blob or a layer does not fit then.
        """
        rank = 1 if 0 in names else 4
        varied = [v for v in net.input_values if len(v.shape) >= rank and (rank == 1 or len(v.shape) == 4)]
        if not varied:
            raise NetError("no input has these axes")
        for axis, name in names.items():
            size = varied[0].shape[axis]
            moved = [value for value in varied if value.shape[axis] == size]
            doubled = {v: tuple(2 * d if i == axis else d for i, d in enumerate(v.shape)) for v in moved}
            for value, shape in net.infer(doubled).items():
                if len(shape) != len(value.shape):
                    raise NetError("the number of axes changes")
                for i, (before, after) in enumerate(zip(value.shape, shape, strict=True)):
                    if before != after:
                        exact = before == size and after == 2 * size and i == axis
                        self.names[value][i] = name if exact else f"{value.key}_{i}"

    def of(self, value: Value) -> frozenset[int]:
        return frozenset(self.names[value])


def trace(
    net: Net,
    opset: int,
    dynamic_batch: bool,
    fold: bool,
    wanted: list[Value],
    preprocessing: Preprocessing | None = None,
) -> Graph:
    """Emit the graph with as many free axes as the layers allow."""
    layers = needed_layers(net, wanted)
    for layer in layers:
        if layer.op.role in (Role.LOSS, Role.METRIC):
            up_to = ", ".join(f'"{name}"' for name in layer.bottoms[:1])
            raise ExportError(
                f"{layer.title}: a {layer.op.role.value} layer cannot be exported to ONNX; "
                f"export up to a blob before it, as outputs=[{up_to}]"
            )
    folds = folding.plan(layers, wanted) if fold else {}
    for batch, size in ((dynamic_batch, dynamic_batch), (dynamic_batch, False), (False, False)):
        try:
            axes = Axes(net, batch, size)
            graph = _emit(net, layers, folds, wanted, opset, axes, preprocessing)
        except (NeedsStaticShape, NetError):
            if not batch:
                raise
            continue
        if dynamic_batch and not batch:
            warnings.warn(
                f"net {net.name!r}: a layer fixes the batch size, so the ONNX file is for the declared shapes",
                CaffeportWarning,
                stacklevel=4,
            )
        return graph
    raise AssertionError("unreachable")


def _emit(
    net: Net,
    layers: list[Layer],
    folds: dict[Layer, folding.Folded],
    wanted: list[Value],
    opset: int,
    axes: Axes,
    preprocessing: Preprocessing | None,
) -> Graph:
    g = Emitter(opset)
    swallowed = {layer: fold for fold in folds.values() for layer in fold.swallowed}
    g.reserve([value.key for value in net.values])
    inputs = [Tensor(value.name, value.shape, axes.of(value)) for value in net.input_values if value.layer in layers]
    tensors = {value: Tensor(value.name, value.shape, axes.of(value)) for value in net.input_values}
    if preprocessing is not None:
        value = net.input_values[preprocessing.index]
        tensors[value] = Tensor(preprocessing.emit(g, value.name), value.shape, axes.of(value))
    for layer in layers:
        if layer.op.role is Role.DATA or layer in swallowed:
            continue
        values = [folds[layer].output] if layer in folds else layer.outputs
        tops = [Tensor(value.key, value.shape, axes.of(value)) for value in values]
        folded = (folds[layer].shapes, folding.once(folds[layer].blobs)) if layer in folds else None
        g.begin(layer, tops, folded)
        start = len(g.nodes)
        made = layer.op.onnx(g, *(tensors[value] for value in layer.inputs))
        names = [made] if isinstance(made, str) else made
        _rename(g.nodes[start:], dict(zip(names, (top.name for top in tops), strict=True)))
        for value, name, top in zip(values, names, tops, strict=True):
            produced = any(top.name in node.outputs for node in g.nodes[start:])
            tensors[value] = Tensor(top.name if produced else name, top.shape, top.dynamic)
    outputs = []
    for value in wanted:
        tensor = tensors[value]
        if tensor.name != value.key:  # a layer that passes its bottom on (Dropout, Split), or a bare weight
            g.nodes.append(Node("Identity", [tensor.name], [value.key], {}, f"{value.key}/Identity"))
        outputs.append(Tensor(value.key, value.shape, axes.of(value)))
    return Graph(net.name or "caffe", g, inputs, outputs, axes, preprocessing)


def _rename(nodes: list[Node], names: dict[str, str]) -> None:
    """Give the layer's results the names of its blobs, wherever the layer's own nodes say them."""
    made = {name for node in nodes for name in node.outputs}
    names = {old: new for old, new in names.items() if old in made}
    for node in nodes:
        node.inputs = [names.get(name, name) for name in node.inputs]
        node.outputs = [names.get(name, name) for name in node.outputs]


# Writing


def write(graph: Graph, path: Path, external_data: bool | None = None) -> None:
    """Write the graph whole or not at all, after onnx's own checker has accepted its structure."""
    external = graph.weight_bytes > PROTOBUF_LIMIT if external_data is None else external_data
    skeleton = _model(graph)
    check_structure(skeleton, graph)
    data_path = path.with_name(path.name + ".data")
    with ExitStack() as stack:
        stream = stack.enter_context(replacing(path))
        data = stack.enter_context(replacing(data_path)) if external else None
        stream.write(skeleton.SerializeToString())
        offset = 0
        for entry in graph.initializers:
            if data is None:
                _write_inline(stream, entry)
            else:
                offset = _write_external(stream, data, data_path.name, entry, offset)


def _write_inline(stream: IO[bytes], entry: Initializer) -> None:
    """One initializer as a chunk that merges into the model's graph."""
    size = 4 * math.prod(entry.shape)
    head = _tensor_head(entry) + wire.header(_TENSOR_RAW, size)
    initializer = wire.header(_GRAPH_INITIALIZER, len(head) + size)
    stream.write(wire.header(_MODEL_GRAPH, len(initializer) + len(head) + size) + initializer + head)
    write_numbers(stream, entry.load())


def _tensor_head(entry: Initializer) -> bytes:
    dims = b"".join(wire.varint(_TENSOR_DIMS << 3) + wire.varint(dim) for dim in entry.shape)
    return dims + wire.varint(_TENSOR_TYPE << 3) + wire.varint(1) + wire.delimited(_TENSOR_NAME, entry.name.encode())


def _write_external(stream: IO[bytes], data: IO[bytes], location: str, entry: Initializer, offset: int) -> int:
    """The numbers at the next page of the data file, and a reference to them. Returns the next offset."""
    start = -(-offset // ALIGNMENT) * ALIGNMENT
    data.write(b"\0" * (start - offset))
    write_numbers(data, entry.load())
    size = 4 * math.prod(entry.shape)
    tensor = onnx.TensorProto(name=entry.name, data_type=1, dims=entry.shape, data_location=1)
    for key, value in (("location", location), ("offset", str(start)), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    chunk = wire.delimited(_GRAPH_INITIALIZER, tensor.SerializeToString())
    stream.write(wire.delimited(_MODEL_GRAPH, chunk))
    return start + size


def _model(graph: Graph) -> Any:
    """The ModelProto without its weights."""
    h = onnx.helper
    constants = [onnx.numpy_helper.from_array(v, k) for k, v in _used_constants(graph).items()]
    body = h.make_graph(
        [_node(node) for node in graph.emitter.nodes],
        graph.name,
        [_info(tensor, graph.axes, tensor.name) for tensor in graph.inputs],
        [_info(tensor, graph.axes, tensor.name) for tensor in graph.outputs],
        initializer=constants,
    )
    opset = h.make_opsetid("", graph.emitter.opset)
    # The oldest IR version that knows the opset, so that old runtimes can read the file.
    version = h.find_min_ir_version_for([opset])
    model = h.make_model(body, opset_imports=[opset], ir_version=version, producer_name="caffeport")
    if graph.preprocessing is not None:  # so that a reader knows that it takes pixels as they are
        h.set_model_props(model, {METADATA_KEY: graph.preprocessing.to_json()})
    return model


def _used_constants(graph: Graph) -> dict[str, np.ndarray]:
    used = {name for node in graph.emitter.nodes for name in _reads(node)}
    return {name: array for name, array in graph.emitter.constants.items() if name in used}


def _info(tensor: Tensor, axes: Axes, name: str) -> Any:
    names = next((entry for value, entry in axes.names.items() if value.key == name), {})
    dims = [names.get(axis, dim) for axis, dim in enumerate(tensor.shape)]
    return onnx.helper.make_tensor_value_info(tensor.name, 1, dims)


def _node(node: Node) -> Any:
    attributes = {key: _subgraph(v) if isinstance(v, Subgraph) else v for key, v in node.attributes.items()}
    return onnx.helper.make_node(node.op, node.inputs, node.outputs, name=node.name, **attributes)


def _subgraph(body: Subgraph) -> Any:
    h = onnx.helper
    inputs = [h.make_tensor_value_info(name, 1, list(shape)) for name, shape in body.inputs]
    outputs = [h.make_tensor_value_info(name, 1, None) for name in body.outputs]
    return h.make_graph([_node(node) for node in body.nodes], "step", inputs, outputs)


def check_structure(skeleton: Any, graph: Graph) -> None:
    """onnx's checker with full shape inference, weights standing in as inputs of their shapes."""
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    for entry in graph.initializers:
        model.graph.input.append(onnx.helper.make_tensor_value_info(entry.name, 1, list(entry.shape)))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = str(error).strip().splitlines()[0]
        raise ExportError(f"net {graph.name!r}: the ONNX graph does not pass onnx's checker: {first}") from error
