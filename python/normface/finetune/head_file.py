"""head.safetensors: a loss's class weights, scale and the rest, so that another training can start from them.

Where the ranks share the class weights' rows, each sends its own to the first one, some at a time, which writes them as
they come, and each reads its own from a file: no rank ever holds all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist
from caffeport.files import replacing, replacing_path
from caffeport.formats.safetensors_header import refuse_many
from torch import Tensor, nn

from ..errors import TrainingError
from ..losses.class_shard import ClassShard
from ..parallel.layout import class_axis
from .class_rows import shard_of
from .collectives import connected

BLOCK = 1 << 22
"""Numbers that a rank sends at once, in whole rows."""
DTYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"} | {
    torch.int32: "I32", torch.int64: "I64", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""The names that the format has for them."""


def write(loss: nn.Module, path: Path, *, leads: bool) -> None:
    """Write a loss, of which this rank has all or its rows. Every rank calls it; the one that leads has the file."""
    shard = shard_of(loss)
    if shard is not None:
        with connected():
            if leads:
                with replacing(path) as stream:
                    _write_together(loss, shard, stream)
            else:
                _write_together(loss, shard, None)
    elif leads:
        from safetensors.torch import save_file

        # Losses of a sum may share one weight; the format wants every entry to own its numbers.
        state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in loss.state_dict().items()}
        with replacing_path(path) as temporary:
            save_file(state, str(temporary), metadata={"format": "pt"})


def read(path: str | Path, loss: nn.Module) -> None:
    """Give a loss the numbers of a file, of class weights the rows that this rank has.

    Raises TrainingError where the file is none, or of another loss or other classes.
    """
    from safetensors import safe_open

    shard = shard_of(loss)
    try:
        refuse_many(path)
        with safe_open(str(path), framework="pt") as file:
            state = {name: _own(file, name, shard) for name in file.keys()}  # noqa: SIM118 - no dict
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror or error}") from error
    except TrainingError as error:
        raise TrainingError(f"{path}: does not fit this loss and these identities: {error}") from error
    except Exception as error:  # safetensors has an exception of its own, which older versions do not export
        raise TrainingError(f"{path}: is no safetensors file: {error}") from error
    try:
        loss.load_state_dict(state)
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise TrainingError(f"{path}: does not fit this loss and these identities: {words[:300]}") from error


def _own(file: Any, name: str, shard: ClassShard | None) -> Tensor:
    """Return a tensor of an open file, or this rank's rows of it, which alone are read."""
    whole: Tensor = torch.empty(file.get_slice(name).get_shape(), device="meta")
    axis = class_axis(name, whole)
    if shard is None or axis is None:
        tensor: Tensor = file.get_tensor(name)
        return tensor
    if whole.shape[axis] != shard.num_classes:
        raise TrainingError(f"{name} has {whole.shape[axis]} classes, expected {shard.num_classes}")
    own = slice(shard.first, shard.first + shard.count)
    rows: Tensor = file.get_slice(name)[(slice(None), own) if axis else own]
    return rows


def _write_together(loss: nn.Module, shard: ClassShard, stream: IO[bytes] | None) -> None:
    """Write the format by itself: the length of a JSON text, that text, and the numbers of each tensor."""
    tensors = {name: tensor.detach() for name, tensor in loss.state_dict().items()}
    if stream is not None:
        stream.write(_header(tensors, shard))
    for name, tensor in tensors.items():
        axis = class_axis(name, tensor)
        blocks = iter([tensor]) if axis is None else _rows(tensor, axis, shard)
        for block in blocks:
            if stream is not None:
                stream.write(block.cpu().reshape(-1).view(torch.uint8).numpy().data)


def _header(tensors: dict[str, Tensor], shard: ClassShard) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        shape, axis = list(tensor.shape), class_axis(name, tensor)
        if axis is not None:
            shape[axis] = shard.num_classes
        start, end = end, end + torch.Size(shape).numel() * tensor.element_size()
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _rows(tensor: Tensor, axis: int, shard: ClassShard) -> Iterator[Tensor]:
    """All ranks' rows in their order, some at a time, on the first rank; the others send theirs."""
    most = -(-shard.num_classes // shard.size)
    for own in tensor if axis else [tensor]:
        at_once = max(1, BLOCK // max(1, own[:1].numel()))
        for rank in range(shard.size):
            count = max(0, min(most, shard.num_classes - rank * most))
            for start in range(0, count, at_once):
                number = min(at_once, count - start)
                if rank == shard.rank:
                    block = own[start : start + number].contiguous()
                    if rank:
                        dist.send(block, 0, group=shard.group)
                    else:
                        yield block
                elif shard.rank == 0:
                    theirs = own.new_empty(number, *own.shape[1:])
                    dist.recv(theirs, rank, group=shard.group)
                    yield theirs
