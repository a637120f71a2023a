"""The axes of a net's blobs that change when the batch, or the size, of its inputs does, or what the numbers are."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NetError
from ..graph.layer import Layer, Value, top_shapes
from ..graph.net import Net
from ..operators.base import Role, Shape


class FixedAxesError(NetError):
    """A layer does not allow that axes of the inputs change."""

    def __init__(self, layer: Layer, problem: str) -> None:
        super().__init__(problem)
        self.layer = layer


class Axes:
    """The axes of each Value that change with the batch, the height and the width of the inputs.

    Only ``inputs`` are varied and only ``layers`` are asked: what an export leaves out fixes nothing in it. Axes whose
    length the numbers decide (``Operator.varying_axis``), and what follows from them, change in any case.
    """

    def __init__(self, net: Net, layers: Sequence[Layer], inputs: Sequence[Value], batch: bool, size: bool) -> None:
        self._net, self._layers, self._inputs = net, layers, inputs
        self._names: dict[Value, dict[int, str]] = {}
        rows = [value for value in inputs if self._holds_rows(value)] if batch or size else []
        if batch:
            self._vary({0: "N"}, rows)
        if size:
            self._vary({2: "H", 3: "W"}, rows)
        try:
            self._vary_rows(rows)
        except NetError:
            if not rows:
                raise
            self._vary_rows([])

    def _holds_rows(self, value: Value) -> bool:
        """Return whether the Value, an input, has a row for every region, whatever the batch is."""
        reads = [(layer, place) for layer in value.consumers for place, bottom in enumerate(layer.inputs)
                 if bottom is value and layer in self._layers]  # fmt: skip
        return bool(reads) and all(place in layer.op.row_bottoms for layer, place in reads)

    def _vary_rows(self, inputs: Sequence[Value]) -> None:
        """Double the rows of these inputs, and of every top whose length the numbers decide, and see what follows."""
        shapes: dict[Value, Shape] = {value: value.shape for value in self._net.input_values}
        shapes.update({value: (2 * value.shape[0], *value.shape[1:]) for value in inputs})
        for layer in self._layers:
            if layer.op.role is Role.DATA:
                continue
            tops = top_shapes(layer, [shapes[value] for value in layer.inputs])
            for value, top in zip(layer.outputs, tops, strict=True):
                axis = layer.op.varying_axis
                longer = top if axis is None else (*top[:axis], 2 * value.shape[axis], *top[axis + 1 :])
                shapes[value] = longer
        for value, shape in shapes.items():
            if len(shape) != len(value.shape):
                raise NetError(f'the number of axes of "{value.name}" changes')
            for axis, (before, after) in enumerate(zip(value.shape, shape, strict=True)):
                if before != after:
                    self._names.setdefault(value, {}).setdefault(axis, f"{value.key}_{axis}")

    def _vary(self, names: dict[int, str], rows: Sequence[Value]) -> None:
        """Double these axes of every input that has them as the first (image) input has, and see what follows.

        rows: inputs whose first axis is not the batch.

        Raises NetError if a blob or a layer does not fit then.
        """
        rank = 1 if 0 in names else 4
        varied = [
            v for v in self._inputs if len(v.shape) >= rank and (rank == 1 or len(v.shape) == 4) and v not in rows
        ]
        if not varied:
            raise NetError("no input has these axes")
        for axis, name in names.items():
            size = varied[0].shape[axis]
            moved = [value for value in varied if value.shape[axis] == size]
            doubled = {v: tuple(2 * d if i == axis else d for i, d in enumerate(v.shape)) for v in moved}
            for value, shape in self._infer(doubled).items():
                if len(shape) != len(value.shape):
                    raise FixedAxesError(value.layer, "the number of axes changes")
                for i, (before, after) in enumerate(zip(value.shape, shape, strict=True)):
                    if before != after:
                        exact = before == size and after == 2 * size and i == axis
                        self._names.setdefault(value, {})[i] = name if exact else f"{value.key}_{i}"

    def _infer(self, shapes: dict[Value, Shape]) -> dict[Value, Shape]:
        try:
            return self._net.infer(shapes, self._layers)
        except NetError as error:
            fitting, failing = 0, len(self._layers)  # as many of the first layers
            while failing - fitting > 1:
                middle = (fitting + failing) // 2
                try:
                    self._net.infer(shapes, self._layers[:middle])
                    fitting = middle
                except NetError:
                    failing = middle
            raise FixedAxesError(self._layers[failing - 1], str(error)) from None

    def of(self, value: Value) -> frozenset[int]:
        """Return the axes of the Value that change."""
        return frozenset(self._names.get(value, {}))

    def dims(self, value: Value) -> list[int | str]:
        """Return the Value's shape, with a name for each axis that changes."""
        names = self._names.get(value, {})
        return [names.get(axis, dim) for axis, dim in enumerate(value.shape)]
