"""The page that shows a net and its proof: its content, and that a browser draws it from disk without network."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import caffeport
import numpy as np
import pytest
import torch
from caffeport.page import document, drawing
from caffeport.page.content import net_content, report_content
from caffeport.parity.likely_preprocessing import Candidate, Suggestion
from support import nets

CONV = 'convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 1 } }'
TEXT = (
    nets.inputs(data=(1, 3, 8, 8))
    + nets.layer("Convolution", "data", "conv", CONV)
    + nets.layer("ReLU", "conv", "conv", name="relu")
    + nets.layer("Pooling", "conv", "pool", "pooling_param { kernel_size: 2 stride: 2 }")
    + nets.layer("Eltwise", "pool pool", "sum")
)


@pytest.fixture
def net(tmp_path):
    return nets.load(tmp_path, TEXT)


def content_of(page: str) -> dict:
    text = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)
    return json.loads(text.group(1))


def test_the_nets_content_is_its_own(net):
    content = net_content(net)
    conv = content["layers"][1]
    assert (conv["name"], conv["type"], conv["kind"], conv["tops"]) == (
        "conv",
        "Convolution",
        "weighted",
        [["conv", "1×4×6×6"]],
    )
    assert conv["parameters"] == 4 * 3 * 9 + 4
    assert conv["multiply_adds"] == 4 * 3 * 9 * 36
    assert content["edges"] == [
        [0, 1, "1×3×8×8"],
        [1, 2, "1×4×6×6"],
        [2, 3, "1×4×6×6"],
        [3, 4, "1×4×3×3"],
        [3, 4, "1×4×3×3"],
    ]
    weight = conv["blobs"][0]
    data = net.layer("conv").blobs[0]
    assert (weight["min"], weight["max"]) == (float(data.min()), float(data.max()))
    assert sum(weight["histogram"]) == data.size


def test_a_blob_of_one_value_or_of_none_that_is_finite_has_no_histogram(net):
    net.params[0].data = np.full(net.params[0].shape, np.nan, np.float32)
    weight, bias = net_content(net)["layers"][1]["blobs"]
    assert weight == {"name": "weight", "shape": "4×3×3×3", "shared": False, "finite": False}
    assert "histogram" not in bias
    assert bias["max"] == 0


def test_every_blob_of_the_report_has_a_row_and_names_its_layer(net):
    report = caffeport.check(net)
    content = report_content(report, net.layers)
    assert [row["blob"] for row in content["rows"]] == [row.blob for row in [*report.rows, *report.exported]]
    assert [net.layers[row["layer"]].name for row in content["rows"]] == ["conv", "relu", "pool", "sum", "sum"]
    assert content["ok"] is True


def test_an_error_that_is_not_finite_is_no_number(net):
    report = caffeport.check(net)
    report.rows[0].ok, report.rows[0].errors = False, {"onnx": (np.inf, np.nan)}
    assert report_content(report, net.layers)["rows"][0]["errors"] == {"onnx": [None, None]}


def test_the_page_asks_for_nothing_outside_itself(net, tmp_path):
    document.write(net, tmp_path / "page.html", caffeport.check(net))
    page = (tmp_path / "page.html").read_text()
    links = set(re.findall(r"https?://[^\s\"'`)]+", page))
    assert links == {"http://www.w3.org/2000/svg"}  # a namespace, which nothing fetches
    assert not re.search(r"<(link|img|iframe|script[^>]*\bsrc)\b", page)
    assert "default-src 'none'" in page


def test_names_cannot_leave_their_place(tmp_path):
    name = "</script><script>alert(1)</script>"
    net = nets.load(tmp_path, nets.inputs(data=(1, 3)) + nets.layer("ReLU", "data", "y", name=name))
    page = document.page(net, caffeport.check(net))
    assert name not in page
    assert content_of(page)["net"]["layers"][1]["name"] == name


def chromium(path, fragment: str = "") -> str:
    """What Debian's browser makes of a page on disk: its document once all scripts have run."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs chromium (Debian's package)")
    switches = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    switches += ["--disable-component-update", "--disable-sync", f"--user-data-dir={path.parent / 'profile'}"]
    command = [browser, *switches, "--virtual-time-budget=20000", "--dump-dom", f"{path.as_uri()}{fragment}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
def test_a_browser_draws_every_layer_and_the_verdict(net, tmp_path):
    document.write(net, tmp_path / "page.html", caffeport.check(net))
    page = chromium(tmp_path / "page.html")
    assert 'data-ready="yes"' in page
    assert re.findall(r'data-layer="(\d+)"', page) == ["0", "1", "2", "3", "4"]
    assert '<div id="verdict" class="verdict ok">' in page
    assert page.count('<circle data-point="') - 1 == 5  # one stands in the script
    assert "<dt>inputs</dt><dd>random, seed 0</dd>" in page


@pytest.mark.slow
def test_a_browser_marks_the_layer_that_differs(net, tmp_path):
    inputs = net.sample_inputs(0)
    blobs = net.to_torch().blobs(torch.from_numpy(inputs["data"]))
    recorded = {"pool": blobs["pool"].detach().numpy() + 1}
    report = caffeport.check(net, inputs, reference={**inputs, **recorded})
    document.write(net, tmp_path / "page.html", report)
    page = chromium(tmp_path / "page.html")
    assert 'class="verdict failed"' in page
    assert re.search(r'class="layer pooling bad" data-layer="3"', page)


@pytest.mark.slow
def test_a_browser_shows_what_preprocessing_is_likely(net, tmp_path):
    """Only what was measured has a column, and a page without photos has no such part."""
    ways = [
        Candidate((127.5,), 0.0078125, "RGB", batch_norm=0.0851),
        Candidate((0.0,), 1.0, "BGR", batch_norm=28512.0, ruled_out="BatchNorm"),
    ]
    report = caffeport.check(net)
    assert report_content(report, net.layers)["suggestion"] is None
    report.suggestion = Suggestion("likely <the first>", ["because", "and"], [ways[0].formula], "RGB", 3, ways)
    document.write(net, tmp_path / "page.html", report)
    part = chromium(tmp_path / "page.html").split('<section id="preprocessing"')[1].split("</section>")[0]
    assert "hidden" not in part.split(">")[0]
    assert "None was given; likely &lt;the first&gt;." in part and re.findall("<li>(.*?)</li>", part) == [
        "because",
        "and",
    ]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", part)
    assert cells == ["(x - 127.5) * 0.0078125", "RGB", "0.0851", "", "x", "BGR", "2.85e+04", "BatchNorm"]
    document.write(net, tmp_path / "page.html", caffeport.check(net))
    assert '<section id="preprocessing" hidden' in chromium(tmp_path / "page.html")


def test_a_coarser_number_format_is_not_called_equal(net, tmp_path):
    net.to_onnx(tmp_path / "half.onnx", precision="float16")
    report = caffeport.check(net, onnx=tmp_path / "half.onnx")
    assert report_content(report, net.layers)["verdict"] == "Within its number format"
    assert report_content(caffeport.check(net), net.layers)["verdict"] == "Equal"
    report.rows[0].ok = False
    assert report.verdict == "Different"


@pytest.mark.slow
def test_the_address_opens_a_layer_with_its_parameters_and_weights(net, tmp_path):
    document.write(net, tmp_path / "page.html")
    page = chromium(tmp_path / "page.html", "#conv").split('id="panel"')[1].split("</aside>")[0]
    assert "<h3>conv</h3>" in page
    assert "kernel_size: 3" in page
    assert page.count('class="histogram"') == 1  # the bias is 0 everywhere
    assert "every number is 0" in page


@pytest.mark.slow
def test_a_browser_draws_a_thousand_layers(tmp_path):
    text = nets.inputs(data=(1, 2, 4, 4))
    before = "data"
    for number in range(333):
        text += nets.layer("Power", before, f"a{number}") + nets.layer("ReLU", f"a{number}", f"b{number}")
        text += nets.layer("Eltwise", f"{before} b{number}", f"c{number}")
        before = f"c{number}"
    net = nets.load(tmp_path, text)
    document.write(net, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 1_000_000
    page = chromium(tmp_path / "page.html")
    assert 'data-ready="yes"' in page
    assert len(re.findall(r'data-layer="(\d+)"', page)) == 1000


def test_the_drawing_stands_alone_as_svg(net):
    pytest.importorskip("py_mini_racer", reason="needs mini-racer")
    image = drawing.svg(net)
    assert image.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert re.findall(r'data-layer="(\d+)"', image) == ["0", "1", "2", "3", "4"]
    assert html.unescape(re.search(r"<title>(conv .*?)</title>", image).group(1)) == "conv (Convolution): 1×4×6×6"


def test_without_the_engine_one_line_says_what_to_install(net, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "py_mini_racer", None)
    with pytest.raises(caffeport.CaffeportError, match="pip install mini-racer"):
        drawing.svg(net)
