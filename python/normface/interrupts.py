"""Signals to a training, as Caffe takes them: Ctrl-C (or TERM) ends it after this step, HUP asks for a snapshot.

The second Ctrl-C or TERM ends the process at once, wherever it is. Python's own handlers wait for a call into C to
return, which a sum over several processes may never do; so a thread hears the signals too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any

from caffeport.cli.command import INTERRUPTED, EndedError

from .ending import end_now

GRACE = 1.0
"""Seconds that a process which is to end at once gets to do so by a KeyboardInterrupt, which cleans up."""
STOPS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Within ``with``: ``stop`` and ``snapshot`` tell what was asked for; a call is ``stop`` too.

    ready: whether the training can stop in an orderly way already; before, the first signal ends the process at once.
        The first call sets it. hangup: whether HUP means a snapshot; else it does what it did. words: are printed
        when the first signal comes, last_words where the process is ended and had no time to tell so itself. ``code``
        is the exit code that the first signal asks for: 130 after Ctrl-C, 143 after TERM.

    The signals are heard even where they were ignored before, as by nohup or in a script's background: whoever
    sends one to such a run means it. Afterwards all is as it was. Python allows handlers in its main thread only;
    in another one nothing is heard.
    """

    def __init__(
        self, *, ready: bool = True, hangup: bool = False, words: str = "", last_words: str = "interrupted"
    ) -> None:
        self.stop = self.snapshot = False
        self.code = INTERRUPTED
        self._ready, self._hangup, self._words, self._last_words = ready, hangup, words, last_words
        self._before: dict[int, Any] = {}
        self._closed = threading.Event()
        self._ends: tuple[int, int] | None = None
        self._wakeup_before = -1

    def __call__(self) -> bool:
        self._ready = True
        return self.stop

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._ends = os.pipe()
        os.set_blocking(self._ends[1], False)
        threading.Thread(target=self._listen, args=(self._ends[0],), daemon=True, name="signals").start()
        self._wakeup_before = signal.set_wakeup_fd(self._ends[1], warn_on_full_buffer=False)
        handlers = dict.fromkeys(STOPS, self._on_stop) | ({signal.SIGHUP: self._on_hangup} if self._hangup else {})
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        _active.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        if self._ends is None:
            return
        _active.remove(self)
        self._restore()
        os.close(self._ends[1])  # which ends the thread

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python
        signal.set_wakeup_fd(self._wakeup_before)

    def _on_stop(self, number: int, frame: Any) -> None:
        if self.stop or not self._ready:
            raise KeyboardInterrupt if number == signal.SIGINT else EndedError(number)
        self.stop, self.code = True, 128 + number
        if self._words:
            os.write(2, f"\n{self._words}\n".encode())  # print might be in the midst of a line, and forbids this

    def _on_hangup(self, number: int, frame: Any) -> None:
        self.snapshot = True

    def _listen(self, end: int) -> None:
        """Count the signals as they come; where the process is to end and does not, end it."""
        count = 0
        with contextlib.closing(os.fdopen(end, "rb", buffering=0)) as numbers:
            while number := numbers.read(1):
                count += number[0] in STOPS
                due = count > 1 or (count and not self._ready)
                if due and not self._closed.wait(GRACE):
                    end_now(self._last_words, 128 + number[0])


_active: list[Interrupts] = []


def _leave_to_parent() -> None:
    """In a forked process: its signals are its own. Through the pipe that both have, its parent would take them too."""
    while _active:
        _active.pop()._restore()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave_to_parent)
