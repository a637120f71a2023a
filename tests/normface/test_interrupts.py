"""Ctrl-C and TERM in processes of their own: the first asks, the second ends, whatever the process is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from normface.interrupts import Interrupts
from support.signals import as_from_a_terminal

IN_C = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
"""A call into C that takes many minutes: Python's handlers wait for it."""
IN_PYTHON = "[time.sleep(0.01) for _ in range(10**6)]"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def started(code: str, ignored: bool, options: str = "") -> subprocess.Popen:
    """A process within ``with Interrupts(...) as asked``, once it is at ``code``."""
    lines = [
        "import hashlib, os, signal, sys, time",
        "from normface.interrupts import Interrupts",
        f"with Interrupts({options}) as asked:",
        "    print('here', flush=True)",
        f"    {code}",
    ]
    process = subprocess.Popen(
        as_from_a_terminal([sys.executable, "-c", "\n".join(lines)], ("SIGINT", "SIGTERM") if ignored else ()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # without a terminal
    )
    assert process.stdout.readline() == "here\n"
    if code == IN_C:  # a signal between the line and the call would meet Python still
        wait_until_busy(process.pid)
    return process


def wait_until_busy(pid: int) -> None:
    """Wait until a process has computed for a tenth of a second, however little of the processor it gets."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        time.sleep(1)
        return

    def ticks() -> int:
        return int(stat.read_text().rpartition(")")[2].split()[11])

    start, deadline = ticks(), time.monotonic() + 30
    while ticks() < start + os.sysconf("SC_CLK_TCK") / 10:
        assert time.monotonic() < deadline, "the process does nothing"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("ignored", [False, True], ids=["default", "ignored"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("code", [IN_C, IN_PYTHON], ids=["in_c", "in_python"])
def test_the_second_signal_ends_at_once(code, number, ignored):
    process = started(code, ignored)
    process.send_signal(number)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(number)
    _, error = process.communicate(timeout=5)
    if code == IN_C:
        assert (process.returncode, error) == (128 + number, "normface: error: interrupted\n")
    else:
        kind = "KeyboardInterrupt" if number == signal.SIGINT else "EndedError"
        assert process.returncode and kind in error  # which a command tells in a line


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_what_cannot_stop_in_order(number):
    process = started(IN_C, False, "ready=False")
    process.send_signal(number)
    _, error = process.communicate(timeout=5)
    assert (process.returncode, error) == (128 + number, "normface: error: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("ignored", [False, True], ids=["default", "ignored"])
def test_the_first_signal_asks(ignored):
    process = started(
        "exec('while not asked(): time.sleep(0.01)')", ignored, "ready=False, words='stopping', hangup=True"
    )
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=5)
    assert (process.returncode, error) == (0, "\nstopping\n")


FORKED = (
    "a, b = os.pipe()\n    pid = os.fork()\n    if not pid:\n        os.write(b, b'x')\n        time.sleep(60)\n"
    "    os.read(a, 1)\n    os.kill(pid, signal.SIGTERM)\n"
    "    print(os.WTERMSIG(os.waitpid(pid, 0)[1]))\n    time.sleep(2)\n    print(asked.stop)"
)


@pytest.mark.slow
def test_a_signal_to_a_forked_process_is_its_own():
    """It ends by it, and the parent, which heard it through the pipe that both have, goes on."""
    process = started(FORKED, False, "ready=False")
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output, error) == (0, "15\nFalse\n", "")


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler, lambda *_: None])
def test_handlers_are_put_back(handler):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        with Interrupts(hangup=True) as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.snapshot and asked.stop and asked() and asked.code == 130
        assert all(signal.getsignal(number) is handler for number in numbers)
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)
