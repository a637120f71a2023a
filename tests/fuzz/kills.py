"""SIGKILL at random times over everything that writes files: none is ever half-written, and a run goes on to the same.

    PYTHONPATH=python:converter:tests:. python -m fuzz.kills [JOB ...] [--kills 1000] [--seed 0] [--json]

Every job runs in a process that is forked after all imports, so that a kill costs what the work costs. A chain of
several kills, each of a run that goes on with what the one before left, ends in a run to its end, whose files have to
be those of a run that nothing has disturbed. After every kill each file has to be whole: as it was before, or as the
undisturbed run writes it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from .kill_jobs import JOBS, Job

CHAIN = 4
"""Kills in a row before a run may end."""
PARTS = re.compile(r"(^|/)\.[^/]*\.part$|\.part/|(^|/)\.[^/]*\.training$")
"""What a killed run leaves beside its files, and the next removes or goes on with."""


@dataclass
class Tally:
    """kills: those that met a run; ended: runs that were done before; chains: runs to the end after kills."""

    kills: int = 0
    ended: int = 0
    chains: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


def kill_often(job: Job, kills: int, random_: random.Random) -> Tally:
    """Kill runs of the job ``kills`` times and look at the files after each."""
    tally, start = Tally(), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        inputs, whole = root / "inputs", root / "whole"
        inputs.mkdir(), whole.mkdir()
        job.prepare(inputs)
        seconds = _run(job, inputs, whole)
        expected = _files(job, whole)
        assert expected, f"{job.name}: the undisturbed run writes nothing"
        while tally.kills < kills:
            case = root / "case"
            case.mkdir()
            for old in job.old:  # files that an earlier run has left, which a kill must not harm
                (case / old).write_bytes(b"old")
            for _ in range(CHAIN):
                if _run(job, inputs, case, random_.uniform(0, seconds)) is None:
                    tally.kills += 1
                else:
                    tally.ended += 1
                tally.findings += [f"{job.name}: {problem}" for problem in _broken(job, case, expected)]
            _run(job, inputs, case)
            tally.chains += 1
            tally.findings += [f"{job.name}, resumed: {problem}" for problem in _different(_files(job, case), expected)]
            shutil.rmtree(case)
    tally.seconds = time.perf_counter() - start
    return tally


def _run(job: Job, inputs: Path, case: Path, seconds: float | None = None) -> float | None:
    """Run the job in ``case``; returns the seconds it took, or None where it was killed after ``seconds``.

    Raises AssertionError where it fails by itself.
    """
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        _child(job, inputs, case)
    ended = _wait(child, seconds)
    if not ended:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)  # before it has a group of its own
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert not ended and os.WTERMSIG(status) == signal.SIGKILL, f"{job.name}: ended by signal {os.WTERMSIG(status)}"
        return None
    log = (case.parent / "log").read_text(errors="replace")
    assert os.WEXITSTATUS(status) == 0, f"{job.name}: exit code {os.WEXITSTATUS(status)}: {log[-1000:]}"
    return time.perf_counter() - start


def _wait(child: int, seconds: float | None) -> bool:
    """Wait for the process to end, or for ``seconds``; returns whether it has ended. It stays to be reaped."""
    end = None if seconds is None else time.perf_counter() + seconds
    while end is None or time.perf_counter() < end:
        flags = os.WEXITED | os.WNOWAIT | (0 if end is None else os.WNOHANG)
        if os.waitid(os.P_PID, child, flags) is not None:
            return True
        time.sleep(min(0.002, max(end - time.perf_counter(), 0)) if end else 0)
    return False


def _child(job: Job, inputs: Path, case: Path) -> None:
    """Run the job and end the process."""
    code = 70
    try:
        os.setsid()
        os.chdir(case)
        log = os.open(case.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        code = int(job.run(inputs) or 0)
        sys.stdout.flush(), sys.stderr.flush()
    finally:
        os._exit(code)


def _files(job: Job, folder: Path) -> dict[str, bytes]:
    """Return {name: content} of all files that an undisturbed run leaves as they are."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        name: job.content(name, (folder / name).read_bytes())
        for name in names
        if not PARTS.search(name) and not re.search(job.loose, name)
    }


def _broken(job: Job, folder: Path, expected: dict[str, bytes]) -> list[str]:
    """Name the files that are neither as before nor as they are to be."""
    return [
        f"{name} is broken"
        for name, content in _files(job, folder).items()
        if content != expected.get(name) and not (name in job.old and content == b"old")
    ]


def _different(made: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    return [
        f"{name} is {'missing' if name not in made else 'another'}"
        for name in sorted(made.keys() | expected.keys())
        if made.get(name) != expected.get(name)
    ]


def main(jobs: dict[str, Job] = JOBS, arguments: list[str] | None = None) -> int:
    """Run the chosen jobs; returns 1 where a file was broken or another."""
    parser = argparse.ArgumentParser(prog="fuzz.kills", description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(jobs)} (default: all)")
    parser.add_argument("--kills", type=int, default=1000, help="of all jobs together (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.jobs if name not in jobs]:
        parser.error(f"unknown job {unknown[0]!r}; known are {', '.join(jobs)}")
    chosen = [jobs[name] for name in options.jobs or jobs]
    shares = sum(job.share for job in chosen)
    tallies: dict[str, Tally] = {}
    for job in chosen:
        count = max(round(options.kills * job.share / shares), 1)
        tally = tallies[job.name] = kill_often(job, count, random.Random(f"{job.name} {options.seed}"))
        if not options.json:
            print(f"{job.name}: {tally.kills} kills, {tally.ended} runs done before, {tally.chains} runs to the end, "
                  f"{len(tally.findings)} findings, {tally.seconds:.0f} s", flush=True)  # fmt: skip
            print("".join(f"  {line}\n" for line in tally.findings), end="", flush=True)
    if options.json:
        print(json.dumps({name: vars(tally) for name, tally in tallies.items()}))
    return int(any(tally.findings for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
