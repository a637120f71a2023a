"""Write docs/layers.md's table of supported layers, and caffeport's index of them, from the layer classes themselves.

python docs/layers_table.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from caffeport import operators
from caffeport.operators import families, of_family
from caffeport.operators.base import Operator, Role

PAGE = Path(__file__).parent / "layers.md"
INDEX = Path(operators.__file__).with_name("index.py")
BEGIN, END = "<!-- layers: begin -->", "<!-- layers: end -->"


def table() -> str:
    """The table as Markdown, a row for each layer class."""
    classes: dict[type[Operator], list[str]] = {}
    for family in families():
        for name, cls in of_family(family).items():
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


def index() -> str:
    """The text of caffeport's operators/index.py: the family of every type, and the first one with a message's schema.

    Raises ValueError where two families have a type.
    """
    types: dict[str, str] = {}
    messages: dict[str, str] = {}
    for family in families():
        for name, cls in of_family(family).items():
            if types.setdefault(name, family) != family:
                raise ValueError(f"{name} is implemented twice: in {types[name]}.py and {family}.py")
            for message in cls.schemas:
                messages.setdefault(message, family)
    parts = [
        '"""Where each layer is: written by ``python docs/layers_table.py`` from the classes."""',
        "from __future__ import annotations",
        _as_dict("TYPES", types, "Caffe type -> its family, a file beside this one."),
        _as_dict("MESSAGES", messages, "Message field of a layer -> the family with its schema, the first of several."),
    ]
    return "\n\n".join(parts) + "\n"


def _as_dict(name: str, values: Mapping[str, str], title: str) -> str:
    lines = "".join(f'    "{key}": "{value}",\n' for key, value in values.items())
    return f'{name}: dict[str, str] = {{\n{lines}}}\n"""{title}"""'


if __name__ == "__main__":
    INDEX.write_text(index())
    PAGE.write_text(with_table(PAGE.read_text()))
