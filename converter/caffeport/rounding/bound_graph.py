"""A graph of error bounds beside an ONNX graph: for a tensor t, a float32 tensor E of its shape.

Running error analysis (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 2.2, 3.1 and
3.3): every stored number may have been rounded, and every operator hands on what its inputs are wrong by. The bounds
are nodes themselves, so that the runtime computes them beside the numbers that they hold for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ..lazy import LazyModule
from ..naming import Names

onnx: Any = LazyModule("onnx")

FLOAT, HALF = 1, 10
FLOATS = (FLOAT, HALF, 11)
"""ONNX's numbers of the element types float32, float16 and float64."""
UNIT = 2.0**-11
"""float16's unit roundoff: a rounded number is off by at most this part of itself."""
LEAST = 2.0**-25
"""What a number below float16's normal ones is off by at most: half of the smallest step."""
HUGE = 1e30
"""Stands for a bound that is infinite, so that 0 times it is still 0."""

Rule = Callable[["BoundGraph", Any], "str | Sequence[str] | None"]


def attributes(node: Any) -> dict[str, Any]:
    """Return {name: value} of what the node says of itself."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


class UnboundedError(Exception):
    """An operator's result may change by any amount when its inputs change a little; the message names it."""


class BoundGraph:
    """Collects ``nodes`` and ``constants``, ONNX messages, that compute the bounds of the tensors of a graph.

    ``errors``: {tensor: the tensor of its bound}. ``unbounded``: {tensor: the operator that leaves it without one}.
    A tensor in neither has float32's own errors alone.
    """

    def __init__(
        self, model: Any, types: Mapping[str, int], rules: Mapping[str, Rule], moving: Collection[str]
    ) -> None:
        self._rules, self._moving, self._types = rules, moving, types
        self._opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.stored = {entry.name: entry for entry in model.graph.initializer}
        used = {name for node in model.graph.node for name in (*node.input, *node.output, node.name)}
        self._names = Names([*used, *self.stored, *types, ""])
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.errors: dict[str, str] = {}
        self.unbounded: dict[str, str] = {}
        self.independent: set[str] = set()
        self._sizes: dict[str, str] = {}
        for name, entry in self.stored.items():
            if entry.data_type == HALF:
                self._round(name)

    # Nodes

    def name(self, hint: str) -> str:
        """Return a name that nothing else has."""
        return self._names.take(f"bound/{hint}")

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        name = self.name(kind)
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant and return its name."""
        name = self.name("const")
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def copy(self, node: Any, inputs: Sequence[str], kind: str | None = None) -> list[str]:
        """Add the node once more, on other inputs; return its outputs."""
        again = onnx.NodeProto()
        again.CopyFrom(node)
        names = [self.name(f"{node.op_type}:{place}") for place in range(len(node.output))]
        del again.input[:], again.output[:]
        again.input.extend(inputs)
        again.output.extend(names)
        again.name, again.op_type = names[0], kind or node.op_type
        self.nodes.append(again)
        return names

    def numbers(self, tensor: str) -> str:
        """Return the tensor in float32."""
        return tensor if self.type(tensor) == FLOAT else self.op("Cast", tensor, to=FLOAT)

    def reduce(self, kind: str, tensor: str, axis: int) -> str:
        """Reduce one axis to length 1; ONNX made the axes an input in opset 18."""
        if self._opset < 18:
            return self.op(kind, tensor, axes=[axis], keepdims=1)
        return self.op(kind, tensor, self.const([axis], np.int64), keepdims=1)

    def size(self, tensor: str) -> str:
        """Return the magnitudes of the tensor's numbers in float32."""
        if tensor not in self._sizes:
            self._sizes[tensor] = self.op("Abs", self.numbers(tensor))
        return self._sizes[tensor]

    def type(self, tensor: str) -> int:
        """Return ONNX's number of the tensor's element type; float32 where nobody knows."""
        return self._types.get(tensor, FLOAT)

    # Bounds

    def sum(self, *bounds: str | None) -> str | None:
        """Return the sum of those bounds that there are."""
        there = [bound for bound in bounds if bound is not None]
        if not there:
            return None
        total = there[0]
        for bound in there[1:]:
            total = self.op("Add", total, bound)
        return total

    def whole(self, bound: str | None, tensor: str) -> str | None:
        """Return the bound in the tensor's shape, to which it can be broadcast."""
        return None if bound is None else self.op("Expand", bound, self.op("Shape", tensor))

    def some(self, tensor: str) -> str:
        """Return the tensor's bound, or zeros of its shape."""
        return self.errors.get(tensor) or self.op(
            "Mul", self.op("Min", self.size(tensor), self.const(1)), self.const(0)
        )

    def reset(self, tensor: str) -> None:
        """Let bounds count from this tensor on, as if its numbers were exact.

        A runtime may hand it on with more digits than the file stores, so that one rounding of float16 is left.
        """
        self.errors.pop(tensor, None)
        self.unbounded.pop(tensor, None)
        if self.type(tensor) == HALF:
            self._round(tensor)

    def follow(self, node: Any, reads: Sequence[str]) -> None:
        """Add the bounds of what the node makes; ``reads`` are all tensors that it reads, in graphs of its own too."""
        outputs = [name for name in node.output if name]
        reasons = [self.unbounded[name] for name in reads if name in self.unbounded]
        if node.op_type in ("Shape", "Size"):
            return
        try:
            if reasons:
                raise UnboundedError(reasons[0])
            bounds = self._bounds(node, any(name in self.errors for name in reads))
        except UnboundedError as error:
            self.unbounded.update(dict.fromkeys(outputs, str(error)))
            return
        for place, name in enumerate(outputs):
            if place < len(bounds):
                self.errors[name] = bounds[place]
            elif bounds:
                self.unbounded[name] = node.op_type
            if self.type(name) == HALF and node.op_type not in self._moving and name not in self.unbounded:
                self._round(name)

    def _bounds(self, node: Any, inexact: bool) -> Sequence[str]:
        if not inexact and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return ()
        if node.domain not in ("", "ai.onnx") or node.op_type not in self._rules:
            raise UnboundedError(node.op_type)
        bounds = self._rules[node.op_type](self, node)
        return () if bounds is None else [bounds] if isinstance(bounds, str) else bounds

    def _round(self, tensor: str) -> None:
        """Add one rounding to float16 to the tensor's bound."""
        rounding = self.op(
            "Add", self.op("Mul", self.size(tensor), self.const(UNIT * (1 + 2 * UNIT))), self.const(LEAST)
        )
        self.errors[tensor] = self.sum(self.errors.get(tensor), rounding) or rounding
