"""All trainings of ``whole-net``, many at once, each told and kept in a file when it ends.

The learning rates come from the development split and decide the seeds' finetunings, which wait for them. A run that
was broken off goes on from ``partial.json``; one that ended leaves it as ``trainings.json``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
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

from .whole_net_jobs import BEFORE, FAR, Job, Place, Plan, prepare, work
from .whole_net_lists import DEVELOPMENT_SEED, read_lists

PARTIAL, FINISHED = "partial.json", "trainings.json"


class Record:
    """What has been measured, in a file. development: part -> row -> rate -> percent; seeds: part -> seed -> row."""

    def __init__(self, path: Path, plans: Sequence[Plan], device: str) -> None:
        self.path = path
        settings = {"device": device, "plans": [asdict(plan) for plan in plans]}
        self.content: dict[str, Any] = {"settings": settings, "development": {}, "seeds": {}}
        if path.exists():
            earlier = read_json(path, "is no file of this experiment")
            if isinstance(earlier, dict) and to_json(earlier.get("settings")) == to_json(settings):
                self.content = earlier

    def add(self, job: Job, answer: dict[str, Any]) -> None:
        if job.development:
            if job.row is None:
                return
            rows = self.content["development"].setdefault(job.plan.part, {})
            rows.setdefault(job.row, {})[f"{job.rate:g}"] = answer.get("tar", 0.0)
        else:
            seeds = self.content["seeds"].setdefault(job.plan.part, {})
            seeds.setdefault(str(job.seed), {})[job.row or BEFORE] = answer
        with replacing(self.path) as stream:
            stream.write((to_json(self.content, indent=None) + "\n").encode())

    def has(self, job: Job) -> bool:
        if job.development:
            return f"{job.rate:g}" in self.content["development"].get(job.plan.part, {}).get(job.row, {})
        return (job.row or BEFORE) in self.content["seeds"].get(job.plan.part, {}).get(str(job.seed), {})

    def forget(self, plan: Plan, seed: int) -> None:
        """Of a seed that is broken off nothing is kept: on a GPU its net from scratch is not made the same again."""
        self.content["seeds"].get(plan.part, {}).pop(str(seed), None)

    def rates(self, plan: Plan) -> dict[str, float] | None:
        """Row -> the rate that verifies most of the development people, the lower of equals; None: not all known."""
        rows = self.content["development"].get(plan.part, {})
        if any(f"{rate:g}" not in rows.get(row, {}) for row in plan.rows for rate in plan.rates):
            return None
        return {row: max(sorted(plan.rates), key=lambda rate: rows[row][f"{rate:g}"]) for row in plan.rows}


class Queue:
    """Which jobs come next; ``first`` are those that wait for none."""

    def __init__(self, plans: Sequence[Plan], seed: int, record: Record) -> None:
        self.record = record
        self.seeds = {plan.part: range(seed, seed + plan.seeds) for plan in plans}
        self.plans = plans
        self.started: dict[str, list[int]] = {plan.part: [] for plan in plans}

    def first(self) -> Iterator[Job]:
        for plan in self.plans:
            if self.record.rates(plan) is None:
                yield Job(plan, DEVELOPMENT_SEED, True)
        for plan in self.plans:
            for seed in self.seeds[plan.part]:
                if not all(self.record.has(Job(plan, seed, False, row)) for row in (None, *plan.rows)):
                    self.record.forget(plan, seed)
                    yield Job(plan, seed, False)

    def after(self, job: Job) -> Iterator[Job]:
        plan, chosen = job.plan, self.record.rates(job.plan)
        made: Iterator[Job]
        if job.development and job.row is None:
            made = (replace(job, row=row, rate=rate) for rate in plan.rates for row in plan.rows)
        elif job.development:
            made = self._finetunings(plan, self.started[plan.part])
        elif job.row is None:
            self.started[plan.part].append(job.seed)
            made = self._finetunings(plan, [job.seed])
        else:
            return
        if chosen is None and not (job.development and job.row is None):
            return
        yield from (one for one in made if not self.record.has(one))

    def _finetunings(self, plan: Plan, seeds: Sequence[int]) -> Iterator[Job]:
        chosen = self.record.rates(plan) or {}
        for row in plan.rows:  # the claim's own come first
            for seed in seeds:
                yield Job(plan, seed, False, row, chosen[row])


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
            pending: dict[Future[dict[str, Any]], Job] = {pool.submit(work, job): job for job in queue.first()}
            try:
                while pending:
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        job, answer = pending.pop(future), future.result()
                        record.add(job, answer)
                        tell(began, f"{job}: {said(answer)}")
                        pending |= {pool.submit(work, one): one for one in queue.after(job)}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # else all that is queued would still be trained
                raise
        people = {plan.part: counts(lists.part(plan.part)) for plan in plans}
    record.path.replace(folder / FINISHED)
    return record.content | {"people": people, "rates": {plan.part: record.rates(plan) for plan in plans}}


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
