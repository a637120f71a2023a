"""A Net as an ONNX file, emitted from the graph and streamed to disk.

The file is the serialised graph without weights, followed by one chunk for each weight: serialised
protobuf messages merge when they are concatenated, so no weight is ever copied into a message.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn

from ..errors import CaffeportWarning, ExportError, NetError, did_you_mean, name_list
from ..files import replacing, target_of, write_numbers
from ..formats import wire
from ..graph.file_facts import file_facts
from ..graph.layer import Layer, Value
from ..graph.net import Net
from ..graph.preprocessing import METADATA_KEY, Preprocessing
from ..graph.results import Exported
from ..graph.walk import inference_values, needed_layers, read_inputs, wanted_values
from ..lazy import LazyModule
from ..operators.base import Role
from ..operators.onnx_builder import OPSETS, Emitter, Initializer, Node, StaticShapeError, Subgraph, Tensor
from ..operators.onnx_target import TARGETS, Target
from ..version import __version__
from . import fold as folding
from .axes import Axes, FixedAxesError
from .constants import fold_constants
from .names import onnx_names, version_name

onnx: Any = LazyModule("onnx")

PROTOBUF_LIMIT = 2**31 - 2**20
"""A protobuf message may have 2 GiB; what the graph itself takes is left out of the sum of the weights."""
TARGET_KEY = "caffeport.target"
"""Of the metadata's entry that says which runtime the file is written for; "plain" is one without folding."""
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
    target: str = "any",
) -> Exported:
    """Write the net as ONNX and return what the file's inputs and outputs are called.

    They have the names of Caffe's blobs, and an input that no layer on the way to an output reads is left out. An
    output whose blob has an input's name, because a layer works in place on that input, is called ``blob@layer``; see
    onnx_names.

    opset: 13 to 21.
    dynamic_batch: leave the batch axis free, and height and width too where every layer allows it.
    fold: fold BatchNorm, Scale, Bias and Power into the layer with weights before or after them.
    outputs: blobs to export up to, instead of the net's own outputs.
    mean, scale, rgb: put preprocessing in front; see caffeport.to_torch.module.build.
    external_data: weights in ``<path>.data`` beside it; by default only beyond protobuf's 2 GB.
    target: the runtime whose fastest form of every layer is written: "onnxruntime", "openvino", "opencv", or "any",
        what is fastest on the whole; the numbers are the same. It has no effect without ``fold``.

    A loss or metric at the end of a text for the TEST phase is left out, which a CaffeportWarning tells; the outputs
    are then the blobs before it.

    Raises ExportError for any other loss or metric layer, by name, and for what ONNX cannot express.
    """
    if opset not in OPSETS:
        raise ExportError(f"opset {opset} is not supported; expected {OPSETS.start} to {OPSETS.stop - 1}")
    if target not in TARGETS:
        raise ExportError(f'target "{target}" is unknown{did_you_mean(target, TARGETS)}; known: {", ".join(TARGETS)}')
    wanted, left_out = (wanted_values(net, outputs), []) if outputs is not None else inference_values(net)
    if not wanted:
        raise ExportError(f'net "{net.name}" has no output; name a blob to export up to (outputs=[...])')
    if left_out:
        warnings.warn(
            f"left out {', '.join(layer.title for layer in left_out[:3])}"
            + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
            + f", which only measure: the outputs are {name_list((value.name for value in wanted), 10)}; "
            "others by outputs=[...]",
            CaffeportWarning,
            stacklevel=3,
        )
    preprocessing = Preprocessing.of(net, wanted, mean, scale, rgb)
    graph = trace(net, opset, dynamic_batch, fold, wanted, preprocessing, Target(target))
    graph.facts = file_facts(net, (value.name for value in wanted)) | {TARGET_KEY: graph.emitter.target.value}
    write(graph, Path(path), external_data)
    exported = Exported([port.name for port in graph.inputs], [port.name for port in graph.outputs])
    exported.fixed_size = graph.fixed_size
    return exported


@dataclass(frozen=True)
class Port:
    """An input or output of the file, which is Caffe's ``blob``; an axis that is a name may have any size."""

    name: str
    blob: str
    dims: list[int | str]


@dataclass
class Graph:
    """An emitted graph: nodes, constants and weights in ``emitter``, no more than its outputs depend on."""

    name: str
    emitter: Emitter
    inputs: list[Port]
    outputs: list[Port]
    preprocessing: Preprocessing | None = None
    facts: dict[str, str] = field(default_factory=dict)  # further entries of the metadata
    fixed_size: str = ""  # why height and width may not differ from the declared ones, if something forbids it

    @property
    def initializers(self) -> list[Initializer]:
        return list(self.emitter.initializers.values())

    @property
    def weight_bytes(self) -> int:
        return sum(4 * math.prod(entry.shape) for entry in self.initializers)


def trace(
    net: Net,
    opset: int,
    dynamic_batch: bool,
    fold: bool,
    wanted: list[Value],
    preprocessing: Preprocessing | None = None,
    target: Target = Target.ANY,
) -> Graph:
    """Emit the graph with as many free axes as the layers allow.

    Without ``fold`` every layer has its plain form, whatever the target.
    """
    layers, inputs = needed_layers(net, wanted), read_inputs(net, wanted)
    for layer in layers:
        if layer.op.role in (Role.LOSS, Role.METRIC):
            up_to = ", ".join(f'"{name}"' for name in layer.bottoms[:1])
            raise ExportError(
                f"{layer.title}: a {layer.op.role.value} layer cannot be exported to ONNX; "
                f"export up to a blob before it, as outputs=[{up_to}]"
            )
    folds = folding.plan(layers, wanted) if fold else folding.Plan()
    fixed_by: dict[tuple[bool, bool], str] = {}  # of each attempt so far: the layer that stood against it
    free = any_size = dynamic_batch
    if any_size and preprocessing is not None and preprocessing.fixes_size:
        any_size = False
        fixed_by[False, True] = "the mean image"
    for batch, size in dict.fromkeys([(free, any_size), (free, False), (False, any_size), (False, False)]):
        g = Emitter(opset, target if fold else Target.PLAIN)
        try:
            axes = Axes(net, layers, inputs, batch, size)
            graph = _emit(g, net, layers, folds, wanted, axes, preprocessing)
        except (StaticShapeError, NetError) as problem:
            if not batch and not size:
                _refuse(net, problem)
            titles = [layer.title for layer in layers if layer.name == g.layer_name]
            title = problem.layer.title if isinstance(problem, FixedAxesError) else titles[-1] if titles else ""
            fixed_by[batch, size] = title
            continue
        if free and not batch and inputs:
            what = "one batch of any height and width" if size else "the declared shapes"
            who = fixed_by.get((True, False)) or fixed_by.get((True, True)) or "a layer"
            warnings.warn(
                f"net {net.name!r}: {who} fixes the batch size, so the ONNX file is for {what}",
                CaffeportWarning,
                stacklevel=4,
            )
        if fixed_by:
            graph.fixed_size = _fixed_size(graph.inputs, fixed_by.get((False, True)) or fixed_by.get((True, True), ""))
        return graph
    raise AssertionError("unreachable")


def _fixed_size(inputs: list[Port], layer: str) -> str:
    """Return a sentence on the size of the first image, if it is fixed."""
    for port in inputs:
        if len(port.dims) == 4 and not any(isinstance(dim, str) for dim in port.dims[2:]):
            height, width = port.dims[2:]
            by = f" by {layer}" if layer else ""
            return f'height and width of "{port.name}" are fixed at {height}x{width}{by}'
    return ""


def _refuse(net: Net, problem: Exception) -> NoReturn:
    """Raise why the net cannot be exported even for its declared shapes."""
    if isinstance(problem, StaticShapeError):
        raise ExportError(
            f'net {net.name!r}: a layer has to know the size of "{problem}", which the numbers decide; '
            "export up to a blob before it (outputs=[...])"
        ) from None
    raise problem


def _emit(
    g: Emitter,
    net: Net,
    layers: list[Layer],
    plan: folding.Plan,
    wanted: list[Value],
    axes: Axes,
    preprocessing: Preprocessing | None,
) -> Graph:
    names = onnx_names(net)
    g.reserve(names.values())

    def tensor(value: Value) -> Tensor:
        """Return the tensor with the name of the blob whose numbers it has; a name of no blob where there is none."""
        named = plan.stands_for(value)
        name = g.fresh(f"{names[value]}/scaled") if named is None else names[named]
        return Tensor(name, value.shape, axes.of(value))

    tensors = {value: tensor(value) for value in net.input_values}
    if preprocessing is not None:
        value = net.input_values[preprocessing.index]
        tensors[value] = preprocessing.emit(g, tensors[value])
    for layer in layers:
        if layer.op.role is Role.DATA or layer in plan.swallowed:
            continue
        fold = plan.folds.get(layer)
        g.begin(
            layer,
            [tensor(value) for value in layer.outputs],
            None if fold is None else (fold.shapes, folding.once(fold.blobs)),
        )
        start = len(g.nodes)
        bottoms = [tensors[plan.root(value)] for value in layer.inputs]
        results = _results(layer, layer.op.onnx(g, *bottoms), len(layer.outputs))
        _declare(g.nodes[start:], results, g.tops)
        tensors.update(zip(layer.outputs, results, strict=True))
    outputs = [_output(g, value, tensors[plan.root(value)], names[value]) for value in wanted]
    if g.target is not Target.PLAIN:
        fold_constants(g, {*names.values(), *outputs})
    g.keep_what_leads_to(outputs)
    return Graph(
        net.name or "caffe",
        g,
        [Port(names[value], value.name, axes.dims(value)) for value in read_inputs(net, wanted)],
        [Port(name, value.name, axes.dims(value)) for name, value in zip(outputs, wanted, strict=True)],
        preprocessing,
    )


def _results(layer: Layer, results: Tensor | Sequence[Tensor], count: int) -> list[Tensor]:
    """Return the tensors of a layer's tops; refuse what is none, which a user's own operator may return."""
    listed: list[Any] = list(results) if isinstance(results, (list, tuple)) else [results]
    wrong = [result for result in listed if not isinstance(result, Tensor)]
    if wrong or len(listed) != count:
        actual = f"the {type(wrong[0]).__name__} {wrong[0]!r}" if wrong else f"{len(listed)} of them"
        raise ExportError(
            f"{layer.title}: expected {type(layer.op).__name__}.onnx to return a tensor for each top ({count}), as "
            f"g.op returns it, got {actual}"
        )
    return listed


def _declare(nodes: list[Node], results: list[Tensor], tops: list[Tensor]) -> None:
    """Give what a layer's own nodes make for its tops the tops' names and shapes.

    A result of another layer's (Dropout passes its bottom on) keeps its name, and so does one that is an earlier top
    already.
    """
    named: list[Tensor] = []
    for result, top in zip(results, tops, strict=True):
        if result.node in nodes and result not in named:
            named.append(result)
            result.name = top.name
            result.declare(top.shape, top.dynamic)


def _output(g: Emitter, value: Value, tensor: Tensor, name: str) -> str:
    """Return the name of the Value as an output of the file; ``tensor`` has its numbers, and ``name`` is its own."""
    if tensor.name == name:
        return name
    if value.layer.op.role is Role.DATA:  # an input, prepared; its name is what the user feeds
        name = g.fresh(version_name(value))
    g.nodes.append(
        Node("Identity", [tensor], {}, g.fresh(f"{name}/Identity"), [Tensor(name, tensor.shape, tensor.dynamic)])
    )
    return name


# Writing


def write(graph: Graph, path: Path, external_data: bool | None = None) -> None:
    """Write the graph whole or not at all, after onnx's own checker has accepted its structure."""
    external = graph.weight_bytes > PROTOBUF_LIMIT if external_data is None else external_data
    if external and path.is_symlink():
        link, path = path, target_of(path)
        warnings.warn(
            f"{link} is a link, and the weights are beside the file that it leads to: open the model as {path}",
            CaffeportWarning,
            stacklevel=4,
        )
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
    """Return one initializer as a chunk that merges into the model's graph."""
    size = 4 * math.prod(entry.shape)
    head = _tensor_head(entry) + wire.header(_TENSOR_RAW, size)
    initializer = wire.header(_GRAPH_INITIALIZER, len(head) + size)
    stream.write(wire.header(_MODEL_GRAPH, len(initializer) + len(head) + size) + initializer + head)
    write_numbers(stream, entry.load())


def _tensor_head(entry: Initializer) -> bytes:
    dims = b"".join(wire.varint(_TENSOR_DIMS << 3) + wire.varint(dim) for dim in entry.shape)
    return dims + wire.varint(_TENSOR_TYPE << 3) + wire.varint(1) + wire.delimited(_TENSOR_NAME, entry.name.encode())


def _write_external(stream: IO[bytes], data: IO[bytes], location: str, entry: Initializer, offset: int) -> int:
    """Write the numbers at the next page of the data file, and a reference to them; return the next offset."""
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
    """Return the ModelProto without its weights."""
    h = onnx.helper
    constants = [onnx.numpy_helper.from_array(v, k) for k, v in graph.emitter.constants.items()]
    body = h.make_graph(
        [_node(node) for node in graph.emitter.nodes],
        graph.name,
        [h.make_tensor_value_info(port.name, 1, port.dims) for port in graph.inputs],
        [h.make_tensor_value_info(port.name, 1, port.dims) for port in graph.outputs],
        initializer=constants,
    )
    opset = h.make_opsetid("", graph.emitter.opset)
    # The oldest IR version that knows the opset, so that old runtimes can read the file.
    version = h.find_min_ir_version_for([opset])
    model = h.make_model(body, opset_imports=[opset], ir_version=version, producer_name="caffeport")
    model.producer_version = __version__
    # The preprocessing, so that a reader knows that it takes pixels as they are.
    front = {} if graph.preprocessing is None else {METADATA_KEY: graph.preprocessing.to_json()}
    h.set_model_props(model, graph.facts | front)
    return model


def _node(node: Node) -> Any:
    inputs = ["" if x is None else x.name for x in node.inputs]  # an empty name is an input that is left out
    outputs = [output.name for output in node.outputs]
    attributes = {key: _subgraph(v) if isinstance(v, Subgraph) else v for key, v in node.attributes.items()}
    return onnx.helper.make_node(node.op, inputs, outputs, name=node.name, **attributes)


def _subgraph(body: Subgraph) -> Any:
    h = onnx.helper
    inputs = [h.make_tensor_value_info(x.name, 1, list(x.shape)) for x in body.inputs]
    outputs = [h.make_tensor_value_info(x.name, 1, None) for x in body.outputs]
    return h.make_graph([_node(node) for node in body.nodes], "step", inputs, outputs)


def check_structure(skeleton: Any, graph: Graph) -> None:
    """Run onnx's checker with full shape inference, weights standing in as inputs of their shapes."""
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    for entry in graph.initializers:
        model.graph.input.append(onnx.helper.make_tensor_value_info(entry.name, 1, list(entry.shape)))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = str(error).strip().splitlines()[0]
        raise ExportError(f"net {graph.name!r}: the ONNX graph does not pass onnx's checker: {first}") from error
