"""Public names: every one has its docstring and its place in the API's pages, and the examples in them run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

API = Path(__file__).parents[1] / "docs/api"
MODULES = (
    *("caffeport", "caffeport.zoo", "normface", "normface.alignment", "normface.bounds", "normface.data"),
    *("normface.detection", "normface.errors", "normface.evaluate", "normface.features", "normface.finetune"),
    *("normface.losses", "normface.solver"),
)
NOT_SHOWN = {"caffeport.LayerType", "normface.errors.did_you_mean", "normface.errors.shape_text"}
"""A name of earlier versions, which stands beside today's on a page, and what helps to write a message."""
FORMULA = "psi"
"""What a loss makes of the label's cosine, which the loss's own docstring tells."""


def public(module: str) -> Iterator[tuple[str, Any]]:
    """The names that a module says are public, with their values; modules are met by themselves."""
    for name in importlib.import_module(module).__all__:
        value = getattr(importlib.import_module(module), name)
        if not inspect.ismodule(value) and not name.startswith("__"):
            yield name, value


def written(value: Any) -> str:
    """The docstring that was written for a class or function itself, not what dataclass or a base has in its place."""
    if inspect.isclass(value):
        own = value.__dict__.get("__doc__") or ""
        return "" if own.startswith(f"{value.__name__}(") else own
    return inspect.getdoc(value) or ""


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module):
    """What defines a base's method anew has the base's."""
    importlib.import_module(module)
    missing = []
    for name, value in public(module):
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if not written(value):
            missing.append(name)
        for member, item in vars(value).items() if inspect.isclass(value) else ():
            called = item.fget if isinstance(item, property) else getattr(item, "__func__", item)
            if (
                inspect.isfunction(called)
                and member[0] != "_"
                and member != FORMULA
                and not inspect.getdoc(getattr(value, member))
            ):
                missing.append(f"{name}.{member}")
    assert missing == []


def test_every_public_name_is_on_a_page_of_the_api():
    told = set(re.findall(r"^::: ([\w.]+)$", "".join(path.read_text() for path in API.glob("*.md")), re.MULTILINE))
    values = [value for value in map(resolved, told) if value is not None]
    for module in MODULES:
        for name, value in public(module):
            if f"{module}.{name}" in NOT_SHOWN:
                continue
            known = f"{module}.{name}" in told or any(value is other for other in values)
            assert known or module in told, f"{module}.{name}: no page of docs/api has it"


def resolved(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute, None)


@pytest.mark.slow
def test_the_examples_in_docstrings_run():
    """Those of all modules that are loaded once the public names are; an example says what it gives."""
    for module in MODULES:
        list(public(module))
    attempted = 0
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] in ("caffeport", "normface") and module is not None:
            result = doctest.testmod(module, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
            assert result.failed == 0, name
            attempted += result.attempted
    assert attempted >= 15
