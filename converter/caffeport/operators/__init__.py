"""Every Caffe layer type, one class each, one file a family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from .base import Operator
from .python_layer import PythonParameter

NO_FAMILIES = (
    "base", "custom", "fillers", "onnx_builder", "onnx_numbers", "onnx_shapes", "onnx_tensor", "onnx_windows",
    "python_layer", "unknown_data",
)  # fmt: skip
FAMILIES = tuple(sorted(module.name for module in iter_modules(__path__) if module.name not in NO_FAMILIES))


@cache
def builtin() -> Mapping[str, type[Operator]]:
    """Return {Caffe type: class} of the layers that come with caffeport."""
    classes: dict[str, type[Operator]] = {}
    for family in FAMILIES:
        module = import_module(f"{__name__}.{family}")
        for cls in vars(module).values():
            if isinstance(cls, type) and issubclass(cls, Operator) and cls.__module__ == module.__name__:
                for name in cls.__dict__.get("types", ()):
                    if name in classes:
                        raise RuntimeError(f"{name} is implemented twice: {classes[name]} and {cls}")
                    classes[name] = cls
    return classes


def registry(custom: Iterable[type[Operator]] = ()) -> dict[str, type[Operator]]:
    """Return the built-in layers and the user's; the user's win."""
    known = dict(builtin())
    for cls in custom:
        known.update(dict.fromkeys(cls.types, cls))
    return known


def message_schemas(known: Mapping[str, type[Operator]]) -> dict[str, list[type]]:
    """Return {message field: the schemas under that name} over all layer types."""
    schemas: dict[str, list[type]] = {"python_param": [PythonParameter]}
    for cls in known.values():
        for name, schema in cls.schemas.items():
            if schema not in schemas.setdefault(name, []):
                schemas[name].append(schema)
    return schemas
