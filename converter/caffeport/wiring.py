"""The one table through which a lower room reaches a higher one: a Net its backends, an operator its torch modules.

caffeport's ``__init__`` fills it. What it names is imported when it is first asked for, so that reading a net and
writing ONNX never load torch, and no lower room names a higher one.
"""

from __future__ import annotations

from typing import Any

from .lazy import require

_PLACES: dict[str, str] = {}


def connect(**places: str) -> None:
    """Name the places: ``to_onnx="caffeport.to_onnx.export:export"``, or a module alone."""
    _PLACES.update(places)


def reach(name: str) -> Any:
    """Return what stands at the place of that name; raises MissingDependencyError where a library for it is missing."""
    module, _, attribute = _PLACES[name].partition(":")
    place = require(module)
    return getattr(place, attribute) if attribute else place


class Reached:
    """Stands for the module at a place; the first attribute that is read imports it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(reach(self._name), attribute)
