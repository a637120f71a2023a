"""What only scales and shifts channels, folded into a neighbour with weights: by connection, never by list order.

Such a layer (BatchNorm, Scale, Bias, Power) goes backwards into the convolution, inner product or BatchNorm that makes
its bottom, through Concat and Slice where all of it goes through; else forwards into the convolution or inner product
that reads its top, where no padding stands between. Nobody but the layers on the way reads what lies between them, and
none of it is asked for as an output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..graph.layer import Layer, Value
from ..graph.net import Shape
from ..operators.joining import Concat, Slice

LARGEST_SHIFT = 100.0
"""Of a shift before a sum: what it takes away from the sum costs float32 that many times its rounding, 1e-5 here."""


@dataclass(frozen=True)
class Piece:
    """An affine layer's channels from ``source`` on, ``count`` of them, which are another blob's from ``start`` on."""

    layer: Layer
    source: int
    start: int
    count: int

    def within(self, first: int, length: int) -> Piece | None:
        """Return the part that lies in ``length`` channels from ``first`` on, counted from there; None where none
        does."""
        start, end = max(self.start, first), min(self.start + self.count, first + length)
        if start >= end:
            return None
        return Piece(self.layer, self.source + start - self.start, start - first, end - start)

    def moved(self, by: int) -> Piece:
        return Piece(self.layer, self.source, self.start + by, self.count)


@dataclass
class Folded:
    """A layer with what it swallowed: ``after`` acts on its top, in this order, and ``before`` on its bottom."""

    layer: Layer
    after: list[Piece] = field(default_factory=list)
    before: list[Layer] = field(default_factory=list)

    @property
    def shapes(self) -> list[Shape]:
        """Return the shapes of the new blobs."""
        return self.layer.op.absorbed_shapes(self.layer.outputs[0].shape, [spec.shape for spec in self.layer.specs])

    def blobs(self) -> list[np.ndarray]:
        """Return the new blobs, computed in float64 and rounded once."""
        layer, blobs = self.layer, self.layer.blobs
        if self.before:
            bottom = layer.inputs[0].shape
            scale, shift = np.ones(bottom[1]), np.zeros(bottom[1])
            for affine in self.before:
                factor, summand = _affine(affine)
                scale, shift = scale * factor, shift * factor + summand
            blobs = layer.op.absorb_before(bottom, blobs, scale, shift)
        top = layer.outputs[0].shape
        scale, shift = np.ones(top[1]), np.zeros(top[1])
        for piece in self.after:
            factor, summand = (array[piece.source : piece.source + piece.count] for array in _affine(piece.layer))
            place = slice(piece.start, piece.start + piece.count)
            scale[place] *= factor
            shift[place] = shift[place] * factor + summand
        if self.after:
            blobs = layer.op.absorb(top, blobs, scale, shift)
        return [np.asarray(blob, np.float32) for blob in blobs]


class Plan:
    """Which layers swallow which; an empty one leaves every layer as it is."""

    def __init__(self) -> None:
        self.folds: dict[Layer, Folded] = {}
        self.swallowed: set[Layer] = set()
        self._roots: dict[Value, Value] = {}
        self._stands_for: dict[Value, Value | None] = {}

    def root(self, value: Value) -> Value:
        """Return the Value whose layer makes this one's numbers."""
        return self._roots.get(value, value)

    def stands_for(self, value: Value) -> Value | None:
        """Return the Value whose numbers this one's layer makes; None where they are no blob's."""
        return self._stands_for.get(value, value)

    def absorb_after(self, affine: Layer, targets: Sequence[tuple[Layer, Piece]], between: Sequence[Value]) -> None:
        """Note that the targets swallow a layer; ``between`` are the blobs before it, from its own bottom on."""
        for layer, piece in targets:
            self.folds.setdefault(layer, Folded(layer)).after.append(piece)
        self.swallowed.add(affine)
        bottom, top = self.root(affine.inputs[0]), affine.outputs[0]
        for value in between:
            self._stands_for[self.root(value)] = None
        self._stands_for[bottom] = self._roots_to(top, bottom)

    def absorb_before(self, layer: Layer, affines: Sequence[Layer]) -> None:
        """Note that a layer swallows the chain of layers that makes its bottom."""
        self.folds.setdefault(layer, Folded(layer)).before.extend(affines)
        for affine in affines:
            self.swallowed.add(affine)
            self._roots_to(affine.outputs[0], self.root(affine.inputs[0]))

    def _roots_to(self, value: Value, root: Value) -> Value:
        self._roots[value] = root
        return value


def plan(layers: Sequence[Layer], wanted: Sequence[Value]) -> Plan:
    """Return what is folded into what, for the layers of a file with these outputs."""
    planner = _Planner(layers, wanted)
    for layer in layers:
        if layer not in planner.plan.swallowed and _is_affine(layer):
            planner.fold(layer)
    return planner.plan


class _Planner:
    def __init__(self, layers: Sequence[Layer], wanted: Sequence[Value]) -> None:
        self.plan = Plan()
        self._members, self._wanted = set(layers), set(wanted)

    def fold(self, affine: Layer) -> None:
        """Fold the layer backwards, else forwards, else not."""
        bottom = affine.inputs[0]
        targets: list[tuple[Layer, Piece]] = []
        between: list[Value] = []
        if self._backwards(bottom, affine, Piece(affine, 0, 0, bottom.shape[1]), targets, between):
            self.plan.absorb_after(affine, targets, between)
            return
        chain, reader = [affine], self._only_reader(affine.outputs[0])
        while reader is not None and _is_affine(reader):
            chain.append(reader)
            reader = self._only_reader(reader.outputs[0])
        if reader is not None and len(reader.inputs) == len(reader.outputs) == 1:
            shifts = np.concatenate([_affine(one)[1] for one in chain])
            fits = reader.op.can_absorb_before(reader.inputs[0].shape, bool(shifts.any()))
            if fits and np.abs(shifts).max() <= LARGEST_SHIFT:  # NaN is not
                self.plan.absorb_before(reader, chain)

    def _backwards(
        self,
        value: Value,
        reader: Layer,
        piece: Piece,
        targets: list[tuple[Layer, Piece]],
        between: list[Value],
    ) -> bool:
        """Collect the layers that make these channels of the Value, which only ``reader`` reads; False where one of
        them cannot absorb."""
        if self._only_reader(value) is not reader:
            return False
        between.append(value)
        maker = value.layer
        if maker not in self._members or value not in maker.outputs:
            return False
        if maker in self.plan.swallowed:  # its bottom's maker makes these numbers
            return self._backwards(maker.inputs[0], maker, piece, targets, between)
        shape = value.shape
        if len(maker.outputs) == 1 and maker.op.can_absorb(shape):
            targets.append((maker, piece))
            return True
        if isinstance(maker.op, Concat) and maker.op.joined_axis(shape) == 1:
            first = 0
            for bottom in maker.inputs:
                part = piece.within(first, bottom.shape[1])
                first += bottom.shape[1]
                if part is not None and not self._backwards(bottom, maker, part, targets, between):
                    return False
            return True
        if isinstance(maker.op, Slice) and maker.op.cut_axis(shape) == 1:
            first = sum(top.shape[1] for top in maker.outputs[: maker.outputs.index(value)])
            return self._backwards(maker.inputs[0], maker, piece.moved(first), targets, between)
        return False

    def _only_reader(self, value: Value) -> Layer | None:
        """Return the one layer that reads the Value, once; None where there are others or it is asked for."""
        readers = [reader for reader in value.consumers if reader in self._members]
        alone = len(readers) == 1 and value not in self._wanted and readers[0].inputs.count(value) == 1
        return readers[0] if alone else None


def _is_affine(layer: Layer) -> bool:
    if len(layer.inputs) != 1 or len(layer.outputs) != 1:
        return False
    return layer.op.channel_affine(layer.inputs[0].shape, layer.blobs) is not None


def _affine(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return (scale, shift) of a layer that is affine."""
    numbers = layer.op.channel_affine(layer.inputs[0].shape, layer.blobs)
    assert numbers is not None
    return numbers


def once(make: Callable[[], list[np.ndarray]]) -> Callable[[], list[np.ndarray]]:
    """Call ``make()`` once for the two blobs of one fold: the last result stays until it is taken."""
    cache: list[list[np.ndarray]] = []

    def cached() -> list[np.ndarray]:
        if cache:
            return cache.pop()
        result = make()
        cache.append(result)
        return result

    return cached
