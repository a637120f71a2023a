"""A folder that ``normface finetune --out`` wrote as NET, and ``check --preset``; without normface."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from caffeport import model_folder
from caffeport.cli.main import main
from caffeport.errors import CaffeportError
from support import nets

BEFORE = {"mean": [120.0], "scale": 0.5, "rgb": False, "fit": "exact", "size": [12, 10]}
SAID = {
    "format": "normface model 1",
    "onnx": "model.onnx",
    "net": "deploy.prototxt",
    "weights": "model.caffemodel",
    "embedding": "fc",
    "dimension": 5,
    "preprocessing": BEFORE,
    "version": "0.2.0",
}


@pytest.fixture
def tuned(tmp_path) -> Path:
    folder = tmp_path / "tuned"
    folder.mkdir()
    net = nets.load(tmp_path, nets.SMALL)
    net.save(folder / "model.caffemodel", prototxt=folder / "deploy.prototxt")
    (folder / "config.json").write_text(json.dumps(SAID))
    return folder


def test_show_takes_the_folder(tuned, capsys):
    assert main(["show", str(tuned)]) == 0
    out = capsys.readouterr().out
    assert "1,104 parameters" in out and f"weights: {tuned / 'model.caffemodel'}" in out
    assert f"its images: (x - 120) * 0.5, 12x10 (HxW) ({tuned / 'config.json'}); its embedding: fc" in out
    assert main(["show", str(tuned), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["folder"]
    images = {"mean": [120.0], "scale": 0.5, "rgb": False, "size": [12, 10]}
    assert said == {"embedding": "fc", "preprocessing": images}
    assert main(["show", str(tuned / "deploy.prototxt"), "--json"]) == 0
    assert "folder" not in json.loads(capsys.readouterr().out)


def test_convert_takes_the_folder(tuned, tmp_path, capsys):
    both = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    assert main(["convert", str(tuned), "--onnx", str(both[0]), "--check"]) == 0
    out = capsys.readouterr().out
    assert "its images: (x - 120) * 0.5" in out and "ok: 4 of 6 blobs compared" in out
    files = [str(tuned / "deploy.prototxt"), str(tuned / "model.caffemodel")]
    assert main(["convert", *files, "--onnx", str(both[1])]) == 0
    assert both[0].read_bytes() == both[1].read_bytes()  # what images need is told, not put into the file
    assert main(["convert", files[0], "--onnx", str(both[0]), files[1]]) == 0  # WEIGHTS behind an option
    assert main(["convert", str(tuned), "--onnx", str(tuned / "model.caffemodel")]) == 2
    assert "would overwrite what is converted" in capsys.readouterr().err


def test_check_takes_the_folder_and_its_preprocessing(tuned, tmp_path, capsys):
    photo = tmp_path / "p.png"
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8))
    errors = []
    for words in ([], ["--mean", "120", "--scale", "0.5"], ["--scale", "1"]):
        assert main(["check", str(tuned), "--input", str(photo), *words, "--json"]) == 0
        content = json.loads(capsys.readouterr().out)
        assert "preprocessing" not in content and "its images: (x - 120) * 0.5" in content["notes"][-1]
        errors.append([row["errors"] for row in content["rows"]])
    assert errors[0] == errors[1] != errors[2]  # rounding tells the numbers that the blobs were made of
    assert {"deploy.prototxt", "model.caffemodel"} == {Path(facts["path"]).name for facts in content["files"]}


@pytest.mark.parametrize("command", ["show", "convert --onnx x.onnx", "check"])
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": "x"}, r"config\.json: is no config\.json of a model .*: its format is 'x'"),
        ({"net": "../deploy.prototxt"}, r"'\.\./deploy\.prototxt' is no name of a file in the folder"),
        ({"weights": "absent.caffemodel"}, r"absent\.caffemodel: "),
        ({"preprocessing": BEFORE | {"mean": ["x"]}}, r"is no config\.json of a model .*: could not convert"),
        ({"preprocessing": BEFORE | {"scale": 0}}, r"config\.json: mean and scale are to be finite, scale not 0"),
        ({"preprocessing": []}, r"is no config\.json of a model"),
    ],
)
def test_a_wrong_folder_is_told(command, changes, problem, tuned, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tuned / "config.json").write_text(json.dumps(SAID | changes))
    name, *rest = command.split()
    assert main([name, str(tuned), *rest]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and re.search(problem, error), error
    assert not (tmp_path / "x.onnx").exists()


def test_other_folders_are_told(tuned, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["show", str(tmp_path / "empty")]) == 2
    assert "is a folder; expected a prototxt file" in capsys.readouterr().err
    assert main(["show", str(tuned), str(tuned / "model.caffemodel")]) == 2
    assert "is a folder with a model's weights; leave" in capsys.readouterr().err
    for text in ("[" * 100_000, "[]", "", "\xff"):
        (tuned / "config.json").write_text(text, "latin-1")
        with pytest.raises(CaffeportError, match=r"config\.json: is no config\.json of a model"):
            model_folder.read(tuned)
    (tuned / "config.json").write_text(" " * (1 << 20) + "{}")
    with pytest.raises(CaffeportError, match=r"config\.json: has more than 1048576 bytes"):
        model_folder.read(tuned)


@pytest.mark.parametrize("words", ["--preset mtcnn-rnet", "--preset mobilenet-ssd", "--preset res10-ssd --rgb"])
def test_check_with_a_preset(words, tmp_path, capsys):
    """What ``convert`` put in front by a preset is what ``check`` with the same words proves."""
    net = nets.load(tmp_path, nets.SMALL)
    net.save(tmp_path / "n.caffemodel")
    files = [str(tmp_path / "net.prototxt"), str(tmp_path / "n.caffemodel")]
    target = str(tmp_path / "n.onnx")
    assert main(["convert", *files, "--onnx", target, *words.split()]) == 0
    assert main(["check", *files, "--onnx", target, *words.split()]) == 0
    capsys.readouterr()
    model = onnx.load(target)
    del model.metadata_props[:]  # as another tool writes it: the file itself does not say what is in front
    onnx.save(model, target)
    assert main(["check", *files, "--onnx", target, *words.split()]) == 0
    out = capsys.readouterr().out
    assert f"preset {words.split()[1]}: " in out
    assert main(["check", *files, "--onnx", target, "--preset", "open-nsfw"]) == 1


@pytest.mark.slow
def test_an_image_with_a_preset_comes_in_the_nets_order(tmp_path, capsys):
    net = nets.load(tmp_path, nets.SMALL)
    net.save(tmp_path / "n.caffemodel")
    files = [str(tmp_path / "net.prototxt"), str(tmp_path / "n.caffemodel")]
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), pixels)
    for name, turned in (("mtcnn-rnet", True), ("center-face", False)):
        x = (pixels.astype(np.float32).transpose(2, 0, 1)[:: -1 if turned else 1] - 127.5) * np.float32(1 / 128)
        blobs = net.to_torch().blobs(torch.tensor(np.ascontiguousarray(x)[None]))
        np.savez(tmp_path / "blobs.npz", fc=blobs["fc"].detach().numpy())
        words = ["--input", str(tmp_path / "p.png"), "--preset", name, "--reference", str(tmp_path / "blobs.npz")]
        assert main(["check", *files, *words]) == 0
        assert main(["check", *files, *words, "--preset", "res10-ssd"]) == 1
    with pytest.raises(SystemExit):
        main(["check", *files, "--preset", "alexnet"])
    assert "the preprocessing of alexnet is not known" in capsys.readouterr().err
