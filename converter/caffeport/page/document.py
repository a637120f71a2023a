"""The page: content, style and scripts in one file that needs no network."""

from __future__ import annotations

import html
import string
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import replacing
from ..graph.net import Net
from ..json_text import to_json
from .content import net_content, provenance, report_content

if TYPE_CHECKING:
    from ..parity.report import Report


def asset(name: str) -> str:
    """Return the text of one of the page's parts."""
    return (resources.files(__package__) / "assets" / name).read_text("utf-8")


def page(net: Net, report: Report | None = None) -> str:
    """Return the page as HTML: the net, and the proof where there is one."""
    title = f"{net.name or '(no name)'}: {'a proof of its conversion' if report else 'a Caffe net'}"
    content = {
        "title": title,
        "net": net_content(net),
        "report": report_content(report, net.layers) if report else None,
        "provenance": provenance(report) if report else {},
    }
    # "</script>" in a layer's name would end the element that holds the content.
    text = to_json(content, indent=None).replace("<", "\\u003c")
    return string.Template(asset("page.html")).substitute(
        title=html.escape(title),
        style=asset("drawing.css") + asset("page.css"),
        content=text,
        dagre=asset("dagre.min.js"),
        drawing=asset("drawing.js"),
        page=asset("page.js"),
    )


def write(net: Net, path: str | Path, report: Report | None = None) -> None:
    """Write the page, whole or not at all."""
    text = page(net, report).encode("utf-8", "backslashreplace")
    with replacing(Path(path)) as stream:
        stream.write(text)
