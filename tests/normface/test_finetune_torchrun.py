"""Finetuning that torchrun starts: as many ranks as it says, and on with it after one was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from normface.cli.main import main
from normface.finetune import Config
from normface.finetune.elastic import as_restarted, as_started
from safetensors.numpy import load_file
from support.digit_images import flags, write_digits

STARTED = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}


def test_the_settings_are_those_that_torchrun_has_started():
    config = as_started(Config(devices=2), STARTED)
    assert (config.devices, config.nodes) == (4, 2)
    assert as_started(Config(devices=2), {"WORLD_SIZE": "8"}) == Config(devices=2)


@pytest.mark.parametrize("asked", [(False, False), (True, False), (False, True)])
def test_what_is_started_again_resumes_and_overwrites_nothing(asked):
    assert as_restarted(*asked, STARTED | {"TORCHELASTIC_RESTART_COUNT": "0"}) == asked
    assert as_restarted(*asked, STARTED | {"TORCHELASTIC_RESTART_COUNT": "2"}) == (True, False)
    assert as_restarted(*asked, {}) == asked


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_killed_rank_is_started_again_and_ends_where_one_device_does(tmp_path, one_thread):
    people = write_digits(tmp_path / "people", range(7), 12)
    more = ["--val-share", 0, "--batch-size", 8, "--steps", 400, "--checkpoint-every", 5, "--head-init", "random"]
    assert main(flags(people, tmp_path / "one", *more)) == 0
    out = tmp_path / "many"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["--max-restarts", "1", "--monitor-interval", "0.2", "-m", "normface", *flags(people, out, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while not (out / "checkpoint.pt").is_file():
        assert run.poll() is None and time.monotonic() < until, run.communicate()[1][-3000:]
        time.sleep(0.05)
    ranks = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    _, said = run.communicate(timeout=600)
    assert run.returncode == 0, said[-3000:]
    assert "failed (exitcode: " in said  # of the killed rank, or of the other, where torchrun sees that one end first
    heads = [load_file(folder / "head.safetensors") for folder in (tmp_path / "one", out)]
    for name, tensor in heads[0].items():
        # Sums in another order, in float32, which 400 steps with momentum make larger.
        np.testing.assert_allclose(heads[1][name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_ranks_leave_their_group_before_the_interpreter_ends(tmp_path):
    """Otherwise a thread of Gloo's may ask the ending interpreter for a reference, which aborts the process."""
    people = write_digits(tmp_path / "people", range(3), 4)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["-m", "support.finetune_and_stay", str(tmp_path)]
    words += flags(people, tmp_path / "out", "--val-share", 0, "--batch-size", 4, "--steps", 2)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    for rank in range(2):
        threads = (tmp_path / f"threads-{rank}.txt").read_text().split()
        assert threads and not [name for name in threads if "gloo" in name]
