"""A net's layers as steps, in Caffe's order; batch normalisation with the scale behind it is one."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from ...errors import ExportError, NetError
from ...graph.layer import Layer, Value
from ...graph.net import Net
from ...graph.walk import needed_layers
from ...operators.base import Role
from .. import modules as own
from . import detection, expressions, functions, normalization, pooling, region, stock  # noqa: F401  (they fill the table of forms)
from .copied import Copies
from .form import FORMS, Form, Subject
from .literals import literal
from .steps import Attribute, Registered, Step, uses


def steps_of(net: Net, wanted: Sequence[Value]) -> tuple[list[Step], dict[Value, int]]:
    """The steps that make the wanted values, and each Value's number.

    Raises ExportError for a loss or metric layer on the way, and for a layer that has no source, by name.
    """
    numbers: dict[Value, int] = {value: i for i, value in enumerate(net.values)}
    steps: list[Step] = []
    for layer in needed_layers(net, wanted):
        if layer.op.role is Role.DATA:
            continue
        if layer.op.role is not Role.INFERENCE:
            raise ExportError(
                f"{layer.title}: a {layer.op.role.value} layer is for training, and the source is for inference; load "
                'the net with phase="test", or name the blobs before it (outputs=[...], --output BLOB)'
            )
        subject = _subject(layer, wanted)
        inputs = tuple(numbers[value] for value in layer.inputs)
        results = tuple(numbers[value] for value in layer.outputs)
        if type(subject.module) is own.Split:
            for value in layer.outputs:
                numbers[value] = inputs[0]
            continue
        if type(subject.module) is own.Silence:
            continue
        template, attribute = _form(subject)
        steps.append(
            Step(template, inputs, results, layer.name or layer.type, (layer,), attribute, tops=tuple(layer.tops))
        )
    outputs = [numbers[value] for value in wanted]
    return _in_chains(_merged(steps, outputs), outputs), numbers


def _subject(layer: Layer, wanted: Collection[Value] = ()) -> Subject:
    shapes = [value.shape for value in layer.inputs]
    with torch.device("meta"):
        module = layer.op.module(shapes)
    for param, spec in zip(layer.params, layer.specs, strict=True):
        if param.shape != spec.shape:
            raise ExportError(
                f"{layer.title}: shares a blob of another shape (share_mode PERMISSIVE), which has no source form"
            )
    blobs = {spec.name: np.asarray(blob) for spec, blob in zip(layer.specs, layer.blobs, strict=True)}
    return Subject(layer, module, blobs, wanted)


def _form(subject: Subject) -> Form:
    maker = FORMS.get(type(subject.module))
    form = maker(subject) if maker else None
    return form or _copied(subject)


def _copied(subject: Subject) -> Form:
    """A class whose source goes into the file, called with what it has under its arguments' names."""
    m, cls = subject.module, type(subject.module)
    if cls.__module__.startswith("torch."):
        raise subject.refuse(f"torch's {cls.__name__} has no source form here")
    try:
        arguments = {name: _argument(subject, name) for name in _parameters(cls)}
        for value in arguments.values():
            literal(value)
        Copies().add(cls)
    except (AttributeError, TypeError, OSError, ValueError, KeyError) as error:
        raise subject.refuse(f"{cls.__name__} has no source form: {error}") from error
    state = {spec.name: np.array(subject.blobs[spec.name], np.float32) for spec in subject.layer.specs}
    own_blobs = {**m._parameters, **m._buffers}
    registered = tuple(
        Registered(spec.name, spec.shape, spec.trained)
        for spec in subject.layer.specs
        if own_blobs.get(spec.name) is None
    )
    attribute = Attribute(
        cls.__name__,
        arguments,
        state,
        by_place=3,
        registered=registered,
        owners={spec.name: subject.owners[spec.name] for spec in subject.layer.specs if spec.trained},
        copied=cls,
        kind=cls.__name__.lower(),
    )
    operands = ", ".join(f"{{{i}}}" for i in range(len(subject.ranks)))
    return f"{{m}}({operands})", attribute


def _parameters(cls: type) -> list[str]:
    if cls.__init__ is torch.nn.Module.__init__:  # type: ignore[misc]
        return []
    parameters = list(inspect.signature(cls).parameters.values())
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise TypeError("its constructor takes any arguments")
    return [parameter.name for parameter in parameters]


def _argument(subject: Subject, name: str) -> Any:
    m = subject.module
    if name == "shapes" and isinstance(m, own.Convolution):
        return [spec.shape for spec in subject.layer.specs]
    if isinstance(m, own.InnerProduct) and name in ("names", "shapes"):
        shapes = {spec.name: spec.shape for spec in subject.layer.specs}
        return shapes if name == "shapes" else list(shapes)
    value = getattr(m, name)
    if isinstance(value, torch.Tensor):
        raise TypeError(f"its argument {name} is a tensor")
    return value


def _merged(steps: list[Step], outputs: Sequence[int]) -> list[Step]:
    """With every Scale that alone reads a batch normalisation in one module with it."""
    counts, merged = uses(steps, outputs), list[Step]()
    makers: dict[int, Step] = {}
    for step in steps:
        before = makers.get(step.inputs[0]) if len(step.inputs) == 1 else None
        single = before is not None and counts[step.inputs[0]] == 1 and before.attribute is not None
        if single and before is not None and before.attribute is not None and _takes(before.attribute, step):
            before.outputs, before.tops = step.outputs, step.tops
            before.layers += step.layers
            makers[step.outputs[0]] = before
            continue
        merged.append(step)
        makers.update(dict.fromkeys(step.outputs, step))
    return merged


def _in_chains(steps: list[Step], outputs: Sequence[int]) -> list[Step]:
    """The steps in an order in which a chain is not left before its end: branches that take turns follow each other."""
    counts = uses(steps, outputs)
    makers = {value for step in steps for value in step.outputs}
    readers: dict[int, int] = {}
    for index, step in enumerate(steps):
        if len(set(step.inputs) & makers) == 1:  # where branches join, the text's order is as good
            readers |= {value: index for value in step.inputs if counts[value] == 1}
    missing = [len(set(step.inputs) & makers) for step in steps]
    waiting: dict[int, list[int]] = {}
    for index, step in enumerate(steps):
        for value in set(step.inputs) & makers:
            waiting.setdefault(value, []).append(index)
    order: list[Step] = []
    done: set[int] = set()
    for first in range(len(steps)):
        following: int | None = first
        while following is not None and following not in done and not missing[following]:
            step = steps[following]
            order.append(step)
            done.add(following)
            for value in step.outputs:
                for index in waiting.get(value, ()):
                    missing[index] -= 1
            following = next((readers[value] for value in step.outputs if value in readers), None)
    return order


def _takes(before: Attribute, step: Step) -> bool:
    is_norm = before.constructor.startswith("nn.BatchNorm")
    return is_norm and step.layers[0].type == "Scale" and normalization.merged(before, _subject(step.layers[0]))


def check_inputs(net: Net, wanted: Sequence[Value]) -> None:
    """Raise NetError where a wanted blob is an input, which no file of source need make."""
    for value in wanted:
        if value in net.input_values:
            raise NetError(f'"{value.name}" is an input of the net, and no result to write source for')
