"""Layers that a net's Python code computes: by which class an operator stands for one.

Caffe's ``Python`` layer names a module and a class (BVLC/caffe ``include/caffe/layers/python_layer.hpp``), so the type
alone tells nothing. An operator for such a class is marked ``@layer_type("Python:ProposalLayer")`` by the class's name
or ``@layer_type("Python:rpn.proposal_layer.ProposalLayer")`` by module and class, which wins over the name alone. It
reads its text from ``self.message("python_param").param_str``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..formats.prototxt import Message
from ..formats.schema import schema
from .base import Operator

PYTHON = "Python"
PREFIX = f"{PYTHON}:"


@schema
class PythonParameter:
    """caffe.proto's message of that name; ``param_str`` is for the class alone to read."""

    module: str = ""
    layer: str = ""
    param_str: str = ""
    share_in_parallel: bool = False


def type_names(layer: Message) -> list[str]:
    """Return the names under which an operator for this layer may be registered, the nearest first."""
    kind = layer.text("type")
    if kind != PYTHON:
        return [kind]
    module, name = python_class(layer)
    return [f"{PREFIX}{module}.{name}", f"{PREFIX}{name}", PYTHON]


def python_class(layer: Message) -> tuple[str, str]:
    """Return (module, class) that a Python layer's text names."""
    parameters = layer.messages("python_param")
    return (parameters[-1].text("module"), parameters[-1].text("layer")) if parameters else ("", "")


def operator_class(
    layer: Message, known: Mapping[str, type[Operator]], kind: str | None = None
) -> type[Operator] | None:
    """Return the operator of a layer's text, or None where its type, or its Python class, is not known.

    kind: the layer's type, where the caller has read it already.
    """
    kind = layer.text("type") if kind is None else kind
    if kind != PYTHON:
        return known.get(kind)
    return next((known[name] for name in type_names(layer) if name in known), None)
