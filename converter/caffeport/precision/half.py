"""An ONNX graph's float32 numbers as float16, but for nodes that stay; inputs and outputs keep their type.

A node computes in float16 where ONNX's own schema lets the operator: what is bound to float32 (NonMaxSuppression, the
scales of a Resize) stays so, and a Cast stands between the two. Numbers are rounded once, to the nearest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from ..lazy import LazyModule
from ..naming import Names

onnx: Any = LazyModule("onnx")

LARGEST = 65504.0
"""The largest number of float16."""
SMALLEST = 2.0**-24
"""The smallest number of float16 above 0."""
_FLOAT, _HALF = 1, 10
_TYPED = {"ConstantOfShape": "value", "Constant": "value"}
_SCHEMA_HALF = "tensor(float16)"


def to_half(model: Any, kept: Collection[str]) -> None:
    """Change the ModelProto in place; ``kept`` are the names of nodes that stay in float32.

    Nodes with a graph of their own (Scan) stay as well. Every weight that is changed has to fit into float16.
    """
    _Half(model, kept).convert()


class _Half:
    def __init__(self, model: Any, kept: Collection[str]) -> None:
        self.graph = model.graph
        self.kept = set(kept)
        self.opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.types = element_types(model)
        self.weights = {entry.name: entry for entry in self.graph.initializer}
        self.names = Names([*self.types, *(node.name for node in self.graph.node), ""])
        self.stored: dict[str, int] = {}  # of every float tensor: the type that it has in the file
        self.copies: dict[tuple[str, int], str] = {}
        self.nodes: list[Any] = []

    def convert(self) -> None:
        for entry in self.graph.input:
            self.stored[entry.name] = _FLOAT
        outputs = {entry.name for entry in self.graph.output}
        renamed: dict[str, str] = {}
        for node in self.graph.node:
            wanted_in, wanted_out = self._types(node)
            for index, name in enumerate(node.input):
                if self.types.get(name) == _FLOAT and wanted_in[index] is not None:
                    node.input[index] = self._as(renamed.get(name, name), wanted_in[index])
            self.nodes.append(node)
            for index, name in enumerate(node.output):
                if self.types.get(name) != _FLOAT:
                    continue
                self.stored[name] = wanted_out[index]
                if wanted_out[index] == _HALF and name in outputs:  # the file gives float32
                    inner = self.names.take(f"{name}/float16")
                    node.output[index] = renamed[name] = inner
                    self.stored[inner], self.stored[name] = _HALF, _FLOAT
                    self.copies[inner, _FLOAT] = name
                    self.nodes.append(self._cast(inner, name, _FLOAT))
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self._drop_unread_weights()

    def _types(self, node: Any) -> tuple[list[int], list[int]]:
        """Return the float type that each input and each output of the node is to have."""
        stays = node.name in self.kept or any(attribute.HasField("g") for attribute in node.attribute)
        schema = None if stays else self._schema(node)
        if schema is None:
            return [_FLOAT] * len(node.input), [_FLOAT] * len(node.output)
        allowed = {one.type_param_str: set(one.allowed_type_strs) for one in schema.type_constraints}

        def of(places: Any, index: int) -> int:
            kind = places[min(index, len(places) - 1)].type_str
            return _HALF if _SCHEMA_HALF in allowed.get(kind, {kind}) else _FLOAT

        inputs = [of(schema.inputs, index) for index in range(len(node.input))]
        outputs = [of(schema.outputs, index) for index in range(len(node.output))]
        first = next((index for index, name in enumerate(node.input) if self.types.get(name) == _FLOAT), None)
        if first is not None and inputs[first] == _FLOAT:  # what it works on cannot be half, so nothing is
            return [_FLOAT] * len(inputs), [_FLOAT] * len(outputs)
        self._retype(node)
        return inputs, outputs

    def _schema(self, node: Any) -> Any:
        try:
            return onnx.defs.get_schema(node.op_type, self.opset, node.domain)
        except Exception:  # of another domain, whose types nobody knows
            return None

    def _retype(self, node: Any) -> None:
        """Make what the node itself names as float32 float16."""
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _FLOAT:
                attribute.i = _HALF
            elif attribute.name == _TYPED.get(node.op_type) and attribute.t.data_type == _FLOAT:
                array = onnx.numpy_helper.to_array(attribute.t)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), attribute.t.name))

    def _as(self, name: str, wanted: int) -> str:
        """Return the name of the tensor in that type; a Cast before the node, or a weight beside the first."""
        if name in self.weights:
            return self._weight(name, wanted)
        if self.stored[name] == wanted:
            return name
        if (name, wanted) not in self.copies:
            copy = self.names.take(f"{name}/{'float16' if wanted == _HALF else 'float32'}")
            self.nodes.append(self._cast(name, copy, wanted))
            self.copies[name, wanted] = copy
        return self.copies[name, wanted]

    def _weight(self, name: str, wanted: int) -> str:
        if wanted == _FLOAT:
            return name
        if (name, wanted) not in self.copies:
            copy = self.names.take(f"{name}/float16")
            array = onnx.numpy_helper.to_array(self.weights[name]).astype(np.float16)
            self.graph.initializer.append(onnx.numpy_helper.from_array(array, copy))
            self.copies[name, wanted] = copy
        return self.copies[name, wanted]

    def _cast(self, source: str, target: str, to: int) -> Any:
        return onnx.helper.make_node("Cast", [source], [target], name=self.names.take(f"{target}/Cast"), to=to)

    def _drop_unread_weights(self) -> None:
        """Leave out weights that only float32 nodes would have read, and give a lone copy its old name."""
        read = {name for node in self.graph.node for name in _reads(node)}
        read |= {entry.name for entry in self.graph.output}
        old = {copy: name for (name, _), copy in self.copies.items() if name in self.weights and name not in read}
        weights = [entry for entry in self.graph.initializer if entry.name in read]
        for entry in weights:
            entry.name = old.get(entry.name, entry.name)
        for node in self.graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = old.get(name, name)
        copied = [onnx.TensorProto.FromString(entry.SerializeToString()) for entry in weights]
        del self.graph.initializer[:]
        self.graph.initializer.extend(copied)


def element_types(model: Any) -> dict[str, int]:
    """Return {tensor: ONNX's number of its element type} of the whole graph, by onnx's own inference."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {entry.name: entry.data_type for entry in graph.initializer}
    for entry in (*graph.input, *graph.output, *graph.value_info):
        types[entry.name] = entry.type.tensor_type.elem_type
    return types


def _reads(node: Any) -> Iterator[str]:
    """Return what a node reads, the graphs within it included."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                yield from _reads(inner)
