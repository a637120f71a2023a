"""Losses of forks that compare two blobs, or a sequence with its labels. They compute in torch and train.

Definitions: L1Loss: NVIDIA/caffe src/caffe/layers/l1_loss_layer.cpp, and of FlowNet lmb-freiburg/flownet2
src/caffe/layers/l1loss_layer.cu (the fields of l1_loss_param); CtcLoss: yalecyu/crnn.caffe
src/caffe/layers/ctc_loss_layer.cpp, which calls warp-ctc.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..formats.schema import schema
from .base import Shape, count, layer_type, nn
from .loss import Loss


@schema
class L1LossParameter:
    l2_per_location: bool = False
    l2_prescale_by_channels: bool = False
    normalize_by_num_entries: bool = False
    epsilon: float = 1e-2
    plateau: float = 0.0


@layer_type("L1Loss")
class L1Loss(Loss):
    """sum |a - b| / N; one bottom is compared with zeros.

    With l1_loss_param it is FlowNet's, to which a NaN counts as no difference: one below ``plateau`` counts as
    none, l2_per_location takes sqrt(sum over channels (a - b)^2 + epsilon) for each pixel (the sum divided by the
    channels with l2_prescale_by_channels), and normalize_by_num_entries divides by the numbers that are no NaN
    over the channels, in place of N.
    """

    schemas = {"l1_loss_param": L1LossParameter}
    bottoms = (1, 2)

    def setup(self) -> None:
        self.flow = "l1_loss_param" in self.context.messages
        if self.context.num_bottoms == 1 and not self.flow:
            self.fail("expected 2 bottoms, got 1; with one it is FlowNet's, which has an l1_loss_param")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        rows = {(bottom[0], count(bottom, 1)) for bottom in bottoms}
        if len(rows) > 1:
            self.fail(f"expected bottoms of one size, got {bottoms[0]} and {bottoms[1]}")
        if (self.p.l2_prescale_by_channels or self.p.normalize_by_num_entries) and len(bottoms[0]) < 2:
            self.fail(
                f"l2_prescale_by_channels and normalize_by_num_entries expect channels on axis 1, got {bottoms[0]}"
            )
        if self.p.l2_per_location and len(bottoms[0]) != 4:
            self.fail(f"l2_per_location expects 4 axes, got {bottoms[0]}")
        return [()]

    def module(self, bottoms: list[Shape]) -> Any:
        if not self.flow:
            return nn.L1Loss()
        p = self.p
        scale = 1 / bottoms[0][1] if p.l2_prescale_by_channels else 1.0
        return nn.FlowL1Loss(p.l2_per_location, scale, p.normalize_by_num_entries, p.epsilon, p.plateau)


@schema
class CtcLossParameter:
    alphabet_size: int = 0
    time_step: int = 0
    blank_label: int = 0


@layer_type("CtcLoss")
class CtcLoss(Loss):
    """-log p(labels | softmax of x) / N over all alignments; x (T, N, C), labels (N, L), the blank filling them up"""

    schemas = {"ctc_loss_param": CtcLossParameter}
    bottom_axes = ((3, 3), (2, 2))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (steps, sequences, classes), labels, p = bottoms[0], bottoms[1], self.p
        if labels[0] != sequences:
            self.fail(f"expected labels for {sequences} sequences, got {labels}")
        if p.alphabet_size != classes or p.time_step != steps or not 0 <= p.blank_label < classes:
            self.fail(
                f"expected a time_step of {steps}, an alphabet_size of {classes} and a blank_label below it, got "
                f"{p.time_step}, {p.alphabet_size} and {p.blank_label}"
            )
        return [()]

    def sample_bottom(self, index: int, shape: Shape, random: np.random.Generator) -> np.ndarray | None:
        """Return one label a sequence, which fits any number of steps; the rest is blank."""
        if index == 0:
            return None
        labels = np.full(shape, self.p.blank_label)
        labels[:, 0] = (self.p.blank_label + 1) % self.p.alphabet_size
        return labels

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.CtcLoss(self.p.blank_label)
