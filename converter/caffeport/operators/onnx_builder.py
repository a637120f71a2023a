"""The builder with which layers write ONNX: nodes, constants and weights, as tensors with shapes. Imports no onnx.

Differences between opsets (13 to 21) live here, so that a layer says what it wants only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np

from ..errors import ExportError
from ..naming import Names
from . import onnx_numbers, onnx_shapes, onnx_windows  # noqa: F401 - the rules that Tensor.shape goes by
from .onnx_target import Target
from .onnx_tensor import Node, Shape, StaticShapeError, Subgraph, Tensor

OPSETS = range(13, 22)


class BlobOf(Protocol):
    """The part of a blob's place in its operator that the builder reads."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Shape: ...


class Weight(Protocol):
    """The part that the builder reads of a learned blob, which layers may share."""

    layer: str

    @property
    def spec(self) -> BlobOf: ...
    @property
    def data(self) -> np.ndarray: ...


class BuiltLayer(Protocol):
    """The part that the builder reads of the layer whose nodes are emitted."""

    name: str

    @property
    def title(self) -> str: ...
    @property
    def params(self) -> Sequence[Weight]: ...
    @property
    def specs(self) -> Sequence[BlobOf]: ...
    @property
    def blobs(self) -> list[np.ndarray]: ...


@dataclass
class Initializer:
    """A float32 weight that is read when the file is written, not before."""

    name: str
    shape: Shape
    load: Callable[[], np.ndarray]


class Emitter:
    """Collects one graph. ``tops`` are the current layer's tops, for layers that need their shapes.

    ``target`` is what the graph is for, where an operator has several forms to choose from.
    """

    def __init__(self, opset: int, target: Target = Target.PLAIN) -> None:
        self.opset, self.target = opset, target
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.initializers: dict[str, Initializer] = {}
        self.tops: list[Tensor] = []
        self._layer: BuiltLayer | None = None
        self._folded: tuple[list[Shape], Callable[[], list[np.ndarray]]] | None = None
        self._blobs: dict[tuple[int, Shape, str], Tensor] = {}
        self._names = Names()

    def begin(
        self, layer: BuiltLayer, tops: list[Tensor], folded: tuple[list[Shape], Callable[[], list[np.ndarray]]] | None
    ) -> None:
        """Start a layer; ``folded`` replaces its blobs by (shapes, a function that makes them)."""
        self._layer, self.tops, self._folded = layer, tops, folded

    @property
    def folds(self) -> bool:
        """Return whether the current layer's blobs are those that have swallowed other layers."""
        return self._folded is not None

    def fresh(self, hint: str) -> str:
        """Return a name that nothing else in the graph has."""
        return self._names.take(hint)

    def reserve(self, names: Iterable[str]) -> None:
        """Keep these names for the blobs that are called so."""
        self._names.reserve(names)

    def keep_what_leads_to(self, outputs: Iterable[str]) -> None:
        """Drop every node, constant and weight that these names do not depend on."""
        read = set(outputs)
        nodes = []
        for node in reversed(self.nodes):
            if not read.isdisjoint([output.name for output in node.outputs]):
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

    def op(self, kind: str, *inputs: Tensor | None, **attributes: Any) -> Tensor:
        """Emit a node with one output and return it; None is an input that is left out."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: Tensor | None, **attributes: Any) -> list[Tensor]:
        """Emit a node with several outputs and return them."""
        for x in inputs:
            if x is not None and not isinstance(x, Tensor):
                title = self._layer.title if self._layer else "the net"
                raise ExportError(
                    f"{title}: expected tensors as inputs of {kind}, as the bottoms are and what g.op returns, "
                    f"got the {type(x).__name__} {x!r}"
                )
        name = self.fresh(f"{self.layer_name}/{kind}")
        names = [name] if outputs == 1 else [self.fresh(f"{name}:{i}") for i in range(outputs)]
        values = {key: value for key, value in attributes.items() if value is not None}
        node = Node(kind, list(inputs), values, name)
        node.outputs = [Tensor(output, dtype=None, node=node) for output in names]
        self.nodes.append(node)
        return node.outputs

    def scan(
        self,
        step: Callable[[list[Tensor], list[Tensor]], Sequence[Tensor]],
        states: Mapping[str, Tensor],
        sequences: Mapping[str, Tensor],
    ) -> list[Tensor]:
        """Emit a Scan along the first axis of ``sequences``; return the last states, then what the steps gave.

        ``step`` emits one step: of the states and one slice of each sequence it makes the new states, and after them
        what is to be collected. The keys say how states and slices are called.
        """
        before = [Tensor(self.fresh(f"{self.layer_name}/{key}"), x.shape, x.dynamic) for key, x in states.items()]
        slices = [
            Tensor(self.fresh(f"{self.layer_name}/{key}"), x.shape[1:], {axis - 1 for axis in x.dynamic if axis})
            for key, x in sequences.items()
        ]
        outer, self.nodes = self.nodes, []
        try:
            outputs = list(step(before, slices))
            body = Subgraph([*before, *slices], outputs, self.nodes)
        finally:
            self.nodes = outer
        read = [*states.values(), *sequences.values()]
        return self.ops("Scan", len(outputs), *read, body=body, num_scan_inputs=len(slices))

    # Constants and weights

    def const(self, value: Any, dtype: Any = np.float32) -> Tensor:
        name = self.fresh(f"{self.layer_name}/const")
        array = self.constants[name] = np.array(value, dtype, order="C")
        return Tensor(name, array.shape, dtype=array.dtype, array=array)

    def ints(self, values: Sequence[int] | int) -> Tensor:
        return self.const(values, np.int64)

    def blob(
        self,
        index: int,
        shape: Shape | None = None,
        change: Callable[[np.ndarray], np.ndarray] | None = None,
        how: str = "",
    ) -> Tensor:
        """Return a blob of this layer as an initializer; the same blob gives the same one.

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
        if key not in self._blobs:
            hint = f"{param.layer}.{param.spec.name}" + (f".{how}" if how else "")
            self._blobs[key] = self._initializer(hint, final, _loader(param, spec.shape), change)
        return self._blobs[key]

    def blobs(self) -> list[Tensor]:
        """Return all blobs of this layer."""
        assert self._layer is not None
        count = len(self._folded[0]) if self._folded else len(self._layer.params)
        return [self.blob(index) for index in range(count)]

    def blob_numbers(self, index: int) -> np.ndarray:
        """Return a small blob's numbers, for what becomes an attribute; of large ones no copy should be made here."""
        assert self._layer is not None
        return self._layer.blobs[index]

    def derived(self, name: str, shape: Shape, make: Callable[[list[np.ndarray]], np.ndarray]) -> Tensor:
        """Return an initializer computed from all blobs of this layer when the file is written."""
        assert self._layer is not None
        layer = self._layer
        return self._initializer(f"{self.layer_name}.{name}", shape, lambda: make(layer.blobs), None)

    def _initializer(
        self,
        hint: str,
        shape: Shape,
        load: Callable[[], np.ndarray],
        change: Callable[[np.ndarray], np.ndarray] | None,
    ) -> Tensor:
        name = self.fresh(hint)

        def read() -> np.ndarray:
            array = load() if change is None else change(load())
            return np.ascontiguousarray(array, "<f4").reshape(shape)

        self.initializers[name] = Initializer(name, shape, read)
        return Tensor(name, shape)

    # What several layers need

    def cast(self, x: Tensor, to: str) -> Tensor:
        return self.op("Cast", x, to={"float": 1, "int64": 7, "bool": 9}[to])

    def add(self, x: Tensor, value: float) -> Tensor:
        return x if value == 0 else self.op("Add", x, self.const(value))

    def mul(self, x: Tensor, value: float) -> Tensor:
        return x if value == 1 else self.op("Mul", x, self.const(value))

    def reduce(self, kind: str, x: Tensor, axes: Sequence[int], keepdims: bool = True) -> Tensor:
        """Emit a Reduce… over axes; they became an input in opset 13 (ReduceSum) and 18 (the others)."""
        if not axes:  # an empty list would mean "all axes"
            return x
        if kind == "ReduceSum" or self.opset >= 18:
            return self.op(kind, x, self.ints(list(axes)), keepdims=int(keepdims))
        return self.op(kind, x, axes=list(axes), keepdims=int(keepdims))

    def split(self, x: Tensor, axis: int, sizes: Sequence[int] | None, parts: int) -> list[Tensor]:
        """Cut into ``parts`` along ``axis``: of these sizes, or equal ones where sizes is None."""
        if parts == 1:
            return [x]
        if sizes is not None:
            return self.ops("Split", parts, x, self.ints(list(sizes)), axis=axis)
        return self.ops("Split", parts, x, axis=axis, num_outputs=parts if self.opset >= 18 else None)

    def slice(
        self, x: Tensor, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int], step: int = 1
    ) -> Tensor:
        steps = self.ints([step] * len(axes))
        return self.op("Slice", x, self.ints(list(starts)), self.ints(list(ends)), self.ints(list(axes)), steps)

    def reverse(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Flip along axes of any size."""
        return self.slice(x, axes, [-1] * len(axes), [-(2**31)] * len(axes), -1)

    def pad(self, x: Tensor, begins: Sequence[int], ends: Sequence[int], value: float = 0.0) -> Tensor:
        """Pad every axis; a no-op where all pads are 0."""
        pads = [*begins, *ends]
        return self.op("Pad", x, self.ints(pads), self.const(value)) if any(pads) else x

    def unsqueeze(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return self.op("Unsqueeze", x, self.ints(list(axes))) if axes else x

    def reshape(self, x: Tensor, target: Tensor) -> Tensor:
        """Reshape to the shape of ``target``, whose dynamic axes may be copied, inferred or computed."""
        if x.shape == target.shape and x.dynamic == target.dynamic:
            return x
        dims = list(target.shape)
        unknown = []
        for axis in sorted(target.dynamic):
            # An axis that keeps its place keeps its size: everything before it is the same in both.
            if axis in x.dynamic and x.shape[: axis + 1] == target.shape[: axis + 1]:
                dims[axis] = 0
            else:
                unknown.append(axis)
        if len(unknown) > 1:
            raise StaticShapeError(x.name)
        for axis in unknown:
            dims[axis] = -1
        return self.op("Reshape", x, self.ints(dims))

    def flatten_to_2d(self, x: Tensor, axis: int) -> Tensor:
        """Reshape to (product of the axes before ``axis``, product of the others)."""
        return x if x.rank == 2 and axis == 1 else self.op("Flatten", x, axis=axis)


def _loader(param: Weight, shape: Shape) -> Callable[[], np.ndarray]:
    return lambda: param.data.reshape(shape)
