"""The fixed-point fields of Synopsys' fork (foss-for-synopsys-dwc-arc-processors/synopsys-caffe).

Its convolutions, poolings and sums can round to integers, scaled and shifted. At their defaults the fields change
nothing, and texts that carry them so are taken; a layer that uses them is refused.
"""

from __future__ import annotations

from dataclasses import field, fields
from functools import cache
from operator import attrgetter
from typing import Any

from ..formats.schema import Word, schema
from .base import Operator

SATURATE_NONE = ("", "None", "0")


@schema
class FixedPoint:
    """One scale and one zero point for the bottom, and for the top."""

    input_scale: float = 1.0
    output_scale: float = 1.0
    input_zero_point: int = 0
    output_zero_point: int = 0
    saturate: Word = Word()
    quantize_method: Word = Word()


@schema
class FixedPointWeights(FixedPoint):
    """Scales and zero points of a layer with weights."""

    weight_scale: float = 1.0
    weight_zero_point: int = 0
    per_channel_scale_weight: bool = False
    per_channel_scale_output: bool = False


@schema
class FixedPointBottoms:
    """A scale and a zero point for each of several bottoms."""

    input_scale: list[float] = field(default_factory=list)
    output_scale: float = 1.0
    input_zero_point: list[int] = field(default_factory=list)
    output_zero_point: int = 0
    saturate: Word = Word()
    quantize_method: Word = Word()


@cache
def _defaults(parameters: type) -> tuple[attrgetter[Any], Any]:
    """Return what reads all of these fields at once, and what that is where a text has none of them."""
    known = {entry.name for entry in fields(parameters)}
    read = attrgetter(*(entry.name for entry in fields(FixedPointWeights) if entry.name in known))
    return read, read(parameters())


def refuse_fixed_point(layer: Operator, p: FixedPoint | FixedPointBottoms) -> None:
    """Refuse a layer whose fields say that it computes with rounded numbers."""
    read, defaults = _defaults(type(p))  # type: ignore[arg-type]
    if read(p) == defaults:  # as in nearly every net
        return
    for name in (*FixedPointWeights.__dataclass_fields__, "saturate"):
        value = getattr(p, name, None)
        values = value if isinstance(value, list) else [value]
        if name == "saturate":
            used = value not in SATURATE_NONE
        elif name == "quantize_method":
            used = False  # how to round, where anything is rounded
        else:
            used = any(number not in (None, False, 1.0 if name.endswith("_scale") else 0) for number in values)
        if used:
            shown = ", ".join(map(str, values))
            layer.fail(f"{name} {shown} asks for fixed-point arithmetic, which is not supported; expected the default")
