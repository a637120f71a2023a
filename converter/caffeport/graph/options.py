"""The options with which a net was loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..operators.base import Operator, Phase, Shape


@dataclass(frozen=True)
class Options:
    """The options with which a net was loaded; kept so that the net can be built again with other weights."""

    phase: Phase
    stages: tuple[str, ...]
    level: int
    custom_layers: tuple[type[Operator], ...]
    input_shapes: dict[str, Shape]
    allow_unknown_fields: bool
    allow_missing_weights: bool
    layer_options: dict[str, Any]
    seed: int
    reads_data: bool = False  # whether somebody reads what the data layers name, so that all their fields count
