"""config.toml gives back every setting there can be, or the run is refused before its work starts."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normface.cli.main import main
from normface.errors import TrainingError
from normface.finetune import Config, config_file, finetune
from support.digit_images import NET, WEIGHTS, flags, write_digits

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("people"), range(4), 6)


def config(**more: object) -> Config:
    kept = {"net": NET, "weights": WEIGHTS, "data": Path(__file__).parent, "embedding": "fc5", "out": "out"}
    return Config.from_settings({**kept, **more})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("config")


def again(folder: Path, one: Config) -> Config:
    config_file.write(one, folder / "c.toml")
    return Config.from_settings(config_file.read(folder / "c.toml"))


def test_names_of_earlier_versions(tmp_path):
    (tmp_path / "c.toml").write_text('on_bad_picture = "skip"\nval-pictures = 100\n')
    read = Config.from_settings({**config().settings(), **config_file.read(tmp_path / "c.toml")})
    made = Config(on_bad_picture="skip", val_pictures=100)
    for one in (read, made):
        assert (one.on_bad_image, one.val_images) == (one.on_bad_picture, one.val_pictures) == ("skip", 100)
    assert dataclasses.replace(made, on_bad_image="stop").on_bad_picture == "stop"
    assert again(tmp_path, read).on_bad_image == "skip" and "picture" not in (tmp_path / "c.toml").read_text()
    with pytest.raises(TrainingError, match="--val-images 3: expected 4 or more"):
        config(val_pictures=3)


def test_paths_lists_and_tables_come_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.bin", "b.bin", "c,d.bin", "pairs.txt", "lfw.zip"):
        (tmp_path / name).write_bytes(b"")
    steps = {"res=2/conv-1": 0.5, "conv.3": 100.0}
    more = {"val_bin": "a.bin,b.bin", "val_pairs": "pairs.txt", "val_images": "lfw.zip", "unfreeze": steps}
    one = config(**more, ema="0.9", layer_decay="0.8", augment="face,blur:0", val_limit="50", hard_samples="9")
    found = again(tmp_path, one)
    assert found.val_bin == (str(tmp_path / "a.bin"), str(tmp_path / "b.bin"))
    assert (found.val_pairs, found.val_images) == (str(tmp_path / "pairs.txt"), str(tmp_path / "lfw.zip"))
    assert (found.unfreeze, found.ema, found.layer_decay, found.val_limit) == (steps, 0.9, 0.8, 50)
    assert (found.held_out_share, found.most_val_images, found.val_share) == (0.0, 50, None)
    assert config(val_bin=["c,d.bin"]).val_bin == ("c,d.bin",)  # a comma of a name that is there
    assert config(unfreeze=["res=2/conv-1=0.5", "conv.3=100"]).unfreeze == steps
    assert config(val_images="77").most_val_images == config(val_images=77).most_val_images == 77
    assert config().held_out_share == 0.1 and config(val_share=0.2, val_bin="a.bin").held_out_share == 0.2
    (tmp_path / "c.toml").write_text('val-bin = ["a.bin"]\n[unfreeze]\nconv1 = 3\n')
    monkeypatch.chdir("/")
    read = config_file.read(tmp_path / "c.toml")
    assert (read["val_bin"], read["unfreeze"]) == ([str(tmp_path / "a.bin")], {"conv1": 3})


WORDS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(embedding=WORDS, text=WORDS, mean=st.lists(NUMBERS, min_size=1, max_size=3), seed=st.integers(0, 2**63 - 1),
       decay=st.floats(0, allow_infinity=False))  # fmt: skip
def test_any_text_and_number_comes_back(folder, embedding, text, mean, seed, decay):
    one = config(embedding=embedding, freeze_to=text, mean=mean, seed=seed, weight_decay=decay)
    found = again(folder, one)
    assert (found.embedding, found.freeze_to, found.mean) == (embedding, text, tuple(mean))
    assert (found.seed, found.weight_decay) == (seed, decay)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e-320, 2**70, True, False, 0, -0.0, 1e16, 5.0])
@pytest.mark.parametrize("option", ["positive_margin", "negative_margin"])
def test_any_option_of_a_loss_comes_back(folder, option, value):
    one = config(loss="c-contrastive", loss_options={option: value})
    found = again(folder, one).loss_options[option]
    assert type(found) is type(value) and (found == value or (math.isnan(found) and math.isnan(value)))


@pytest.mark.parametrize(
    "name", ["quote\"s'", "line\nbreak\r\t", "bell\x07\x7f\x1b[31m", "é\u2028字", "back\\slash", "#=[]"]
)
def test_any_path_comes_back(tmp_path, name):
    data = tmp_path / name
    data.mkdir()
    assert again(tmp_path, config(data=str(data), out=str(data / "out"))).data == str(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["positive-outlier-thresh=inf"],
        ["positive-margin=0.25", "positive-outlier-thresh=1e400"],
    ],
)
def test_a_run_with_infinite_options_resumes(people, tmp_path, options):
    words = ["--loss", "c-contrastive", "--loss-option", *options, "--steps", 2, "--val-share", 0]
    assert main(flags(people, tmp_path / "out", *words)) == 0
    assert main(["finetune", "--resume", "--out", str(tmp_path / "out")]) == 0
    assert main(flags(people, tmp_path / "out", *words, "--resume")) == 0


@pytest.mark.slow
def test_an_option_that_is_no_number_is_the_same_when_it_resumes(people, tmp_path, capsys):
    words = ["--loss", "c-contrastive", "--loss-option", "positive-margin=nan", "--steps", 2, "--val-share", 0]
    assert main(flags(people, tmp_path / "out", *words)) == 1  # the loss is NaN
    capsys.readouterr()
    assert main(flags(people, tmp_path / "out", *words, "--resume")) == 1
    assert "the loss is nan at step 1" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes")
@pytest.mark.parametrize("which", ["data", "out", "folder", "root", "cache"])
def test_a_path_that_is_no_utf8_is_met_before_the_work(people, tmp_path, capsys, which, monkeypatch):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(people, odd / "images")
    data, out, more = people, tmp_path / "out", []
    if which == "data":
        data = odd / "images"
    elif which == "out":
        out = odd / "out"
    elif which == "folder":
        monkeypatch.chdir(odd)
        data = Path("images")
    else:
        more = ["--root", odd] if which == "root" else ["--feature-cache", odd]
    assert main(flags(data, out, "--steps", 1, *more)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "caf\\udce9" in line and "is no text in UTF-8" in line and "config.toml" in line
    assert f"--{ {'folder': 'data', 'cache': 'feature-cache'}.get(which, which) } " in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"loss_options": {"scale": None}}, "--loss-options"),
        ({"loss_options": {"scale": object()}}, "--loss"),
        ({"loss_options": {"scale": [None]}}, "--loss"),
        ({"lr": math.inf}, "--lr: expected a number, got inf"),
        ({"weight_decay": math.inf}, "--weight-decay: expected a number, got inf"),
        ({"steps": 2.5}, "--steps: expected a whole number"),
        ({"embedding": "fc5\udce9"}, "--embedding"),
    ],
)
def test_what_it_cannot_hold_is_refused_in_python(people, tmp_path, more, words):
    kept = {"net": str(NET), "weights": str(WEIGHTS), "data": str(people), "embedding": "fc5", "mean": (8.0,)}
    with pytest.raises(TrainingError, match=words):
        finetune(Config(**{**kept, "scale": 0.125, "device": "cpu", "out": str(tmp_path / "out"), **more}))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_python_gives_of_another_kind_is_the_same_setting(people, tmp_path):
    """Paths, NumPy's numbers, lists, a precision as a number: the run starts, and resumes, as from the file."""
    one = Config(
        net=NET, weights=WEIGHTS, data=people, embedding="fc5", mean=[np.float32(8)], scale=np.float64(0.125),
        loss="am-softmax", loss_options={"margin": np.float32(0.25)}, lr=1, precision=32, steps=np.int64(2),
        out=tmp_path / "out", device="cpu", tensorboard=False, figure=False, val_share=0, batch_size=8,
    )  # fmt: skip
    assert finetune(one).steps == 2
    assert finetune(one, resume=True).ok
    assert main(["finetune", "--resume", "--out", str(tmp_path / "out")]) == 0


def test_large_whole_numbers_are_not_rounded():
    assert config(seed="9007199254740993").seed == config(seed=9007199254740993).seed == 9007199254740993
    assert config(steps="1e3").steps == 1000
