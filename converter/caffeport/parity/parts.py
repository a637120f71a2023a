"""An ONNX graph cut into parts that run one after the other, each of which gives a few of the wanted tensors.

ONNX Runtime gives its outputs all at once. Where all the wanted tensors of a net together are too large, each part
gives some of them, and what later parts read is carried over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..lazy import LazyModule

onnx: Any = LazyModule("onnx")

SMALL = 1 << 25
"""Bytes of wanted tensors that one part may always give: below that, cutting costs more than it saves."""
_INLINE = 1 << 12
"""Bytes of a weight that stays in the graph; a larger one is written beside it, once for all parts."""


@dataclass(frozen=True)
class Part:
    """Nodes ``start`` to ``stop`` of a graph; ``outputs`` are the wanted tensors among theirs, in their order.

    inputs: what they read of the graph's inputs and of earlier parts. carried: what they make for later parts.
    """

    start: int
    stop: int
    inputs: list[str]
    outputs: list[str]
    carried: list[str]


def are_large(sizes: Iterable[int]) -> bool:
    """Whether tensors of so many bytes are, together, worth making part by part."""
    return sum(sizes) > SMALL


def cut(graph: Any, sizes: Mapping[str, int], types: Mapping[str, Any]) -> list[Part]:
    """Cut the graph so that a part gives no more bytes of wanted tensors than SMALL, or than the largest one alone.

    sizes: {wanted tensor: bytes}. types: {tensor: its type}; a tensor without one is not carried over, so that the
        graph is not cut there.
    """
    uses = _Uses(graph)
    limit = max(SMALL, *sizes.values()) if sizes else SMALL
    cuts, size, after_last = [0], 0, 0
    for place, node in enumerate(graph.node):
        size_here = sum(sizes.get(name, 0) for name in node.output)
        if not size_here:
            continue
        if size + size_here > limit and after_last > cuts[-1] and uses.crossing(after_last) <= types.keys():
            cuts.append(after_last)
            size = 0
        size += size_here
        after_last = place + 1
    return [uses.part(start, stop, sizes) for start, stop in pairwise([*cuts, len(graph.node)])]


class _Uses:
    """Which node of a graph makes a tensor, and which reads it last."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.reads = [list(dict.fromkeys(reads(node))) for node in graph.node]
        self.last = {name: place for place, names in enumerate(self.reads) for name in names}
        self.makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
        stored = {entry.name for entry in graph.initializer} | {entry.values.name for entry in graph.sparse_initializer}
        self.given = {entry.name for entry in graph.input} - stored

    def crossing(self, place: int) -> set[str]:
        """The tensors that are made before this node and read from it on."""
        return {name for name, maker in self.makers.items() if maker < place <= self.last.get(name, -1)}

    def part(self, start: int, stop: int, wanted: Collection[str]) -> Part:
        read = dict.fromkeys(name for names in self.reads[start:stop] for name in names)
        made = [name for node in self.graph.node[start:stop] for name in node.output if name]
        inputs = [name for name in read if name in self.given or self.makers.get(name, start) < start]
        carried = [name for name in made if self.last.get(name, -1) >= stop]
        return Part(start, stop, inputs, [name for name in made if name in wanted], carried)


def reads(node: Any) -> Iterator[str]:
    """The tensors that a node reads, those that its subgraphs take from around it included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            own = {entry.name for entry in [*body.input, *body.initializer]}
            for inner in body.node:
                yield from (name for name in reads(inner) if name not in own)
                own.update(inner.output)


def types_of(model: Any) -> dict[str, Any]:
    """{tensor: its type}, as far as onnx's shape inference finds it; weights may lie in files of their own."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # its own class, and protobuf's for what is too large; the graph then stays whole
        graph = model.graph
    return {
        entry.name: entry.type
        for entry in [*graph.input, *graph.output, *graph.value_info]
        if entry.type.tensor_type.elem_type
    }


def submodel(model: Any, part: Part, types: Mapping[str, Any]) -> Any:
    """The part as a model of its own, with its weights, or the references to them."""
    sub = onnx.ModelProto(ir_version=model.ir_version)
    sub.opset_import.extend(model.opset_import)
    sub.functions.extend(model.functions)
    sub.graph.name = model.graph.name or "part"
    sub.graph.node.extend(model.graph.node[part.start : part.stop])
    read = {name for node in sub.graph.node for name in reads(node)}
    sub.graph.initializer.extend(entry for entry in model.graph.initializer if entry.name in read)
    sub.graph.sparse_initializer.extend(entry for entry in model.graph.sparse_initializer if entry.values.name in read)
    for names, entries in ((part.inputs, sub.graph.input), (part.outputs + part.carried, sub.graph.output)):
        for name in dict.fromkeys(names):
            entry = entries.add(name=name)
            if name in types:
                entry.type.CopyFrom(types[name])
    return sub


def put_beside(model: Any, folder: Path, name: str) -> bool:
    """Move the weights out of the model into a file in ``folder``; return whether that could be done.

    It cannot where some of them lie in files of their own already, since all references are to one folder.
    """
    if any(entry.data_location == onnx.TensorProto.EXTERNAL for entry in model.graph.initializer):
        return False
    with (folder / name).open("wb") as stream:
        for entry in model.graph.initializer:
            if not entry.HasField("raw_data") or len(entry.raw_data) < _INLINE:
                continue
            offset = -(-stream.tell() // 64) * 64
            stream.seek(offset)
            stream.write(entry.raw_data)
            length = len(entry.raw_data)
            entry.ClearField("raw_data")
            entry.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", name), ("offset", str(offset)), ("length", str(length))):
                entry.external_data.add(key=key, value=value)
    return True
