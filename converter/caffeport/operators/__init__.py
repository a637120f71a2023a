"""Every Caffe layer type, one class each, one file a family.

A family is imported when a net first names one of its types: index.py says which that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from .base import Operator
from .index import MESSAGES, TYPES
from .python_layer import PythonParameter

NO_FAMILIES = (
    "base", "custom", "fillers", "index", "onnx_builder", "onnx_numbers", "onnx_shapes", "onnx_tensor", "onnx_windows",
    "python_layer", "unknown_data",
)  # fmt: skip


@cache
def of_family(family: str) -> dict[str, type[Operator]]:
    """Import a family; return {Caffe type: class} of its layers, in the order of its file."""
    module = import_module(f"{__name__}.{family}")
    classes: dict[str, type[Operator]] = {}
    for cls in vars(module).values():
        if isinstance(cls, type) and issubclass(cls, Operator) and cls.__module__ == module.__name__:
            for name in cls.__dict__.get("types", ()):
                if name in classes:
                    raise RuntimeError(f"{name} is implemented twice: {classes[name]} and {cls}")
                classes[name] = cls
    return classes


def families() -> list[str]:
    """Return the names of all families: the modules beside this one."""
    return sorted(module.name for module in iter_modules(__path__) if module.name not in NO_FAMILIES)


class _Registry(Mapping[str, type[Operator]]):
    """{Caffe type: class}; a class that comes with caffeport is imported when it is asked for."""

    def __init__(self, custom: Iterable[type[Operator]] = ()) -> None:
        self._custom = {name: cls for cls in custom for name in cls.types}

    def __getitem__(self, name: str) -> type[Operator]:
        return self._custom[name] if name in self._custom else of_family(TYPES[name])[name]

    def __contains__(self, name: object) -> bool:
        return name in TYPES or name in self._custom

    def __iter__(self) -> Iterator[str]:
        return iter({**TYPES, **self._custom})

    def __len__(self) -> int:
        return len({**TYPES, **self._custom})


_BUILTIN = _Registry()


def builtin() -> Mapping[str, type[Operator]]:
    """Return {Caffe type: class} of the layers that come with caffeport."""
    return _BUILTIN


def registry(custom: Iterable[type[Operator]] = ()) -> Mapping[str, type[Operator]]:
    """Return the built-in layers and the user's; the user's win."""
    return _Registry(custom)


class MessageSchemas(Mapping[str, type]):
    """{message field: its schema}; of several under one name the first, and the user's before those."""

    def __init__(self, custom: Iterable[type[Operator]] = ()) -> None:
        self._others: dict[str, type] = {"python_param": PythonParameter}
        for cls in custom:
            self._others = dict(cls.schemas) | self._others

    def __getitem__(self, name: str) -> type:
        if name in self._others:
            return self._others[name]
        return next(cls.schemas[name] for cls in of_family(MESSAGES[name]).values() if name in cls.schemas)

    def __contains__(self, name: object) -> bool:
        return name in MESSAGES or name in self._others

    def __iter__(self) -> Iterator[str]:
        return iter({**MESSAGES, **self._others})

    def __len__(self) -> int:
        return len({**MESSAGES, **self._others})
