"""The times of a model in several runtimes, taken in turn, and whether they give the same numbers."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..cores import usable_cores
from ..difference import difference
from ..errors import CaffeportError, shape_text
from .known import ModelRunError, Runtime
from .model_file import ModelFile
from .process import RuntimeProcess, save_inputs

WARMUP = 0.3
"""Seconds, and at least two runs, before a time counts: runtimes plan and allocate in their first."""
RTOL, ATOL = 1e-3, 1e-4
"""What outputs may differ by, as caffeport.difference counts: the rounding of one order of sums and another."""


@dataclass
class Timing:
    """Milliseconds of one run: the median, and what a tenth of the runs stayed under and nine tenths."""

    median: float
    tenth: float
    nine_tenths: float
    runs: int

    @staticmethod
    def of(seconds: Sequence[float]) -> Timing:
        low, high = np.percentile(seconds, [10, 90])
        return Timing(1e3 * statistics.median(seconds), 1e3 * float(low), 1e3 * float(high), len(seconds))


@dataclass
class Result:
    """One runtime's. ``max_abs`` and ``max_rel`` are of its outputs against the baseline's; None for itself.

    error: why there are no times, empty where there are. about: what its times have to be read with.
    """

    name: str
    title: str
    version: str = ""
    about: str = ""
    error: str = ""
    baseline: str = ""
    max_abs: float | None = None
    max_rel: float | None = None
    ok: bool = True
    times: dict[int, Timing] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is timed: for every batch size {input: array}, and how long.

    net: keywords of caffeport.load of the net that the file was made of, for PyTorch. agree: whether an output is near
    enough to another runtime's, in place of RTOL and ATOL.
    """

    file: ModelFile
    inputs: Mapping[int, Mapping[str, np.ndarray]]
    threads: int
    rounds: int
    seconds: float
    net: Mapping[str, Any] | None = None
    agree: Callable[[np.ndarray, np.ndarray], bool] | None = None

    @property
    def turns(self) -> int:
        """The number of turns of one runtime."""
        return len(self.inputs) * self.rounds


def random_inputs(
    file: ModelFile, batches: Sequence[int], sizes: Mapping[str, Sequence[int]], seed: int = 0
) -> dict[int, dict[str, np.ndarray]]:
    """{batch size: {input: random array}}, standard normal; of a file with a fixed batch that one alone.

    sizes: {input: shape} for axes behind the first that the file leaves free.
    Raises CaffeportError where a size is neither in the file nor among these, or is another one than the file's.
    """
    fixed = {port.shape[0] for port in file.inputs if port.shape and port.shape[0]}
    free = any(port.shape and not port.shape[0] for port in file.inputs)
    if not free:
        batches = [next((size for size in fixed if size), 1)]
    unknown = [name for name in sizes if name not in {port.name for port in file.inputs}]
    if unknown:
        known = ", ".join(port.name for port in file.inputs)
        raise CaffeportError(f'{file.path}: has no input "{unknown[0]}"; its inputs are {known}')
    return {
        batch: {
            port.name: np.random.default_rng(seed).standard_normal(_shape(file, port, batch, sizes)).astype(port.dtype)
            for port in file.inputs
        }
        for batch in dict.fromkeys(batches)
    }


def _shape(file: ModelFile, port: Any, batch: int, sizes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    given = sizes.get(port.name)
    if given is not None and len(given) != len(port.shape):
        raise CaffeportError(
            f'{file.path}: its input "{port.name}" has {len(port.shape)} axes, got {shape_text(given)}'
        )
    shape = []
    for axis, size in enumerate(port.shape):
        if axis and given is not None and size is not None and given[axis] != size:
            raise CaffeportError(
                f'{file.path}: its input "{port.name}" is {size} on axis {axis}, which is fixed in the file; '
                f"got {shape_text(given)}"
            )
        if size is None and axis == 0:
            size = batch
        elif size is None and given is not None:
            size = given[axis]
        elif size is None:
            example = "x".join(str(batch if not axis else number or 224) for axis, number in enumerate(port.shape))
            raise CaffeportError(
                f'{file.path}: leaves the size of its input "{port.name}" free; give it (--input-shape '
                f"{port.name}={example})"
            )
        shape.append(size)
    return tuple(shape)


def bench(plan: Plan, runtimes: Sequence[Runtime], told: Callable[[str], None] = lambda words: None) -> list[Result]:
    """Time the model in each runtime, a turn of each after the other, so that a busy machine is unfair to none.

    told: is called with a few words as every turn begins.

    The outputs of the first batch size are compared with those of the first runtime that runs it.
    """
    results = [Result(one.name, one.title) for one in runtimes]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = {batch: folder / f"{batch}.npz" for batch in plan.inputs}
        for batch, path in paths.items():
            save_inputs(path, plan.inputs[batch])
        processes: dict[str, RuntimeProcess] = {}
        baseline: tuple[str, dict[str, np.ndarray]] | None = None
        for result in results:
            told(f"{result.title}: opens the model")
            processes[result.name] = stack.enter_context(RuntimeProcess(result.title))
            try:
                outputs = _start(plan, result, processes[result.name], paths, folder)
            except ModelRunError as error:
                result.error = str(error)
                continue
            if baseline is None:
                baseline = (result.title, outputs)
            else:
                result.baseline = baseline[0]
                _compare(plan, result, outputs, baseline[1])
        seconds: dict[tuple[str, int], list[float]] = {}
        for _ in range(plan.rounds):
            for batch, path in paths.items():
                for result in results:
                    if result.error:
                        continue
                    told(f"{result.title}: batch {batch}")
                    try:
                        times = processes[result.name].time(path, plan.seconds)
                    except ModelRunError as error:
                        result.error = str(error)
                        continue
                    seconds.setdefault((result.name, batch), []).extend(times)
    for result in results:
        if not result.error:
            result.times = {batch: Timing.of(seconds[result.name, batch]) for batch in paths}
    return results


def _start(
    plan: Plan, result: Result, process: RuntimeProcess, paths: Mapping[int, Path], folder: Path
) -> dict[str, np.ndarray]:
    """Open the model, warm it up, and return the outputs of the first batch size."""
    answer = process.ask("open", path=str(plan.file.path), runtime=result.name, threads=plan.threads, net=plan.net)
    result.version, result.about = answer["version"], answer["about"]
    outputs = process.run(next(iter(paths.values())), folder)
    for path in paths.values():
        process.time(path, WARMUP, 2)
    return outputs


def _compare(plan: Plan, result: Result, outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    result.max_abs = result.max_rel = 0.0
    for name, array in expected.items():
        if outputs[name].shape != array.shape:
            result.max_abs = result.max_rel = float("inf")
            result.ok = False
            continue
        largest, relative, ok = difference(outputs[name], array, RTOL, ATOL)
        result.max_abs, result.max_rel = max(result.max_abs, largest), max(result.max_rel, relative)
        if plan.agree is not None:
            ok = plan.agree(outputs[name], array)
        result.ok = result.ok and ok


def fastest(results: Sequence[Result], batch: int) -> Result | None:
    """The runtime of the lowest median among those whose outputs agree."""
    timed = [result for result in results if result.ok and batch in result.times]
    return min(timed, key=lambda result: result.times[batch].median, default=None)


def default_threads() -> int:
    """One thread for every core that this process may use."""
    return usable_cores()
