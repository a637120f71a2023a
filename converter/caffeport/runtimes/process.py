"""A model in a runtime in a process of its own, so that a crash is one answer among others."""

from __future__ import annotations

import contextlib
import json
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .known import ModelRunError

SECONDS = 600.0
"""A runtime that has not answered after so long is stopped."""


class RuntimeProcess:
    """``python -m caffeport.runtimes.worker``; a context that ends it."""

    def __init__(self, title: str, timeout: float = SECONDS) -> None:
        self._title, self._timeout = title, timeout
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  # what it complains of; a pipe would fill up
        self._process = subprocess.Popen(
            [sys.executable, "-m", "caffeport.runtimes.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
        )

    def ask(self, command: str, **words: Any) -> dict[str, Any]:
        """Return the answer. Raises ModelRunError, which says what went wrong, where process or runtime fail."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"command": command, **words}).encode() + b"\n")
            self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self._timeout):
                self._end()
                raise ModelRunError(f"{self._title} has not answered for {self._timeout:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise ModelRunError(f"{self._title} ended its process {_how(self._process.wait())}{self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ModelRunError(answer["error"])
        return answer

    def run(self, inputs: Path, folder: Path) -> dict[str, np.ndarray]:
        """The outputs for the arrays in the .npz ``inputs``; ``folder`` is for the way back."""
        path = folder / "outputs.npz"
        self.ask("run", inputs=str(inputs), outputs=str(path))
        with np.load(path, allow_pickle=False) as arrays:
            outputs = {name: arrays[name] for name in arrays.files}
        path.unlink()
        return outputs

    def time(self, inputs: Path, seconds: float, least: int = 1) -> list[float]:
        """Seconds that each of several runs took."""
        return self.ask("time", inputs=str(inputs), seconds=seconds, least=least)["times"]

    def __enter__(self) -> RuntimeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._words.close()

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
            if self._process.stdout is not None:
                self._process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        self._words.seek(0)
        lines = [line.strip() for line in self._words.read().decode(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1][:300]}" if lines else ""


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"


def save_inputs(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays for a RuntimeProcess to read."""
    np.savez(path, **arrays)  # type: ignore[arg-type]  # a name may be that of savez's own option
