"""``make gpu-check`` where there is no GPU: its one line, and a try of the script on the CPU."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "benchmarks/gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_check"]


def test_without_a_gpu_it_is_one_line(check, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert said.err.startswith("gpu_check: there is no GPU to check: ")


@pytest.mark.slow
def test_a_try_on_the_cpu(check, tmp_path, capsys, monkeypatch):
    """The commands are the real ones; the CPU differs from itself by nothing, and no row claims a GPU."""
    chosen = ("normface train, a Caffe solver", "normface finetune, 32 bits", "normface finetune, 16-mixed")
    monkeypatch.setattr(check, "STEPS", {name: check.STEPS[name] for name in chosen})
    assert check.main(["--device", "cpu", "--out", str(tmp_path / "table.md")]) == 0
    text = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out == text
    assert text.startswith("| on the CPU, which says nothing of a GPU, PyTorch ")
    assert "weights of 20 iterations 0.0e+00 apart from the CPU's" in text
    assert "| normface finetune, 16-mixed |  | left out: 16-mixed needs a GPU |" in text
    assert len(text.splitlines()) == 2 + len(chosen)


@pytest.mark.slow
def test_a_step_that_fails_or_differs_is_told_and_the_others_run(check, monkeypatch, capsys):
    def failing(device, folder):
        check.command("normface", "train", "--solver", folder / "none.prototxt")

    def different(device, folder):
        return "2.0e+00 apart", False

    def fine(device, folder):
        assert (folder / "data/train.txt").is_file() and (folder / "train.prototxt").is_file()
        return "as it should be", True

    monkeypatch.setattr(check, "STEPS", {"one": failing, "two": different, "three": fine})
    assert check.main(["--device", "cpu", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["sound"] for row in rows] == [False, False, True]
    assert rows[0]["result"].startswith("failed: normface: error: ") and "none.prototxt" in rows[0]["result"]


def test_a_step_that_takes_too_long_is_ended(check, monkeypatch):
    monkeypatch.setattr(check, "LIMIT_S", 0.01)
    with pytest.raises(check.StepError, match=r"normface train takes more than 0\.01 s"):
        check.command("normface", "train")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step,loss\n" + "".join(f"{i},{30 - i}\n" for i in range(20)), (29.5, 11.5)),
        ("step,loss\n1,nan\n", None),
        ("step\n", None),
    ],
)
def test_the_losses_of_a_log(check, text, expected, tmp_path):
    (tmp_path / "metrics.csv").write_text(text)
    if expected is None:
        with pytest.raises(check.StepError, match="has no losses, or one that is no number"):
            check.last_loss(tmp_path)
    else:
        assert check.last_loss(tmp_path) == expected
