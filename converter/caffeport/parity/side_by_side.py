"""A coarser file's graph and its Net's float32 graph in one, in which every float32 layer reads the file's blobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..lazy import LazyModule
from ..rounding.bound_graph import FLOAT, BoundGraph
from ..rounding.rules import MOVING, RULES
from .coarser import Own, rms_share
from .parts import reads, types_of

onnx: Any = LazyModule("onnx")
compose: Any = LazyModule("onnx.compose")

EXACT = "exact/"
"""The start of the names of the Net's graph."""
_USUAL = 1e30
"""float32's largest numbers stand for "no pixel" in pooling."""
_NOT_0 = 1e-30
_SHAPING = ("Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity")
_ROUND_UP = 1.001
"""The bounds are computed in float32 themselves."""


@dataclass(frozen=True)
class _Pair:
    """Two tensors that are to agree but for ``error``, the tensor of a bound; None for what float32 leaves."""

    blob: str
    actual: str
    exact: str
    error: str | None


class SideBySide:
    """``model``: the file's; ``exact``: the Net's own, which changes. tolerance: float32's rtol and atol, which stand
    on top of every bound. ``outputs``: the tensors to run ``message()`` for, and to read by ``owns``."""

    def __init__(self, model: Any, exact: Any, tolerance: tuple[float, float]) -> None:
        self._model, self._tolerance = model, tolerance
        self._exact = compose.add_prefix_graph(exact.graph, EXACT, inplace=True)
        self._ir_version = max(model.ir_version, exact.ir_version)
        types = {entry.name: entry.data_type for entry in model.graph.initializer}
        types |= {name: entry.tensor_type.elem_type for name, entry in types_of(model).items()}
        self._bounds = BoundGraph(model, types, RULES, MOVING)
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in model.graph.node:
            for name in set(reads(node)):
                self._readers[name].append(node)
        self.outputs: list[str] = []
        self._measures: list[tuple[_Pair, list[str]]] = []
        self._unbounded: dict[str, str] = {}
        self._read: dict[str, str] = {}  # {blob: what its readers take for it, where that is not the blob itself}

    def measure(self, twins: Mapping[str, str]) -> None:
        """Let the Net's graph read the file's blobs, {tensor: the Net's own name of it}, and measure each."""
        pairs = list(self._pairs(twins))
        nodes = self._bounds.nodes
        for name, twin in twins.items():
            read = self._read.get(name, name)
            nodes.append(onnx.helper.make_node("Cast", [read], [EXACT + twin], f"{EXACT}{twin}/read", to=FLOAT))
        own = {EXACT + twin: _own(twin) for twin in twins.values()}
        for node in self._exact.node:
            node.output[:] = [own.get(name, name) for name in node.output]
            nodes.append(node)
        for pair in pairs:
            numbers = self._bounds.numbers(pair.actual)
            names = [numbers, pair.exact] if self._unbounded[pair.blob] else self._measured(numbers, pair)
            self._measures.append((pair, names))
            self.outputs += names

    def _pairs(self, twins: Mapping[str, str]) -> Iterator[_Pair]:
        """Follow the bounds through the file, from one blob to the next."""
        g = self._bounds
        made: set[str] = set()
        restored: set[str] = set()
        for node in self._model.graph.node:
            g.follow(node, list(reads(node)))
            for name in node.output:
                if name in restored:
                    g.reset(name)
                if name not in twins:
                    continue
                self._unbounded[name] = g.unbounded.get(name, "")
                yield _Pair(name, name, _own(twins[name]), g.errors.get(name))
                g.reset(name)
                if node.op_type == "Cast" and node.input[0] in made:
                    g.reset(node.input[0])  # the same numbers, which the next layers read
                ends = self._in_8_bits(name, twins)
                if ends and not self._unbounded[name]:
                    restored.add(ends[1].output[0])
                    yield self._restored(name, *ends)
            made.update(node.output)

    def _in_8_bits(self, blob: str, twins: Mapping[str, str]) -> tuple[Any, Any] | None:
        """The nodes that bring a blob into 8 bits and back, where nothing reads it but what comes of that.

        Not those behind a blob that is another shape of it: that one they belong to.
        """
        readers = self._readers[blob]
        while len(readers) == 1 and readers[0].op_type in _SHAPING and len(readers[0].output) == 1:
            if readers[0].output[0] in twins:
                return None
            readers = self._readers[readers[0].output[0]]
        if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
            return None
        others = self._readers[readers[0].output[0]]
        return (readers[0], others[0]) if len(others) == 1 and others[0].op_type == "DequantizeLinear" else None

    def _restored(self, blob: str, into: Any, back: Any) -> _Pair:
        """The blob as its readers get it, in its own shape: that is what the Net's layers are to read as well."""
        g = self._bounds
        (stored,) = g.copy(into, [blob, *into.input[1:]])
        (restored,) = g.copy(back, [stored, *back.input[1:]])
        for node in list(g.nodes[-2:]):
            g.follow(node, list(node.input))
        error = g.errors.get(restored)
        g.reset(restored)
        self._read[blob] = restored
        return _Pair(blob, restored, blob, error)

    def _measured(self, actual: str, pair: _Pair) -> list[str]:
        """The largest error in parts of its bound, the mean square of the errors, and that of the exact numbers."""
        g = self._bounds
        usual = g.op("Less", g.op("Abs", pair.exact), g.const(_USUAL))  # of infinite ones and NaN nothing is asked
        none = g.const(0)
        exact = g.op("Where", usual, pair.exact, none)
        apart = g.op("Where", usual, g.op("Abs", g.op("Sub", actual, exact)), none)
        mean = g.op("ReduceMean", g.op("Mul", exact, exact), keepdims=0)
        rtol, atol = self._tolerance
        scale = g.op("Max", g.op("Abs", exact), g.op("Sqrt", mean))
        limit = g.op("Add", g.op("Mul", scale, g.const(rtol)), g.const(max(atol, _NOT_0)))
        if pair.error is not None:
            limit = g.op("Add", limit, g.op("Mul", pair.error, g.const(_ROUND_UP)))
        finite = g.op("Less", apart, g.const(np.inf))
        share = g.op("Where", finite, g.op("Div", apart, limit), g.const(np.inf))
        square = g.op("ReduceMean", g.op("Mul", apart, apart), keepdims=0)
        return [g.op("ReduceMax", share, keepdims=0), square, mean]

    def message(self) -> Any:
        """Return the ModelProto."""
        model = onnx.ModelProto(ir_version=self._ir_version)
        model.opset_import.extend(self._model.opset_import)
        model.functions.extend(self._model.functions)
        graph = model.graph
        graph.name = "side by side"
        for part in (self._model.graph, self._exact):
            graph.input.extend(part.input)
            graph.initializer.extend(part.initializer)
            graph.sparse_initializer.extend(part.sparse_initializer)
        graph.initializer.extend(self._bounds.constants)
        graph.node.extend([*self._model.graph.node, *self._bounds.nodes])
        for name in self.outputs:
            graph.output.add(name=name)
        return model

    def owns(self, results: Mapping[str, np.ndarray]) -> dict[str, Own]:
        """Return {blob's tensor: Own} of the arrays of ``outputs``."""
        owns: dict[str, Own] = {}
        for pair, names in self._measures:
            arrays = [np.asarray(results[name]) for name in names]
            own = _own_of(arrays, self._unbounded[pair.blob])
            before = owns.get(pair.blob)
            if before is not None and before.share is not None and own.share is not None:
                own = Own(max(before.share, own.share), before.rms)
            owns[pair.blob] = own
        return owns


def _own(twin: str) -> str:
    """The name of what the Net itself makes of a blob that its layers read from the file."""
    return f"{EXACT}{twin}/own"


def _own_of(arrays: list[np.ndarray], unbounded: str) -> Own:
    if unbounded:
        alike = arrays[0].shape == arrays[1].shape
        return Own(None, rms_share(arrays[0], arrays[1]) if alike else float("inf"), unbounded)
    share, square, mean = (float(array) for array in arrays)
    return Own(share, (square / mean) ** 0.5 if mean else 0.0 if not square else float("inf"))
