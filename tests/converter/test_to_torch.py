"""The torch module: keys, sharing, training, torch.compile and torch.export."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from support import nets


def numbers(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))


def test_state_dict_keys_are_caffes_layer_names(tmp_path):
    model = nets.load(tmp_path, nets.SMALL).to_torch()
    assert set(model.state_dict()) == {
        "conv1.weight", "conv1.bias", "bn1.mean", "bn1.variance", "bn1.scale_factor", "scale1.weight", "scale1.bias",
        "relu1.weight", "fc.weight", "fc.bias",
    }  # fmt: skip
    learned = {name for name, _ in model.named_parameters()}
    assert learned == set(model.state_dict()) - {"bn1.mean", "bn1.variance", "bn1.scale_factor"}


@pytest.mark.parametrize("name", ["inception_3a/1x1", "conv4-2", "a.b.c", "type", "float", "forward", "_modules", "1"])
def test_any_layer_name_is_a_key(tmp_path, name):
    text = nets.inputs(data=(2, 4)) + nets.inner_product("data", "fc", 3).replace('name: "fc"', f'name: "{name}"')
    net = nets.load(tmp_path, text)
    model = net.to_torch()
    assert set(model.state_dict()) == {f"{name}.weight", f"{name}.bias"}
    model.load_state_dict(net.to_torch().state_dict())
    x = numbers(2, 4)
    weight, bias = net.layers[1].blobs
    np.testing.assert_allclose(model(x).detach().numpy(), x.numpy() @ weight.T + bias, 1e-5, 1e-6)


def test_a_name_that_starts_anothers(tmp_path):
    text = nets.inputs(data=(2, 4)) + nets.inner_product("data", "x.y", 4) + nets.inner_product("x.y", "x", 4)
    model = nets.load(tmp_path, text).to_torch()
    assert set(model.state_dict()) == {"x.weight", "x.bias", "x.y.weight", "x.y.bias"}


def test_two_learned_layers_of_one_name_are_refused(tmp_path):
    text = nets.inputs(data=(2, 4)) + nets.inner_product("data", "a", 4)
    text += nets.inner_product("a", "b", 4).replace('name: "b"', 'name: "a"')
    with pytest.raises(caffeport.NetError, match='another layer is called "a"'):
        nets.load(tmp_path, text).to_torch()


@pytest.mark.slow
def test_it_trains(tmp_path):
    text = nets.SMALL.replace("dim: 2 ", "dim: 8 ", 1) + nets.inputs(label=(8,))
    net = nets.load(tmp_path, text + nets.layer("SoftmaxWithLoss", "fc label", "loss"), phase="train")
    model = net.to_torch()
    assert model.training and all(p.requires_grad and p.is_leaf for p in model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), 0.002, momentum=0.9)
    x, label = numbers(8, 3, 12, 10), torch.arange(8.0) % 5
    losses = []
    for _ in range(60):
        loss = model.loss(model(x, label))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_loss_is_weighted_by_loss_weight(tmp_path):
    text = nets.inputs(a=(2, 3), b=(2, 3)) + nets.layer("EuclideanLoss", "a b", "one")
    text += nets.layer("EuclideanLoss", "a b", "two", "loss_weight: 0.25") + nets.layer("AbsVal", "a", "free")
    model = nets.load(tmp_path, text, phase="train").to_torch()
    a, b = numbers(2, 3), numbers(2, 3, seed=1)
    outputs = model(a, b)
    assert list(outputs) == ["free", "one", "two"]
    expected = 1.25 * float(((a - b) ** 2).sum()) / 4
    assert float(model.loss(outputs)) == pytest.approx(expected, rel=1e-6)


def test_shared_weights_stay_shared(tmp_path):
    text = nets.inputs(a=(2, 4), b=(2, 4))
    for name in "ab":
        shared = 'param { name: "w" } inner_product_param'
        text += nets.inner_product(name, f"y{name}", 3, "bias_term: false").replace("inner_product_param", shared)
    model = nets.load(tmp_path, text).to_torch()
    assert len(list(model.parameters())) == 1
    made = model(numbers(2, 4), numbers(2, 4, seed=1))
    (made["ya"].sum() + made["yb"].sum()).backward()
    (weight,) = model.parameters()
    expected = numbers(2, 4).sum(0) + numbers(2, 4, seed=1).sum(0)
    torch.testing.assert_close(weight.grad, expected.expand(3, 4))


def test_permissive_sharing_of_another_shape(tmp_path):
    """share_mode PERMISSIVE: one blob of 12 numbers, 3x4 to one layer and 4x3 to the other."""
    shared = 'param { name: "w" share_mode: PERMISSIVE } inner_product_param'
    text = nets.inputs(a=(2, 4), b=(2, 3))
    text += nets.inner_product("a", "ya", 3, "bias_term: false").replace("inner_product_param", shared)
    text += nets.inner_product("b", "yb", 4, "bias_term: false").replace("inner_product_param", shared)
    net = nets.load(tmp_path, text)
    model = net.to_torch()
    weight = net.layer("ya").blobs[0]
    made = model(numbers(2, 4), numbers(2, 3))
    np.testing.assert_allclose(made["yb"].detach(), numbers(2, 3).numpy() @ weight.reshape(4, 3).T, 1e-5, 1e-6)
    assert len(list(model.parameters())) == 1


def test_batch_statistics_are_kept_as_caffe_keeps_them(tmp_path):
    """blob = f * blob + statistic, factor = f * factor + 1, the variance times m / (m - 1)."""
    text = nets.inputs(data=(4, 3, 5, 5)) + nets.layer(
        "BatchNorm", "data", "y", "batch_norm_param { moving_average_fraction: 0.9 }"
    )
    model = nets.load(tmp_path, text, phase="train").to_torch()
    first, second = numbers(4, 3, 5, 5), numbers(4, 3, 5, 5, seed=1)
    model(first), model(second)
    state = model.state_dict()
    variances = [x.numpy().transpose(1, 0, 2, 3).reshape(3, -1).var(1) * 100 / 99 for x in (first, second)]
    np.testing.assert_allclose(state["y.variance"], 0.9 * variances[0] + variances[1], 1e-5)
    np.testing.assert_allclose(state["y.scale_factor"], [1.9], 1e-6)
    model.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model(first)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_weights_are_a_copy(tmp_path):
    net = nets.load(tmp_path, nets.SMALL)
    one, two = net.to_torch(), net.to_torch()
    with torch.no_grad():
        one.get_parameter("fc.weight").fill_(7)
    assert not (two.get_parameter("fc.weight") == 7).any()
    assert not (net.layer("fc").blobs[0] == 7).any()


def test_any_batch_size_and_dtype(tmp_path):
    model = nets.load(tmp_path, nets.SMALL).to_torch()
    single = model(numbers(5, 3, 12, 10))
    double = model.double()(numbers(5, 3, 12, 10).double())
    assert double.dtype == torch.float64 and double.shape == (5, 5)
    torch.testing.assert_close(single, double.float(), rtol=1e-4, atol=1e-5)


def test_a_layer_can_be_replaced(tmp_path):
    model = nets.load(tmp_path, nets.SMALL).to_torch()
    model.fc = torch.nn.Flatten()
    assert model(numbers(2, 3, 12, 10)).shape == (2, 6 * 6 * 5)


@pytest.mark.slow
def test_torch_export(tmp_path):
    model = nets.load(tmp_path, nets.SMALL).to_torch()
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(model, (numbers(2, 3, 12, 10),), dynamic_shapes={"inputs": ({0: batch},)})
    x = numbers(6, 3, 12, 10)
    torch.testing.assert_close(program.module()(x), model(x))
    assert "conv1.weight" in program.state_dict


@pytest.mark.slow
def test_torch_compile_traces_the_whole_net(tmp_path):
    """One graph without breaks; the "eager" backend, since a C++ compiler may be absent."""
    model = nets.load(tmp_path, nets.SMALL).to_torch()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x = numbers(2, 3, 12, 10)
    torch.testing.assert_close(compiled(x), model(x))


def test_several_outputs_are_a_dict_of_blob_names(tmp_path):
    text = nets.inputs(data=(2, 4)) + nets.inner_product("data", "b", 3) + nets.inner_product("data", "a", 2)
    net = nets.load(tmp_path, text)
    made = net.to_torch()(numbers(2, 4))
    assert list(made) == net.outputs == ["a", "b"]
    assert set(net.to_torch(outputs=["b"]).state_dict()) == {"b.weight", "b.bias"}


def test_wrong_number_of_inputs_names_them(tmp_path):
    net = nets.load(tmp_path, nets.inputs(a=(1, 2), b=(1, 2)) + nets.layer("Eltwise", "a b", "c"))
    with pytest.raises(caffeport.CaffeportError, match=r"expected 2 inputs \(a, b\), got 1"):
        net.to_torch()(numbers(1, 2))


def test_a_custom_layer_from_outside(tmp_path):
    from caffeport.operators.base import Shape

    class Halve(torch.nn.Module):
        def forward(self, x):
            return x / 2

    @caffeport.layer_type("Halve")
    class HalveLayer(caffeport.Operator):
        def module(self, bottoms: list[Shape]) -> torch.nn.Module:
            return Halve()

        def onnx(self, g, *x):
            return g.mul(x[0], 0.5)

    text = nets.inputs(data=(2, 4)) + nets.layer("Halve", "data", "y")
    with pytest.raises(caffeport.UnknownLayerError, match='unknown type "Halve"'):
        nets.load(tmp_path, text)
    net = nets.load(tmp_path, text, custom_layers=[HalveLayer])
    report = caffeport.check(net, {"data": numbers(2, 4)}, reference={"y": numbers(2, 4).numpy() / 2})
    assert report.ok and set(report.rows[0].errors) == {"torch", "onnx"}
