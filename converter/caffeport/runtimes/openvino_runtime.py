"""OpenVINO on the CPU, compiled for the sizes that it meets."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..lazy import require
from .model_file import ModelFile

MOST_SIZES = 4
"""Combinations of sizes that are compiled for themselves; any further one runs with free axes, which is slower."""


@functools.cache
def core() -> Any:
    """Return the process's one ``openvino.Core``, which nothing drops.

    Its CPU plugin gives the thread that loads it a stack for signals. Dropped in another thread, it frees that stack
    and leaves it in use: the next signal that Python handles in the first thread, Ctrl-C too, ends the process.
    """
    with _no_telemetry():
        return require("openvino").Core()


@contextlib.contextmanager
def _no_telemetry() -> Iterator[None]:
    """Within, OpenVINO finds no ``openvino_telemetry``, which would tell Google of every import, in a process of its
    own, without asking; OpenVINO does without where it is not installed."""
    name = "openvino_telemetry"
    known = name in sys.modules
    if not known:
        sys.modules[name] = None  # type: ignore[assignment] # an import of it then fails
    try:
        yield
    finally:
        if not known:
            del sys.modules[name]


class OpenVino:
    """A model of OpenVINO; each thread that calls it has requests of its own.

    streams: runs that go on at the same time, which share the threads; else one run has them all.
    """

    about = ""

    def __init__(self, file: ModelFile, threads: int, streams: int = 1) -> None:
        self._core = core()
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bfloat16 where the processor has it
            "INFERENCE_NUM_THREADS": threads,
        }
        self._settings |= {"NUM_STREAMS": streams} if streams > 1 else {"PERFORMANCE_HINT": "LATENCY"}
        self._model = self._core.read_model(str(file.path))  # once: the file may be gone when a size is compiled
        self._compiled: dict[tuple[tuple[int, ...], ...] | None, Any] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    def run(self, arrays: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        key: tuple[tuple[int, ...], ...] | None = tuple(array.shape for array in arrays.values())
        requests = self._local.__dict__.setdefault("requests", {})
        if key not in requests:
            with self._lock:
                if key not in self._compiled and len(self._compiled) >= MOST_SIZES:
                    key = None
                if key not in self._compiled:
                    self._compiled[key] = self._compile(None if key is None else arrays)
            if key not in requests:
                requests[key] = self._compiled[key].create_infer_request()
        request = requests[key]
        request.infer(dict(arrays), share_inputs=True)
        return [np.array(request.get_tensor(port).data) for port in self._compiled[key].outputs]

    def _compile(self, arrays: Mapping[str, np.ndarray] | None) -> Any:
        model = self._model.clone()
        if arrays is not None:
            model.reshape({name: list(array.shape) for name, array in arrays.items()})
        return self._core.compile_model(model, "CPU", self._settings)


def start(file: ModelFile, threads: int, net: Any = None) -> OpenVino:
    return OpenVino(file, threads)
