"""The shapes that a net's data layers will give, before the net is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from caffeport import Message, read_prototxt
from caffeport.formats.upgrade import upgrade
from caffeport.graph.connect import connect, split
from caffeport.graph.net_fields import NetState
from caffeport.graph.options import Options
from caffeport.operators.base import Phase
from caffeport.operators.custom import CustomLayers, custom_operators

from .source import Place, Shape
from .sources import SOURCES


def input_shapes(
    net: str | Path | Message,
    phase: str = "train",
    *,
    stages: Sequence[str] = (),
    level: int = 0,
    custom_layers: CustomLayers = (),
    allow_unknown_fields: bool = False,
) -> dict[str, Shape]:
    """{top: shape} of the data layers that read from disk, as Caffe sets them from the first record or image.

    net: the net's text, or its path. The result is for ``caffeport.load(..., input_shapes=...)``; without it a text
    that leaves the size to its database is loaded by guesses. Raises DataError where the data are not there.
    """
    message = upgrade(net if isinstance(net, Message) else read_prototxt(net))
    chosen = {"train": Phase.TRAIN, "test": Phase.TEST}[phase.lower()]
    custom = custom_operators(custom_layers)
    options = Options(chosen, tuple(stages), level, custom, {}, allow_unknown_fields, True, {}, 0, reads_data=True)
    fields, texts = split(message, options)
    state = NetState(chosen, level or fields.state.level, [*fields.state.stage, *stages])
    layers, _ = connect(message, texts, state, None, options)
    place = Place(Path(message.source).parent, chosen, 0)
    shapes: dict[str, Shape] = {}
    for layer in layers:
        if layer.type in SOURCES:
            shapes.update(zip(layer.tops, SOURCES[layer.type](layer, place).shapes(), strict=True))
    return shapes
