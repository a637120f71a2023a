"""A process that opens one model in one runtime, runs it and times it, as told on standard input.

``python -m caffeport.runtimes.worker``. Each line is a JSON object with a ``command``, and is answered by one:

- ``open``: path, runtime, threads, net (keywords of caffeport.load, or null) -> version, about
- ``run``: inputs (an .npz), outputs (an .npz to write)
- ``time``: inputs, seconds, least -> times, in seconds, of as many runs as fill ``seconds``, ``least`` at least

An answer has ``error`` where it did not work. A runtime may end the whole process, or print what it likes: both are
kept from whoever asks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np

from ..errors import CaffeportError
from .opened import OpenedModel, open_model, said

MOST_RUNS = 100_000


def answers() -> TextIO:
    """The stream that answers go to; whatever else is printed goes nowhere from now on."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    return stream


def read(path: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def opened(words: Mapping[str, Any]) -> OpenedModel:
    """The model that ``open`` names."""
    net = None
    if words["net"] is not None:
        from ..graph.build import load

        net = load(**words["net"])
    return open_model(words["path"], words["runtime"], words["threads"], net=net)


def timed(model: OpenedModel, inputs: Mapping[str, np.ndarray], seconds: float, least: int) -> list[float]:
    """Seconds that each run took."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or (time.perf_counter() < end and len(times) < MOST_RUNS):
        start = time.perf_counter()
        model.run(inputs)
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    """Answer commands until there are no more."""
    stream = answers()
    model: Any = None
    for line in sys.stdin:
        words = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if words["command"] == "open":
                model = opened(words)
                answer = {"version": model.runtime.version, "about": model.about}
            elif words["command"] == "run":
                np.savez(words["outputs"], **model.run(read(words["inputs"])))
            else:
                answer["times"] = timed(model, read(words["inputs"]), words["seconds"], words["least"])
        except CaffeportError as error:
            answer = {"error": str(error)}
        except MemoryError:
            answer = {"error": "not enough memory for this"}
        except Exception as error:  # of a library, which may raise anything
            answer = {"error": f"{type(error).__name__}: {said(error)}"}
        print(json.dumps(answer), file=stream, flush=True)


if __name__ == "__main__":
    main()
