"""What training needs of the torch modules: PReLU's own backward, stopped gradients, blobs that layers overwrite."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from caffeport import NetError
from caffeport.to_torch import modules as caffe_nn
from caffeport.to_torch.modules import prelu
from support import nets


def prelu_reference(x, slope, gradient):
    """dx and da by the formula, in float64."""
    x, slope, gradient = (t.detach().double() for t in (x, slope, gradient))
    spread = slope.reshape(1, -1, *[1] * (x.dim() - 2))
    rest = torch.where(x > 0, 0.0, gradient * x).transpose(0, 1).flatten(1).sum(1)
    return torch.where(x > 0, gradient, spread * gradient), rest if len(slope) > 1 else rest.sum(0, keepdim=True)


@pytest.mark.parametrize("shape", [(4, 6), (3, 5, 7), (2, 3, 9, 4), (2, 8, 1, 1), (2, 3, 2, 4, 5), (3, 1, 6, 6)])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("piece", [8, 1 << 17])
def test_prelu_in_pieces(shape, layout, shared, piece, monkeypatch):
    monkeypatch.setattr(prelu, "_PIECE", piece)
    generator = torch.Generator().manual_seed(1)
    x, gradient = (torch.randn(shape, generator=generator) for _ in range(2))
    x.reshape(-1)[::5] = 0  # at 0 the gradient is that of the negative side, as in Caffe
    if layout == "channels_last" and x.dim() == 4:
        x = x.to(memory_format=torch.channels_last)
    if layout == "transposed":
        x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    slope = torch.rand(1 if shared else shape[1], generator=generator)
    x.requires_grad_()
    slope.requires_grad_()
    y = prelu.PReLUInPieces.apply(x, slope)
    spread = slope.detach().reshape(1, -1, *[1] * (x.dim() - 2))
    torch.testing.assert_close(y.detach(), torch.where(x.detach() > 0, x.detach(), x.detach() * spread))
    y.backward(gradient)
    dx, d_slope = prelu_reference(x, slope, gradient)
    torch.testing.assert_close(x.grad, dx.float())
    torch.testing.assert_close(slope.grad, d_slope.float(), rtol=1e-5, atol=1e-5)


def test_prelu_derivative_in_float64():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    slope = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(prelu.PReLUInPieces.apply, (x, slope))


def test_prelu_in_bfloat16():
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    module = caffe_nn.PReLU(3)
    slope = module.weight = torch.nn.Parameter(torch.rand(3))
    with torch.autocast("cpu", torch.bfloat16):
        y = module.train()(x)
    gradient = torch.randn(y.shape).to(y.dtype)
    y.backward(gradient)
    dx, d_slope = prelu_reference(x, slope, gradient)
    torch.testing.assert_close(x.grad.double(), dx, rtol=2e-2, atol=1e-2)  # bfloat16: 8 bits
    torch.testing.assert_close(slope.grad.double(), d_slope, rtol=2e-2, atol=5e-2)


TWO_WAYS = (
    nets.inputs(data=(4, 3), label=(4,))
    + nets.inner_product("data", "fc1", 5)
    + nets.layer("Eltwise", "fc1 fc1", "sum", "propagate_down: true propagate_down: false")
    + nets.inner_product("sum", "fc2", 2)
    + nets.layer("SoftmaxWithLoss", "fc2 label", "loss")
)


def test_propagate_down_stops_a_gradient(tmp_path):
    """sum = fc1 + fc1 with one way closed: half the gradient of both ways open."""
    gradients = []
    for text in (TWO_WAYS, TWO_WAYS.replace("propagate_down: true propagate_down: false", "")):
        net = nets.load(tmp_path, text, phase="train")
        model = net.to_torch()
        x = [torch.as_tensor(array) for array in net.sample_inputs().values()]
        model.loss(model(*x)).backward()
        gradients.append(model.get_parameter("fc1.weight").grad)
    torch.testing.assert_close(2 * gradients[0], gradients[1])
    assert gradients[0].abs().max() > 0


def test_propagate_down_is_one_a_bottom(tmp_path):
    text = TWO_WAYS.replace("propagate_down: true propagate_down: false", "propagate_down: false")
    with pytest.raises(NetError, match='layer "sum" has 2 bottoms but 1 propagate_down entries'):
        nets.load(tmp_path, text, phase="train")


@pytest.mark.parametrize("score", [200.0, 1e5, 1e10, 1e30])
def test_softmax_loss_stops_at_caffes_float_min(score):
    """-log(FLT_MIN) = 87.34; the gradient, softmax - 1 at the label, knows no such bound."""
    scores = torch.tensor([[0.0, score]], requires_grad=True)
    loss = caffe_nn.SoftmaxWithLoss(1, None, "VALID", 1)(scores, torch.tensor([0.0]))
    assert loss.item() == pytest.approx(-math.log(np.finfo(np.float32).tiny), rel=1e-6)
    loss.backward()
    torch.testing.assert_close(scores.grad, torch.tensor([[-1.0, 1.0]]))


XAVIER = 'weight_filler { type: "xavier" }'
OVERWRITING = {
    "InnerProduct": f"inner_product_param {{ num_output: 3 normalize: true bias_term: false {XAVIER} }}",
    "InnerDistance": f"inner_distance_param {{ num_output: 3 normalize: true {XAVIER} }}",
    "MarginInnerProduct": f"margin_inner_product_param {{ num_output: 3 type: DOUBLE {XAVIER} }}",
}


@pytest.mark.parametrize("kind", OVERWRITING)
def test_stored_rows_become_unit_rows_only_when_asked(kind, tmp_path):
    bottoms = "data label" if kind == "MarginInnerProduct" else "data"
    inputs = nets.inputs(data=(2, 4), label=(2,)) if "label" in bottoms else nets.inputs(data=(2, 4))
    net = nets.load(tmp_path, inputs + nets.layer(kind, bottoms, "out", OVERWRITING[kind]), phase="train")
    model = net.to_torch()
    module, weight = model.get_submodule("out"), model.get_parameter("out.weight")
    with torch.no_grad():
        weight.mul_(7)
    before = weight.detach().clone()
    x = [torch.randn(2, 4), torch.tensor([0.0, 2.0])][: len(net.inputs)]
    expected = model(*x).detach()
    assert torch.equal(weight, before)
    module.overwrite_blobs()
    rows = before / before.norm(dim=1, keepdim=True)
    torch.testing.assert_close(weight.detach(), rows, rtol=2e-5, atol=1e-6)  # eps 1e-6 under the root
    torch.testing.assert_close(model(*x).detach(), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():  # the next pass normalises again, without being asked
        weight.mul_(3)
    torch.testing.assert_close(model(*x).detach(), expected, rtol=1e-4, atol=1e-4)


def test_a_bounded_scale_is_stored_within_its_bounds():
    scale = caffe_nn.Scale((), False, (0.5, 2.0))
    scale.weight = torch.nn.Parameter(torch.tensor(5.0))
    scale.overwrite_blobs()
    assert scale.weight.item() == 2
