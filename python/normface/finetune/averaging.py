"""The exponential moving average of the weights (--ema), torch's own, beside the weights that train."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .backbone import Trunk


class Averages(nn.Module):
    """a_1 = w_1, then a_t = d a_(t-1) + (1 - d) w_t after each step t: of the trunk's weights and of the loss's.

    BatchNorm's statistics are averaged too; the loss's other numbers (counters, running scores) are those of the step.
    It is a module so that a checkpoint takes its state, and has no part in the arithmetic of the training.
    """

    def __init__(self, trunk: Trunk, loss: nn.Module, decay: float) -> None:
        super().__init__()
        average = get_ema_multi_avg_fn(decay)
        self.of_trunk = AveragedModel(trunk, multi_avg_fn=average, use_buffers=True)
        self.of_loss = AveragedModel(loss, multi_avg_fn=average)
        self.requires_grad_(False)

    @property
    def trunk(self) -> nn.Module:
        return self.of_trunk.module

    @property
    def loss(self) -> nn.Module:
        return self.of_loss.module

    def update(self, trunk: Trunk, loss: nn.Module) -> None:
        """Take in the weights of one more step."""
        self.of_trunk.update_parameters(trunk)
        self.of_loss.update_parameters(loss)

    def copy_to(self, trunk: nn.Module, loss: nn.Module) -> None:
        """Give both the averages, as what is exported."""
        trunk.load_state_dict(self.trunk.state_dict())
        loss.load_state_dict(self.loss.state_dict())
