"""The folder of a finetuned model as a model: config.json, normface.load, and the commands that take MODEL."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import caffeport
import cv2
import normface
import numpy as np
import onnxruntime
import pytest
from normface import model_folder
from normface.cli.main import main
from normface.errors import NormfaceError
from normface.features import Extractor, load_features
from support.digit_images import flags, write_digits

BEFORE = {"mean": [1], "scale": 1, "rgb": False, "fit": "exact", "size": None}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("people"), range(4), 8)


@pytest.fixture(scope="module")
def tuned(people, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "tuned"
    assert main(flags(people, out, "--steps", 1, "--batch-size", 8, "--val-share", 0)) == 0
    return out


@pytest.fixture
def copy(tuned, tmp_path) -> Path:
    shutil.copytree(tuned, tmp_path / "copy")
    return tmp_path / "copy"


def edited(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.slow
def test_config_json_says_what_the_folder_is(tuned):
    content = json.loads((tuned / "config.json").read_text())
    trained = (tuned / "config.toml").read_text()
    assert content["preprocessing"]["size"] == [8, 8]
    assert f"scale = {content['preprocessing']['scale']}" in trained
    del content["preprocessing"]
    assert content == {
        "format": "normface model 1",
        "onnx": "model.onnx",
        "net": "deploy.prototxt",
        "weights": "model.caffemodel",
        "embedding": "fc5",
        "dimension": 32,
        "version": normface.__version__,
    }
    assert str(tuned) not in (tuned / "config.json").read_text()


def test_load_gives_the_features_of_its_onnx_file(tuned, people):
    extractor = normface.load(tuned)
    paths = sorted(people.rglob("*.png"))[:5]
    images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[..., None] for path in paths]
    said = json.loads((tuned / "config.json").read_text())["preprocessing"]
    x = (np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) - np.float32(said["mean"])) * said["scale"]
    session = onnxruntime.InferenceSession(tuned / "model.onnx", providers=["CPUExecutionProvider"])
    # float32 sums in another order: a few units in the last place of numbers up to about 10
    np.testing.assert_allclose(
        extractor.features_of(images), session.run(None, {"data": x.astype(np.float32)})[0], rtol=1e-4, atol=1e-4
    )
    assert extractor.settings["model"] == str(tuned / "model.onnx")
    assert (extractor.size, extractor.dimension) == ((8, 8), 32)


@pytest.mark.slow
def test_what_config_json_says_of_images_counts(copy):
    said = json.loads((copy / "config.json").read_text())["preprocessing"]
    edited(copy, preprocessing=said | {"mean": [1.0], "fit": "resize"})
    assert normface.load(copy).preprocessing.mean == (1.0,) and normface.load(copy).preprocessing.fit == "resize"
    assert Extractor(copy, mean=2.0).preprocessing.mean == (2.0,)


@pytest.mark.slow
def test_commands_take_the_folder(tuned, people, tmp_path, capsys):
    by_folder, by_file = tmp_path / "folder.npz", tmp_path / "file.npz"
    assert main(["extract", str(tuned), "--data", str(people), "--out", str(by_folder)]) == 0
    assert main(["extract", str(tuned / "model.onnx"), "--data", str(people), "--out", str(by_file)]) == 0
    assert np.array_equal(load_features(by_folder).features, load_features(by_file).features)
    photo = str(next(iter(sorted(people.rglob("*.png")))))
    capsys.readouterr()
    words = ["search", photo, str(tuned), "--mirror", "none", "--aligned", "--gallery", str(by_folder), "--json"]
    assert main(words) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_finetuning_goes_on_from_the_folder(tuned, people, tmp_path):
    out = tmp_path / "again"
    words = ["finetune", str(tuned), "--data", str(people), "--embedding", "fc5", "--steps", "1", "--val-share", "0"]
    assert main([*words, "--batch-size", "8", "--out", str(out)]) == 0
    first, again = (json.loads((folder / "config.json").read_text()) for folder in (tuned, out))
    assert first == again
    text = (out / "config.toml").read_text()
    assert str(tuned / "deploy.prototxt") in text and str(tuned / "model.caffemodel") in text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": "x"}, r"config\.json: is no config\.json of a model .*: its format is 'x'"),
        ({"onnx": "../model.onnx"}, r"'\.\./model\.onnx' is no name of a file in the folder"),
        ({"onnx": "/etc/passwd"}, r"'/etc/passwd' is no name of a file in the folder"),
        ({"onnx": "absent.onnx"}, r"absent\.onnx: no such file"),
        ({"preprocessing": {}}, r"is no config\.json of a model"),
        ({"preprocessing": BEFORE | {"mean": []}}, r"config\.json: .*: its mean has no number"),
        ({"preprocessing": BEFORE | {"scale": 0}}, r"config\.json: mean and scale are to be finite, scale not 0"),
        ({"preprocessing": BEFORE | {"fit": "x"}}, r'config\.json: fit "x" is unknown'),
    ],
)
def test_a_wrong_config_json_is_told(copy, changes, problem):
    with pytest.raises(NormfaceError, match=problem):
        normface.load(edited(copy, **changes))


def test_a_folder_that_is_no_model_is_told(tuned, tmp_path):
    with pytest.raises(NormfaceError, match=r"is a folder without config\.json; expected one of normface finetune"):
        normface.load(tmp_path)
    with pytest.raises(NormfaceError, match=r"is a folder with a model's weights; leave .* out"):
        Extractor(tuned, tuned / "model.caffemodel")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(NormfaceError, match=r"config\.json: is no config\.json of a model"):
        model_folder.read(tmp_path)
    with pytest.raises(
        caffeport.CaffeportError, match=r"is a folder; .*: give .*deploy\.prototxt .*model\.caffemodel$"
    ):
        caffeport.load(tuned)
