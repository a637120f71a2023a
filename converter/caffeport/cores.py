"""The processor cores that this process may use, and work that is spread over them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""What ``map`` is: a function and what to call it with give its results, in that order."""

_AT_ONCE = 16
"""Calls that a thread makes before it asks for more: handing over each by itself costs as much as a short one."""


def usable_cores() -> int:
    """Return the number of cores that this process may run on, at least 1.

    That is fewer than the machine has where a batch system, ``taskset`` or a container pins the process to some of
    them; as many threads as the machine has cores would then wait for each other.
    """
    if hasattr(os, "process_cpu_count"):  # Python 3.13; PYTHON_CPU_COUNT and -X cpu_count count as well
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def on_all_cores(threaded: bool) -> Iterator[Each]:
    """Give a ``map`` that makes its calls in threads, for functions that spend their time in NumPy.

    Results come in the order of the items, and so does the first error, whoever is done first. At the end, after an
    error or Ctrl-C too, the threads finish the calls they are at, make no further ones, and are gone.
    threaded: whether it is worth it at all; else it is ``map`` itself.
    """
    cores = usable_cores()
    if not threaded or cores == 1:
        yield map
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(cores)

    def each(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        remaining = iter(items)
        batches = iter(lambda: list(itertools.islice(remaining, _AT_ONCE)), [])
        return itertools.chain.from_iterable(pool.map(lambda batch: [function(item) for item in batch], batches))

    try:
        yield each
    finally:
        pool.shutdown(cancel_futures=True)
