"""The script to copy, against the command: the same numbers for the same settings, bit for bit on the CPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import caffeport
import numpy as np
import onnxruntime
import pytest
import torch
from normface.cli.main import main
from support.digit_images import NET, WEIGHTS, as_input, flags, write_digits

SCRIPT = Path(__file__).parents[2] / "examples" / "finetune" / "finetune_normface.py"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.mark.slow
def test_the_script_and_the_command_come_to_the_same(tmp_path):
    people = write_digits(tmp_path / "people", range(7), 12)
    more = ["--epochs", "3", "--batch-size", "16", "--lr", "0.01", "--val-share", "0.3", "--seed", "3"]
    words = [NET, WEIGHTS, people, tmp_path / "script", "--embedding", "fc5", "--mean", "8", "--scale", "0.125", *more]
    said = subprocess.run(
        [sys.executable, SCRIPT, *map(str, words), "--workers", "0", "--device", "cpu"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert main(flags(people, tmp_path / "command", *more, "--mirror")) == 0
    one, other = (
        caffeport.load(tmp_path / name / "deploy.prototxt", tmp_path / name / "model.caffemodel")
        for name in ("script", "command")
    )
    before = caffeport.load(NET, WEIGHTS)
    assert [param.layer for param in one.params] == [param.layer for param in other.params]
    for mine, theirs in zip(one.params, other.params, strict=True):
        assert np.array_equal(mine.data, theirs.data)
        assert not np.array_equal(mine.data, before.layer(mine.layer).blobs[mine.index])
    x, _ = as_input(people)
    session = onnxruntime.InferenceSession(tmp_path / "script" / "model.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = other.to_torch().eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(session.run(None, {"data": x})[0], expected, rtol=1e-4, atol=1e-4)
    assert len(re.findall(r"step \d+ of \d+: loss \d", said.stdout)) == 3


def test_it_is_short_and_plain():
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 150
    assert not re.search(r"fabric|lightning|normface\.finetune\.(?!sampling)", text)
