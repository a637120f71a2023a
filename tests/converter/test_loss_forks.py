"""Losses of forks against their formulas in NumPy."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_gradients, numbers

X = (2, 3, 4, 5)


def l1_net(tmp_path, parameters="", bottoms="x y"):
    text = nets.inputs(**dict.fromkeys(bottoms.split(), X)) + nets.layer("L1Loss", bottoms, "loss", parameters)
    return nets.load(tmp_path, text, phase="train")


def value(net, *arrays):
    return net.to_torch()(*map(torch.tensor, arrays)).item()


def test_l1_loss(tmp_path):
    x, y = numbers(*X), numbers(*X, seed=1)
    net = l1_net(tmp_path)
    np.testing.assert_allclose(value(net, x, y), np.abs(x - y).sum() / 2, 1e-6)
    assert_gradients(net, x, y)
    flat = nets.load(tmp_path, nets.inputs(x=(2, 6), y=(2, 3, 2)) + nets.layer("L1Loss", "x y", "loss"), phase="train")
    np.testing.assert_allclose(value(flat, x[:, 0, 0, :3].repeat(2, 1), np.zeros((2, 3, 2), np.float32)),
                               np.abs(x[:, 0, 0, :3]).sum(), 1e-6)  # fmt: skip
    equal = torch.tensor(y, requires_grad=True)
    net.to_torch()(equal, torch.tensor(y)).backward()
    assert not equal.grad.any()  # the sign of 0 is 0


FLOW = {
    "": lambda d: np.abs(d).sum() / 2,
    "plateau: 0.5": lambda d: np.abs(d[np.abs(d) >= 0.5]).sum() / 2,
    "normalize_by_num_entries: true": lambda d: np.abs(d).sum() / ((d.size - 1) / 3),
    "l2_per_location: true": lambda d: np.sqrt((d**2).sum(1) + 0.01).sum() / 2,
    "l2_per_location: true l2_prescale_by_channels: true epsilon: 0.1": (
        lambda d: np.sqrt((d**2).sum(1) / 3 + 0.1).sum() / 2
    ),
    "l2_per_location: true plateau: 2": (
        lambda d: np.sqrt(np.where((d**2).sum(1) < 4, 0, (d**2).sum(1)) + 0.01).sum() / 2
    ),
}


@pytest.mark.parametrize("text", FLOW)
@pytest.mark.parametrize("bottoms", ["x y", "x"])
def test_l1_loss_of_flownet(tmp_path, text, bottoms):
    net = l1_net(tmp_path, f"l1_loss_param {{ {text} }}", bottoms)
    x, y = numbers(*X), numbers(*X, seed=1)
    x[1, 2, 3, 4] = np.nan
    arrays = [x, y][: len(bottoms.split())]
    difference = np.nan_to_num(x - y if len(arrays) == 2 else x).astype(np.float64)
    np.testing.assert_allclose(value(net, *arrays), FLOW[text](difference), 1e-5)
    assert_gradients(net, *(np.nan_to_num(array) for array in arrays))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (nets.inputs(x=(2, 3), y=(2, 4)) + nets.layer("L1Loss", "x y", "z"), "bottoms of one size"),
        (nets.inputs(x=(2, 3)) + nets.layer("L1Loss", "x", "z"), "expected 2 bottoms, got 1"),
        (
            nets.inputs(x=(2, 3)) + nets.layer("L1Loss", "x", "z", "l1_loss_param { l2_per_location: true }"),
            "expects 4 axes",
        ),
    ],
)
def test_refusals(tmp_path, text, words):
    with pytest.raises(caffeport.NetError, match=words):
        nets.load(tmp_path, text, phase="train")
