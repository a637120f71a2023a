"""What ranks do with a head's file: each writes its rows to one, and reads its rows from it."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from normface import parallel
from normface.finetune import head_file

CLASSES, D = 7, 4
LOSSES = {
    "a bias": ("softmax", {"bias": True}),
    "sub-centers": ("sub-center-arcface", {}),
    "a sum": ("normalized-softmax+0.1*center", {}),
    "a running number": ("curricularface", {}),
}


def write_and_read(path: str, kind: str, block: int) -> dict[str, object]:
    """Write a head that starts by seed 3 into ``path``; return this rank's rows of another that read it."""
    head_file.BLOCK = block
    name, options = LOSSES[kind]
    torch.manual_seed(3)
    head = parallel.make(name, CLASSES, D, **options)
    head_file.write(head.loss, Path(path), leads=head.shard.rank == 0)
    if head.shard.size > 1:
        dist.barrier()  # until the file is there
    torch.manual_seed(4)
    other = parallel.make(name, CLASSES, D, **options)
    head_file.read(path, other.loss)
    state = {name: tensor.tolist() for name, tensor in other.loss.state_dict().items()}
    return {"first": head.shard.first, "count": head.shard.count, "state": state}
