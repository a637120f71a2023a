"""The ranks of a run on several devices: those of this machine are started here, watched, and ended together.

This process is the leading rank of its machine. Another one is ``python -m normface.finetune.rank``; it takes its
settings from a pipe that stays open, whose end tells it that this process is gone, and writes what went wrong to
another, whose end tells this process that the rank is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from caffeport.cli.command import BAD_INPUT, FAILED, INTERRUPTED

from ..ending import CHILDREN, end_now
from ..errors import CaffeportWarning, LostRankError, TrainingError
from ..interrupts import STOPS
from . import elastic
from .checkpoint import saved
from .collectives import connected
from .config import Config
from .fabric import make_fabric

BROKEN = 75
"""Exit code of a rank that lost another one; it has nothing more to say."""
GRACE = 5.0
"""Seconds for this process to leave what it is doing after a rank has failed; it may wait for that rank for ever."""
PATIENCE = 30.0
"""Seconds for a rank to end after the last common step."""
_HERE = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
"""The variables that a launch changes in this process's environment."""


@contextlib.contextmanager
def launched(config: Config, *, resume: bool, overwrite: bool) -> Iterator[Any]:
    """A Fabric whose ranks are all there. Where they are started from outside (torchrun, SLURM) only this one is.

    Raises LostRankError where a rank ends before its time, and TrainingError with the words of a rank that failed.
    """
    fabric = make_fabric(config)
    environment = getattr(fabric.strategy, "cluster_environment", None)
    if environment is None:
        try:
            fabric.launch()
        except (ValueError, RuntimeError) as error:
            raise TrainingError(f"this machine cannot run as asked: {' '.join(str(error).split())}") from error
        yield fabric
        return
    if environment.creates_processes_externally:
        try:
            _launch(fabric)
            yield fabric
        finally:
            _leave(fabric)
        return
    here = {
        "LOCAL_RANK": "0",
        "NODE_RANK": str(environment.node_rank()),
        "WORLD_SIZE": str(config.devices * config.nodes),
        "MASTER_ADDR": str(environment.main_address),
        "MASTER_PORT": str(environment.main_port),
    }
    before, threads = {name: os.environ.get(name) for name in _HERE}, torch.get_num_threads()
    os.environ.update(here)
    team = _Team(config, {"config": config.settings(), "resume": resume, "overwrite": overwrite, "leader": os.getpid()})
    try:
        with team:
            _launch(fabric)
            yield fabric
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        torch.set_num_threads(threads)
        _leave(fabric)


def _leave(fabric: Any) -> None:
    """Leave the group of this run: another run of this process forms its own, and Gloo's threads end here.

    One that still runs when the interpreter ends may ask it for a tensor's reference, and is then aborted together
    with the process (https://github.com/pytorch/pytorch/issues/190489).
    """
    if fabric.device.type != "cuda" and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _launch(fabric: Any) -> None:
    with connected():
        elastic.meet(fabric.device.type)
        fabric.launch()
    if not fabric.is_global_zero:  # the leading rank says the same
        warnings.simplefilter("ignore", CaffeportWarning)


class _Team:
    """The other ranks of this machine. ``with`` starts them, waits for their end, and says who failed."""

    def __init__(self, config: Config, order: dict[str, Any]) -> None:
        self._config, self._order = config, order
        self._ranks: dict[int, subprocess.Popen[str]] = {}
        self._failed: dict[int, tuple[int, str]] = {}  # {rank: exit code, what it said}
        self._watchers: list[threading.Thread] = []
        self._one_failed, self._left = threading.Event(), threading.Event()

    def __enter__(self) -> _Team:
        order = json.dumps(self._order, default=str) + "\n"
        first = int(os.environ["NODE_RANK"]) * self._config.devices
        for local in range(1, self._config.devices):
            rank = _started(local)
            self._ranks[first + local] = rank
            with contextlib.suppress(BrokenPipeError):  # it is gone already, which the watcher tells
                assert rank.stdin is not None
                rank.stdin.write(order)
                rank.stdin.flush()
            watcher = threading.Thread(target=self._watch, args=(first + local, rank), daemon=True)
            watcher.start()
            self._watchers.append(watcher)
        return self

    def _watch(self, number: int, rank: subprocess.Popen[str]) -> None:
        assert rank.stdout is not None
        said = rank.stdout.read()
        if code := rank.wait():
            self._failed[number] = (code, said)
            self._one_failed.set()
            if not self._left.wait(GRACE):
                problem = self._problem()
                code = BAD_INPUT if not isinstance(problem, LostRankError) else FAILED
                end_now(str(problem) or "interrupted", INTERRUPTED if isinstance(problem, KeyboardInterrupt) else code)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._left.set()
        problem: BaseException | None = None
        if isinstance(error, LostRankError) and self._ranks:
            self._one_failed.wait(GRACE)
            time.sleep(0.2)  # who failed first is not who is noticed first
            problem = self._problem(error)
        deadline = time.monotonic() + (PATIENCE if error is None else 0)
        for rank in self._ranks.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                rank.wait(max(0.0, deadline - time.monotonic()))
            rank.kill()
        for watcher in self._watchers:
            watcher.join()
        for rank in self._ranks.values():
            CHILDREN.discard(rank)
            for pipe in (rank.stdin, rank.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()
        if problem is not None:
            raise problem from None

    def _problem(self, error: LostRankError | None = None) -> BaseException:
        """Why the run cannot go on: the words of a rank that failed, else how one ended, else ``error``."""
        failed = sorted(self._failed.items())
        for number, (_, said) in failed:
            if said:
                report = json.loads(said)
                if report["expected"]:
                    return TrainingError(report["problem"])
                problem = RuntimeError(f"rank {number}: {report['problem']}")
                problem.__cause__ = RuntimeError(report["traceback"])
                return problem
        for number, (code, _) in failed:
            if code == INTERRUPTED:
                return KeyboardInterrupt()
            if code != BROKEN:
                return LostRankError(
                    f"rank {number} (process {self._ranks[number].pid}) {ended(code)}; {self._way_out()}"
                )
        return LostRankError(f"{error or 'a rank of another machine is gone'}; {self._way_out()}")

    def _way_out(self) -> str:
        return way_out(self._config)


def _started(local_rank: int) -> subprocess.Popen[str]:
    """A rank that hears no signals until it has its own handlers, so that a Ctrl-C meanwhile makes it no traceback."""
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        rank = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.rank"],
            env={**os.environ, "LOCAL_RANK": str(local_rank), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        CHILDREN.add(rank)
        return rank
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def way_out(config: Config) -> str:
    """Return what to do about a run that was broken off."""
    if saved(Path(config.out)) is not None:
        return f"--resume --out {config.out} goes on from the last checkpoint"
    return "there is no checkpoint yet, so start it again with --overwrite"


def ended(code: int) -> str:
    """Return in words how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
    return f"was ended by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")
