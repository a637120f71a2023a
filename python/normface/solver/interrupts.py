"""Signals to a run, as Caffe takes them: Ctrl-C (or TERM) ends it after this iteration, HUP asks for a snapshot."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupts:
    """Within ``with``: ``stop`` and ``snapshot`` tell what was asked for. A second Ctrl-C is a KeyboardInterrupt."""

    def __init__(self) -> None:
        self.stop = self.snapshot = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            handlers = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop, signal.SIGHUP: self._snapshot}
            self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: Any) -> None:
        self.stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _snapshot(self, number: int, frame: Any) -> None:
        self.snapshot = True
