"""Results computed ahead: their order, errors, how many are held, and stopping early."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import closing

import pytest
from normface.prefetch import prefetch
from support.signals import as_from_a_terminal


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (1, 3), (4, 0), (3, 2), (2, 50)])
def test_order_is_kept(threads, ahead):
    def slow_first(number):
        time.sleep(0.01 * (number % 4 == 0))
        return -number

    assert list(prefetch(slow_first, range(20), threads=threads, ahead=ahead)) == [-i for i in range(20)]
    assert list(prefetch(slow_first, [], threads=threads, ahead=ahead)) == []


def test_next_results_are_computed_while_one_is_in_use():
    second = threading.Event()
    results = prefetch(lambda number: number == 1 and second.set(), range(3), threads=1, ahead=1)
    next(results)
    assert second.wait(20)
    results.close()


def test_threads_work_at_the_same_time():
    both = threading.Barrier(2, timeout=20)
    assert len(list(prefetch(lambda _: both.wait(), range(2), threads=2, ahead=2))) == 2


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_error_comes_in_its_place(error):
    def fail_at_3(number):
        if number == 3:
            raise error("of 3")
        time.sleep(0.02)  # 3 fails long before 0 is there
        return number

    results = prefetch(fail_at_3, range(100), threads=4, ahead=8)
    taken = []
    with pytest.raises(error, match="of 3"):
        for result in results:
            taken.append(result)
    assert taken == [0, 1, 2]
    assert list(results) == []
    assert not threads_named("normface-prefetch")


def test_error_of_the_items_comes_after_the_results_before_it():
    def items():
        yield from range(3)
        raise OSError("the list ends")

    taken = []
    with pytest.raises(OSError, match="the list ends"):
        for result in prefetch(str, items(), threads=2, ahead=10):
            taken.append(result)
    assert taken == ["0", "1", "2"]


def test_endless_items_are_taken_no_further_than_needed():
    taken = []

    def items():
        for number in itertools.count():
            taken.append(number)
            yield number

    results = prefetch(str, items(), threads=2, ahead=5)
    assert taken == []  # nothing begins before the first result is asked for
    for _ in range(4):
        next(results)
    assert taken == list(range(9))  # 4 taken and 5 ahead
    results.close()
    assert len(taken) == 9


@pytest.mark.slow
def test_held_results_are_bounded():
    """However slowly results are taken, ``ahead`` of them wait, and one that was taken is not kept."""

    class Large:
        pass

    alive: weakref.WeakSet[Large] = weakref.WeakSet()

    def make(_):
        made = Large()
        alive.add(made)
        return made

    with closing(prefetch(make, range(200), threads=8, ahead=3)) as results:
        for _ in range(50):
            result = next(results)
            time.sleep(0.002)
            gc.collect()
            assert len(alive) <= 4
        del result
        time.sleep(0.05)
        gc.collect()
        assert len(alive) <= 3


def test_closed_early_gives_up_what_is_not_begun():
    begun, release = [], threading.Event()

    def work(number):
        begun.append(number)
        if number:
            release.wait(20)
        return number

    results = prefetch(work, range(100), threads=1, ahead=20)
    assert next(results) == 0
    threading.Timer(0.1, release.set).start()
    results.close()
    assert len(begun) <= 2  # the one that was running is waited for, 19 others are not begun
    assert not threads_named("normface-prefetch")


@pytest.mark.slow
def test_dropped_iteration_ends_its_threads():
    results = prefetch(str, range(100), threads=3, ahead=5, name="dropped")
    next(results)
    assert threads_named("dropped")
    del results
    gc.collect()
    assert not threads_named("dropped")


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_interrupt_while_waiting():
    """Ctrl-C ends a program that waits for a slow result, without what is still ahead."""
    code = """
import time
from normface.prefetch import prefetch
from support.signals import as_from_a_terminal
def slow(number):
    print(number, flush=True)
    time.sleep(0.7)
try:
    for _ in prefetch(slow, range(1000), threads=2, ahead=100):
        pass
except KeyboardInterrupt:
    print("stopped", flush=True)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = as_from_a_terminal([sys.executable, "-c", code])
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert rest.split()[-1] == "stopped"
    assert len(rest.split()) <= 4  # begun: the two that were running, and perhaps their successors


@pytest.mark.parametrize("options", [{"threads": 0, "ahead": 1}, {"threads": 1, "ahead": -1}])
def test_bad_numbers(options):
    with pytest.raises(ValueError, match=r"expected 1 thread or more and 0 results ahead or more, got"):
        next(prefetch(str, [1], **options))
