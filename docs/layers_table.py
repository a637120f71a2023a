"""Write docs/layers.md's table of supported layers from the layer classes themselves.

python docs/layers_table.py
"""

from __future__ import annotations

from pathlib import Path

from caffeport.operators import builtin
from caffeport.operators.base import Operator, Role

PAGE = Path(__file__).parent / "layers.md"
BEGIN, END = "<!-- layers: begin -->", "<!-- layers: end -->"


def table() -> str:
    """The table as Markdown, a row for each layer class."""
    classes: dict[type[Operator], list[str]] = {}
    for name, cls in builtin().items():
        classes.setdefault(cls, []).append(name)
    rows = sorted((row(cls, names) for cls, names in classes.items()), key=str.lower)
    return "\n".join(["| layer | torch | ONNX | what it computes |", "|---|---|---|---|", *rows])


def row(cls: type[Operator], names: list[str]) -> str:
    """One class: its Caffe types, what it runs in, its formula."""
    backends = "input | input" if cls.role is Role.DATA else f"yes | {cls.onnx_support}"
    formula = " ".join((cls.__doc__ or "").split("\n\n")[0].split()).replace("|", "\\|").replace("``", "`")
    return f"| {', '.join(f'`{name}`' for name in names)} | {backends} | {formula} |"


def with_table(text: str) -> str:
    """The page's text with the table between its markers."""
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:start]}\n{table()}\n{text[end:]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
