"""What layers write ONNX with: nodes, constants and weights by name. Imports no onnx.

Differences between opsets (13 to 21) live here, so that a layer says what it wants only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import numpy as np

from ..errors import ExportError
from ..naming import Names

OPSETS = range(13, 22)


Shape = tuple[int, ...]


class BlobOf(Protocol):
    """What the builder reads of a blob's place in its operator."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Shape: ...


class Weight(Protocol):
    """What the builder reads of a learned blob, which layers may share."""

    layer: str

    @property
    def spec(self) -> BlobOf: ...
    @property
    def data(self) -> np.ndarray: ...


class BuiltLayer(Protocol):
    """What the builder reads of the layer whose nodes are emitted."""

    name: str

    @property
    def title(self) -> str: ...
    @property
    def params(self) -> Sequence[Weight]: ...
    @property
    def specs(self) -> Sequence[BlobOf]: ...
    @property
    def blobs(self) -> list[np.ndarray]: ...


class NeedsStaticShape(Exception):
    """A layer's ONNX form depends on an axis that was to stay dynamic; the export tries again without."""


@dataclass(frozen=True)
class Tensor:
    """An ONNX value: ``shape`` at the net's declared input size, ``dynamic`` the axes that may differ."""

    name: str
    shape: Shape
    dynamic: frozenset[int] = frozenset()

    @property
    def rank(self) -> int:
        return len(self.shape)

    def static(self, axis: int) -> int:
        """The size of an axis whose size must be known."""
        if axis % self.rank in self.dynamic:
            raise NeedsStaticShape(self.name)
        return self.shape[axis]


Input = str | Tensor
"""What a node reads: a tensor, or the name of one."""


def name_of(x: Input) -> str:
    """The name of a node's input."""
    return x if isinstance(x, str) else x.name


@dataclass
class Node:
    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    name: str

    @property
    def reads(self) -> list[str]:
        """What the node reads, its body included."""
        body = self.attributes.get("body")
        return [*self.inputs, *(name for inner in body.nodes for name in inner.reads)] if body else self.inputs


@dataclass
class Subgraph:
    """The body of a Scan: (name, shape) of its inputs and the names of its outputs."""

    inputs: list[tuple[str, Shape]]
    outputs: list[str]
    nodes: list[Node] = field(default_factory=list)


@dataclass
class Initializer:
    """A float32 weight that is read when the file is written, not before."""

    name: str
    shape: Shape
    load: Callable[[], np.ndarray]


class Emitter:
    """Collects one graph. ``tops`` are the current layer's tops, for layers that need their shapes."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.initializers: dict[str, Initializer] = {}
        self.tops: list[Tensor] = []
        self._layer: BuiltLayer | None = None
        self._folded: tuple[list[Shape], Callable[[], list[np.ndarray]]] | None = None
        self._blob_names: dict[tuple[int, Shape, str], str] = {}
        self._names = Names()

    def begin(
        self, layer: BuiltLayer, tops: list[Tensor], folded: tuple[list[Shape], Callable[[], list[np.ndarray]]] | None
    ) -> None:
        """Start a layer; ``folded`` replaces its blobs by (shapes, a function that makes them)."""
        self._layer, self.tops, self._folded = layer, tops, folded

    def fresh(self, hint: str) -> str:
        """A name that nothing else in the graph has."""
        return self._names.take(hint)

    def reserve(self, names: Iterable[str]) -> None:
        """Keep these names for the blobs that are called so."""
        self._names.reserve(names)

    def keep_what_leads_to(self, outputs: Iterable[str]) -> None:
        """Drop every node, constant and weight that these names do not depend on."""
        read = set(outputs)
        nodes = []
        for node in reversed(self.nodes):
            if not read.isdisjoint(node.outputs):
                nodes.append(node)
                read.update(node.reads)
        self.nodes = nodes[::-1]
        self.constants = {name: array for name, array in self.constants.items() if name in read}
        self.initializers = {name: entry for name, entry in self.initializers.items() if name in read}

    @property
    def layer_name(self) -> str:
        return self._layer.name if self._layer else "graph"

    def refuse(self, reason: str) -> NoReturn:
        """Raise ExportError that names the current layer."""
        title = self._layer.title if self._layer else "the net"
        raise ExportError(
            f"{title} cannot be exported to ONNX: {reason}; export up to the blob before it (outputs=[...])"
        )

    # Nodes

    def op(self, kind: str, *inputs: Input, **attributes: Any) -> str:
        """A node with one output; returns its name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: Input, **attributes: Any) -> list[str]:
        """A node with several outputs; returns their names."""
        name = self.fresh(f"{self.layer_name}/{kind}")
        names = [name] if outputs == 1 else [self.fresh(f"{name}:{i}") for i in range(outputs)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(Node(kind, [name_of(x) for x in inputs], names, given, name))
        return names

    def scan(self, body: Subgraph, inputs: Sequence[Input], states: int) -> list[str]:
        return self.ops("Scan", len(body.outputs), *inputs, body=body, num_scan_inputs=len(inputs) - states)

    def nodes_of(self, build: Callable[[], list[str]]) -> tuple[list[Node], list[str]]:
        """Emit into a list of its own (the body of a Scan) instead of the graph."""
        outer, self.nodes = self.nodes, []
        try:
            outputs = build()
            return self.nodes, outputs
        finally:
            self.nodes = outer

    # Constants and weights

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = self.fresh(f"{self.layer_name}/const")
        self.constants[name] = np.array(value, dtype, order="C")
        return name

    def ints(self, values: Sequence[int] | int) -> str:
        return self.const(values, np.int64)

    def blob(
        self,
        index: int,
        shape: Shape | None = None,
        change: Callable[[np.ndarray], np.ndarray] | None = None,
        how: str = "",
    ) -> str:
        """The name of a blob of this layer as an initializer; the same blob gives the same name.

        ``change`` is applied to the numbers when they are written; ``how`` names the change (blobs
        that layers share are shared per change), and ``shape`` is the shape after it.
        """
        assert self._layer is not None
        if self._folded is not None:
            shapes, make = self._folded
            own = shapes[index]
            return self._initializer(f"{self.layer_name}.{index}", shape or own, lambda: make()[index], change)
        param, spec = self._layer.params[index], self._layer.specs[index]
        final = spec.shape if shape is None else shape
        key = (id(param), final, how)
        if key not in self._blob_names:
            hint = f"{param.layer}.{param.spec.name}" + (f".{how}" if how else "")
            self._blob_names[key] = self._initializer(hint, final, _loader(param, spec.shape), change)
        return self._blob_names[key]

    def blobs(self) -> list[str]:
        """The names of all blobs of this layer."""
        assert self._layer is not None
        count = len(self._folded[0]) if self._folded else len(self._layer.params)
        return [self.blob(index) for index in range(count)]

    def derived(self, name: str, shape: Shape, make: Callable[[list[np.ndarray]], np.ndarray]) -> str:
        """An initializer computed from all blobs of this layer when the file is written."""
        assert self._layer is not None
        layer = self._layer
        return self._initializer(f"{self.layer_name}.{name}", shape, lambda: make(layer.blobs), None)

    def _initializer(
        self,
        hint: str,
        shape: Shape,
        load: Callable[[], np.ndarray],
        change: Callable[[np.ndarray], np.ndarray] | None,
    ) -> str:
        name = self.fresh(hint)

        def read() -> np.ndarray:
            array = load() if change is None else change(load())
            return np.ascontiguousarray(array, "<f4").reshape(shape)

        self.initializers[name] = Initializer(name, shape, read)
        return name

    # What several layers need

    def cast(self, x: Input, to: str) -> str:
        return self.op("Cast", x, to={"float": 1, "int64": 7, "bool": 9}[to])

    def add(self, x: Input, value: float) -> str:
        return name_of(x) if value == 0 else self.op("Add", x, self.const(value))

    def mul(self, x: Input, value: float) -> str:
        return name_of(x) if value == 1 else self.op("Mul", x, self.const(value))

    def reduce(self, kind: str, x: Input, axes: Sequence[int], keepdims: bool = True) -> str:
        """A Reduce… over axes; they became an input in opset 13 (ReduceSum) and 18 (the others)."""
        if not axes:  # an empty list would mean "all axes"
            return name_of(x)
        if kind == "ReduceSum" or self.opset >= 18:
            return self.op(kind, x, self.ints(list(axes)), keepdims=int(keepdims))
        return self.op(kind, x, axes=list(axes), keepdims=int(keepdims))

    def split(self, x: Input, axis: int, sizes: Sequence[int] | None, parts: int) -> list[str]:
        """Cut into ``parts`` along ``axis``: of these sizes, or equal ones where sizes is None."""
        if parts == 1:
            return [name_of(x)]
        if sizes is not None:
            return self.ops("Split", parts, x, self.ints(list(sizes)), axis=axis)
        return self.ops("Split", parts, x, axis=axis, num_outputs=parts if self.opset >= 18 else None)

    def slice(self, x: Input, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int], step: int = 1) -> str:
        steps = self.ints([step] * len(axes))
        return self.op("Slice", x, self.ints(list(starts)), self.ints(list(ends)), self.ints(list(axes)), steps)

    def reverse(self, x: Input, axes: Sequence[int]) -> str:
        """Flip along axes of any size."""
        return self.slice(x, axes, [-1] * len(axes), [-(2**31)] * len(axes), -1)

    def pad(self, x: Input, begins: Sequence[int], ends: Sequence[int], value: float = 0.0) -> str:
        """Pad every axis; a no-op where all pads are 0."""
        pads = [*begins, *ends]
        return self.op("Pad", x, self.ints(pads), self.const(value)) if any(pads) else name_of(x)

    def unsqueeze(self, x: Input, axes: Sequence[int]) -> str:
        return self.op("Unsqueeze", x, self.ints(list(axes))) if axes else name_of(x)

    def reshape(self, x: Tensor, target: Tensor) -> str:
        """Reshape to the shape of ``target``, whose dynamic axes may be copied, inferred or computed."""
        if x.shape == target.shape and x.dynamic == target.dynamic:
            return x.name
        dims = list(target.shape)
        unknown = []
        for axis in sorted(target.dynamic):
            # An axis that keeps its place keeps its size: everything before it is the same in both.
            if axis in x.dynamic and x.shape[: axis + 1] == target.shape[: axis + 1]:
                dims[axis] = 0
            else:
                unknown.append(axis)
        if len(unknown) > 1:
            raise NeedsStaticShape(x.name)
        for axis in unknown:
            dims[axis] = -1
        return self.op("Reshape", x.name, self.ints(dims))

    def flatten_to_2d(self, x: Tensor, axis: int) -> str:
        """(product of the axes before ``axis``, product of the others)."""
        return x.name if x.rank == 2 and axis == 1 else self.op("Flatten", x.name, axis=axis)


def _loader(param: Weight, shape: Shape) -> Callable[[], np.ndarray]:
    return lambda: param.data.reshape(shape)
