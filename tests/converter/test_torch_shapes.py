"""Inputs that do not fit, told by layer and shapes; fx with preprocessing, wrappers and several outputs."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from torch import nn

LOSS = (
    nets.inputs(data=(4, 3, 6, 6), label=(4,))
    + nets.layer("BatchNorm", "data", "bn")
    + nets.inner_product("bn", "fc", 5)
    + nets.layer("SoftmaxWithLoss", "fc label", "loss")
)
DRAW = np.random.default_rng(0)


def numbers(*shape):
    return torch.tensor(DRAW.standard_normal(shape, np.float32))


def small(folder, text=nets.SMALL, **options):
    return nets.load(folder, text, **options).to_torch()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 5, 12, 10), r'"conv1" \(Convolution\): "data" has the shape 2x5x12x10, expected Nx3x12x10'),
        ((7, 3, 14, 10), r'"fc" \(InnerProduct\): "pool1" has the shape 7x6x7x5, expected Nx6x6x5 '
                         r'\(input: "data" has the shape 7x3x14x10, expected Nx3x12x10\); torch says: '),
        ((3, 12, 10), r'"bn1" \(BatchNorm\): "conv1" has the shape 6x12x10, expected Nx6x12x10'),
        ((2, 3), r'"conv1" \(Convolution\): "data" has the shape 2x3, expected Nx3x12x10'),
    ],
)  # fmt: skip
def test_the_layer_and_both_shapes(shape, message, tmp_path):
    with pytest.raises(caffeport.InputShapeError, match=f"^layer {message}"):
        small(tmp_path)(numbers(*shape))
    with pytest.raises(RuntimeError):  # torch's own would be one
        small(tmp_path)(numbers(*shape))


def test_a_batch_that_a_layer_fixes(tmp_path):
    text = nets.inputs(data=(2, 6)) + nets.layer("Reshape", "data", "y", "reshape_param { shape { dim: 4 dim: 3 } }")
    with pytest.raises(caffeport.InputShapeError, match=r'^layer "y" .*"data" has the shape 3x6, expected 2x6'):
        small(tmp_path, text)(numbers(3, 6))


def test_fewer_labels_than_images(tmp_path):
    model = small(tmp_path, LOSS, phase="train")
    with pytest.raises(caffeport.InputShapeError, match=r'^layer "loss" .*"label" has the shape 3, expected 4;'):
        model(numbers(4, 3, 6, 6), torch.zeros(3))


def test_a_wrong_label_is_no_wrong_shape(tmp_path):
    """Also in a batch of another size; and looking for the reason changes no statistics."""
    model = small(tmp_path, LOSS, phase="train")
    with pytest.raises((IndexError, RuntimeError), match=r"out of (bounds|range)") as caught:
        model(numbers(2, 3, 6, 6), torch.tensor([0.0, 9.0]))
    assert not isinstance(caught.value, caffeport.CaffeportError)
    assert model.training and all(module.training for module in model.modules())
    assert model.state_dict()["bn.scale_factor"].item() == 1  # one pass


def test_fx_of_preprocessing(tmp_path):
    net = nets.load(tmp_path, nets.SMALL)
    model = net.to_torch(mean=[1, 2, 3], scale=0.5, rgb=True)
    x = numbers(2, 3, 12, 10)
    front = (x.flip(1) - torch.tensor([1.0, 2, 3]).reshape(3, 1, 1)) * 0.5
    torch.testing.assert_close(model(x), net.to_torch()(front), rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), model(x))
    assert set(model.state_dict()) == set(net.to_torch().state_dict())
    assert model.half()(x.half()).dtype == torch.float16


def test_fx_inside_a_module_of_ones_own(tmp_path):
    class Unit(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small(tmp_path)

        def forward(self, x):
            return nn.functional.normalize(self.net(x))

    model, x = Unit(), numbers(2, 3, 12, 10)
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(x), model(x))
    assert "net.conv1" in [node.target for node in traced.graph.nodes]


def test_fx_of_several_inputs_and_outputs(tmp_path):
    """A loss net in training: the gradients are those of the module, statistics go on."""
    text = LOSS + nets.layer("Slice", "data", "one two three")
    traced_from, model = small(tmp_path, text, phase="train"), small(tmp_path, text, phase="train")
    traced = torch.fx.symbolic_trace(traced_from)
    x, label = numbers(4, 3, 6, 6), torch.arange(4.0)
    made, expected = traced(x, label), model(x, label)
    assert list(made) == list(expected) == ["loss", "one", "three", "two"]
    assert all(torch.equal(made[name], expected[name]) for name in expected)
    made["loss"].backward()
    expected["loss"].backward()
    assert torch.equal(traced.get_parameter("fc.weight").grad, model.get_parameter("fc.weight").grad)
    assert torch.equal(traced.state_dict()["bn.mean"], model.state_dict()["bn.mean"])


def test_fx_names_inputs_as_python_can(tmp_path):
    text = nets.inputs(**{"im/info": (2, 3), "im_info": (2, 3), "class": (2, 3), "1": (2, 3)})
    text += nets.layer("Eltwise", "im/info im_info class 1", "self")
    model = small(tmp_path, text)
    x = [numbers(2, 3) for _ in range(4)]
    assert torch.equal(torch.fx.symbolic_trace(model)(*x), model(*x))
