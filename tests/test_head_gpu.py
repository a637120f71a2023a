"""benchmarks/head_gpu.py where there is no GPU: its one line, what it takes for the least, and a try on the CPU."""

from __future__ import annotations

import importlib
import json

import pytest
import torch


@pytest.fixture(scope="module")
def head():
    return importlib.import_module("head_gpu")


def test_without_a_gpu_it_is_one_line(head, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert head.main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert said.err.startswith("head_gpu: there is no GPU to measure: ")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("parallel, fused", 5 * 4 * 1000 * 512),
        ("parallel, fused, bfloat16", 5 * 2 * 1000 * 512),
        ("parallel, fused, sampled 0.1", 5 * 4 * 100 * 512),
        ("plain", 8 * 4 * 1000 * 512),
    ],
)
def test_the_least_bytes_of_a_step(head, name, expected):
    assert head.least({"head": name, "classes": 1000, "features": 512}) == pytest.approx(expected)


def test_a_process_that_takes_too_long_is_ended(head, monkeypatch, tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(head, "WORKER", slow)
    assert head.Worker().run({}, 1.0) == {"error": "took more than 1 s"}


def test_a_process_that_fails_says_why(head, monkeypatch, tmp_path):
    failing = tmp_path / "failing.py"
    failing.write_text("raise SystemExit('no such thing')\n")
    monkeypatch.setattr(head, "WORKER", failing)
    assert head.Worker().run({"kind": "agree"}, 20.0) == {"error": "ended with 1: no such thing"}


@pytest.mark.slow
def test_a_try_on_the_cpu(head, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(head, "LIMIT_S", 600.0)  # what else runs on the machine is not to decide
    words = ["--device", "cpu", "--classes", "2000", "--samples", "8", "--features", "32", "--seconds", "3000"]
    assert head.main([*words, "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["kind"] for row in rows] == ["agree", "group", "ceilings", *["measure"] * len(head.HEADS), "ranks"]
    assert all(row["sound"] for row in rows if row["kind"] in ("agree", "group", "ranks"))
    ours = [row for row in rows if row.get("head") in head.HEADS[:-1]]
    assert all(row["highest"] > 0 and row["sound"] for row in ours)
    table = capsys.readouterr().out
    assert table.startswith("On the CPU, which says nothing of a GPU: ") and "| 2,000 | 8 | plain | " in table
