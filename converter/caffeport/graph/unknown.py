"""The message on layers that nothing knows: what they are, where they stand, and how to add them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NoReturn

from ..errors import UnknownLayerError, did_you_mean, name_list, quoted
from ..formats.prototxt import Message
from ..operators.base import Operator
from ..operators.python_layer import PREFIX, PYTHON, operator_class, python_class
from .net_fields import GENERIC_FIELDS

_MOST_FIELDS = 12
_LONGEST_PARAM_STR = 200


def unknown_layers(layers: Iterable[Message], known: Mapping[str, type[Operator]]) -> list[Message]:
    """Return the layers of which nobody can tell what they compute. A data layer, which reads nothing, is none of
    them."""
    return [
        layer
        for layer in layers
        if operator_class(layer, known) is None and (layer.has("bottom") or not layer.has("top"))
    ]


def refuse_unknown(layers: Sequence[Message], known: Collection[str]) -> NoReturn:
    """Raise UnknownLayerError for the first of the net's unknown layers; it names the others' types too."""
    layer = layers[0]
    others = {title(other) for other in layers[1:]} - {title(layer)}
    more = f" (unknown as well: {name_list(sorted(others), 6)})" if others else ""
    types = sorted(name for name in known if not name.startswith(PREFIX))
    if layer.text("type") == PYTHON:
        module, name = python_class(layer)
        problem = f'is a Python layer whose class "{name}" of module "{module}" is not at hand'
        classes = sorted(other.removeprefix(PREFIX) for other in known if other.startswith(PREFIX))
        list_of_known = f"; classes that are known: {', '.join(classes)}" if classes else ""
    else:
        problem = f'has the unknown type "{layer.text("type")}"{did_you_mean(layer.text("type"), types, cutoff=0.6)}'
        list_of_known = f"; known: {', '.join(types)}"
    raise UnknownLayerError(
        f'{layer.where()}: layer "{layer.text("name")}" {problem}; it reads {name_list(layer.texts("bottom"), 6)}, '
        f"makes {name_list(layer.texts('top'), 6)}{_fields(layer)}{more}; to add it, write an operator "
        "(caffeport show NET --stub begins one) and give it: --layers MY.py, custom_layers=[...]" + list_of_known
    )


def title(layer: Message) -> str:
    """Return a layer's type, or its Python class as ``module.Class``."""
    return ".".join(python_class(layer)) if layer.text("type") == PYTHON else layer.text("type")


def _fields(layer: Message) -> str:
    """Return the layer's own messages with the names of their fields, or what its Python class is given to read."""
    if layer.text("type") == PYTHON:
        text = next((message.text("param_str") for message in layer.messages("python_param")), "")
        text = text if len(text) <= _LONGEST_PARAM_STR else text[:_LONGEST_PARAM_STR] + "..."
        return f", with param_str {quoted(text)}" if text else ""
    shown = []
    for entry in layer.fields:
        if entry.name in GENERIC_FIELDS:
            continue
        if isinstance(entry.value, Message):
            names = list(dict.fromkeys(field.name for field in entry.value.fields))
            listed = [*names[:_MOST_FIELDS], *(["..."] if len(names) > _MOST_FIELDS else [])]
            shown.append(f"{entry.name} {{ {', '.join(listed)} }}" if listed else f"{entry.name} {{ }}")
        else:
            shown.append(f"{entry.name}: {quoted(entry.value.text)}")
    return f", with {', '.join(shown[:_MOST_FIELDS])}" if shown else ""
