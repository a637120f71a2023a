"""The page of coverage says what its script measures: run on a few texts of the tests' own."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import nets

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

TEXTS = {
    "someone+detector/ssd/deploy.prototxt": nets.inputs(data=(1, 3, 8, 8))
    + nets.layer("PriorBox", "data data", "prior", "prior_box_param { min_size: 4 }"),
    "someone+detector/solver.prototxt": 'net: "ssd/deploy.prototxt" base_lr: 0.1',
    "other+own_code/net.prototxt": nets.inputs(data=(1, 3, 8, 8))
    + nets.layer("Python", "data", "y", 'python_param { module: "mine" layer: "Mine" }'),
    "broken+texts/net.prototxt": 'layer { name: "a" type: "ReLU" ',
    "plain+lenet/train_val.prototxt": nets.layer(
        "Data", "", "data label", "data_param { batch_size: 4 } transform_param { crop_size: 28 }"
    )
    + nets.layer("InnerProduct", "data", "fc", "inner_product_param { num_output: 3 }")
    + nets.layer("SoftmaxWithLoss", "fc label", "loss"),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coverage")
    with zipfile.ZipFile(folder / "texts.zip", "w") as archive:
        for name, text in TEXTS.items():
            archive.writestr(name, text)
    page, outcomes = folder / "coverage.md", folder / "outcomes.json"
    # In a process of its own: it forks one for each text, which is safe only where torch has not begun to compute.
    command = [sys.executable, str(ROOT / "docs/coverage_page.py"), str(folder / "texts.zip"), "--only", "+"]
    subprocess.run([*command, "--out", str(page), "--json", str(outcomes)], check=True, timeout=300)
    return page.read_text(), {entry["name"]: entry for entry in json.loads(outcomes.read_text())}


@pytest.mark.slow
def test_each_text_has_its_family_and_its_figures(measured):
    page, outcomes = measured
    assert set(outcomes) == {"ssd/deploy.prototxt", "net.prototxt", "train_val.prototxt"}
    assert outcomes["ssd/deploy.prototxt"]["family"] == "SSD"
    assert outcomes["train_val.prototxt"]["family"] == "classification"
    trained = outcomes["train_val.prototxt"]
    assert [trained[name] for name in ("test", "train", "step", "onnx")] == ["built", "built", "finite", "equal"]
    assert "| [SSD](#ssd) | 1 of 1 | — | — | 1 of 1 | — |" in page


def test_what_is_refused_is_listed_with_its_reason(measured):
    refused = measured[0].split("## What is refused, or differs")[1]
    assert "other/own_code/net.prototxt | TEST" in refused
    assert "broken/texts/net.prototxt | TEST | no valid text: net.prototxt:1:" in refused
    assert "detector" not in refused


def test_every_layer_type_that_tells_a_family_is_known_or_refused_by_name():
    import coverage_page
    from caffeport.operators import builtin

    told = {name for _, types, _ in coverage_page.FAMILIES for name in types}
    assert told - set(builtin()) <= {"Correlation", "CTCLoss", "WarpCTC", "ImageSegData", "DenseImageData", "VideoData"}
