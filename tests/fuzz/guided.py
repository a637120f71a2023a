"""One reader under atheris: ``python -m fuzz.guided TARGET SEED SECONDS`` prints a line of JSON when the time is up."""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["caffeport", "normface", "experiments"]):
    from fuzz.runner import bounded_memory, record_finding
    from fuzz.targets import run, targets

    KNOWN = targets()  # which imports the readers

from fuzz.mutation import mutated
from fuzz.runner import Outcome


def main() -> None:
    """Fuzz until the time is up; the process then ends itself, as libFuzzer's loop never returns."""
    name, seed, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    target, outcome, start = KNOWN[name], Outcome(), time.perf_counter()
    whole = target.whole()
    standard_output = os.dup(1)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    path = folder / "case" / f"file{target.suffix}"
    path.parent.mkdir()
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, raw in enumerate(whole):
        (corpus / str(number)).write_bytes(raw)

    def one(data: bytes) -> None:
        if time.perf_counter() - start > seconds:
            report = {"executions": outcome.executions, "seconds": time.perf_counter() - start}
            report |= {"errors": outcome.errors, "reached": len(list(corpus.iterdir()))}
            report |= {"findings": {where: (raised, raw.hex()) for where, (raised, raw) in outcome.findings.items()}}
            os.write(standard_output, (json.dumps(report) + "\n").encode())
            os._exit(0)
        path.write_bytes(data)
        outcome.executions += 1
        record_finding(outcome, lambda: run(target, path), data)

    def mutate(data: bytes, size: int, mutation_seed: int) -> bytes:
        random_ = random.Random(mutation_seed)
        if random_.random() < 0.5:
            return mutated(data, random_, whole)[:size]
        return atheris.Mutate(data, size)

    arguments = [sys.argv[0], f"-seed={seed + 1}", "-max_len=65536", "-rss_limit_mb=0", str(corpus)]
    atheris.Setup(arguments, one, custom_mutator=mutate)
    with bounded_memory():
        atheris.Fuzz()


if __name__ == "__main__":
    main()
