"""The ``.solverstate`` file: Caffe's own, so that a run can move between Caffe and here, with one field more.

Caffe's SolverState holds the iteration, the name of the weights' file, the histories and the step of the learning
rate. A run that is to go on to the same numbers needs more: random numbers, the position in the data, counters of
layers. That lies in a field whose number Caffe does not know, and therefore skips, as the bytes of an ``.npz``
(arrays, and one JSON text); a state that Caffe wrote simply lacks it. No pickle is written or read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from caffeport import CaffemodelError
from caffeport.files import replacing, write_numbers
from caffeport.formats import caffemodel, wire

from ..errors import TrainingError
from ..reading import parsing
from . import hdf5_state
from .content import SolverState, pack, unpack

_ITER, _LEARNED_NET, _HISTORY, _CURRENT_STEP = 1, 2, 3, 4  # caffe.proto's SolverState
_EXTRAS = 1000
WEIGHTS, STATES = (".caffemodel", ".caffemodel.h5"), (".solverstate", hdf5_state.ENDING)
"""The endings of a snapshot's two files, as Caffe has them: BINARYPROTO's and HDF5's."""


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
        stream.write(wire.delimited(_EXTRAS, pack(state.extras)))


def read(path: Path) -> SolverState:
    """Read a state, Caffe's or one of these. Raises TrainingError that names the file for anything else."""
    data = _mapped(path)
    if data[:6] == b"\x89HDF\r\n":
        return hdf5_state.read(path)
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
    walk = wire.Walk(data)
    for number, kind, a, b in walk.fields(0, len(data)):
        if number == _ITER and kind == wire.VARINT:
            state.iteration = a
        elif number == _LEARNED_NET and kind == wire.LENGTH:
            state.learned_net = bytes(data[a:b]).decode("utf-8", "replace")
        elif number == _CURRENT_STEP and kind == wire.VARINT:
            state.current_step = a
        elif number == _HISTORY and kind == wire.LENGTH:
            title = f"history {len(state.history)}"
            state.history.append(caffemodel.read_blob(walk, a, b, str(path), title).array())
        elif number == _EXTRAS and kind == wire.LENGTH:
            state.extras = unpack(bytes(data[a:b]))
        elif number <= _CURRENT_STEP:
            raise wire.WireError(f"field {number} has wire type {kind}")


def _mapped(path: Path) -> Any:
    try:
        return caffemodel.mapped(path)
    except CaffemodelError as error:
        raise TrainingError(str(error)) from error


def newest(prefix: str | Path) -> Path:
    """The state file that ``prefix`` means: the file itself, or ``PREFIX_iter_N.solverstate`` with the largest N.

    Either may end in ``.h5``. Of weights (``.caffemodel``), the state beside them. Raises TrainingError that says what
    was looked for.
    """
    path = Path(prefix)
    for weights, state in zip(WEIGHTS, STATES, strict=True):
        if path.name.endswith(weights):
            path = path.with_name(path.name.removesuffix(weights) + state)
    if os.path.isfile(path):
        return path
    paths = {}
    if os.path.isdir(path.parent) and path.name:
        for entry in path.parent.iterdir():
            start, _, end = entry.name.rpartition("_iter_")
            for ending in STATES:
                number = end.removesuffix(ending)
                if start == path.name and end != number and number.isdecimal():
                    paths[int(number), entry.stat().st_mtime] = entry
    for ending in STATES:
        beside = path.with_name(path.name + ending) if path.name else path
        if os.path.isfile(beside):
            return beside
    if not paths:
        raise TrainingError(f"{prefix}: no such state; looked for the file and for {prefix}_iter_N.solverstate[.h5]")
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
