"""--device auto: what solver_mode and device_id ask for; and the beginning of a line of the log."""

from __future__ import annotations

import datetime
import os

import pytest
import torch
from normface.solver import precision
from normface.solver.fields import SolverMode, SolverParameter
from normface.solver.glog import glog_line


@pytest.mark.parametrize(
    ("mode", "device_id", "gpus", "expected", "note"),
    [
        (SolverMode.CPU, 0, 2, "cpu", ""),
        (SolverMode.GPU, 0, 0, "cpu", "solver_mode is GPU, and torch sees none here; the CPU computes"),
        (None, 0, 0, "cpu", ""),  # Caffe's default is GPU; who says nothing is told nothing
        (None, 0, 1, "cuda:0", ""),
        (SolverMode.GPU, 1, 2, "cuda:1", ""),
        (SolverMode.GPU, 3, 2, "cuda:0", "device_id is 3, and there are GPUs 0 to 1; GPU 0 computes"),
    ],
)
def test_the_device_that_a_solver_asks_for(mode, device_id, gpus, expected, note, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(precision, "settle_device", torch.device)  # which would look for it
    solver = SolverParameter(solver_mode=mode, device_id=device_id)
    assert precision.automatic_device(solver) == (torch.device(expected), note)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Iteration 100 (2.5 iter/s, 40s/100 iters), loss = 1.5", "solver.cpp:239"),
        ("Iteration 100, lr = 0.01", "sgd_solver.cpp:112"),
        ("Iteration 100, Testing net (#0)", "solver.cpp:347"),
        ("    Test net output #0: accuracy = 0.5", "solver.cpp:414"),
        ("Snapshotting solver state to HDF5 file x", "sgd_solver.cpp:296"),
        ("anything else", "solver.cpp:45"),
    ],
)
def test_a_line_of_the_log(text, place):
    """As glog has it: I, month and day, time, the thread in five places."""
    now = datetime.datetime(2016, 2, 10, 13, 39, 22, 381027)
    assert glog_line(text, now) == f"I0210 13:39:22.381027 {os.getpid():5d} {place}] {text}"
