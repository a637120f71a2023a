"""Reading and inference side by side, in threads, with results in order and a bound on what is held."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Chunks that are read while every worker has one to work on."""


def pipelined(
    chunks: Iterable[Sequence[int]],
    read: Callable[[int], Item],
    work: Callable[[Sequence[int], list[Item]], Result],
    readers: int,
    workers: int,
) -> Generator[Result, None, None]:
    """``work(chunk, [read(i) for i in chunk])`` of every chunk, in order; at most workers + AHEAD chunks are begun.

    Close it (contextlib.closing) to stop early: what is not begun is given up, what is running is waited for.
    """
    begun: deque[tuple[Future[Result], list[Future[Item]]]] = deque()

    def begin(chunk: Sequence[int]) -> None:
        reading = [reader_pool.submit(read, index) for index in chunk]
        begun.append((worker_pool.submit(lambda: work(chunk, [one.result() for one in reading])), reading))

    with ThreadPoolExecutor(readers) as reader_pool, ThreadPoolExecutor(workers) as worker_pool:
        try:
            for chunk in chunks:
                begin(chunk)
                if len(begun) >= workers + AHEAD:
                    yield begun[0][0].result()
                    begun.popleft()
            while begun:
                yield begun[0][0].result()
                begun.popleft()
        finally:
            for working, _ in begun:  # first, so that none of them waits for a picture that is not read any more
                working.cancel()
            for _, reading in begun:
                for one in reading:
                    one.cancel()
