"""The table of a net's layers: shapes, parameters, multiply-adds, one for the command line and the notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from ..errors import shape_text
from ..operators.base import Shape
from ..table import Table, html_table, html_text

if TYPE_CHECKING:
    from .layer import Layer


class LayerFacts(TypedDict):
    """One layer, as ``caffeport show`` tells of it."""

    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    top_shapes: list[Shape]
    blobs: list[Shape]
    parameters: int
    multiply_adds: int


def layer_facts(layers: Sequence[Layer]) -> list[LayerFacts]:
    """Return the facts of each layer; a blob that layers share counts where it comes first."""
    facts: list[LayerFacts] = []
    seen: set[int] = set()
    for layer in layers:
        own = [param for param in layer.params if id(param) not in seen]
        seen.update(id(param) for param in own)
        facts.append(
            {
                "name": layer.name,
                "type": layer.type,
                "bottoms": layer.bottoms,
                "tops": layer.tops,
                "top_shapes": [value.shape for value in layer.outputs],
                "blobs": [spec.shape for spec in layer.specs],
                "parameters": sum(math.prod(param.shape) for param in own),
                "multiply_adds": layer.multiply_adds,
            }
        )
    return facts


def layer_table(facts: Sequence[LayerFacts]) -> Table:
    """Return the table of those layers."""
    lines = [
        (
            row["name"],
            row["type"],
            ", ".join(row["bottoms"]),
            ", ".join(f"{t} {shape_text(s)}" for t, s in zip(row["tops"], row["top_shapes"], strict=True)),
            ", ".join(map(shape_text, row["blobs"])),
            f"{row['parameters']:,}" if row["parameters"] else "",
            f"{row['multiply_adds']:,}" if row["multiply_adds"] else "",
        )
        for row in facts
    ]
    headings = ("layer", "type", "bottoms", "tops", "blobs", "parameters", "multiply-adds")
    return Table(headings, lines, {"parameters", "multiply-adds"}, ("bottoms", "blobs"))


def cost_line(facts: Sequence[LayerFacts], inputs: Sequence[str], outputs: Sequence[str]) -> str:
    """Return the line below the table. inputs: each with its shape, as text; outputs: names."""
    parameters, multiply_adds = total(facts, "parameters"), total(facts, "multiply_adds")
    return (
        f"{len(facts)} layers, {parameters:,} parameters, {multiply_adds:,} multiply-adds at inputs "
        f"{', '.join(inputs) or 'none'}; outputs {', '.join(outputs) or 'none'}"
    )


def layers_html(title: str, layers: Sequence[Layer], weights: str) -> str:
    """Return the table as HTML for a notebook, in a box that scrolls where the net is long."""
    above, below = (f"<p>{html_text(words)}</p>" for words in (title, f"weights: {weights}"))
    table = html_table(layer_table(layer_facts(layers)))
    return f'{above}<div style="max-height:40em;overflow:auto">{table}</div>{below}'


def total(facts: Sequence[LayerFacts], what: str) -> int:
    """Return the sum of "parameters" or "multiply_adds" over the layers."""
    return sum(row[what] for row in facts)  # type: ignore[literal-required]
