"""Layers of any name: torch's tools work, the state_dict's keys are Caffe's, and weights go back."""

from __future__ import annotations

import copy
import io
import pickle

import caffeport
import numpy as np
import pytest
import torch
from caffeport.graph.module_names import module_paths
from support import nets
from torch import nn

NAMES = [
    *["inception_3a/1x1", "a.b.c", "1", "x@r", "a b", "été", ".a", "a..b", "..", 'a"b', "a\\b", "a\nb"],
    *["training", "forward", "type", "float", "_modules", "_parameters", "loss", "blobs", "layer_paths", "a.forward"],
    *["module.x", "_orig_mod.x", "class", "import.x", "None", "self", "graph", "code", "meta", "save", "0.weight"],
]  # fmt: skip


def net_of(folder, *names):
    """data, an InnerProduct of each name one after the other, a PReLU called r in place, an InnerProduct."""
    text = nets.inputs(data=(2, 4))
    for number, name in enumerate(names):
        bottom = f"y{number - 1}" if number else "data"
        escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        text += nets.inner_product(bottom, f"y{number}", 4).replace(f'name: "y{number}"', f'name: "{escaped}"')
    last = f"y{len(names) - 1}"
    return nets.load(folder, text + nets.layer("PReLU", last, last, name="r") + nets.inner_product(last, "end", 3))


def expected(net, x):
    """By NumPy."""
    x = x.numpy()
    for layer in net.layers[1:]:
        weight, *bias = layer.blobs
        x = np.where(x > 0, x, x * weight) if layer.type == "PReLU" else x @ weight.T + bias[0]
    return torch.tensor(x)


def bits(net):
    return [param.data.tobytes() for param in net.params]


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_weights(name, tmp_path):
    net = net_of(tmp_path, name)
    model = net.to_torch()
    state = model.state_dict()
    assert list(state) == [f"{name}.weight", f"{name}.bias", "r.weight", "end.weight", "end.bias"]
    assert model.get_submodule(model.layer_paths[name]).weight is model.state_dict(keep_vars=True)[f"{name}.weight"]
    nothing = {key: torch.zeros_like(value) for key, value in state.items()}
    other = nn.ModuleDict({"net": net.to_torch()})
    other.load_state_dict({f"net.{key}": value for key, value in nothing.items()})
    assert not any(value.any() for value in other["net"].state_dict().values())
    other.load_state_dict({f"net.{key}": value for key, value in state.items()})
    assert bits(net.with_weights(other["net"])) == bits(net)


WRAPPERS = {
    "none": lambda model: model,
    "parallel": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "both": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("names", [["x"], ["module.x"], ["_orig_mod.x"], ["x", "module.x"], ["module.module.x", "x"]])
def test_what_wrappers_put_before_keys_may_be_a_name(wrap, names, tmp_path):
    net = net_of(tmp_path, *names)
    zeros = net.with_weights({layer.name: [0 * blob for blob in layer.blobs] for layer in net.layers[1:]})
    wrapped = WRAPPERS[wrap](net.to_torch())
    assert bits(zeros.with_weights(wrapped)) == bits(zeros.with_weights(wrapped.state_dict())) == bits(net)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_torchs_tools(name, tmp_path):
    net = net_of(tmp_path, name)
    model, x = net.to_torch(), torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, x), stream)
    stream.seek(0)
    torch.compiler.reset()
    for made in (
        model,
        torch.fx.symbolic_trace(model),
        torch.export.export(model, (x,)).module(),
        torch.jit.load(stream),
        torch.compile(model, backend="eager", fullgraph=True),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
    ):
        torch.testing.assert_close(made(x), expected(net, x))
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    torch.testing.assert_close(quantized(x), expected(net, x), rtol=0.1, atol=0.1)  # 8 bits


def test_a_name_that_starts_anothers(tmp_path):
    """Neither is inside the other: replacing one leaves the other."""
    net = net_of(tmp_path, "x.y", "x", "x_y")
    model, x = net.to_torch(), torch.ones(2, 4)
    assert {key.rpartition(".")[0] for key in model.state_dict()} == {"x.y", "x", "x_y", "r", "end"}
    torch.testing.assert_close(model(x), expected(net, x))
    model.x = nn.Identity()
    assert model(x).shape == (2, 3)
    assert {key.rpartition(".")[0] for key in model.state_dict()} == {"x.y", "x_y", "r", "end"}


def test_layers_without_weights_leave_names_to_those_with(tmp_path):
    """Three called r, then a learned layer "r" and one "r_2"."""
    text = nets.inputs(data=(2, 4))
    for number in range(3):
        text += nets.layer("ReLU", "data", f"y{number}", name="r")
    text += nets.inner_product("y0", "z", 3).replace('"z" type', '"r" type')
    text += nets.inner_product("y1", "w", 3).replace('"w" type', '"r_2" type')
    model = nets.load(tmp_path, text).to_torch()
    assert set(model.state_dict()) == {"r.weight", "r.bias", "r_2.weight", "r_2.bias"}
    assert len(model.layer_paths) == 5 and all(type(module) is nn.Linear for module in (model.r, model.r_2))


@pytest.mark.slow
def test_many_names_that_want_the_same_place():
    """In short paths of their own, none of them another layer's name; deep nesting is flattened."""
    names = [f"{'.' * dots}forward" for dots in range(1, 2000)] + [
        "forward",
        "forward_",
        "forward__2",
        "a." * 100 + "b",
    ]
    paths = module_paths(names, {"forward"})
    assert list(paths) == names and len(set(paths.values())) == len(names)
    assert max(map(len, paths.values())) < 220 and not any("." in path for path in paths.values())
    assert paths["forward_"] == "forward_" and paths["forward__2"] == "forward__2"


def test_layers_of_one_name_and_an_unusable_one(tmp_path):
    """Two called "training" that share their blobs, beside a layer that is called as the second's keys would start."""
    share = nets.inner_product("data", "y", 4).replace('"y" type', '"training" type')
    share = share.replace("inner_product_param", 'param { name: "w" } param { name: "b" } inner_product_param')
    text = nets.inputs(data=(2, 4)) + share + share.replace('"y"', '"z"').replace('"data"', '"y"')
    net = nets.load(tmp_path, text + nets.inner_product("z", "training_2", 4))
    model, x = net.to_torch(), torch.ones(2, 4)
    names = ["training", "training_3", "training_2"]
    assert list(model.state_dict()) == [f"{name}.{blob}" for name in names for blob in ("weight", "bias")]
    modules = [model.get_submodule(model.layer_paths[name]) for name in names]
    assert modules[0].weight is modules[1].weight is not modules[2].weight
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), expected(net, x))
    assert bits(net.with_weights(model)) == bits(net) and caffeport.check(net).ok


def test_a_blob_called_as_a_version_of_another(tmp_path):
    """x@r: what the in-place layer r makes of x has that key unless a blob is called so."""
    text = nets.inputs(data=(2, 4)) + nets.inner_product("data", "x", 4) + nets.layer("ReLU", "x", "x", name="r")
    text += (
        nets.layer("ReLU", "x", "x", name="s") + nets.inner_product("x", "x@r", 4) + nets.inner_product("x", "x@x", 4)
    )
    net = nets.load(tmp_path, text)
    keys = [value.key for value in net.values]
    assert len(set(keys)) == len(keys) == 6 and {"x", "x@r", "x@x"} <= set(keys)
    blobs = net.to_torch().blobs(torch.ones(2, 4))
    weight, bias = net.layer("x@r").blobs
    np.testing.assert_allclose(blobs["x@r"].detach(), blobs["x"].detach().numpy() @ weight.T + bias, 1e-5, 1e-6)
    assert caffeport.check(net).ok
