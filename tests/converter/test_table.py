"""Tables wrap or leave columns out by the terminal's width; no name is cut."""

from __future__ import annotations

import re

import pytest
from caffeport.table import Table, html_table, text_table

LONG = "inception_resnet_v1/repeat_2/block17_10/branch_1/conv2d_0c_7x1"
TABLE = Table(
    ("", "layer", "type", "blob", "shape", "max rel"),
    [("ok", LONG, "Convolution", f"{LONG}/conv", "1x128x28x28", "1.00e-06"), ("DIFFERS", "fc", "ReLU", "fc", "5", "1")],
    {"", "shape", "max rel"},
    ("blob", "type"),
)


@pytest.mark.parametrize("width", [30, 60, 80, 100, 140, 300, None])
def test_every_name_is_there_whole(width):
    text = text_table(TABLE, width)
    assert "…" not in text
    column = text.splitlines()[0].index("layer")
    pieces = [line[column:].split("  ")[0] for line in text.splitlines()[1:]]
    assert "".join(pieces).startswith(LONG)
    if width is not None and width >= 60:
        assert max(map(len, text.splitlines())) <= width


def test_columns_go_in_their_order_and_are_told():
    assert text_table(TABLE, 62).endswith("not shown at this width: blob (--json has all)\n")
    assert "not shown at this width: blob, type" in text_table(TABLE, 50)
    assert "not shown" not in text_table(TABLE, 120)


def test_off_a_terminal_a_row_is_a_line():
    lines = text_table(TABLE).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["ok", LONG, "Convolution", f"{LONG}/conv", "1x128x28x28", "1.00e-06"]


def test_a_difference_is_red_on_a_terminal():
    assert "\x1b[31mDIFFERS" in text_table(TABLE, 200, color=True)
    assert "\x1b" not in text_table(TABLE, 200)


def test_html_escapes_and_has_every_cell():
    text = html_table(Table(("layer",), [("<b>a</b>",)]))
    assert "&lt;b&gt;a&lt;/b&gt;" in text
    assert len(re.findall("<td", html_table(TABLE))) == 12
