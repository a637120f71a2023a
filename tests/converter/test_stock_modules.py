"""The modules are torch's own where Caffe agrees with torch, so that torch's tools know them: three real nets."""

from __future__ import annotations

import copy
import functools
import pickle

import numpy as np
import pytest
import torch
from support import nets, published_models
from torch import nn

TYPES = (nn.Conv2d, nn.Linear, nn.PReLU)
NETS = {
    "digits": (published_models.digits_net, (5, 1, 5)),
    "mobilefacenet": (published_models.mobilefacenet_net, (49, 1, 33)),
    "open_nsfw": (published_models.open_nsfw_net, (53, 1, 0)),
}
ON_EVERY_NET = pytest.mark.parametrize("name", NETS)


@functools.cache
def loaded(name):
    """(net, module, an input of two images, what the module makes of it)"""
    net = NETS[name][0]()
    shape = (2, *net.input_values[0].shape[1:])
    x = torch.tensor(np.random.default_rng(0).standard_normal(shape, np.float32))
    model = net.to_torch()
    with torch.no_grad():
        return net, model, x, model(x)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.slow
@ON_EVERY_NET
def test_layers_are_torchs_modules(name):
    """As many as the text has Convolution, InnerProduct and PReLU layers."""
    net, model, *_ = loaded(name)
    kinds = [layer.type for layer in net.layers]
    expected = tuple(kinds.count(kind) for kind in ("Convolution", "InnerProduct", "PReLU"))
    assert tuple(sum(isinstance(m, kind) for m in model.modules()) for kind in TYPES) == expected == NETS[name][1]
    assert all(type(m) in TYPES for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))


@ON_EVERY_NET
def test_weights_go_back_bit_for_bit(name):
    net, model, *_ = loaded(name)
    again = net.with_weights(copy.deepcopy(model))
    for mine, same in zip(net.params, again.params, strict=True):
        assert mine.data.tobytes() == same.data.tobytes()


@ON_EVERY_NET
def test_fx_trace_equals_the_module(name):
    net, model, x, y = loaded(name)
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(x), y)
    nodes = list(traced.graph.nodes)
    assert [node.target for node in nodes if node.op == "placeholder"] == net.inputs
    assert [node.target for node in nodes if node.op == "call_module"] == [layer.name for layer in net.layers[1:]]
    assert not [node for node in nodes if node.op == "get_attr"]  # no weight or statistic is frozen into the graph
    assert set(traced.state_dict()) == set(model.state_dict())


@ON_EVERY_NET
def test_printed_tree(name):
    net, model, *_ = loaded(name)
    lines = str(model).splitlines()
    assert len(lines) <= len(net.layers) + 3 and max(map(len, lines)) < 160
    assert lines[1].startswith(f"  {net.inputs[0]} ") and f"-> {net.outputs[0]} " in lines[1]
    assert all(f"  ({layer.name}): " in str(model) for layer in net.layers[1:])


@pytest.mark.slow
@ON_EVERY_NET
@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_copies(name, again):
    _, model, x, y = loaded(name)
    other = again(model)
    assert torch.equal(other(x), y)
    next(other.parameters()).zero_()
    assert torch.equal(model(x), y)


@pytest.mark.slow
@ON_EVERY_NET
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantize_dynamic(name):
    """Weights and inputs of every Linear in 8 bits: steps of 1/127 of the largest, sums of hundreds of them."""
    _, model, x, y = loaded(name)
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    kinds = [type(m) for m in quantized.modules()]
    assert kinds.count(torch.ao.nn.quantized.dynamic.Linear) == NETS[name][1][1] and nn.Linear not in kinds
    assert (quantized(x) - y).abs().max() <= 0.05 * y.abs().max()
    assert nn.Linear in [type(m) for m in model.modules()]


@pytest.mark.slow
@ON_EVERY_NET
def test_export(name):
    _, model, x, y = loaded(name)
    program = torch.export.export(model, (x,), dynamic_shapes={"inputs": ({0: torch.export.Dim("N", min=1, max=8)},)})
    torch.testing.assert_close(program.module()(x), y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(program.module()(x[:1]), y[:1], rtol=1e-4, atol=1e-5)
    assert set(program.state_dict) == set(model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"), [(name, "aot_eager") for name in NETS] + [("digits", "eager"), ("digits", "inductor")]
)
def test_compile(name, backend):
    """One graph without breaks. What inductor makes of it takes minutes of a C++ compiler for the larger nets."""
    _, model, x, y = loaded(name)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(model, backend=backend, fullgraph=True)(x), y, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@ON_EVERY_NET
def test_jit_trace(name, tmp_path):
    _, model, x, y = loaded(name)
    torch.jit.save(torch.jit.trace(model, x[:1]), tmp_path / "model.pt")
    torch.testing.assert_close(torch.jit.load(tmp_path / "model.pt")(x), y, rtol=1e-4, atol=1e-5)


# A few roundings to 11 and 8 bits add up over some fifty layers.
HALVES = {torch.float16: 0.02, torch.bfloat16: 0.15}


@pytest.mark.slow
@ON_EVERY_NET
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision(name, dtype):
    _, model, x, y = loaded(name)
    made = copy.deepcopy(model).to(dtype)(x.to(dtype))
    assert made.dtype == dtype
    assert (made.float() - y).abs().max() <= HALVES[dtype] * y.abs().max()


@ON_EVERY_NET
def test_a_wrong_size_names_the_layer_and_both_shapes(name):
    """The first InnerProduct that meets more pixels than its weights were made for."""
    net, model, x, _ = loaded(name)
    layer = next(layer for layer in net.layers if layer.type == "InnerProduct")
    bottom, declared = layer.inputs[0], "x".join(map(str, layer.inputs[0].shape[1:]))
    wider = torch.zeros(2, x.shape[1], x.shape[2] + 32, x.shape[3] + 32)
    message = rf'layer "{layer.name}" \(InnerProduct\): "{bottom.name}" has the shape 2x[0-9x]+, expected Nx{declared} '
    with pytest.raises(published_models.caffeport.CaffeportError, match=message + r'\(input: "data" has the shape 2x'):
        model(wider)


@pytest.mark.slow
@ON_EVERY_NET
def test_fx_quantisation_finds_the_layers(name):
    """A tool that traces by rules of its own: convolutions and Linears get their observers."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_fx

    _, model, x, y = loaded(name)
    with pytest.warns(DeprecationWarning):
        prepared = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping(), (x,))
    torch.testing.assert_close(prepared(x), y, rtol=1e-4, atol=1e-5)
    assert sum("Observer" in type(m).__name__ for m in prepared.modules()) > NETS[name][1][0]


KINDS = {
    "ReLU": ("", nn.ReLU),
    "ReLU-leaky": ("relu_param { negative_slope: 0.1 }", nn.LeakyReLU),
    "PReLU": ("", nn.PReLU),
    "PReLU-shared": ("prelu_param { channel_shared: true }", nn.PReLU),
    "ELU": ("elu_param { alpha: 0.7 }", nn.ELU),
    "Sigmoid": ("", nn.Sigmoid),
    "TanH": ("", nn.Tanh),
    "BNLL": ("", nn.Softplus),
    "Dropout": ("dropout_param { dropout_ratio: 0.3 }", nn.Dropout),
    "Softmax": ("", nn.Softmax),
    "Flatten": ("", nn.Flatten),
    "LRN": ("", nn.LocalResponseNorm),
    "Pooling-max": ("pooling_param { kernel_size: 3 stride: 2 }", nn.MaxPool2d),
    "Pooling-ave": ("pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", nn.AvgPool2d),
    "Pooling-global": ("pooling_param { pool: AVE global_pooling: true }", nn.AdaptiveAvgPool2d),
    "Convolution": ("convolution_param { num_output: 6 kernel_size: 3 group: 3 dilation: 2 }", nn.Conv2d),
    "Convolution-no-bias": ("convolution_param { num_output: 4 kernel_size: 1 bias_term: false }", nn.Conv2d),
    "DepthwiseConvolution": ("convolution_param { num_output: 3 kernel_size: 3 }", nn.Conv2d),
    "Deconvolution": ("convolution_param { num_output: 6 kernel_size: 4 stride: 2 group: 3 }", nn.ConvTranspose2d),
    "InnerProduct": ("inner_product_param { num_output: 4 }", nn.Linear),
    "InnerProduct-last": ("inner_product_param { num_output: 4 axis: -1 bias_term: false }", nn.Linear),
    "Embed": ("embed_param { num_output: 4 input_dim: 9 }", nn.Embedding),
}
"""Values are the golden cases' and the case table's to prove; here, what the modules are."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_torchs_module(kind, tmp_path):
    text, expected = KINDS[kind]
    net = nets.load(tmp_path, nets.inputs(data=(2, 3, 9, 8)) + nets.layer(kind.split("-")[0], "data", "y", text))
    module = net.to_torch().get_submodule("y")
    assert isinstance(module, expected)
    assert type(module) is expected or expected in (nn.PReLU, nn.Embedding)  # whose subclasses say why
    assert [tuple(p.shape) for p in module.parameters()] == [spec.shape for spec in net.layer("y").specs]


HUGE = {
    "LRN": "lrn_param { local_size: 1000001 }",
    "Pooling": "pooling_param { kernel_size: 1000000 stride: 1000000 }",
    "Pooling-stride": "pooling_param { pool: AVE kernel_size: 3 stride: 1000000 }",
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_window_far_beyond_the_image_is_not_torchs(kind, tmp_path):
    """Torch's own would pad for it; what Caffe computes takes no more than the image."""
    net = nets.load(tmp_path, nets.inputs(data=(2, 3, 9, 8)) + nets.layer(kind.split("-")[0], "data", "y", HUGE[kind]))
    model, x = net.to_torch(), torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    assert not type(model.y).__module__.startswith("torch.")
    every = 1 + (x * x).sum(1, keepdim=True) / 1000001
    expected = {
        "LRN": x * every**-0.75,
        "Pooling": x.amax((2, 3), keepdim=True),
        "Pooling-stride": x[:, :, :3, :3].mean((2, 3), keepdim=True),
    }[kind]
    made = model(x)
    torch.testing.assert_close(made[:, :, :1, :1] if kind == "Pooling-stride" else made, expected)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), made, equal_nan=True)


def test_convolutions_over_one_and_three_axes(tmp_path):
    text = nets.inputs(a=(2, 3, 9), b=(2, 3, 4, 5, 6))
    text += nets.conv("a", "y", 4) + nets.conv("b", "z", 4)
    model = nets.load(tmp_path, text).to_torch()
    assert type(model.y) is nn.Conv1d and type(model.z) is nn.Conv3d


def test_a_maximum_that_several_share_passes_its_gradient_to_the_first(tmp_path):
    """As Caffe's MAX pooling, which keeps one index a window; after a ReLU zeros are often the largest."""
    text = nets.inputs(data=(1, 1, 2, 3)) + nets.layer("Pooling", "data", "y", "pooling_param { global_pooling: true }")
    model = nets.load(tmp_path, text).to_torch()
    with torch.enable_grad():
        x = torch.tensor([[[[1.0, 3, 3], [3, 2, 0]]]], requires_grad=True)
        model(x).sum().backward()
    assert x.grad.flatten().tolist() == [0, 1, 0, 0, 0, 0]


def test_statistics_beyond_half_precision(tmp_path):
    """Caffe's blobs are sums: 1000 times a variance of 100 is no float16, and the layer is right all the same."""
    text = nets.inputs(data=(4, 3, 5, 5)) + nets.layer("BatchNorm", "data", "y")
    net = nets.load(tmp_path, text)
    blobs = [np.float32([1000, -2000, 0]), np.float32([1e5, 2e5, 3e5]), np.float32([1000])]
    model = net.with_weights({"y": blobs}).to_torch()
    x = torch.tensor(10 * np.random.default_rng(0).standard_normal((4, 3, 5, 5), np.float32))
    mean, variance = (torch.tensor(blob / 1000).reshape(3, 1, 1) for blob in blobs[:2])
    expected = (x - mean) / (variance + 1e-5).sqrt()
    for dtype in HALVES:
        halved = copy.deepcopy(model).to(dtype)
        torch.testing.assert_close(halved(x.to(dtype)).float(), expected, rtol=0.02, atol=0.02)
        back = net.with_weights(halved).layer("y").blobs
        assert all((mine == given).all() for mine, given in zip(back, blobs, strict=True))


KINKS = {
    "ReLU": ("", [0, 0, 1, 1, 1]),
    "ReLU-leaky": ("relu_param { negative_slope: 0.5 }", [0.5, 0.5, 1, 1, 1]),
    "PReLU": ("prelu_param { filler { value: 0.25 } }", [0.25, 0.25, 1, 1, 1]),
    "ReLU6": ("", [0, 0, 1, 0, 0]),
    "Clip": ("clip_param { min: 0 max: 6 }", [0, 1, 1, 1, 0]),
    "AbsVal": ("", [-1, 0, 1, 1, 1]),
    "ELU": ("elu_param { alpha: 1 }", [np.exp(-2), 1, 1, 1, 1]),
}


@pytest.mark.parametrize("kind", KINKS)
def test_gradients_where_a_function_bends(kind, tmp_path):
    """At -2, 0, 3, 6, 7, as the backward passes of Caffe's layers say (> or >=); zeros are frequent behind a ReLU."""
    text, expected = KINKS[kind]
    net = nets.load(tmp_path, nets.inputs(data=(1, 1, 1, 5)) + nets.layer(kind.split("-")[0], "data", "y", text))
    with torch.enable_grad():
        x = torch.tensor([[[[-2.0, 0, 3, 6, 7]]]], requires_grad=True)
        net.to_torch()(x).sum().backward()
    assert x.grad.flatten().tolist() == pytest.approx(expected)
