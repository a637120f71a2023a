"""What a finetuning run is told wrong: one line that names it and the way out, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import caffeport
import cv2
import lightning_fabric
import numpy as np
import onnxruntime
import pytest
import torch
from caffeport.formats import caffemodel
from normface.cli.main import main
from normface.errors import TrainingError
from normface.finetune import Config, finetune, output
from normface.finetune import config_file as files
from normface.finetune.fabric import make_fabric
from support.digit_images import NET, WEIGHTS, flags, write_digits

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("people"), range(5), 6)


def refused(words: list[str], capsys, code: int = 2) -> str:
    """The one line that the command ends with."""
    assert main(words) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    return lines[0]


def test_every_problem_is_told_at_once(people, tmp_path, capsys):
    more = ["--lr", "fast", "--epochs", -1, "--net", "nowhere.prototxt", "--loss", "am-sofmax", "--momentum", 1.5]
    more += ["--batch-size", 15, "--sampling", "balanced", "--schedule", "cosin", "--weights", "missing.caffemodel"]
    line = refused(flags(people, tmp_path / "out", *more), capsys)
    for words in (
        "8 problems",
        "--lr: expected a number, got 'fast'",
        "--epochs -1.0: expected above 0",
        "--net nowhere.prototxt: no such file",
        "--weights missing.caffemodel: no such file",
        'did you mean "am-softmax"?',
        "--momentum 1.5",
        "--batch-size 15 is no multiple of --per-identity 2",
        '--schedule: "cosin" is unknown (did you mean "cosine"?)',
    ):
        assert words in line
    assert not (tmp_path / "out").exists()


def test_what_is_needed_is_listed(capsys):
    line = refused(["finetune"], capsys)
    assert all(f"{flag} is needed" in line for flag in ("--net", "--weights", "--data", "--embedding", "--out"))


def test_unknown_keys_of_a_toml(people, tmp_path, capsys):
    path = tmp_path / "c.toml"
    path.write_text("epoch = 3\nmirror = 'yes'\nbatch-size = 8\nlr = [1]\n")
    line = refused(flags(people, tmp_path / "out", "--config", path), capsys)
    assert '"epoch" is no setting (did you mean "epochs"?)' in line
    assert "--lr: expected a number, got [1]" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"epochs = ", "is no TOML"), (b"\xff\xfe", "UTF-8"), (b"#" * (2 << 20), "too large"), (None, "No such file")],
)
def test_a_config_that_is_none(people, tmp_path, capsys, content, words):
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    line = refused(flags(people, tmp_path / "out", "--config", path), capsys)
    assert words in line and "c.toml" in line


@pytest.mark.slow
def test_flags_win_over_the_file_and_paths_are_found_beside_it(people, tmp_path, monkeypatch):
    shutil.copy(NET, tmp_path / "net.prototxt")
    shutil.copy(WEIGHTS, tmp_path / "w.caffemodel")
    path = tmp_path / "c.toml"
    path.write_text(
        f'net = "net.prototxt"\nweights = "w.caffemodel"\ndata = {json.dumps(str(people))}\nembedding = "fc5"\n'
        'mean = 8\nscale = 0.125\nsteps = 9\nlr = 0.5\nout = "out"\ndevice = "cpu"\nval-share = 0\nfigure = false\n'
    )
    monkeypatch.chdir(tmp_path.parent)
    out = tmp_path / "elsewhere"
    assert main(["finetune", "--config", str(path), "--steps", "1", "--out", str(out), "--no-tensorboard"]) == 0
    written = Config.from_settings(files.read(out / "config.toml"))
    assert (written.steps, written.lr, written.mean, written.net) == (1, 0.5, (8.0,), str(tmp_path / "net.prototxt"))


def test_a_config_comes_back_as_it_was_written(people, tmp_path):
    given = {
        "net": NET, "weights": WEIGHTS, "data": people, "embedding": 'odd "name" \\ \x7f é', "out": tmp_path / "o",
        "loss": "am-softmax+0.5*center", "loss_options": ["margin=0.1", "center-step=fork"], "milestones": ["0.2,300"],
        "clip_norm": 1e-7, "mean": (1, 2.5, 3), "rgb": True, "precision": 32,
    }  # fmt: skip
    config = Config.from_settings(given)
    assert config.loss_options == {"margin": 0.1, "center_step": "fork"} and config.milestones == (0.2, 300.0)
    files.write(config, tmp_path / "c.toml")
    assert Config.from_settings(files.read(tmp_path / "c.toml")) == config


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--embedding", "fc6"], r'--embedding "fc6" is no blob of .*did you mean "fc5"'),
        (["--embedding", "pool2"], r'--embedding "pool2" is .*x64x2x2; a feature is one vector'),
        (["--freeze-to", "conv9"], r'--freeze-to "conv9" is no blob before "fc5"'),
        (["--freeze-to", "pool2", "--freeze-backbone"], r"--freeze-backbone is --freeze-to of"),
        (["--new-embedding", "64x32"], r"--new-embedding 64x32: expected sizes with dashes"),
        (["--device", "cuda"], r"finds no CUDA device"),
        (["--precision", "16-mixed"], r"--precision 16-mixed needs a CUDA device"),
        (["--val-share", "1"], r"--val-share 1.0: expected a share"),
        (["--loss", "softmax", "--loss-option", "margn=2"], r"no option margn"),
        (["--loss-option", "margin"], r"--loss-options: expected KEY=VALUE, got 'margin'"),
        (["--loss", "0.01*ring"], r'--loss: "0.01\*ring" tells nobody apart: expected it added to a loss'),
        (["--loss-option", "reduction=sum"], r"--loss-option reduction=sum: a training takes the mean"),
        (["--margin-warmup", "100"], r"--margin-warmup: normalized-softmax has no margin that could come from 0"),
        (["--margin-warmup", "-1"], r"--margin-warmup -1.0: expected 0 or more"),
        (
            ["--loss", "arcface", "--margin-warmup", "9", "--loss-option", "margin-warmup=9"],
            r"--margin-warmup and --loss-option margin_warmup say the same; give one of them",
        ),
        (["--mean", "1,2"], r"--mean: has 2 numbers, and the net's images have 1 channels"),
        (["--patience", "2", "--val-share", "0"], r"--patience needs people to validate on"),
        (["--rgb"], r"--rgb needs a net that takes images of 3 channels"),
        (["--steps", "1.5"], r"--steps: expected a whole number"),
        (["--batch-size", "0"], r"--batch-size 0: expected 1 or more"),
        (["--lr", "nan"], r"--lr: expected a number"),
        (["--resume", "--overwrite"], r"give one of them"),
        (["--val", "nowhere"], r"--val nowhere: no such file"),
        (["--head", str(WEIGHTS)], r"is no safetensors file"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(people, tmp_path, capsys, monkeypatch, more, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = refused(flags(people, tmp_path / "out", *more), capsys)
    assert re.search(words, line)
    assert not (tmp_path / "out").exists()


def test_preprocessing_has_to_be_known(people, tmp_path, capsys):
    words = [w for w in flags(people, tmp_path / "out") if w not in ("--mean", "8", "--scale", "0.125")]
    assert "does not say what its images need; give --preset, or --mean and --scale" in refused(words, capsys)


@pytest.mark.slow
def test_a_transform_of_the_net_is_used(people, tmp_path, capsys):
    text = NET.read_text()
    start = text.index("layer {")
    data = (
        'layer { name: "data" type: "MemoryData" top: "data" top: "label"\n'
        "  transform_param { mean_value: 8 scale: 0.125 }\n"
        "  memory_data_param { batch_size: 4 channels: 1 height: 8 width: 8 } }\n"
    )
    (tmp_path / "net.prototxt").write_text(text[:start] + data + text[text.index("layer {", start + 5) :])
    words = [w for w in flags(people, tmp_path / "out") if w not in ("--mean", "8", "--scale", "0.125")]
    assert main([*words, "--net", str(tmp_path / "net.prototxt"), "--steps", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["preprocessing"]
    assert (found["mean"], found["scale"]) == ([8.0], 0.125)


@pytest.mark.slow
def test_the_transform_is_that_of_the_images_own_layer(people, tmp_path, capsys):
    """And its file takes the images alone, whose layer in front works in place on them."""
    text = NET.read_text()
    data = "".join(
        f'layer {{ name: "{name}" type: "MemoryData" top: "{name}" top: "{name}_label" '
        f"transform_param {{ {transform} }} "
        f"memory_data_param {{ batch_size: 4 channels: {channels} height: 8 width: 8 }} }}\n"
        for name, channels, transform in (
            ("mask", 3, "mean_value: 1 mean_value: 2 mean_value: 3"),
            ("data", 1, "mean_value: 8 scale: 0.125"),
        )
    )
    data += 'layer { name: "half" type: "Power" bottom: "data" top: "data" power_param { scale: 0.5 } }\n'
    data += 'layer { name: "unused" type: "ReLU" bottom: "mask" top: "mask" }\n'
    (tmp_path / "net.prototxt").write_text(data + text[text.index("layer {", text.index("layer {") + 5) :])
    words = [w for w in flags(people, tmp_path / "out") if w not in ("--mean", "8", "--scale", "0.125")]
    assert main([*words, "--net", str(tmp_path / "net.prototxt"), "--steps", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["preprocessing"]
    assert (found["mean"], found["scale"]) == ([8.0], 0.125)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["data"]
    call = ["extract", tmp_path / "out" / "model.onnx", "--data", people, "--out", tmp_path / "f.npz"]
    assert main([str(word) for word in call]) == 0


def test_weights_of_another_net(people, tmp_path, capsys):
    net = caffeport.load(NET, WEIGHTS)
    blobs = {layer.name: layer.blobs for layer in net.layers if layer.params and layer.name != "conv2_1"}
    caffemodel.write(tmp_path / "w.caffemodel", "", ((name, "", [], [], b) for name, b in blobs.items()))
    line = refused(flags(people, tmp_path / "out", "--weights", tmp_path / "w.caffemodel"), capsys)
    assert 'lacks the weights of conv2_1, which "fc5" needs' in line


@pytest.mark.slow
def test_a_folder_in_use_is_left_alone(people, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("dear")
    line = refused(flags(people, out, "--steps", 1), capsys)
    assert "holds thesis.txt" in line and "--overwrite" in line
    assert main(flags(people, out, "--steps", 1, "--overwrite")) == 0
    assert (out / "thesis.txt").read_text() == "dear"
    assert "--resume" in refused(flags(people, out, "--steps", 1), capsys)
    assert main(flags(people, out, "--steps", 1, "--overwrite", "--lr", 0.5)) == 0
    assert "lr = 0.5" in (out / "config.toml").read_text()
    (tmp_path / "file").write_text("")
    assert "expected a folder" in refused(flags(people, tmp_path / "file"), capsys)


@pytest.fixture
def spoiled(people, tmp_path) -> Path:
    """A copy in which one image to train on is no image, another one is empty."""
    data = tmp_path / "spoiled"
    shutil.copytree(people, data)
    (data / "1" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    (data / "2" / "empty.png").write_bytes(b"")
    return data


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="folders are locked on Linux")
def test_a_folder_that_another_run_is_writing_is_left_alone(people, tmp_path, capsys, monkeypatch):
    """The lock is the system's, so that it ends with its process; the test's own stands for another run's."""
    import fcntl

    out = tmp_path / "out"
    out.mkdir()
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with monkeypatch.context() as patch:
        patch.delattr("normface.finetune.recipe.prepare")  # it is told before anything is read
        told = refused(flags(people, out, "--steps", 1, "--overwrite"), capsys)
    assert "another run is writing there; wait for it, or choose another folder" in told
    assert list(out.iterdir()) == []
    os.close(handle)
    assert main(flags(people, out, "--steps", 1)) == 0
    assert main(flags(people, out, "--steps", 1, "--overwrite")) == 0  # it is free again


def test_an_unreadable_image_stops_the_run_with_its_path(spoiled, tmp_path, capsys):
    line = refused(flags(spoiled, tmp_path / "out", "--val-share", 0), capsys)
    assert "broken.png" in line or "empty.png" in line
    assert "--on-bad-image skip" in line


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [[], ["--freeze-backbone", "--new-embedding", "8"]])
def test_or_is_left_out_and_told_once(spoiled, tmp_path, capsys, frozen):
    more = ["--val-share", 0, "--on-bad-image", "skip", "--epochs", 3, "--batch-size", 8, "--json", *frozen]
    assert main(flags(spoiled, tmp_path / "out", *more)) == 0
    shown = capsys.readouterr()
    for name in ("broken.png", "empty.png"):
        assert sum(f"left out: {spoiled}" in line and name in line for line in shown.err.splitlines()) == 1
    left_out = json.loads(shown.out)["left_out"]
    assert sorted("broken" in reason for reason in left_out) == [False, True]


def test_nothing_but_unreadable_images(tmp_path, capsys):
    for digit in "01":
        (tmp_path / "data" / digit).mkdir(parents=True)
        (tmp_path / "data" / digit / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    more = ["--on-bad-image", "skip", "--freeze-backbone"]
    assert "could be read" in refused(flags(tmp_path / "data", tmp_path / "out", *more), capsys)
    assert "could be read" in refused(flags(tmp_path / "data", tmp_path / "out2", "--on-bad-image", "skip"), capsys)


@pytest.mark.slow
def test_images_of_another_size(tmp_path, capsys):
    data = write_digits(tmp_path / "data", range(4), 3)
    for path in data.glob("*/*.png"):
        cv2.imwrite(str(path), np.zeros((8, 6), np.uint8) + int(path.parent.name))
    line = refused(flags(data, tmp_path / "out"), capsys)
    assert "is 8x6 (HxW), and the net takes 8x8" in line
    assert main(flags(data, tmp_path / "padded", "--pad", "--steps", 1)) == 0
    assert main(flags(data, tmp_path / "resized", "--fit", "resize", "--steps", 1)) == 0


def test_one_identity_is_not_enough(tmp_path, capsys):
    data = write_digits(tmp_path / "data", range(1), 5)
    assert "needs two at least" in refused(flags(data, tmp_path / "out"), capsys)


def test_images_without_labels(tmp_path, capsys):
    data = write_digits(tmp_path / "data", range(1), 5) / "0"
    assert "has no labels" in refused(flags(data, tmp_path / "out"), capsys)


@pytest.mark.slow
def test_one_image_a_class_trains_without_validation(tmp_path, capsys):
    data = write_digits(tmp_path / "data", range(6), 1)
    assert main(flags(data, tmp_path / "out", "--steps", 2)) == 0
    notes = capsys.readouterr().err
    assert "6 of 6 identities have one image only, such as 0" in notes
    assert "fewer than a batch of 64" in notes and "trained without validation" in notes


@pytest.mark.slow
def test_labels_with_gaps_are_numbered_anew(people, tmp_path, capsys):
    lines = [f"{path.relative_to(people)} {100 * int(path.parent.name)}\n" for path in sorted(people.glob("*/*.png"))]
    (tmp_path / "list.txt").write_text("".join(lines))
    more = ["--root", people, "--steps", 1, "--val-share", 0]
    assert main(flags(tmp_path / "list.txt", tmp_path / "out", *more)) == 0
    assert "5 labels between 0 and 400 were numbered anew" in capsys.readouterr().err


@pytest.mark.slow
def test_validation_needs_pairs(people, tmp_path, capsys):
    strangers = write_digits(tmp_path / "strangers", range(7, 10), 1)
    line = refused(flags(people, tmp_path / "out", "--val", strangers), capsys)
    assert "validation needs two images of one person" in line
    overlap = write_digits(tmp_path / "overlap", range(2), 3)
    (overlap / "0").rename(overlap / "Ann")
    (overlap / "1").rename(overlap / "Eve")
    mine = tmp_path / "mine"
    shutil.copytree(people, mine)
    (mine / "0").rename(mine / "Ann")
    assert main(flags(mine, tmp_path / "out", "--val", overlap, "--steps", 1)) == 0
    assert "identities of --val are trained on as well, such as Ann" in capsys.readouterr().err


@pytest.mark.slow
def test_validation_on_images_that_are_trained_on_is_told(people, tmp_path, capsys):
    """Folders named by digits too, which say nothing about who is in them, and by another path."""
    (tmp_path / "link").symlink_to(people)
    more = [*("--val", tmp_path / "link"), "--steps", 1]
    assert main(flags(people, tmp_path / "out", *more)) == 0
    assert "30 of 30 images of --val are trained on as well" in capsys.readouterr().err
    shutil.copytree(people, tmp_path / "copy")
    assert main(flags(people, tmp_path / "out2", "--val", tmp_path / "copy", "--steps", 1)) == 0
    assert "are trained on as well" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_the_run_at_that_step(people, tmp_path, capsys):
    """The files are those of the last good model, and they load."""
    out = tmp_path / "out"
    more = ["--loss", "softmax", "--lr", 100, "--steps", 40, "--validate-every", 1, "--val-share", 0.4, "--warmup", 40]
    line = refused(flags(people, out, *more), capsys, code=1)
    step = int(re.search(r"(?:at|after) step (\d+)", line)[1])
    assert "--lr" in line and "last good model" in line
    summary = json.loads((out / "metrics.json").read_text())
    assert not summary["ok"] and step - 2 <= summary["steps"] <= step and summary["diverged"]
    net = caffeport.load(out / "deploy.prototxt", out / "model.caffemodel")
    assert all(np.isfinite(blob).all() for layer in net.layers for blob in layer.blobs)


def test_a_loss_that_is_no_number_at_once(people, tmp_path, capsys):
    """Before any checkpoint there is nothing to export."""
    net = caffeport.load(NET, WEIGHTS)
    broken = [np.full_like(blob, np.nan) for blob in net.layer("fc5").blobs]
    net.with_weights({"fc5": broken}).save(tmp_path / "nan.caffemodel")
    out = tmp_path / "out"
    line = refused(flags(people, out, "--weights", tmp_path / "nan.caffemodel", "--val-share", 0), capsys, code=1)
    assert "the loss is nan at step 1, before the first checkpoint" in line
    assert not (out / "model.caffemodel").exists() and not (out / "checkpoint.pt").exists()


def test_a_config_made_in_python_is_checked_too(tmp_path):
    with pytest.raises(TrainingError, match=r"--net is needed; .*--lr -1: expected above 0"):
        finetune(Config(lr=-1, out=str(tmp_path / "out")))


def test_a_disk_that_takes_nothing(people, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(output.os, "access", lambda path, mode: mode != os.W_OK)
    assert "no folder that can be written to" in refused(flags(people, tmp_path / "deep" / "out"), capsys)
    assert not (tmp_path / "deep").exists()


def test_missing_libraries_are_named(people, tmp_path, capsys, monkeypatch):
    for name in ("lightning_fabric", "lightning", "lightning.fabric"):
        monkeypatch.setitem(sys.modules, name, None)
    line = refused(flags(people, tmp_path / "out"), capsys)
    assert "pip install lightning-fabric" in line


@pytest.mark.slow
def test_help_needs_no_torch():
    code = (
        "import sys\nfrom normface.cli.main import main\n"
        "try: main(['finetune', '--help'])\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False" and "--embedding" in done.stdout


def test_the_package_lightning_serves_as_well(monkeypatch):
    """It holds the same class in another place."""
    stand_in = types.ModuleType("lightning.fabric")
    stand_in.Fabric = lightning_fabric.Fabric
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    monkeypatch.setitem(sys.modules, "lightning", types.ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.fabric", stand_in)
    assert make_fabric(Config(device="cpu")).device == torch.device("cpu")
