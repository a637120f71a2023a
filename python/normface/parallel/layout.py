"""Which tensors of a training are rows of class weights, and what they are as DTensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from ..errors import TrainingError
from ..losses.class_shard import ClassShard

ROWS = {"weight": (0, 2), "bias": (0, 1), "more": (1, 3)}
"""{a loss's parameter: (the axis of its classes, how many axes it has)}"""


@dataclass(frozen=True)
class Layout:
    """The ranks that hold some modules' class weights, and where these are."""

    shard: ClassShard | None
    heads: tuple[str, ...]

    @classmethod
    def of(cls, modules: Mapping[str, nn.Module]) -> Layout:
        """Find the class-parallel heads in the modules, and losses made with a shard; all have the same shards."""
        heads = {
            f"{name}.{path}".rstrip(".") + ".": shard
            for name, parent in modules.items()
            for path, module in parent.named_modules()
            if isinstance(shard := getattr(module, "shard", None), ClassShard)
        }
        shards = [*heads.values()]
        if any(shard.num_classes != shards[0].num_classes or shard.group is not shards[0].group for shard in shards):
            raise TrainingError("expected heads of one number of classes on the same ranks")
        return cls(shards[0] if shards else None, tuple(heads))

    @property
    def group(self) -> dist.ProcessGroup | None:
        return self.shard.group if self.shard else None

    @property
    def alone(self) -> bool:
        """Whether there is one process, without a group."""
        return not dist.is_initialized()

    @property
    def leads(self) -> bool:
        return self.alone or dist.get_rank(self.group) == 0

    def agree(self, problem: str) -> None:
        """Raise TrainingError on every rank where one has a problem."""
        problems = [problem]
        if not self.alone:
            problems = [""] * dist.get_world_size(self.group)
            dist.all_gather_object(problems, problem, group=self.group)
        for one in problems:
            if one:
                raise TrainingError(one)

    def distributed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors with those that are rows of class weights as DTensors, which share their numbers."""
        shard = self.shard
        if shard is None or shard.size == 1:
            return dict(tensors)
        kind = next(iter(tensors.values())).device.type
        group = shard.group or dist.group.WORLD
        assert group is not None
        mesh = DeviceMesh.from_group(group, kind)
        whole: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            axis = self.axis(name, tensor)
            whole[name] = tensor if axis is None else _distributed(tensor.detach(), mesh, axis, shard.num_classes)
        return whole

    def axis(self, name: str, tensor: Tensor) -> int | None:
        """Return the axis of the classes of a tensor with this name in the checkpoint; None where it has none."""
        name = name.split(".", 2)[2] if name.startswith("optimizer.") else name
        if not name.startswith(self.heads):
            return None
        return class_axis(name, tensor)


def class_axis(name: str, tensor: Tensor) -> int | None:
    """Return the axis of the classes of a loss's parameter, or of what an optimizer has of it; None for none."""
    axis, axes = ROWS.get(name.rpartition(".")[2], (None, 0))
    return axis if tensor.dim() == axes else None


def _distributed(local: Tensor, mesh: DeviceMesh, axis: int, classes: int) -> DTensor:
    shape = torch.Size([*local.shape[:axis], classes, *local.shape[axis + 1 :]])
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(local, mesh, [Shard(axis)], run_check=False, shape=shape, stride=stride)
