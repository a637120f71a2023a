"""Reading and inference side by side, in threads, with results in order and a bound on what is held."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import TypeVar

from ..prefetch import prefetch

Item = TypeVar("Item")
Result = TypeVar("Result")


def pipelined(
    chunks: Sequence[Sequence[int]],
    read: Callable[[int], Item],
    work: Callable[[Sequence[int], list[Item]], Result],
    readers: int,
    workers: int,
) -> Generator[Result, None, None]:
    """Yield ``work(chunk, [read(i) for i in chunk])`` of every chunk, in order.

    At most ``workers + 2`` chunks are begun: one for each worker, one that is ready for the next, one being read.
    Close it (contextlib.closing) to stop early: what is not begun is given up, what is running is waited for.
    """
    longest = max(map(len, chunks), default=0)
    images = prefetch(read, chain.from_iterable(chunks), threads=readers, ahead=longest, name="normface-read")

    def loaded() -> Iterator[tuple[Sequence[int], list[Item]]]:
        for chunk in chunks:
            yield chunk, list(islice(images, len(chunk)))

    results = prefetch(lambda task: work(*task), loaded(), threads=workers, ahead=workers, name="normface-work")
    with closing(images), closing(results):
        yield from results
