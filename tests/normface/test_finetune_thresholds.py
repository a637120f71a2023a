"""The thresholds that finetune measures on the people it did not train on, and who may rely on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import caffeport
import numpy as np
import pytest
import torch
from normface.cli.main import main
from normface.errors import NormfaceError
from normface.features import Extractor
from normface.recognise import threshold_file, threshold_for
from support.command_line import said
from support.digit_images import NET, WEIGHTS, as_input, flags, write_digits

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = {"mean": 8, "scale": 0.125, "mirror": "sum", "threads": 1}


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("people"), range(7), 12)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("strangers"), range(7, 10), 8)


@pytest.fixture(scope="module")
def tuned(people, strangers, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "out"
    assert main(flags(people, out, "--val", strangers, "--val-far", 0.05, "--steps", 3, "--batch-size", 16)) == 0
    return out


@pytest.mark.slow
def test_what_is_written(tuned, strangers):
    """The thresholds of all pairs of the strangers' images, by torch and in loops."""
    measurement = threshold_file.read(tuned / "model.toml")
    assert measurement.measured == (
        f"24 validation images of 3 people of {strangers}, on which the model was chosen too"
    )
    assert (measurement.model.mirror, measurement.face, measurement.date) == ("sum", (8, 8), threshold_file.today())
    x, labels = as_input(strangers)
    net = caffeport.load(tuned / "deploy.prototxt", tuned / "model.caffemodel").to_torch()
    with torch.no_grad():
        feature = sum(net(torch.from_numpy(np.ascontiguousarray(one))).numpy() for one in (x, x[..., ::-1]))
    unit = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    scores = {(i, j): unit[i] @ unit[j] for i in range(len(unit)) for j in range(i)}
    impostor = sorted((score for (i, j), score in scores.items() if labels[i] != labels[j]), reverse=True)
    assert measurement.pairs == (len(scores) - len(impostor), len(impostor)) == (84, 192)
    assert sorted(measurement.thresholds) == [0.01, 0.05, 0.1]  # a thousandth of 192 pairs is none
    for far, cosine in measurement.thresholds.items():
        # float32, in another order of sums
        assert cosine == pytest.approx(impostor[int(far * len(impostor) + 0.5) - 1], abs=1e-5)
        low, high = measurement.intervals[far]
        assert 0 <= low < far < high <= 1


@pytest.mark.slow
def test_it_is_found_beside_each_form_of_the_model(tuned, strangers, capsys):
    a, b = sorted((strangers / "7").glob("*.png"))[:2]
    for model in ((tuned / "model.onnx",), (tuned / "deploy.prototxt", tuned / "model.caffemodel")):
        found = threshold_for(0.05, extractor=Extractor(*model, **OPTIONS))
        assert found.source.startswith("measured on 24 validation images of 3 people of ")
        code, out, _ = said(capsys, "compare", a, b, *model, "--mean", 8, "--scale", 0.125, "--aligned", "--far", 0.05)
        assert code == 0 and "(false accepts 0.05, 95 % sure between " in out
        assert f"measured on 24 validation images of 3 people of {strangers}, on which the model was chosen too" in out
    code, out, _ = said(capsys, "compare", a, b, tuned / "model.onnx", "--aligned", "--far", 0.05)
    assert code == 0 and "false accepts 0.05" in out  # with the preprocessing that the file notes


@pytest.mark.parametrize("option", [{"mirror": "none"}, {"scale": 1}, {"mean": 0}])
def test_it_holds_for_no_other_way(tuned, option):
    with (
        pytest.warns(UserWarning, match="another model or in another way, and is not used"),
        pytest.raises(NormfaceError, match="no threshold is known for this model"),
    ):
        threshold_for(0.05, extractor=Extractor(tuned / "model.onnx", **(OPTIONS | option)))


def test_nor_for_the_model_before(tuned, tmp_path):
    shutil.copy(tuned / "model.toml", tmp_path / "old.toml")
    shutil.copy(WEIGHTS, tmp_path / "old.caffemodel")
    with (
        pytest.warns(UserWarning, match=r"old\.toml: .*: its weights are others"),
        pytest.raises(NormfaceError, match="no threshold is known for this model"),
    ):
        threshold_for(0.05, extractor=Extractor(NET, tmp_path / "old.caffemodel", **OPTIONS))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["none held out", "trained on"])
def test_without_strangers_there_is_none(people, tmp_path, capsys, way):
    more = ["--val-share", 0] if way == "none held out" else ["--val", people]
    assert main(flags(people, tmp_path / "out", "--steps", 1, "--batch-size", 16, *more)) == 0
    assert not (tmp_path / "out" / "model.toml").exists()
    shown = capsys.readouterr()
    told = "no model.toml with the model's thresholds: 84 of 84 images of --val are trained on as well" in shown.err
    assert told == (way == "trained on") and "model.toml" not in shown.out


@pytest.mark.slow
def test_a_later_run_leaves_no_older_thresholds(people, strangers, tmp_path, capsys):
    more = ["--steps", 1, "--batch-size", 16]
    assert main(flags(people, tmp_path / "out", *more, "--val", strangers)) == 0
    assert (tmp_path / "out" / "model.toml").is_file()
    assert "model.toml: thresholds, measured on the held-out people" in capsys.readouterr().out
    assert main(flags(people, tmp_path / "out", *more, "--val-share", 0, "--overwrite")) == 0
    assert not (tmp_path / "out" / "model.toml").exists()


@pytest.mark.slow
def test_held_out_people_are_said_as_such(people, tmp_path, capsys):
    call = flags(people, tmp_path / "out", "--steps", 1, "--batch-size", 16, "--val-share", 0.3, "--json")
    assert main(call) == 0
    assert json.loads(capsys.readouterr().out)["held_out"]["identities"] == 2
    measured = threshold_file.read(tmp_path / "out" / "model.toml").measured
    assert measured.startswith(f"24 validation images of 2 people held out of {people}, ")
