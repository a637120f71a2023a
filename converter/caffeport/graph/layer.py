"""A layer of a net, what it makes, and what it has learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..errors import NetError, WeightsError, shape_text
from ..formats.prototxt import Message
from ..memory import check_room
from ..operators.base import MAX_AXES, MAX_INT, BlobSpec, Operator, Shape
from ..operators.fillers import fill, generator

if TYPE_CHECKING:
    pass


@dataclass(eq=False)
class Value:
    """A blob at one point of the net. ``key`` is unique; the last Value of a blob has ``key == name``."""

    name: str
    layer: Layer
    shape: Shape = ()
    consumers: list[Layer] = field(default_factory=list)
    key: str = ""

    def __repr__(self) -> str:
        return f"Value({self.key or self.name}: {shape_text(self.shape)})"


class Param:
    """A learned blob. Layers that share a blob hold the same Param."""

    def __init__(self, spec: BlobSpec, layer: str, index: int, seed: int) -> None:
        self.spec, self.layer, self.index = spec, layer, index
        self.lr_mult, self.decay_mult = 1.0, 1.0
        self.from_filler = True  # until numbers are given
        self.from_file = False  # while its numbers are those of the net's weights file
        self.is_fixed = False  # by a filler without chance, where the weights that were given leave the layer out
        self._seed = seed
        self._array: np.ndarray | None = None
        self._read: Callable[[], np.ndarray] | None = None

    @property
    def shape(self) -> Shape:
        """Return the blob's shape, as Caffe has it."""
        return self.spec.shape

    @property
    def name(self) -> str:
        """Return the blob's name in its layer: "weight", "bias", "mean" ..., as in the torch module's state_dict."""
        return self.spec.name

    @property
    def trained(self) -> bool:
        """Return whether a solver trains it; False for statistics that the forward pass keeps."""
        return self.spec.trained

    @property
    def data(self) -> np.ndarray:
        """Return the float32 numbers in ``shape``: from the weights file (read-only, not copied), else the filler's."""
        if self._read is not None:
            return self._read()
        if self._array is None:
            what = f'layer "{self.layer}": filling its blob {self.index} ({shape_text(self.shape)})'
            check_room(12 * math.prod(self.shape), what)  # in float64 on the way
            try:
                self._array = fill(self.spec.filler, self.shape, generator(self._seed, self.layer, self.index))
            except NetError as error:
                raise NetError(f'layer "{self.layer}": {error}') from None
        return self._array

    @data.setter
    def data(self, array: np.ndarray) -> None:
        if tuple(array.shape) != self.shape:
            raise WeightsError(
                f'layer "{self.layer}": blob {self.index} is {shape_text(self.shape)}, got {shape_text(array.shape)}'
            )
        # ascontiguousarray would give a 0-D blob an axis
        self._read, self._array = None, np.array(array, np.float32, order="C")
        self.from_filler = self.from_file = False

    def read_from(self, read: Callable[[], np.ndarray]) -> None:
        """Take the numbers from ``read()`` whenever they are asked for."""
        self._read, self._array, self.from_filler, self.from_file = read, None, False, False

    def carry(self, source: Param) -> None:
        """Hold the numbers that ``source`` has now, not copied, in this blob's shape, and its multipliers.

        Numbers that either is given later are its own.
        """
        present = copy(source)
        self.read_from(partial(_numbers, present, self.shape))
        self.from_filler, self.is_fixed, self.from_file = source.from_filler, source.is_fixed, source.from_file
        self.lr_mult, self.decay_mult = source.lr_mult, source.decay_mult


def _numbers(param: Param, shape: Shape) -> np.ndarray:
    return param.data.reshape(shape)


@dataclass(eq=False)
class Layer:
    """One layer: its type's knowledge (``op``), what it reads and makes, and its blobs."""

    name: str
    type: str
    op: Operator
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    specs: list[BlobSpec] = field(default_factory=list)  # as this layer sees its params (PERMISSIVE sharing)
    loss_weights: list[float] = field(default_factory=list)
    propagate_down: list[bool] = field(default_factory=list)  # of each input: may its gradient pass on? Empty: yes
    text: Message | None = None  # its message in the net's text; None for an input that only input_shapes names
    maker: Layer | None = None  # of an input: the layer of another phase that would make it

    @property
    def bottoms(self) -> list[str]:
        """Return the names of the blobs that it reads."""
        return [value.name for value in self.inputs]

    @property
    def tops(self) -> list[str]:
        """Return the names of the blobs that it makes."""
        return [value.name for value in self.outputs]

    @property
    def blobs(self) -> list[np.ndarray]:
        """Return the numbers of its learned blobs, float32, in Caffe's order."""
        return [param.data.reshape(spec.shape) for param, spec in zip(self.params, self.specs, strict=True)]

    @property
    def multiply_adds(self) -> int:
        """Return the multiply-adds of one forward pass at the declared shapes; 0 for layers without big weights."""
        if not self.inputs:
            return 0
        return int(self.op.multiply_adds([v.shape for v in self.inputs], [v.shape for v in self.outputs]))

    @property
    def title(self) -> str:
        """Return its name and type as messages have them."""
        return f'layer "{self.name}" ({self.type})'

    def __repr__(self) -> str:
        return f"Layer({self.name!r}, {self.type!r}, {self.bottoms} -> {self.tops})"


def top_shapes(layer: Layer, bottoms: list[Shape]) -> list[Shape]:
    """Return the layer's top shapes, checked: as many as tops, no axis below 1, no blob beyond Caffe's limit."""
    layer.op.check_axes(bottoms)
    shapes = [tuple(map(int, shape)) for shape in layer.op.top_shapes(bottoms)]
    if len(shapes) != len(layer.outputs):
        raise NetError(f"{layer.title}: makes {len(shapes)} tops, but {len(layer.outputs)} are named")
    for value, shape in zip(layer.outputs, shapes, strict=True):
        if not is_allowed(shape):
            check_shape(shape, f'{layer.title}: top "{value.name}"')
    return shapes


def is_allowed(shape: Shape) -> bool:
    """Return whether a blob of Caffe's may have this shape; ``check_shape`` says what is wrong with another."""
    return len(shape) <= MAX_AXES and min(shape, default=1) >= 1 and math.prod(shape) <= MAX_INT


def check_shape(shape: Shape, title: str) -> None:
    """Raise NetError, with the title of a blob in front, for a shape that no blob of Caffe's may have."""
    if is_allowed(shape):
        return
    if len(shape) > MAX_AXES:
        raise NetError(f"{title} would have {len(shape)} axes; Caffe allows {MAX_AXES}")
    if any(dim < 1 for dim in shape):
        raise NetError(f"{title} would have the shape {shape_text(shape)}: the input is too small, or a size is wrong")
    raise NetError(f"{title} would have the shape {shape_text(shape)}: more than the 2^31 - 1 numbers Caffe allows")
