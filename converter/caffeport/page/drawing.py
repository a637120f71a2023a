"""The net as an SVG drawing: the page's own drawing, made by its scripts in a JavaScript engine."""

from __future__ import annotations

from ..graph.net import Net
from ..lazy import require
from .content import net_content
from .document import asset

CLONE = "globalThis.structuredClone ??= (value) => JSON.parse(JSON.stringify(value));"
"""A function that dagre takes from a browser and the engine lacks; it copies plain numbers and words only."""


def svg(net: Net) -> str:
    """Return the drawing. Raises CaffeportError where the engine (the package mini-racer) is not installed."""
    engine = require("py_mini_racer").MiniRacer()
    try:
        engine.eval(CLONE)
        engine.eval(asset("dagre.min.js"))
        engine.eval(asset("drawing.js"))
        drawing: str = engine.call("standaloneSvg", net_content(net), asset("drawing.css"))
        return drawing
    finally:
        engine.close()
