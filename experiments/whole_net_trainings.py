"""All trainings of ``whole-net``, many at once, each told and kept in a file when it ends.

The learning rates come from the development split and decide the seeds' finetunings, which wait for them. A run that
was broken off goes on from ``partial.json``; one that ended leaves it as ``trainings.json``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.cores import usable_cores
from caffeport.files import replacing
from caffeport.json_text import to_json
from normface.reading import read_json

from .whole_net_jobs import BEFORE, CONTROL, FAR, NORMALISED, Job, Place, Plan, prepare, work
from .whole_net_lists import DEVELOPMENT_SEED, read_lists

PARTIAL, FINISHED = "partial.json", "trainings.json"


class Record:
    """What has been measured, in a file. development: part -> row -> rate -> percent; seeds: part -> seed -> row.

    seconds: of the run, those of its earlier parts too where it was broken off.
    """

    def __init__(self, path: Path, plans: Sequence[Plan], device: str) -> None:
        self.path = path
        settings = {"device": device, "plans": [_training(plan) for plan in plans]}
        self.content: dict[str, Any] = {"settings": settings, "development": {}, "seeds": {}, "seconds": 0.0}
        if path.exists():
            earlier = read_json(path, "is no file of this experiment")
            if isinstance(earlier, dict) and to_json(earlier.get("settings")) == to_json(settings):
                self.content |= earlier
        self._began = time.monotonic() - self.content["seconds"]

    def add(self, job: Job, answer: dict[str, Any]) -> None:
        if job.development:
            if job.row is None:
                return
            rows = self.content["development"].setdefault(job.plan.part, {})
            rows.setdefault(job.row, {})[f"{job.rate:g}"] = answer.get("tar", 0.0)
        else:
            seeds = self.content["seeds"].setdefault(job.plan.part, {})
            seeds.setdefault(str(job.seed), {})[job.row or BEFORE] = answer
        self.content["seconds"] = round(time.monotonic() - self._began, 2)
        with replacing(self.path) as stream:
            stream.write((to_json(self.content, indent=None) + "\n").encode())

    def has(self, job: Job) -> bool:
        if job.development:
            return f"{job.rate:g}" in self.content["development"].get(job.plan.part, {}).get(job.row, {})
        return (job.row or BEFORE) in self.content["seeds"].get(job.plan.part, {}).get(str(job.seed), {})

    def forget(self, plan: Plan, seed: int) -> None:
        """Of a seed that is broken off nothing is kept: on a GPU its net from scratch is not made the same again."""
        self.content["seeds"].get(plan.part, {}).pop(str(seed), None)

    def rate(self, plan: Plan, row: str) -> float | None:
        """The one that verifies most of the development people, the lower of equals; None: not all are measured."""
        measured = self.content["development"].get(plan.part, {}).get(row, {})
        if any(f"{rate:g}" not in measured for rate in plan.rates):
            return None
        return max(sorted(plan.rates), key=lambda rate: measured[f"{rate:g}"])


def _training(plan: Plan) -> dict[str, Any]:
    """What two runs must have in common to share their trainings: not which of them each has."""
    return {key: value for key, value in asdict(plan).items() if key not in ("seeds", "rows", "rates")}


class Queue:
    """Which jobs can run, and which of them is next: the claim's losses first, and whole seeds one after another."""

    def __init__(self, plans: Sequence[Plan], seed: int, record: Record) -> None:
        self.record = record
        self.started: dict[str, list[int]] = {plan.part: [] for plan in plans}
        self.ready: list[Job] = []
        for plan in plans:
            if any(record.rate(plan, row) is None for row in plan.rows):
                self.ready.append(Job(plan, DEVELOPMENT_SEED, True))
            for number in range(seed, seed + plan.seeds):
                if not all(record.has(Job(plan, number, False, row)) for row in (None, *plan.rows)):
                    record.forget(plan, number)
                    self.ready.append(Job(plan, number, False))

    def next(self) -> Job | None:
        if not self.ready:
            return None
        first = min(self.ready, key=_order)
        self.ready.remove(first)
        return first

    def ended(self, job: Job) -> None:
        """Make ready what waited for ``job`` alone; its answer is in the record."""
        plan = job.plan
        made: list[Job] = []
        if job.development and job.row is None:
            made = [replace(job, row=row, rate=rate) for row in plan.rows for rate in plan.rates]
        elif job.development:
            assert job.row is not None
            made = self._finetunings(plan, (job.row,), self.started[plan.part])
        elif job.row is None:
            self.started[plan.part].append(job.seed)
            made = self._finetunings(plan, plan.rows, [job.seed])
        self.ready += [one for one in made if not self.record.has(one)]

    def _finetunings(self, plan: Plan, rows: Sequence[str], seeds: Sequence[int]) -> list[Job]:
        rates = {row: self.record.rate(plan, row) for row in rows}
        return [Job(plan, seed, False, row, rate) for row, rate in rates.items() if rate is not None for seed in seeds]


def _order(job: Job) -> tuple[bool, bool, int, bool]:
    claimed = job.row is None or job.row in (CONTROL, NORMALISED)
    return not claimed, not job.development, job.seed, job.row is None


def train_all(plans: Sequence[Plan], seed: int, lfw: Path, folder: Path, device: str) -> dict[str, Any]:
    """Return the record's content, and "people" of each part: who trained and who measured."""
    record = Record(folder / PARTIAL, plans, device)
    queue = Queue(plans, seed, record)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        lists = read_lists(lfw, plans[0].height, plans[0].width)
        place = Place(replace(lists, pixels=np.empty(0, np.uint8)), Path(made) / "pixels.npy", Path(made), device)
        np.save(place.pixels, lists.pixels)
        tell(began, f"{len(lists.names):,} images read")
        cores = usable_cores()
        workers = cores if device == "cpu" else max(1, cores - 2)
        with ProcessPoolExecutor(workers, get_context("spawn"), prepare, (place,)) as pool:
            pending: dict[Future[dict[str, Any]], Job] = {}
            try:
                while True:
                    while len(pending) < workers and (job := queue.next()) is not None:
                        pending[pool.submit(work, job)] = job
                    if not pending:
                        break
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        job, answer = pending.pop(future), future.result()
                        record.add(job, answer)
                        tell(began, f"{job}: {said(answer)}")
                        queue.ended(job)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # else all that is queued would still be trained
                raise
        people = {plan.part: counts(lists.part(plan.part)) for plan in plans}
    record.path.replace(folder / FINISHED)
    return record.content | {
        "people": people,
        "rates": {plan.part: {row: record.rate(plan, row) for row in plan.rows} for plan in plans},
    }


def counts(part: tuple[Any, Any]) -> dict[str, int]:
    known, strangers = part
    return {
        "training people": known.people,
        "training images": len(known.labels),
        "measuring people": strangers.faces.people,
        "measuring images": len(strangers.names),
        "LFW pairs": len(strangers.pairs.same),
    }


def said(answer: dict[str, Any]) -> str:
    if "failed" in answer:
        return answer["failed"]
    tar = answer.get("tar", {})
    value = tar.get(f"{FAR:g}") if isinstance(tar, dict) else tar
    words = "" if value is None else f"{value:.1f} % at FAR {100 * FAR:g} %, "
    return f"{words}{answer['seconds']:.0f} s, {answer['images a second']:,} images/s"


def tell(began: float, words: str) -> None:
    print(f"{time.monotonic() - began:5.0f} s  {words}", file=sys.stderr, flush=True)
