"""docs/losses.md: every loss with its names, its class, and the defaults that its signature has."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from normface import loss_names, losses

PAGE = Path(__file__).parents[2] / "docs" / "losses.md"


def rows():
    for line in PAGE.read_text().splitlines():
        if re.match(r"\| `[a-z]", line):
            names, kind, _, defaults, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            yield re.findall(r"`([^`]+)`", names), kind.strip("`"), defaults


def test_every_loss_is_there():
    kinds = losses.LOSSES | losses.REGULARISERS
    assert {names[0]: kind for names, kind, _ in rows()} == {name: kind.__name__ for name, kind in kinds.items()}
    assert {name: names[0] for names, *_ in rows() for name in names[1:]} == loss_names.OTHER_NAMES


@pytest.mark.parametrize(("names", "kind", "defaults"), list(rows()), ids=lambda cell: str(cell)[:30])
def test_the_defaults(names, kind, defaults):
    parameters = inspect.signature(getattr(losses, kind)).parameters
    pairs = re.findall(r"\b([a-z_]\w*) (True|False|None|[0-9.]+|[a-z]+)(?=,|$| \()", defaults)
    assert pairs
    for name, text in pairs:
        default = parameters[name].default
        if name == "margin" and default is None:  # which margin goes by margin_on
            default = getattr(losses, kind)(2, 2).margin
        assert str(default) == text or float(default) == float(text), name
