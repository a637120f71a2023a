"""Checkpoints of a class-parallel training: written by N ranks, read by M, whole or not at all.

A checkpoint is a folder ``step-00001200`` of torch.distributed.checkpoint, its tensors in safetensors files, one a
rank for each that is sharded, beside ``checkpoint.json`` and, where the classes have names, ``classes.txt``, a line a
class. It is written under another name, flushed to the disk and renamed, so that a folder of that name is complete;
the ones before it are removed after that. Nothing in it is a pickle.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from ..errors import TrainingError
from ..losses.class_shard import ClassShard
from ..reading import read_text
from .layout import Layout
from .picking import Stored
from .row_sgd import settle

NAME, CLASSES, VERSION = "checkpoint.json", "classes.txt", 1
PREFIX, PART = "step-", ".part"


def save(
    folder: str | Path, step: int, modules: Mapping[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer] = (),
    *, classes: Sequence[str] | None = None, notes: Mapping[str, Any] | None = None, keep: int = 2,
) -> Path:  # fmt: skip
    """Write the checkpoint of a step into ``folder``, together with all other ranks; return its own folder.

    modules: by names of your choice; class weights within are sharded as they are, all else is alike on every rank.
    optimizers: of their parameters; their tensors are kept, their settings are not. classes: the names of the class
    weights' rows, of which every rank gives all. notes: what JSON can hold. keep: so many checkpoints are left, this
    one too.

    Raises TrainingError where the folder cannot be written.
    """
    layout, folder = Layout.of(modules), Path(folder)
    if keep < 1:
        raise TrainingError(f"expected to keep one checkpoint or more, got {keep}")
    if classes is not None:
        _check_names(classes, layout.shard)
    settle(optimizers)
    tensors = {**_of_modules(modules), **_of_optimizers(modules, optimizers)}
    target, part = folder / f"{PREFIX}{step:08d}", folder / f".{PREFIX}{step:08d}{PART}"
    problem = ""
    try:
        if layout.leads:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            about = {"version": VERSION, "step": step, "tensors": sorted(tensors), "notes": dict(notes or {})}
            about |= {"num_classes": layout.shard.num_classes if layout.shard else None}
            (part / NAME).write_text(json.dumps(about))
            if classes is not None:
                (part / CLASSES).write_text("".join(f"{name}\n" for name in classes), "utf-8")
    except OSError as error:
        problem = f"{folder}: cannot be written: {error.strerror or error}"
    layout.agree(problem)
    try:
        writer = HuggingFaceStorageWriter(str(part), _files(layout, tensors), save_distributed=True)
        given = layout.distributed(tensors)
        with _quiet():
            dcp.save(given, storage_writer=writer, process_group=layout.group, no_dist=layout.alone)
        if layout.leads:
            _flush(part)
            _replace(part, target)
            _remove_old(folder, keep)
    except OSError as error:
        problem = f"{folder}: cannot be written: {error.strerror or error}"
    except CheckpointException as error:  # what a rank's writing met, told to all ranks
        first = next(one for one, _ in error.failures.values())
        problem = f"{folder}: cannot be written: {getattr(first, 'strerror', None) or first}"
    layout.agree(problem)
    return target


def _files(layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the number of the file that each tensor goes to: one for each that is sharded, since torch holds a file
    whole in memory before it writes it, and one for all else."""
    sharded = [name for name, tensor in tensors.items() if layout.axis(name, tensor) is not None]
    return dict.fromkeys(tensors, 1) | {name: number for number, name in enumerate(sharded, 2)}


def latest(folder: str | Path) -> Path | None:
    """Return the newest whole checkpoint in ``folder``; None where there is none."""
    folders = [path for path in Path(folder).glob(f"{PREFIX}*") if (path / NAME).is_file()]
    return max(folders, key=lambda path: path.name, default=None)


@torch.no_grad()
def load(
    folder: str | Path, modules: Mapping[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer] = (), *,
    classes: Sequence[str] | None = None,
) -> tuple[int, dict[str, Any]]:  # fmt: skip
    """Give modules and optimizers the numbers of a checkpoint; return its step and notes.

    folder: one that ``save`` or ``latest`` returned. The ranks may be more or fewer than those that wrote it, or each
    have all rows, in a loss made without a shard: then each reads them by itself, without the others. classes:
    the names of the class weights' rows now. A class that the checkpoint has keeps its weights and momentum, wherever
    its row was; one that it has not keeps the weights that it started with, and no momentum. Without names the number
    of classes must be the same.

    Raises TrainingError where the checkpoint is damaged or of other modules.
    """
    layout, folder = Layout.of(modules), Path(folder)
    about = read_about(folder)
    before = _read_classes(folder, about)
    settle(optimizers)  # so that no row waits for steps that were of other numbers
    _prepare(modules, optimizers, about["tensors"])
    tensors = {**_of_modules(modules), **_of_optimizers(modules, optimizers)}
    missing = sorted(set(tensors) ^ set(about["tensors"]))
    if missing:
        raise TrainingError(f"{folder}: is of other modules or optimizers; only one of the two has {missing[0]}")
    same = classes is None or before is None or list(classes) == before
    rows = layout.shard.num_classes if layout.shard else None
    if same and rows is not None and rows != about["num_classes"]:
        raise TrainingError(
            f"{folder}: has {about['num_classes']} classes, expected {rows}; classes that come or go need names, "
            "at save and at load"
        )
    try:
        stored = Stored(folder)  # which looks at all files, so that a damaged one is told in our words
        if same:
            reader = HuggingFaceStorageReader(str(folder))
            given = layout.distributed(tensors)
            with _quiet():
                apart = layout.alone or layout.shard is None
                dcp.load(given, storage_reader=reader, process_group=layout.group, no_dist=apart)
        else:
            assert classes is not None and before is not None and layout.shard is not None
            _pick(stored, tensors, layout, _places(classes, before, layout.shard))
    except (Exception, CheckpointException) as error:  # that of safetensors has no name that all versions export
        words = " ".join(str(error).split())[-200:]
        raise TrainingError(f"{folder}: is damaged, or does not fit these modules: {words}") from error
    return int(about["step"]), about["notes"]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warning that a process is alone, which is as it should be."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def _of_modules(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{name}.{key}": one for name, module in modules.items() for key, one in module.state_dict().items()}


def _of_optimizers(
    modules: Mapping[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Tensor]:  # fmt: skip
    """The optimizers' tensors, by the names of their parameters."""
    return {
        f"optimizer.{key}.{name}": value
        for name, parameter, optimizer in _trained(modules, optimizers)
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _trained(
    modules: Mapping[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer]
) -> Iterator[tuple[str, nn.Parameter, torch.optim.Optimizer]]:  # fmt: skip
    """The parameters by name, each with its optimizer."""
    owner = {
        id(one): optimizer for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]
    }
    for name, module in modules.items():
        for key, parameter in module.named_parameters():
            if id(parameter) in owner:
                yield f"{name}.{key}", parameter, owner[id(parameter)]


def _prepare(
    modules: Mapping[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer], names: list[str]
) -> None:  # fmt: skip
    """Make room for the optimizers' tensors, which they have none of before their first step."""
    owners = {name: (parameter, optimizer) for name, parameter, optimizer in _trained(modules, optimizers)}
    for name in names:
        kind, _, rest = name.partition(".")
        key, _, parameter = rest.partition(".")
        if kind == "optimizer" and parameter in owners:
            one, optimizer = owners[parameter]
            room = torch.zeros((), dtype=torch.float32) if key == "step" else torch.zeros_like(one)
            optimizer.state[one].setdefault(key, room)


def _pick(stored: Stored, tensors: dict[str, Tensor], layout: Layout, places: Tensor) -> None:
    """Fill in the rows of classes that were there, at ``places`` (C / R,), -1 for new ones; and all other tensors."""
    known = places >= 0
    for name, tensor in tensors.items():
        axis = layout.axis(name, tensor)
        if axis is None:
            tensor.copy_(stored.whole(name))
            continue
        for row in range(tensor.shape[0] if axis else 1):
            own = tensor[row] if axis else tensor
            prefix = (row,) if axis else ()
            if name.startswith("optimizer."):
                own.zero_()
            own[known] = stored.rows(name, places[known], prefix).to(own.dtype)


def _places(classes: Sequence[str], before: list[str], shard: ClassShard) -> Tensor:
    _check_names(classes, shard)
    at = {name: place for place, name in enumerate(before)}
    own = classes[shard.first : shard.first + shard.count]
    return torch.tensor([at.get(name, -1) for name in own], dtype=torch.int64)


def _check_names(classes: Sequence[str], shard: ClassShard | None) -> None:
    if shard is None or len(classes) != shard.num_classes:
        rows = shard.num_classes if shard else 0
        raise TrainingError(f"expected a name for each of {rows} classes, got {len(classes)}")
    if len(set(classes)) != len(classes) or any("\n" in name or "\r" in name for name in classes):
        raise TrainingError("expected names of classes that differ, each of one line")


def read_about(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint says of itself: its step, the names of its tensors, the notes."""
    try:
        about = json.loads(read_text(folder / NAME, error=TrainingError))
        kinds = {"version": int, "step": int, "tensors": list, "notes": dict}
        if not all(isinstance(about[key], kind) for key, kind in kinds.items()) or "num_classes" not in about:
            raise ValueError
        if not all(isinstance(name, str) for name in about["tensors"]):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(f"{folder / NAME}: is damaged, or no checkpoint") from error
    if about["version"] != VERSION:
        raise TrainingError(f"{folder / NAME}: is of version {about['version']}, expected {VERSION}")
    held: dict[str, Any] = about
    return held


def _read_classes(folder: Path, about: dict[str, Any]) -> list[str] | None:
    path = folder / CLASSES
    if not path.is_file():
        return None
    names = read_text(path, error=TrainingError).split("\n")[:-1]
    if len(names) != about["num_classes"]:
        raise TrainingError(f"{path}: has {len(names)} names, expected {about['num_classes']}")
    return names


def _flush(folder: Path) -> None:
    """Make sure that the files are on the disk before their folder is called a checkpoint."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _replace(part: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)  # of the same step, by a run that was broken off after it
    part.rename(target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_all(folder: Path) -> None:
    """Remove the checkpoints in ``folder``, and it where nothing else is in it."""
    _remove_old(folder, 0)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove_old(folder: Path, keep: int) -> None:
    whole = sorted(path for path in folder.glob(f"{PREFIX}*") if (path / NAME).is_file())
    for path in (*whole[: max(0, len(whole) - keep)], *folder.glob(f".{PREFIX}*{PART}")):
        (path / NAME).unlink(missing_ok=True)  # so that what is half removed is no checkpoint
        shutil.rmtree(path, ignore_errors=True)
