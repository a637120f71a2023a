"""Results computed ahead of their use, in threads: images decoded while a net works on those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
    name: str = "normface-prefetch",
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` of every item, in the items' order.

    While a result is in use, the next ``ahead`` are being computed or wait to be taken, so that ``ahead + 1`` results
    are held at most; ``items``, which may be endless, are taken no further, in the thread that takes the results.
    ``name`` is how the threads are called.

    An error of ``function`` or of ``items`` is raised in its place, after the results before it, and ends the
    iteration. Closing it early (``contextlib.closing``, or an error or Ctrl-C while it waits) gives up what is not
    begun, waits for what is, and ends the threads.
    """
    if threads < 1 or ahead < 0:
        raise ValueError(f"expected 1 thread or more and 0 results ahead or more, got {threads} and {ahead}")
    waiting: deque[Future[Result]] = deque()
    rest = iter(items)
    with ThreadPoolExecutor(threads, name) as pool:
        try:
            while True:
                try:
                    item = next(rest)
                except StopIteration:
                    break
                except Exception as error:  # those before it have their turn first
                    failed: Future[Result] = Future()
                    failed.set_exception(error)
                    waiting.append(failed)
                    break
                waiting.append(pool.submit(function, item))
                del item
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
