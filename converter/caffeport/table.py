"""Tables as text: whole where there is room, else with columns left out and names wrapped, never with a name cut."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import Literal, NamedTuple

from .errors import one_line

LONGEST_CELL = 1000
"""Characters of a cell; a file may hold names of megabytes."""
LEAST = 14
"""Characters that a column of names keeps before a whole column goes."""
GAP = 2


class Table(NamedTuple):
    """What a table shows.

    whole: headings of columns that never wrap (numbers, verdicts).
    leave_out: headings of columns that may go, the first to go first, where names would be left with too little.
    """

    headings: Sequence[str]
    lines: Sequence[tuple[str, ...]]
    whole: set[str] = set()
    leave_out: Sequence[str] = ()


def text_table(table: Table, width: int | None = None, color: bool = False) -> str:
    """Return the table as text.

    width: characters of the terminal; None for as many as it takes, so that other programs find one row a line.
    color: whether lines that begin with DIFFERS are red.
    """
    headings, whole = table.headings, table.whole
    lines = [tuple(one_line(cell, LONGEST_CELL) for cell in line) for line in table.lines]
    columns = list(range(len(headings)))
    needed = [max((len(line[i]) for line in lines), default=0) for i in columns]
    needed = [max(len(heading), size) for heading, size in zip(headings, needed, strict=True)]
    gone: list[str] = []
    if width is not None:
        for heading in table.leave_out:
            if sum(_least(headings[i], needed[i], whole) + GAP for i in columns) - GAP <= width:
                break
            columns.remove(headings.index(heading))
            gone.append(heading)
        _shrink(needed, columns, headings, whole, width)
    text = _rendered(headings, lines, columns, needed, whole, color)
    return text if not gone else f"{text}not shown at this width: {', '.join(gone)} (--json has all)\n"


def _least(heading: str, needed: int, whole: set[str]) -> int:
    return needed if heading in whole else min(needed, max(LEAST, len(heading)))


def _shrink(needed: list[int], columns: list[int], headings: Sequence[str], whole: set[str], width: int) -> None:
    """Take from the widest columns of names until the table fits, or nothing more can be taken."""
    excess = sum(needed[i] + GAP for i in columns) - GAP - width
    while excess > 0:
        names = [i for i in columns if headings[i] not in whole and needed[i] > 8]
        if not names:  # rather wrapped by the terminal than cut
            return
        needed[max(names, key=lambda i: needed[i])] -= 1
        excess -= 1


def _rendered(
    headings: Sequence[str],
    lines: Sequence[tuple[str, ...]],
    columns: list[int],
    widths: list[int],
    whole: set[str],
    color: bool,
) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for i in columns:
        justify: Literal["left", "right"] = "right" if headings[i] in whole and headings[i] else "left"
        table.add_column(headings[i], justify=justify, overflow="fold", width=widths[i])
    for line in lines:
        style = "red" if line[0] == "DIFFERS" else ""
        table.add_row(*(Text(line[i], style=style) for i in columns))
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=sum(widths[i] + GAP for i in columns),
        force_terminal=color,
        no_color=not color,
        highlight=False,
    )
    console.print(table)
    return "".join(f"{row.rstrip()}\n" for row in stream.getvalue().splitlines())


def html_text(text: str) -> str:
    """Return the text in one line, escaped for HTML; a name's bytes that are no UTF-8 stand as \\udcxx."""
    return html.escape(one_line(text, LONGEST_CELL).encode("utf-8", "backslashreplace").decode())


def html_table(table: Table) -> str:
    """Return the table as HTML for a notebook; rows that begin with DIFFERS stand out."""

    def row(cells: Sequence[str], tag: str, style: str = "") -> str:
        aligned = [
            f'<{tag} style="text-align:{"right" if heading in table.whole and heading else "left"}{style}">'
            f"{html_text(cell)}</{tag}>"
            for heading, cell in zip(table.headings, cells, strict=True)
        ]
        return f"<tr>{''.join(aligned)}</tr>"

    body = "".join(
        row(line, "td", ";color:#d92d20;font-weight:600" if line[0] == "DIFFERS" else "") for line in table.lines
    )
    return f"<table><thead>{row(table.headings, 'th')}</thead><tbody>{body}</tbody></table>"
