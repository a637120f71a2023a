"""The shapes of a net's inputs, also where the text leaves them to a database that is not at hand.

A train net's Data layer says neither channels nor size: Caffe reads them from the first record. Here
they come from, in this order: the caller (what follows from it holds for the layer's other tops too, such as
the batch of a label); the layer's own fields; the weights (the size with which every stored blob fits); a
deploy net with the same layers in the same folder; the name of a well-known data set; for labels, the loss
that reads them. A guess that the weights or the net's layers rule out is none. Whatever was not stated is told
as a CaffeportWarning; what cannot be known is refused.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, cast

from ..errors import CaffeportError, CaffeportWarning, NetError, PrototxtError, did_you_mean, shape_text
from ..formats import prototxt
from ..formats.caffemodel import Caffemodel
from ..formats.prototxt import Message
from ..formats.schema import decode
from ..formats.upgrade import upgrade
from ..operators.base import Role, Shape
from ..operators.data import BlobShape, DataLayer, PartialShape
from ..operators.data_forks import CLIP
from ..operators.unknown_data import UnknownData
from .layer import Layer, Value, check_shape, top_shapes

_DATA_SETS = {"mnist": (1, 28, 28), "cifar": (3, 32, 32)}
_USUAL_SIZES = [(s, s) for s in (28, 32, 224, 227, 112, 128, 96, 64, 299, 256)] + [(112, 96)]
_MOST_SIBLINGS = 50


def resolve_input_shapes(
    layers: list[Layer], user_shapes: Mapping[str, Shape], stored: Caffemodel | None, message: Message
) -> dict[Value, Sequence[str]]:
    """Set the shape of every data layer's tops; returns those whose shape only their readers can tell.

    With each comes which guesses the net or its weights ruled out.
    """
    tops = [value for layer in layers if layer.op.role is Role.DATA for value in layer.outputs]
    unused = [name for name in user_shapes if name not in {value.name for value in tops}]
    if unused:
        raise NetError(
            f'input_shapes names "{unused[0]}", which is no input of this net'
            f"{did_you_mean(unused[0], [value.name for value in tops])}"
        )
    open_shapes: dict[Value, PartialShape] = {}
    pending: dict[Value, Sequence[str]] = {}
    for layer in layers:
        if layer.op.role is not Role.DATA:
            continue
        for value, declared in zip(layer.outputs, _declared(layer, user_shapes), strict=True):
            if value.name in user_shapes:
                value.shape = user_shapes[value.name]
            elif declared is not None and all(dim is not None for dim in declared):
                value.shape = cast(Shape, declared)
            elif declared is None:
                pending[value] = ()
                continue
            else:
                open_shapes[value] = declared
                continue
            check_shape(value.shape, f'{layer.title}: input "{value.name}"')
    for value, declared in open_shapes.items():
        shape, ruled_out = _work_out(value, declared, layers, stored, message)
        if shape is None:
            pending[value] = ruled_out
            continue
        value.shape = shape
        if value is value.layer.outputs[0]:
            _follow(value.layer, pending)
    return pending


def _follow(layer: Layer, pending: dict[Value, Sequence[str]]) -> None:
    """Give a layer's other tops the shapes that follow from its first, which is known now."""
    first, *others = layer.outputs
    _, *following = cast(DataLayer, layer.op).following(first.shape)
    for value, shape in zip(others, following, strict=True):
        if value in pending and shape is not None and all(dim is not None for dim in shape):
            del pending[value]
            value.shape = cast(Shape, shape)
            check_shape(value.shape, f'{layer.title}: input "{value.name}"')


def _declared(layer: Layer, user_shapes: Mapping[str, Shape]) -> list[PartialShape | None]:
    """Return the shapes that the text declares, and those that follow from what was given for another of the layer's
    tops."""
    operator = cast(DataLayer, layer.op)
    shapes = operator.declared_shapes()
    first, whole = shapes[0], user_shapes.get(layer.tops[0])
    if whole is not None and (first is None or len(first) == len(whole)):
        return operator.following(whole)
    for name, shape in zip(layer.tops[1:], shapes[1:], strict=True):
        if first is not None and shape == first[:1] and len(user_shapes.get(name, ())) == 1:
            return [(*user_shapes[name], *first[1:]), *shapes[1:]]
    if first is not None and None in shapes and None not in first:
        return operator.following(cast(Shape, first))
    return shapes


def _work_out(
    value: Value, declared: PartialShape, layers: list[Layer], stored: Caffemodel | None, message: Message
) -> tuple[Shape | None, Sequence[str]]:
    """Return the shape of an input whose text leaves it open, or None, and the guesses that were ruled out."""

    def completes(shape: PartialShape) -> bool:
        return len(shape) == len(declared) and all(
            want in (None, dim) for want, dim in zip(declared[1:], shape[1:], strict=True)
        )

    batch = cast(int, declared[0])
    ruled_out: list[str] = []
    rules = (
        ("the weights", lambda: _from_weights(value, declared, layers, stored)),
        ("the deploy net beside it", lambda: _from_sibling(value, layers, message)),
        ("the name of its data set", lambda: _from_data_set(value)),
        ("colour images" if len(declared) == 4 else f"colour clips of {CLIP} frames", lambda: _colour(declared)),
    )
    for source, rule in rules:
        guess = rule()
        if guess is not None and completes(guess):
            shape = cast(Shape, (batch, *guess[1:]))
            check_shape(shape, f'{value.layer.title}: input "{value.name}"')
            if not _fits(value, shape, layers, stored):
                ruled_out.append(f"{shape_text(shape)} from {source}")
                continue
            warnings.warn(
                f'{value.layer.title} does not say the shape of "{value.name}": took {shape_text(shape)} '
                f"from {source}; input_shapes sets another",
                CaffeportWarning,
                stacklevel=5,
            )
            return shape, ruled_out
    return None, ruled_out


def refuse(value: Value, ruled_out: Sequence[str] = ()) -> NoReturn:
    """Raise NetError that asks for the shape of a data layer's top."""
    layer, operator = value.layer, cast(DataLayer, value.layer.op)
    where = sizes = ""
    if isinstance(operator, UnknownData):
        where = f"{layer.text.where()}: " if layer.text is not None else ""
        sizes = f"; its text says {operator.sizes()}" if operator.sizes() else ""
    source = operator.source()
    axes, sizes_of = ("N, C, H, W", "NxCxHxW") if value is layer.outputs[0] else ("N, ...", "Nx...")
    raise NetError(
        f"{where}{layer.title}: {operator.whose()}"
        f'the shape of input "{value.name}" is not known'
        + (f' (its source "{source}" is not at hand)' if source else "")
        + (f"; {' and '.join(ruled_out)} does not fit the net and its weights" if ruled_out else "")
        + f": give it (input_shapes={{'{value.name}': ({axes})}}, or --input-shape {value.name}={sizes_of}){sizes}"
    )


def _fits(value: Value, shape: Shape, layers: list[Layer], stored: Caffemodel | None) -> bool:
    """Return whether every layer takes what it gets if ``value`` has this shape, and every stored blob fits its layer.

    What depends on another input whose shape is still open is not asked, nor what reads a soft label.
    """
    blobs = {name: layers[-1].blobs for name, layers in stored.by_name().items()} if stored else {}
    inputs = [layer for layer in layers if layer.op.role is Role.DATA]
    shapes = {other: other.shape for layer in inputs for other in layer.outputs[: 1 if _is_soft(layer) else None]}
    shapes = {other: other_shape for other, other_shape in shapes.items() if other_shape} | {value: shape}
    try:
        for layer in layers:
            if layer.op.role is Role.DATA or any(bottom not in shapes for bottom in layer.inputs):
                continue
            bottoms = [shapes[bottom] for bottom in layer.inputs]
            tops = top_shapes(layer, bottoms)
            for spec, blob in zip(layer.op.blob_specs(bottoms), blobs.get(layer.name, []), strict=False):
                if not blob.fits(spec.shape):
                    return False
            shapes.update(zip(layer.outputs, tops, strict=True))
    except CaffeportError:
        return False
    return True


def _is_soft(layer: Layer) -> bool:
    return cast(DataLayer, layer.op).soft_labels


def _colour(declared: PartialShape) -> PartialShape | None:
    """Return shapes of three channels, where height and width are known; of clips, which have five axes, C3D's length
    too."""
    batch, channels, *length, height, width = declared
    if not height or not width:
        return None
    return (batch, channels or 3, *(frames or CLIP for frames in length), height, width)


def _from_weights(
    value: Value, declared: PartialShape, layers: list[Layer], stored: Caffemodel | None
) -> PartialShape | None:
    """Return the shape with which every stored blob fits its layer, if a blob depends on it."""
    if stored is None or len(declared) != 4:
        return None
    _, channels, height, width = declared
    batch = cast(int, declared[0])
    sizes = [(height, width)] if height and width else [*_USUAL_SIZES, *((s, s) for s in range(8, 513))]
    for some in (channels,) if channels else (3, 1, 2, 4, 6):
        matches = [size for size in sizes if _fits(value, (batch, some, *cast(Shape, size)), layers, stored)]
        if not matches or (len(sizes) > 1 and len(set(matches)) >= len(set(sizes)) // 2):
            continue
        size = cast(Shape, matches[0])
        if some in (1, 3) or not _fits(value, (batch, 1, some * size[0], size[1]), layers, stored):
            return (batch, some, *size)  # an inner product alone, of 600 numbers, does not say six channels
    return None


def _from_sibling(value: Value, layers: list[Layer], message: Message) -> PartialShape | None:
    """Return the input of the same name in another prototxt of the folder that has most of this net's layers."""
    names = {layer.name for layer in layers if layer.op.role is not Role.DATA}
    for other in _siblings(Path(message.source)):
        theirs = {layer.text("name") for layer in other.messages("layer")}
        if len(names & theirs) * 2 < len(names):
            continue
        for layer in other.messages("layer"):
            if layer.text("type") == "Input" and value.name in layer.texts("top"):
                shapes = [shape for p in layer.messages("input_param") for shape in p.messages("shape")]
                index = min(layer.texts("top").index(value.name), len(shapes) - 1)
                if shapes:
                    with contextlib.suppress(PrototxtError):  # not ours to complain about
                        return tuple(decode(shapes[index], BlobShape, title="shape").dim)
    return None


def _siblings(path: Path) -> Iterator[Message]:
    if not path.is_file():
        return
    for other in sorted(path.parent.glob("*.prototxt"))[:_MOST_SIBLINGS]:
        if other != path:
            try:
                yield upgrade(prototxt.load(other))
            except CaffeportError:
                continue  # nor about this


def _from_data_set(value: Value) -> PartialShape | None:
    """Return the size of a well-known data set's images; as many of them one after another as Slice layers take
    apart."""
    text = f"{cast(DataLayer, value.layer.op).source()} {value.layer.name}".lower()
    slices = [layer for layer in value.consumers if layer.type == "Slice"]
    several = len(slices[0].outputs) if len(slices) == len(value.consumers) == 1 else 1
    return next(
        ((1, shape[0] * several, *shape[1:]) for name, shape in _DATA_SETS.items() if name in text),
        None,
    )
