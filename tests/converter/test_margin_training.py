"""A toy trained with LabelSpecificMargin: its gradient draws samples to their class, the fork's first one does not.

The derivative of cos(theta + m) by cos(theta), sin(theta + m) / sin(theta), is above 0 for theta < pi - m. The fork's
first version had sin(theta - m) / sin(theta), below 0 for theta < m: what is near its class was pushed away.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import nets

CLASSES = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
START = 20.0  # degrees between a sample and its class


def samples():
    """(4, 3): one of every class, START degrees from it, each in a direction of its own."""
    across = np.random.default_rng(0).normal(size=(4, 3))
    across -= (across * CLASSES).sum(1, keepdims=True) * CLASSES
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return np.cos(np.deg2rad(START)) * CLASSES + np.sin(np.deg2rad(START)) * across


def descend(tmp_path, degrees, fields, steps=300):
    """Gradient descent on the samples themselves: (loss, mean angle to their classes) before each step."""
    text = nets.inputs(data=(4, 3), label=(4,)) + nets.layer("Normalize", "data", "unit")
    text += nets.inner_product("unit", "cosine", 4, "bias_term: false normalize: true")
    margin = f"label_specific_margin_param {{ margin_base: {degrees} gamma: 0 {fields} }}"
    text += nets.layer("LabelSpecificMargin", "cosine label", "margin", margin)
    text += nets.layer("Power", "margin", "scaled", "power_param { scale: 8 }")
    text += nets.layer("SoftmaxWithLoss", "scaled label", "loss")
    net = nets.load(tmp_path, text, phase="train").with_weights({"cosine": [CLASSES.astype(np.float32)]})
    model = net.to_torch().double()
    x = torch.tensor(samples(), requires_grad=True)
    label = torch.arange(4)
    seen = []
    for _ in range(steps):
        blobs = model.blobs(x, label)
        (gradient,) = torch.autograd.grad(blobs["loss"], x)
        angles = torch.rad2deg(torch.arccos(blobs["cosine"].detach().diagonal().clamp(max=1)))
        seen.append((blobs["loss"].item(), angles.mean().item()))
        with torch.no_grad():
            x -= 0.02 * gradient
    return np.array(seen)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [75.0, 90.0])
def test_the_default_learns(tmp_path, degrees):
    losses, angles = descend(tmp_path, degrees, "").T
    assert angles[0] == pytest.approx(START, abs=0.1)
    assert angles[-1] < START / 4
    assert losses[-1] < losses[0] / 5


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [75.0, 90.0])
def test_the_forks_first_sign_undoes_what_is_learned(tmp_path, degrees):
    losses, angles = descend(tmp_path, degrees, "exact_gradient: false").T
    assert angles[-1] > 1.5 * START
    assert losses[-1] > 2 * losses[0]
