"""What a notebook shows of a net and of a report: one table with the command line's, every name escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import caffeport
import numpy as np
from caffeport.cli.main import main
from caffeport.table import Table, html_table
from support import nets

NET = (
    nets.inputs(data=(1, 3, 4, 4))
    + nets.conv("data", "a<b>&amp;", 2)
    + nets.layer("ReLU", "a<b>&amp;", "a<b>&amp;")
    + nets.inner_product("a<b>&amp;", "fc", 5)
)


class Cells(HTMLParser):
    """The cells of a page's tables, a list a row, with what a browser would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag):
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self._inside:
            self.rows[-1][-1] += data


def load(tmp_path, text=NET):
    return caffeport.load(nets.write(tmp_path, text))


def test_a_net_shows_the_table_of_show(tmp_path, capsys):
    net = load(tmp_path)
    headings, *rows = Cells(net._repr_html_()).rows
    assert headings == ["layer", "type", "bottoms", "tops", "blobs", "parameters", "multiply-adds"]
    assert rows[1][:4] == [
        "a<b>&amp;",
        "Convolution",
        "data",
        f"a<b>&amp; {'x'.join(map(str, net.layers[1].outputs[0].shape))}",
    ]
    assert rows[-1] == ["fc", "InnerProduct", "a<b>&amp;", "fc 1x5", rows[-1][4], rows[-1][5], rows[-1][6]]
    assert main(["show", str(nets.write(tmp_path, NET))]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in rows:
        assert [word for cell in row for word in cell.split()] in shown


def test_the_totals_are_those_of_the_blobs(tmp_path):
    net = load(tmp_path)
    parameters = sum(param.data.size for param in net.params)
    assert (
        f"4 layers, {parameters:,} parameters, {net.multiply_adds:,} multiply-adds at inputs data 1x3x4x4"
        in net.cost_line
    )
    assert net.cost_line.endswith("; outputs fc")
    assert "Caffe&#x27;s fillers, seed 0" in net._repr_html_()


def test_a_net_of_inputs_alone(tmp_path):
    net = load(tmp_path, nets.inputs(data=(1, 2)))
    assert net.cost_line == "1 layers, 0 parameters, 0 multiply-adds at inputs data 1x2; outputs none"
    assert len(Cells(net._repr_html_()).rows) == 2


def test_a_shared_blob_counts_once(tmp_path):
    shared = nets.inputs(data=(1, 4)) + "".join(
        nets.layer(
            "InnerProduct", "data", name, 'param { name: "w" } inner_product_param { num_output: 3 bias_term: false }'
        )
        for name in ("first", "second")
    )
    _, *rows = Cells(load(tmp_path, shared)._repr_html_()).rows
    assert [row[5] for row in rows] == ["", "12", ""]


def test_a_name_that_is_no_text_can_be_sent_to_a_browser():
    shown = html_table(Table(("layer",), [("\udcff\n",)]))
    assert '<td style="text-align:left">\\udcff\\n</td>' in shown.encode("utf-8").decode()


def test_a_reports_repr_is_its_verdict_in_a_line(tmp_path):
    net = load(tmp_path)
    report = caffeport.check(net)
    assert re.fullmatch(r"Report\(ok: 3 of 3 blobs compared, all within .*\)", repr(report))
    reference = {**net.sample_inputs(), "fc": np.full((1, 5), 1e3, np.float32)}
    wrong = 'Report(DIFFERS: layer "fc" (InnerProduct) is the first that differs'
    assert repr(caffeport.check(net, reference=reference)).startswith(wrong)
