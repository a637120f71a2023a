"""The ``.solverstate`` file: Caffe's own, so that a run can move between Caffe and here, with one field more.

Caffe's SolverState holds the iteration, the name of the weights' file, the histories and the step of the learning
rate. A run that is to go on to the same numbers needs more: random numbers, the position in the data, counters of
layers. That lies in a field whose number Caffe does not know, and therefore skips, as the bytes of an ``.npz``
(arrays, and one JSON text); a state that Caffe wrote simply lacks it. No pickle is written or read.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from caffeport import CaffemodelError
from caffeport.files import replacing, write_numbers
from caffeport.formats import caffemodel, wire

from ..errors import TrainingError
from ..npz import read_arrays
from ..reading import parsing

_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4  # caffe.proto's SolverState
_EXTRAS = 1000
_JSON = "json"


@dataclass
class SolverState:
    """``history`` in Caffe's order: one for every blob of the net, then the second ones of AdaDelta and Adam.

    extras: a tree of dicts of numbers, strings, lists and arrays.
    """

    iteration: int
    learned_net: str
    current_step: int = 0
    history: list[np.ndarray] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)


def write(path: Path, state: SolverState, history: Iterable[np.ndarray]) -> None:
    """Write ``state`` with ``history`` (which may make its arrays one by one) in place of its own."""
    with replacing(path) as stream:
        stream.write(wire.varint(_ITER << 3 | wire.VARINT) + wire.varint(state.iteration))
        stream.write(wire.delimited(_LEARNED_NET, state.learned_net.encode()))
        stream.write(wire.varint(_CURRENT_STEP << 3 | wire.VARINT) + wire.varint(state.current_step))
        for array in history:
            head = caffemodel.blob_header(array.shape)
            stream.write(wire.header(_HISTORY, len(head) + 4 * array.size) + head)
            write_numbers(stream, array)
        stream.write(wire.delimited(_EXTRAS, _pack(state.extras)))


def read(path: Path) -> SolverState:
    """Read a state, Caffe's or one of these. Raises TrainingError that names the file for anything else."""
    data = _mapped(path)
    if data[:6] == b"\x89HDF\r\n":
        raise TrainingError(f"{path}: HDF5 states are not read here; let Caffe write BINARYPROTO (snapshot_format)")
    state = SolverState(-1, "")
    with parsing(path, "is no solver state, or is truncated", TrainingError):
        try:
            _fill(state, data, path)
        except CaffemodelError as error:
            raise ValueError(str(error).removeprefix(f"{path}: ")) from error
    if not 0 <= state.iteration < 2**31 or not state.learned_net:
        raise TrainingError(f"{path}: is no solver state; expected a .solverstate with its iteration and its weights")
    return state


def _fill(state: SolverState, data: Any, path: Path) -> None:
    for number, kind, a, b in wire.fields(data, 0, len(data)):
        if number == _ITER and kind == wire.VARINT:
            state.iteration = a
        elif number == _LEARNED_NET and kind == wire.LENGTH:
            state.learned_net = bytes(data[a:b]).decode("utf-8", "replace")
        elif number == _CURRENT_STEP and kind == wire.VARINT:
            state.current_step = a
        elif number == _HISTORY and kind == wire.LENGTH:
            title = f"history {len(state.history)}"
            state.history.append(caffemodel.read_blob(data, a, b, str(path), title).array())
        elif number == _EXTRAS and kind == wire.LENGTH:
            state.extras = _unpack(bytes(data[a:b]))
        elif number <= _CURRENT_STEP:
            raise wire.WireError(f"field {number} has wire type {kind}")


def _mapped(path: Path) -> Any:
    try:
        return caffemodel.mapped(path)
    except CaffemodelError as error:
        raise TrainingError(str(error)) from error


def _pack(extras: dict[str, Any]) -> bytes:
    arrays: list[np.ndarray] = []

    def lift(node: Any) -> Any:
        """The tree with arrays taken out: {"array": its number}."""
        if isinstance(node, np.ndarray):
            arrays.append(node)
            return {"array": len(arrays) - 1}
        if isinstance(node, dict):
            return {"dict": {str(key): lift(value) for key, value in node.items()}}
        if isinstance(node, (list, tuple)):
            return {"list": [lift(value) for value in node]}
        return node.item() if isinstance(node, np.generic) else node

    text = json.dumps(lift(extras))
    stream = io.BytesIO()
    named: dict[str, Any] = {_JSON: np.frombuffer(text.encode(), np.uint8)}
    named.update((str(i), array) for i, array in enumerate(arrays))
    np.savez_compressed(stream, **named)
    return stream.getvalue()


def _unpack(raw: bytes) -> dict[str, Any]:
    stored = read_arrays(io.BytesIO(raw), len(raw))
    text = json.loads(stored[_JSON].tobytes())

    def place(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        if len(node) != 1:
            raise ValueError("its extras are damaged")
        ((kind, value),) = node.items()
        if kind == "array":
            return stored[str(value)]
        if kind == "list":
            return [place(entry) for entry in value]
        return {key: place(entry) for key, entry in value.items()}

    values = place(text)
    if not isinstance(values, dict):
        raise ValueError("its extras are no table")
    return values


def newest(prefix: str | Path) -> Path:
    """The state file that ``prefix`` means: the file itself, or ``PREFIX_iter_N.solverstate`` with the largest N.

    Of weights (``.caffemodel``), the state beside them. Raises TrainingError that says what was looked for.
    """
    path = Path(prefix)
    if path.suffix == ".caffemodel":
        path = path.with_suffix(".solverstate")
    if os.path.isfile(path):
        return path
    paths = {}
    if os.path.isdir(path.parent) and path.name:
        for entry in path.parent.iterdir():
            start, _, end = entry.name.rpartition("_iter_")
            number = end.removesuffix(".solverstate")
            if start == path.name and end != number and number.isdecimal():
                paths[int(number)] = entry
    beside = path.with_name(path.name + ".solverstate") if path.name else path
    if os.path.isfile(beside):
        return beside
    if not paths:
        raise TrainingError(f"{prefix}: no such state; looked for the file and for {prefix}_iter_N.solverstate")
    return paths[max(paths)]


def check_history(state: SolverState, shapes: list[tuple[int, ...]], copies: int, path: Path) -> None:
    """Raise TrainingError unless the histories are those of a net with blobs of these ``shapes``."""
    expected = len(shapes) * copies
    if len(state.history) != expected:
        raise TrainingError(
            f"{path}: holds {len(state.history)} histories, but this solver and net need {expected} "
            f"({len(shapes)} blobs, {copies} each); it belongs to another net or another solver type"
        )
    for i, array in enumerate(state.history):
        shape = shapes[i % len(shapes)]
        if array.size != math.prod(shape):
            raise TrainingError(
                f"{path}: history {i} has {array.size} numbers, but the blob has {math.prod(shape)}; "
                "it belongs to another net"
            )
