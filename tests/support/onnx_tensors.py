"""The facts that the ONNX builder's tensors tell, compared with onnx's shape inference and with ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from caffeport.operators.onnx_tensor import Inference, Node, UnknownShapeError
from caffeport.to_onnx.export import Graph

BY_NUMBERS = {"NonZero", "NonMaxSuppression", "Compress"}
"""The kinds whose results have as many entries as the numbers say; nothing after them has a shape either."""


@dataclass
class Exported:
    """A traced net, the file written from it, and the arrays that it can be fed."""

    graph: Graph
    model: onnx.ModelProto
    feed: dict[str, np.ndarray]

    def infer(self) -> dict[str, tuple[tuple[int | None, ...], np.dtype]]:
        """{tensor: (shape, dtype)} as onnx infers them at the declared sizes; a size it does not know is None."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for port in model.graph.input:
            sizes = self.feed[port.name].shape
            port.CopyFrom(onnx.helper.make_tensor_value_info(port.name, 1, sizes))
        del model.graph.value_info[:]
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        infos = {}
        for info in [*graph.value_info, *graph.output]:
            kind = info.type.tensor_type
            if kind.HasField("shape"):
                sizes = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
                infos[info.name] = sizes, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        return infos

    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{tensor: numbers} of every node's outputs in ONNX Runtime."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for node in model.graph.node for name in node.output)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip([port.name for port in session.get_outputs()], session.run(None, feed), strict=True))


def rule_of(node: Node, doubled: bool = False) -> list[tuple[tuple[int, ...], np.dtype]] | None:
    """Return what the node's rule says of its outputs, whatever the net declares; None where only the numbers tell."""
    try:
        shapes = node.rule.shapes(Inference(node, doubled))
    except UnknownShapeError as error:
        assert "depends on numbers" in str(error)
        return None
    return list(zip(shapes, node.rule.dtypes(node), strict=True))


def follows_numbers(nodes: list[Node]) -> set[str]:
    """Return the tensors that depend on a node of BY_NUMBERS."""
    names: set[str] = set()
    for node in nodes:
        if node.op in BY_NUMBERS or not names.isdisjoint(node.reads):
            names.update(output.name for output in node.outputs)
    return names


def check(exported: Exported) -> int:
    """Compare every tensor; returns how many were compared with onnx's own inference."""
    inferred, numbers = exported.infer(), exported.run(exported.feed)
    nodes = exported.graph.emitter.nodes
    free, compared = follows_numbers(nodes), 0
    for node in nodes:
        results = rule_of(node)
        if results is None:
            assert {output.name for output in node.outputs} <= free, node
            continue
        for output, (shape, dtype) in zip(node.outputs, results, strict=True):
            array = numbers[output.name]
            assert (shape, dtype) == (array.shape, array.dtype), (node.op, output.name)
            if output.name not in free:
                assert (output.shape, output.dtype) == (shape, dtype), (node.op, output.name)
            if output.name in inferred:
                sizes, inferred_dtype = inferred[output.name]
                known = tuple(size if size is None else own for size, own in zip(sizes, shape, strict=True))
                assert (sizes, inferred_dtype) == (known, dtype), (node.op, output.name)
                compared += None not in sizes
    return compared


def check_dynamic(exported: Exported) -> None:
    """Check that the axes called dynamic are those that differ when every free axis of the inputs is doubled."""
    before = exported.run(exported.feed)
    doubled = dict(exported.feed)
    for port in exported.graph.inputs:
        for axis, size in enumerate(port.dims):
            if isinstance(size, str):
                doubled[port.name] = np.concatenate([doubled[port.name]] * 2, axis)
    after = exported.run(doubled)
    free = follows_numbers(exported.graph.emitter.nodes)
    for node in exported.graph.emitter.nodes:
        for output in node.outputs:
            if output.name not in free:
                pairs = zip(before[output.name].shape, after[output.name].shape, strict=True)
                differ = {axis for axis, (a, b) in enumerate(pairs) if a != b}
                assert output.dynamic == differ, (node.op, output.name)
