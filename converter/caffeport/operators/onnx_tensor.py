"""The values and nodes of an ONNX graph: a tensor knows its name, shape, dtype and dynamic axes.

Shape and dtype of a node's result follow from the node's inputs by the rule for its kind (onnx_shapes.py and
onnx_windows.py hold the rules, onnx_numbers.py the arithmetic of sizes). They are inferred when an operator first asks
for them: an export in which nobody asks pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

Shape = tuple[int, ...]
DType = np.dtype[Any]

FLOAT: DType = np.dtype(np.float32)
INT64: DType = np.dtype(np.int64)
BOOL: DType = np.dtype(np.bool_)


class StaticShapeError(Exception):
    """A layer's ONNX form depends on an axis that was to stay dynamic; the export tries again without."""


class UnknownShapeError(RuntimeError):
    """A shape or dtype that no rule tells, or that only the numbers tell: an operator must not ask for it."""


class Tensor:
    """An ONNX value: ``shape`` at the net's declared input size, ``dynamic`` the axes that may differ.

    It is an input or a weight, whose shape is given, or a result of ``node``, whose shape is inferred. ``array`` holds
    the numbers of a constant.
    """

    __slots__ = ("_doubled", "_dtype", "_dynamic", "_shape", "array", "name", "node")

    def __init__(
        self,
        name: str,
        shape: Shape | None = None,
        dynamic: Collection[int] = (),
        dtype: DType | None = FLOAT,
        *,
        array: np.ndarray | None = None,
        node: Node | None = None,
    ) -> None:
        self.name, self.node, self.array = name, node, array
        self._shape, self._dtype = shape, dtype
        self._dynamic = None if shape is None else frozenset(dynamic)
        self._doubled: Shape | None = None

    def __repr__(self) -> str:
        return f"Tensor({self.name!r})"

    def declare(self, shape: Shape, dynamic: Collection[int] = ()) -> None:
        """Set the shape, as the net knows it, in place of what would be inferred."""
        self._shape, self._dynamic, self._doubled, self._dtype = shape, frozenset(dynamic), None, FLOAT

    @property
    def shape(self) -> Shape:
        """The shape at the net's declared input size."""
        return self.shape_at(doubled=False)

    @property
    def dynamic(self) -> frozenset[int]:
        """The axes whose size depends on that of the net's inputs."""
        if self._dynamic is None:
            pairs = zip(self.shape, self.shape_at(doubled=True), strict=True)
            self._dynamic = frozenset(axis for axis, (size, other) in enumerate(pairs) if size != other)
        return self._dynamic

    @property
    def dtype(self) -> DType:
        """The dtype of the numbers, as NumPy has it."""
        if self._dtype is None:
            assert self.node is not None
            for output, dtype in zip(self.node.outputs, self.node.rule.dtypes(self.node), strict=True):
                output._dtype = dtype if output._dtype is None else output._dtype
        assert self._dtype is not None
        return self._dtype

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def static(self, axis: int) -> int:
        """Return the size of an axis whose size must be known."""
        if axis % self.rank in self.dynamic:
            raise StaticShapeError(self.name)
        return self.shape[axis]

    def shape_at(self, doubled: bool) -> Shape:
        """Return the shape at the declared input size, or with every dynamic axis of the layer's bottoms
        ``doubled``."""
        shape = self._doubled if doubled else self._shape
        if shape is not None:
            return shape
        if self._shape is not None and self._dynamic is not None:  # both declared, or both inferred
            self._doubled = tuple(2 * size if axis in self._dynamic else size for axis, size in enumerate(self._shape))
            return self._doubled
        assert self.node is not None
        shapes = self.node.rule.shapes(Inference(self.node, doubled))
        for output, inferred in zip(self.node.outputs, shapes, strict=True):
            if doubled and output._doubled is None:
                output._doubled = inferred
            elif not doubled and output._shape is None:
                output._shape = inferred
        shape = self._doubled if doubled else self._shape
        assert shape is not None
        return shape

    def numbers_at(self, doubled: bool) -> np.ndarray | None:
        """Return the numbers of a constant, or of what follows from shapes and constants alone; None where they are
        data."""
        if self.array is not None or self.node is None:
            return self.array
        rule = NUMBERS.get(self.node.op)
        if rule is None or self not in self.node.outputs[:1]:
            return None
        return rule(Inference(self.node, doubled))


@dataclass(eq=False)
class Node:
    """An ONNX node; an input that is left out is None."""

    op: str
    inputs: list[Tensor | None]
    attributes: dict[str, Any]
    name: str
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def reads(self) -> list[str]:
        """The names that the node reads, its body included."""
        body = self.attributes.get("body")
        own = [x.name for x in self.inputs if x is not None]
        return [*own, *(name for inner in body.nodes for name in inner.reads)] if body else own

    @property
    def rule(self) -> Rule:
        """The rule for this kind of node."""
        if self.op not in RULES:
            raise UnknownShapeError(
                f"no rule tells the shape of what ONNX's {self.op} gives (node {self.name!r}); "
                "write one into operators/onnx_shapes.py"
            )
        return RULES[self.op]


@dataclass
class Subgraph:
    """The body of a Scan."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    nodes: list[Node]


class Inference:
    """A node as its rule sees it: the shapes and numbers of its inputs at one size of the net's inputs."""

    def __init__(self, node: Node, doubled: bool) -> None:
        self.node, self.doubled = node, doubled
        self.count = len(node.outputs)

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)

    def has(self, index: int) -> bool:
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def input(self, index: int) -> Tensor:
        x = self.node.inputs[index]
        if x is None:
            raise UnknownShapeError(f"{self.node.op} (node {self.node.name!r}) lacks input {index}")
        return x

    def shape(self, index: int = 0) -> Shape:
        return self.input(index).shape_at(self.doubled)

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of all inputs."""
        return [self.shape(index) for index in range(len(self.node.inputs))]

    def numbers(self, index: int) -> np.ndarray:
        """Return the numbers of an input that follow from shapes and constants."""
        numbers = self.input(index).numbers_at(self.doubled)
        if numbers is None:
            self.depends_on_data()
        return numbers

    def ints(self, index: int) -> list[int]:
        """Return the numbers of an input, which are sizes, axes or the like."""
        return [int(number) for number in self.numbers(index).reshape(-1)]

    def depends_on_data(self) -> NoReturn:
        """Raise UnknownShapeError, because what the net is given decides."""
        raise UnknownShapeError(
            f"the shape of what {self.node.op} gives (node {self.node.name!r}) depends on numbers that do not follow "
            "from shapes and constants"
        )


@dataclass(frozen=True)
class Rule:
    """A kind of node's rule: a shape and a dtype for each output."""

    shapes: Callable[[Inference], list[Shape]]
    dtypes: Callable[[Node], list[DType]]


RULES: dict[str, Rule] = {}
"""{kind of node: its rule}"""
NUMBERS: dict[str, Callable[[Inference], np.ndarray | None]] = {}
"""{kind of node: the numbers of its output}, for the kinds that sizes are computed with."""


def same_dtype(node: Node) -> list[DType]:
    """Return the first input's dtype for every output."""
    first = node.inputs[0]
    assert first is not None
    return [first.dtype] * len(node.outputs)


def fixed_dtype(*dtypes: DType) -> Callable[[Node], list[DType]]:
    return lambda node: list(dtypes[: len(node.outputs)])


def dtype_of(index: int) -> Callable[[Node], list[DType]]:
    def tell(node: Node) -> list[DType]:
        x = node.inputs[index]
        assert x is not None
        return [x.dtype]

    return tell


def rule(*kinds: str, dtypes: Callable[[Node], list[DType]] = same_dtype) -> Callable[[Any], Any]:
    """Decorate a function Inference -> shapes of the outputs as the rule for these kinds of nodes."""

    def add(shapes: Callable[[Inference], list[Shape]]) -> Callable[[Inference], list[Shape]]:
        RULES.update(dict.fromkeys(kinds, Rule(shapes, dtypes)))
        return shapes

    return add


def numbers_rule(*kinds: str) -> Callable[[Any], Any]:
    """Decorate a function Inference -> the numbers of the output, for these kinds of nodes."""

    def add(numbers: Callable[[Inference], np.ndarray | None]) -> Callable[[Inference], np.ndarray | None]:
        NUMBERS.update(dict.fromkeys(kinds, numbers))
        return numbers

    return add
