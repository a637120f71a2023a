"""Ranks of torch.distributed for tests: a function run in several processes that talk over Gloo."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

PATIENCE = 600
"""Seconds for all ranks; a message that one of them waits for in vain ends it sooner."""


def run_ranks(number: int, function: str, *arguments: Any) -> list[Any]:
    """Return what ``module:function``(*arguments) returns on each of so many ranks; all of it is JSON.

    Raises AssertionError with the errors of the ranks that failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        ranks = [started(rank, number, Path(folder), function, *arguments) for rank in range(number)]
        said = [rank.communicate(timeout=PATIENCE)[1] for rank in ranks]
        failed = [words[-3000:] for rank, words in zip(ranks, said, strict=True) if rank.returncode]
        assert not failed, "\n".join(failed)
        return [json.loads(result_of(Path(folder), rank).read_text()) for rank in range(number)]


def started(rank: int, number: int, folder: Path, function: str, *arguments: Any) -> subprocess.Popen[str]:
    """One rank of ``number``; they meet in the folder, and leave their results there."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(rank), str(number), str(folder), function, json.dumps(arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        | {"PYTHONFAULTHANDLER": "1"},  # so that an abort says where
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(folder: Path, rank: int) -> Path:
    return folder / f"result{rank}.json"


def main(rank: int, number: int, folder: Path, function: str, arguments: list[Any]) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), number)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=number, timeout=timedelta(seconds=300))
    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(*arguments)
    dist.barrier()
    result_of(folder, rank).write_text(json.dumps(result))
    dist.destroy_process_group()
    # At once: a process that had threads of Gloo's is aborted by torch in one of some hundred ordinary exits
    # ("terminate called without an active exception"), after all that is tested here.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], json.loads(sys.argv[5]))
