"""Sums, products and the like of two blobs that broadcast, and sums over axes, of Synopsys' fork.

Definitions: foss-for-synopsys-dwc-arc-processors/synopsys-caffe, src/caffe/layers/{add,sub,mul,div,...}_layer.cpp and
reduce_*_layer.cpp.
"""

from __future__ import annotations

import itertools
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from ..formats.schema import schema
from .base import MAX_AXES, BlobSpec, Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class Pairwise(Operator):
    """Axes are compared from the last on; one of length 1, or missing, is repeated."""

    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)
    onnx_kind = ""

    def broadcast(self, first: Shape, second: Shape) -> Shape:
        pairs = list(itertools.zip_longest(reversed(first), reversed(second), fillvalue=1))
        if any(a != b and 1 not in (a, b) for a, b in pairs):
            self.fail(f"expected axes of one length, or of length 1, got {first} and {second}")
        top = tuple(max(pair) if 0 not in pair else 0 for pair in reversed(pairs))
        self.check_padded(top)
        return top

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [self.broadcast(bottoms[0], bottoms[1])]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Pairwise(self.onnx_kind)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op(self.onnx_kind, *x)


@layer_type("Add")
class Add(Pairwise):
    """a + b, broadcast"""

    onnx_kind = "Add"


@layer_type("Sub")
class Sub(Pairwise):
    """a - b, broadcast"""

    onnx_kind = "Sub"


@layer_type("Div")
class Div(Pairwise):
    """a / b, broadcast"""

    onnx_kind = "Div"


@layer_type("Maximum")
class Maximum(Pairwise):
    """The larger of a and b, broadcast"""

    onnx_kind = "Max"


@layer_type("Minimum")
class Minimum(Pairwise):
    """The smaller of a and b, broadcast"""

    onnx_kind = "Min"


@schema
class MulParameter:
    mul_shape: list[int] = field(default_factory=list)


@layer_type("Mul")
class Mul(Pairwise):
    """a * b, broadcast; with one bottom, b is a blob of the shape ``mul_shape``"""

    schemas = {"mul_param": MulParameter}
    bottoms = (1, 2)
    onnx_kind = "Mul"

    def setup(self) -> None:
        if len(self.p.mul_shape) > MAX_AXES or min(self.p.mul_shape, default=1) < 1:
            self.fail(f"expected a mul_shape of up to {MAX_AXES} axes of 1 or more, got {self.p.mul_shape}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [self.broadcast(bottoms[0], bottoms[1] if len(bottoms) > 1 else tuple(self.p.mul_shape))]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        return [] if len(bottoms) > 1 else [BlobSpec("weight", tuple(self.p.mul_shape))]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Pairwise("Mul")

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.op("Mul", x[0], x[1] if len(x) > 1 else g.blob(0))


@schema
class ReduceParameter:
    axis: list[int] = field(default_factory=list)
    keepdims: bool = False


@schema
class NormParameter:
    axes: list[int] = field(default_factory=list)
    keepdims: int = 1


class Reduce(Operator):
    """Over the given axes, or all where none is given; keepdims leaves them with a length of 1."""

    onnx_kind = ""

    def axes(self, rank: int) -> list[int]:
        fields = self.p.axes if isinstance(self.p, NormParameter) else self.p.axis
        return sorted({self.axis(axis, rank) for axis in fields}) or list(range(rank))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,), axes = bottoms, self.axes(len(bottoms[0]))
        if self.p.keepdims:
            return [tuple(1 if axis in axes else size for axis, size in enumerate(bottom))]
        return [tuple(size for axis, size in enumerate(bottom) if axis not in axes)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Reduce(self.onnx_kind, self.axes(len(bottoms[0])), bool(self.p.keepdims))

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        axes = self.axes(x[0].rank)
        return g.reduce(self.onnx_kind, x[0], axes, bool(self.p.keepdims)) if axes else g.op("Identity", x[0])


@layer_type("ReduceSum")
class ReduceSum(Reduce):
    """The sum over ``axis``"""

    schemas = {"reduce_sum_param": ReduceParameter}
    onnx_kind = "ReduceSum"


@layer_type("ReduceMean")
class ReduceMean(Reduce):
    """The mean over ``axis``"""

    schemas = {"reduce_mean_param": ReduceParameter}
    onnx_kind = "ReduceMean"


@layer_type("ReduceMax")
class ReduceMax(Reduce):
    """The maximum over ``axis``"""

    schemas = {"reduce_max_param": ReduceParameter}
    onnx_kind = "ReduceMax"


@layer_type("ReduceMin")
class ReduceMin(Reduce):
    """The minimum over ``axis``"""

    schemas = {"reduce_min_param": ReduceParameter}
    onnx_kind = "ReduceMin"


@layer_type("ReduceProd")
class ReduceProd(Reduce):
    """The product over ``axis``"""

    schemas = {"reduce_prod_param": ReduceParameter}
    onnx_kind = "ReduceProd"


@layer_type("ReduceL1")
class ReduceL1(Reduce):
    """The sum of absolutes over ``axes``"""

    schemas = {"reduce_l1_param": NormParameter}
    onnx_kind = "ReduceL1"


@layer_type("ReduceL2")
class ReduceL2(Reduce):
    """The root of the sum of squares over ``axes``"""

    schemas = {"reduce_l2_param": NormParameter}
    onnx_kind = "ReduceL2"
