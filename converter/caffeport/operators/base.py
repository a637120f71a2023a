"""The one class in which all that is known of a layer type stands.

A subclass gives, for one layer of one net: its parameters (a dataclass with Caffe's names and
defaults), its top shapes, its blobs, its torch module and its ONNX nodes. The walkers
(``to_torch``, ``to_onnx``, ``to_caffe``) know no layer by name. A user's own layer is a subclass too,
passed as ``caffeport.load(..., custom_layers=[MyLayer])``.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, TypeVar

import numpy as np

from ..errors import NetError, shape_text
from ..formats.prototxt import Message
from ..formats.schema import schema
from ..wiring import Reached
from .fillers import FillerParameter
from .onnx_builder import Emitter, Shape, Tensor

MAX_INT = 2**31 - 1
"""Caffe's largest int, and so the largest size, stride or pad, and the most numbers of a blob."""
MAX_AXES = 32
"""Caffe's kMaxBlobAxes."""
LayerClass = TypeVar("LayerClass", bound="type[Operator]")

nn: Any = Reached("torch_modules")
"""The torch modules; imported when a layer is first asked for its module."""


class Phase(enum.Enum):
    TRAIN = 0
    TEST = 1


class Role(enum.Enum):
    """The purpose of a layer, which decides whether it can be exported for inference."""

    INFERENCE = "inference"
    DATA = "data"
    LOSS = "loss"
    METRIC = "metric"


class InPlace(enum.Enum):
    """What Caffe makes of a layer whose top is its own bottom; a net here has a blob of its own for the top."""

    SAME = ""
    REFUSED = "which Caffe refuses"
    OVERWRITTEN = "where Caffe's CPU code reads what it has overwritten, and its numbers are others"
    OTHER_GRADIENT = "where Caffe's backward pass reads what it has overwritten, and its gradient is another"


class Normalization(enum.Enum):
    FULL = 0
    VALID = 1
    BATCH_SIZE = 2
    NONE = 3
    PRE_FIXED = -1
    """It divides by pre_fixed_normalizer. R-FCN's Caffe numbers it 3 and NONE 4; a number in a text is BVLC's here."""


@schema
class LossParameter:
    ignore_label: int | None = None
    normalization: Normalization | None = None
    normalize: bool | None = None
    pre_fixed_normalizer: float = 1.0


@schema
class NoParameters:
    """The schema of a layer without a message of its own."""


@dataclass(slots=True)
class BlobSpec:
    """One blob of a layer, never changed. ``name`` is its attribute in the torch module, hence its state_dict key."""

    name: str
    shape: Shape
    filler: FillerParameter = field(default_factory=FillerParameter)
    trained: bool = True  # False: statistics that forward keeps, a buffer in torch


@dataclass(slots=True)
class LayerContext:
    """All that a layer type may look at when it is set up, and nothing that it may change."""

    name: str
    type: str
    phase: Phase
    messages: dict[str, Any]  # decoded messages that the text gives, by field name
    num_bottoms: int
    num_tops: int
    stored_shapes: tuple[Shape, ...] | None = None  # blob shapes in the weights file, if there is one
    loss: LossParameter = field(default_factory=LossParameter)
    transform: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    text: Message | None = None  # the layer's message in the net's text, where it has one
    propagate_down: tuple[bool, ...] = ()  # of each bottom: may its gradient pass on? Empty: yes


def layer_type(*types: str) -> Callable[[LayerClass], LayerClass]:
    """Decorate a class with the Caffe layer types that it implements."""

    def mark(cls: LayerClass) -> LayerClass:
        cls.types = types
        return cls

    return mark


class Operator:
    """Base of all layer types. Shapes are tuples of int, as Caffe's Blob::shape()."""

    types: ClassVar[tuple[str, ...]] = ()
    schemas: ClassVar[dict[str, type]] = {}  # {message field: dataclass}; the first is the layer's own, `self.p`
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)  # least and most, None for any number
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    bottom_axes: ClassVar[tuple[tuple[int, int | None], ...]] = ((0, None),)
    """Least and most axes of each bottom; the last pair is that of all further bottoms."""
    role: ClassVar[Role] = Role.INFERENCE
    in_place: InPlace = InPlace.SAME
    onnx_support: ClassVar[str] = "yes"  # as the table of layers tells it
    varying_axis: ClassVar[int | None] = None
    """The axis along which the numbers decide how long the tops are (proposals, detections); the declared size is the
    most."""
    row_bottoms: ClassVar[tuple[int, ...]] = ()
    """Bottoms of any number of rows, whatever the batch is (regions): as an input of a file their axis 0 is free."""
    option_names: ClassVar[tuple[str, ...]] = ()
    """The options that the user may set for this layer type with ``load(..., layer_options=...)``."""
    random = False  # whether a training pass depends on random numbers
    full_precision = False  # whether mixed precision has to leave it in float32: sums, margins, small differences

    def __init__(self, context: LayerContext) -> None:
        self.context = context
        self.name, self.type, self.phase = context.name, context.type, context.phase
        own = next(iter(self.schemas), "")
        self.p: Any = self.message(own) if own else NoParameters()
        for title, count, (least, most) in (
            ("bottom", context.num_bottoms, self.bottoms),
            ("top", context.num_tops, self.tops),
        ):
            if count < least or (most is not None and count > most):
                self.fail(f"expected {_span(least, most)} {title} blobs, got {count}")
        self.setup()

    def message(self, name: str) -> Any:
        """Return the decoded message of that field, or its defaults where the text has none."""
        return self.context.messages.get(name) or self.schemas[name]()

    def fail(self, problem: str) -> NoReturn:
        """Raise NetError that names this layer."""
        raise NetError(f'layer "{self.name}" ({self.type}): {problem}')

    def check_axes(self, bottoms: Sequence[Shape]) -> None:
        """Refuse bottoms with fewer or more axes than ``bottom_axes`` says."""
        if self.bottom_axes is Operator.bottom_axes:
            return
        for index, bottom in enumerate(bottoms):
            least, most = self.bottom_axes[min(index, len(self.bottom_axes) - 1)]
            if len(bottom) < least or (most is not None and len(bottom) > most):
                title = f"bottom {index}" if len(bottoms) > 1 else "a bottom"
                self.fail(f"expected {title} of {_span(least, most)} axes, got {len(bottom)}")

    def axis(self, axis: int, rank: int, title: str = "axis") -> int:
        """Count an axis from the front, as Caffe's CanonicalAxisIndex: -1 is the last axis."""
        if not -rank <= axis < rank:
            self.fail(f"{title} {axis} is out of range for a bottom of {rank} axes")
        return axis % rank

    def check_padded(self, shape: Shape) -> None:
        """Refuse a blob with its padding that is beyond what Caffe allows a blob; backends may have to make it."""
        if math.prod(shape) > MAX_INT:
            self.fail(f"a blob of {shape_text(shape)} with its padding is more than the 2^31 - 1 numbers Caffe allows")

    def option(self, name: str, default: Any) -> Any:
        """Return the user's layer option of that name, a number, or ``default`` where there is none."""
        value = self.context.options.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self.fail(f"layer option {name} expects a number, got {value!r}")
        if isinstance(default, int) and value != int(value):
            self.fail(f"layer option {name} expects a whole number, got {value!r}")
        return type(default)(value)

    def same_shape(self, shapes: Sequence[Shape]) -> None:
        """Refuse bottoms of different shapes."""
        if any(shape != shapes[0] for shape in shapes):
            self.fail("expected bottoms of one shape, got " + " and ".join(map(shape_text, shapes)))

    # What a subclass overrides.

    def setup(self) -> None:
        """Check the parameters; bottom shapes are not known yet."""

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        """Return the shape of every top, from the shapes of the bottoms; a pure function."""
        return [bottoms[0]] * self.context.num_tops

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        """Return the learned blobs in Caffe's order; a pure function of the bottom shapes."""
        return []

    def module(self, bottoms: list[Shape]) -> Any:
        """Return the torch module; its forward takes the bottoms and returns the top, or a list of tops if not just
        one.

        torch's own module wherever it does what Caffe does, so that torch's tools know it.
        It is built on torch's meta device and needs an attribute for every name in blob_specs.
        """
        raise NotImplementedError

    def flatten_axis(self, bottoms: list[Shape]) -> int | None:
        """Return the axis from which on the one bottom is flattened before the torch module takes it; None: as it
        is."""
        return None

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor | Sequence[Tensor]:
        """Emit standard ONNX operators on the bottoms ``x``; returns the tensor of each top."""
        g.refuse("it has no ONNX form")

    # What some subclasses override.

    def has_onnx(self) -> bool:
        """Return whether this layer, with its parameters, has an ONNX form."""
        return not self.onnx_support.startswith("no")

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        """Return the multiply-adds of one forward pass; 0 for everything but the layers with big weights."""
        return 0

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        """Return random numbers that this bottom can take (labels, indices), or None where any number will do."""
        return None

    def demanded_bottom(self, index: int, known: Shape) -> Shape | None:
        """Return the shape that the layer demands of a bottom, from the first bottom whose shape is known; None for no
        demand.

        It gives the size of an input that no text tells.
        """
        return None

    def classes(self, bottoms: list[Shape]) -> int | None:
        """Return the number of classes that the labels of ``sample_bottom`` name; None where it knows by itself."""
        return None

    def channel_affine(self, bottom: Shape, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """Return (scale, shift) over axis 1 if the layer is no more than that in this net, else None."""
        return None

    def absorb(self, top: Shape, blobs: list[np.ndarray], scale: np.ndarray, shift: np.ndarray) -> list[np.ndarray]:
        """Return blobs with which the layer's own result comes out as ``result * scale + shift`` over axis 1."""
        raise NotImplementedError

    def can_absorb(self, top: Shape) -> bool:
        """Return whether a following scale and shift over axis 1 can be folded into the blobs."""
        return False

    def absorbed_shapes(self, top: Shape, blobs: list[Shape]) -> list[Shape]:
        """Return the shapes of the blobs that ``absorb`` and ``absorb_before`` make: a weight's and a bias's."""
        return [blobs[0], top[1:2]]

    def absorb_before(
        self, bottom: Shape, blobs: list[np.ndarray], scale: np.ndarray, shift: np.ndarray
    ) -> list[np.ndarray]:
        """Return blobs with which ``bottom`` gives what ``bottom * scale + shift`` over axis 1 gave."""
        raise NotImplementedError

    def can_absorb_before(self, bottom: Shape, shifts: bool) -> bool:
        """Return whether a scale over axis 1, and where it ``shifts`` a shift, before the layer can be folded into
        the blobs."""
        return False


def _span(least: int, most: int | None) -> str:
    return str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"


def count(shape: Sequence[int], start: int = 0, end: int | None = None) -> int:
    """Return the number of elements of axes [start, end)."""
    return math.prod(shape[start:end])
