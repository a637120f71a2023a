"""The ``.solverstate.h5`` that Caffe writes for ``snapshot_format: HDF5``, with one data set more.

Source: BVLC/caffe, SGDSolver::SnapshotSolverStateToHDF5: whole numbers ``iter`` and ``current_step``, the text
``learned_net``, and a group ``history`` with a data set ``0``, ``1``, … for each array. What a run needs besides to go
on to the same numbers lies in ``normface_extras``, at which Caffe does not look.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from caffeport import MissingDependencyError
from caffeport.files import replacing_path

from ..errors import TrainingError
from ..reading import opened, parsing, unpacked_limit
from .content import SolverState, pack, unpack

ENDING = ".solverstate.h5"
_EXTRAS = "normface_extras"
_MOST_TEXT = 4096


def need_h5py(named_by: str | Path) -> Any:
    """Import h5py. Raises MissingDependencyError, whose line begins with ``named_by``, where there is none."""
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(f"{named_by}: HDF5 snapshots need h5py; install it: pip install h5py") from error
    return h5py


def write(path: Path, state: SolverState, history: Iterable[np.ndarray]) -> None:
    """Write ``state`` with ``history`` in place of its own, as Caffe does."""
    h5py = need_h5py(path)
    with replacing_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("iter", data=np.array([state.iteration], np.int32))
        name = state.learned_net.encode()
        file.create_dataset("learned_net", data=np.array(name, f"S{len(name) + 1}"))  # Caffe reads up to a zero byte
        file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        group = file.create_group("history")
        for number, array in enumerate(history):
            group.create_dataset(str(number), data=np.asarray(array, np.float32))
        file.create_dataset(_EXTRAS, data=np.frombuffer(pack(state.extras), np.uint8))


def read(path: Path) -> SolverState:
    """Read a state, Caffe's or one of these. Raises TrainingError that names the file for anything else."""
    h5py = need_h5py(path)
    problem = "is HDF5, but no solver state of Caffe's"
    with opened(path, TrainingError) as (_, size), parsing(path, problem, TrainingError), h5py.File(path, "r") as file:
        room = unpacked_limit(size)
        missing = [name for name in ("iter", "learned_net", "history") if name not in file]
        if missing:
            raise ValueError(f"it has no {' and no '.join(missing)}")
        group = file["history"]
        if sorted(group) != sorted(str(number) for number in range(len(group))):
            raise ValueError("its history is not numbered from 0")
        sets = [group[str(number)] for number in range(len(group))]
        for number, one in enumerate(sets):
            if one.dtype.kind not in "fiu":
                raise ValueError(f"history {number} is {one.dtype}, no numbers")
            room -= 4 * one.size
        extras = file.get(_EXTRAS)
        room -= 0 if extras is None else extras.size
        if room < 0:
            raise ValueError("it declares far more numbers than a file of its size holds")
        step = _whole(file["current_step"]) if "current_step" in file else 0
        state = SolverState(_whole(file["iter"]), _text(file["learned_net"]), step)
        state.history = [np.asarray(one, np.float32) for one in sets]
        if extras is not None:
            state.extras = unpack(np.asarray(extras, np.uint8).tobytes())
    if not 0 <= state.iteration < 2**31 or not state.learned_net:
        raise TrainingError(f"{path}: is no solver state; expected its iteration and its weights")
    return state


def _whole(data: Any) -> int:
    if data.size != 1 or data.dtype.kind not in "iu":
        raise ValueError(f"{data.name} is {data.dtype} {data.shape}, expected a whole number")
    return int(np.asarray(data).reshape(-1)[0])


def _text(data: Any) -> str:
    if data.size != 1 or data.dtype.kind not in "SO" or (data.dtype.kind == "S" and data.dtype.itemsize > _MOST_TEXT):
        raise ValueError(f"{data.name} is {data.dtype} {data.shape}, expected a file's name")
    value = data[()]
    raw = value if isinstance(value, bytes) else np.asarray(value).reshape(-1)[0]
    return (raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)).partition("\0")[0]
