"""Layers in place: where Caffe refuses, or computes something else, a warning says so; the facts are real Caffe's."""

from __future__ import annotations

import warnings

import caffeport
import numpy as np
import pytest
import torch
from support import nets

X = {"x": (2, 3, 4, 4)}


def notes(tmp_path, text: str, phase: str = "test") -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", caffeport.CaffeportWarning)
        nets.load(tmp_path, text, phase=phase)
    return [str(note.message) for note in seen if note.category is caffeport.CaffeportWarning]


def in_place(kind: str, extra: str = "") -> str:
    return nets.inputs(**X) + nets.layer(kind, "x", "x", extra, name="one")


@pytest.mark.parametrize("kind", ["AbsVal", "Flatten", "Split", "Flip", "Reshape"])
def test_what_caffe_refuses(tmp_path, kind):
    (note,) = notes(tmp_path, in_place(kind, "reshape_param { shape { dim: 2 dim: -1 } }" if kind == "Reshape" else ""))
    assert note.startswith(f'layer "one" ({kind}): works in place on "x", which Caffe refuses; computed here as into')


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("LRN", ""),
        ("Pooling", "pooling_param { kernel_size: 3 pad: 1 stride: 1 }"),
        ("Convolution", "convolution_param { num_output: 3 kernel_size: 1 }"),
    ],
)
def test_what_caffe_overwrites_while_it_reads(tmp_path, kind, extra):
    (note,) = notes(tmp_path, in_place(kind, extra))
    assert "reads what it has overwritten, and its numbers are others" in note


def test_a_sum_in_place(tmp_path):
    text = nets.inputs(x=(2, 3), y=(2, 3)) + nets.layer("Eltwise", "x y", "x", "%s", name="one")
    (note,) = notes(tmp_path, text % "")
    assert "its numbers are others" in note
    product = text % "eltwise_param { operation: PROD }"
    assert not notes(tmp_path, product)
    (note,) = notes(tmp_path, product, "train")
    assert "its gradient is another" in note


@pytest.mark.parametrize("kind", ["BNLL", "Log", "Power", "MVN", "Clip", "Normalize"])
def test_gradients_matter_to_training_alone(tmp_path, kind):
    """Normalize is SSD's: real Caffe's gradient of it in place is 0 where the derivative is -0.00111126."""
    text = in_place(kind, {"Clip": "clip_param { min: 0 max: 1 }", "Normalize": "norm_param { }"}.get(kind, ""))
    assert not notes(tmp_path, text)
    (note,) = notes(tmp_path, text, "train")
    assert "its gradient is another" in note


def test_another_shape_in_place(tmp_path):
    (note,) = notes(tmp_path, in_place("Tile", "tile_param { tiles: 2 }"))
    assert 'in place on "x", where Caffe would make 2x6x4x4 of the 2x3x4x4 that the layer reads' in note


def test_a_crop_in_place(tmp_path):
    """Whose gradient is another, too; in the test phase real Caffe's blob had the old shape's numbers."""
    text = nets.inputs(**X, y=(2, 3, 4, 2)) + nets.layer("Crop", "x y", "x", name="one")
    (note,) = notes(tmp_path, text)
    assert "where Caffe would make 2x3x4x2 of the 2x3x4x4 that the layer reads" in note


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ReLU", "PReLU", "Sigmoid", "TanH", "ELU", "Exp", "Softmax", "Scale", "BatchNorm"])
@pytest.mark.parametrize("phase", ["test", "train"])
def test_what_caffe_does_in_place_itself(tmp_path, kind, phase):
    assert not notes(tmp_path, in_place(kind), phase)


def test_clip_with_min_above_max_gives_min(tmp_path):
    """As Caffe's max(min, min(x, max)) does; torch's clamp and ONNX's Clip would give max."""
    text = nets.inputs(x=(5,)) + nets.layer("Clip", "x", "y", "clip_param { min: 2 max: -1 }")
    x = np.array([-3, -1, 0, 2, 5], np.float32)
    net = nets.load(tmp_path, text)
    assert net.to_torch()(torch.tensor(x)).tolist() == [2.0] * 5
    assert caffeport.check(net, x).ok


def test_the_gradient_of_mvn_is_caffes(tmp_path):
    """Backward_cpu: (g - mean g - y mean(y g)) / (sqrt(var) + eps), with no derivative of eps's place."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 2, 3, 2, 4))
    text = nets.inputs(x=(2, 3, 2, 4)) + nets.layer("MVN", "x", "y", "mvn_param { eps: 0.5 }")
    model = nets.load(tmp_path, text).to_torch().double()
    bottom = torch.tensor(x, requires_grad=True)
    (model(bottom) * torch.tensor(g)).sum().backward()
    centred = x - x.mean((2, 3), keepdims=True)
    deviation = np.sqrt((centred**2).mean((2, 3), keepdims=True)) + 0.5
    y = centred / deviation
    expected = (g - g.mean((2, 3), keepdims=True) - y * (y * g).mean((2, 3), keepdims=True)) / deviation
    np.testing.assert_allclose(bottom.grad.numpy(), expected, rtol=1e-12, atol=1e-14)


def test_mvn_of_a_variance_of_zero_has_a_gradient(tmp_path):
    text = nets.inputs(x=(2, 3)) + nets.layer("MVN", "x", "y")
    bottom = torch.ones(2, 3, requires_grad=True)
    nets.load(tmp_path, text).to_torch()(bottom).sum().backward()
    assert bottom.grad.tolist() == [[0.0] * 3] * 2


def test_the_derivative_of_mvn_on_request(tmp_path):
    text = nets.inputs(x=(2, 3, 2, 4)) + nets.layer("MVN", "x", "y", "mvn_param { eps: 0.5 }")
    model = nets.load(tmp_path, text, exact_gradients=True).to_torch().double()
    x = torch.randn(2, 3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(model, x)


@pytest.mark.parametrize(
    ("behind", "told"),
    [("Sigmoid", True), ("Scale", True), ("Dropout Sigmoid", True), ("ReLU", False), ("Dropout", False)],
)
def test_a_relu_in_place_that_another_layer_overwrites(tmp_path, behind, told):
    """ReLULayer::Backward_cpu looks at its bottom, which then is what the last layer in place has written. Of ReLU and
    Sigmoid, real Caffe gives 0.152355 where the derivative is 0."""
    kinds = behind.split()
    text = in_place("ReLU") + "".join(nets.layer(kind, "x", "x", name=f"behind{i}") for i, kind in enumerate(kinds))
    words = f'layer "one" (ReLU): works in place on "x", over which layer "behind{len(kinds) - 1}" ({kinds[-1]}) writes'
    assert [words in note for note in notes(tmp_path, text, "train")].count(True) == told
    assert not notes(tmp_path, text)


def test_a_relu_into_a_blob_of_its_own_keeps_its_bottom(tmp_path):
    text = nets.inputs(**X) + nets.layer("ReLU", "x", "y", name="one") + nets.layer("Sigmoid", "y", "y", name="two")
    assert not notes(tmp_path, text, "train")


@pytest.mark.parametrize(("kind", "slope"), [("ReLU", "negative_slope"), ("ELU", "alpha")])
def test_a_relu_in_place_whose_slope_is_negative(tmp_path, kind, slope):
    """Real Caffe's gradient of 1, -2, 3, -4 with a slope of -2 is 1 everywhere, and the derivative of the second -2."""
    text = in_place(kind, f"{kind.lower()}_param {{ {slope}: -2 }}")
    (note,) = notes(tmp_path, text, "train")
    assert f"whose signs a negative {slope} turns: Caffe's backward pass reads those" in note
    assert not notes(tmp_path, text)


VIEW = nets.inputs(x=(1, 4)) + nets.layer("%s", "x", "y", "reshape_param { shape { dim: 0 dim: -1 } }", name="view")
DOUBLED = nets.layer("Power", "y", "y", "power_param { scale: 2 }", name="one")


@pytest.mark.parametrize("view", ["Flatten", "Concat", "Slice", "Reshape", "Permute"])
def test_a_layer_in_place_behind_a_view(tmp_path, view):
    """Real Caffe gives 2, -4, 6, -8 for the identity of x = 1, -2, 3, -4 there: Flatten's top is the memory of x, as
    that of SSD's Permute into the same order is."""
    text = VIEW % view + DOUBLED + nets.layer("Power", "x", "z", name="two")
    (note,) = notes(tmp_path, text)
    assert note == (
        'layer "one" (Power): works in place on "y", whose memory in Caffe is that of "x": layer "two" (Power) reads '
        "there what it has overwritten; computed here as into a blob of its own"
    )
    with pytest.warns(caffeport.CaffeportWarning):
        net = nets.load(tmp_path, text)
    assert net.to_torch()(torch.tensor([[1.0, -2, 3, -4]]))["z"].tolist() == [[1, -2, 3, -4]]


def test_views_that_nobody_else_reads_or_that_are_read_before(tmp_path):
    behind = nets.layer("Power", "y", "z", name="two")
    assert not notes(tmp_path, VIEW % "Flatten" + DOUBLED + behind)
    before = nets.inputs(x=(1, 4)) + nets.layer("Power", "x", "z", name="two") + nets.layer("Flatten", "x", "y")
    assert not notes(tmp_path, before + DOUBLED)
    copied = nets.inputs(x=(1, 4), w=(1, 4)) + nets.layer("Concat", "x w", "y", name="copy")
    assert not notes(tmp_path, copied + DOUBLED + nets.layer("Power", "x", "z", name="two"))
    dropout = VIEW % "Flatten" + nets.layer("Dropout", "y", "y") + nets.layer("Power", "x", "z", name="two")
    assert not notes(tmp_path, dropout)


def test_what_a_split_gives_a_copy_of_is_not_overwritten(tmp_path):
    """Caffe gives a blob with two readers a Split, behind which a layer in place has a top of its own."""
    text = VIEW % "Flatten" + nets.layer("Power", "y", "w") + DOUBLED + nets.layer("Power", "x", "z", name="two")
    assert not notes(tmp_path, text)


def test_mvn_of_a_variance_that_overflows(tmp_path):
    """Real Caffe divides by infinity: 0, and a gradient of 0."""
    text = nets.inputs(x=(1, 1, 1, 4)) + nets.layer("MVN", "x", "y", name="one")
    x = torch.tensor([[[[1e25, -2e25, 3e25, -4e25]]]], requires_grad=True)
    y = nets.load(tmp_path, text).to_torch()(x)
    (y * torch.tensor([1.0, 2, 3, 4])).sum().backward()
    assert y.tolist() == x.grad.tolist() == [[[[0.0] * 4]]]


def test_lrn_with_a_large_beta(tmp_path):
    """Real Caffe multiplies by a power that is 0, where torch's LRN divides by one that overflows."""
    text = nets.inputs(x=(1, 3, 1, 2)) + nets.layer(
        "LRN", "x", "y", "lrn_param { beta: 100 local_size: 3 }", name="one"
    )
    x = torch.tensor([[[[1, 0.1]], [[2, 0.2]], [[3, 0.1]]]], requires_grad=True)
    y = nets.load(tmp_path, text).to_torch()(x)
    y.sum().backward()
    expected = [[0, 1.9148828e-02], [0, 2.7606646e-02], [0, 1.9148828e-02]]
    np.testing.assert_allclose(y.detach().numpy()[0, :, 0], expected, rtol=1e-5, atol=1e-40)
    expected = [[0, -1.1451338e-01], [0, -7.2510231e-01], [0, -1.1451341e-01]]
    np.testing.assert_allclose(x.grad.numpy()[0, :, 0], expected, rtol=1e-5, atol=1e-40)


def test_im2col_over_four_axes(tmp_path):
    text = nets.inputs(x=(1, 2, 3, 3, 3, 3)) + nets.layer("Im2col", "x", "y", "convolution_param { kernel_size: 2 }")
    with pytest.raises(caffeport.CaffeportError, match="torch has no convolution over 4 spatial axes, only up to 3"):
        nets.load(tmp_path, text).to_torch()


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
def test_no_gradient_reaches_what_cuts_the_sequences(tmp_path, kind):
    """RecurrentLayer::AllowForceBackward leaves bottom 1 out; real Caffe's gradient of it is 0."""
    text = nets.inputs(x=(3, 2, 4), cont=(3, 2))
    text += nets.layer(kind, "x cont", "y", 'recurrent_param { num_output: 2 weight_filler { type: "gaussian" } }')
    x, cont = torch.ones(3, 2, 4, requires_grad=True), torch.ones(3, 2, requires_grad=True)
    nets.load(tmp_path, text).to_torch()(x, cont).sum().backward()
    assert cont.grad is None and x.grad.abs().sum() > 0
