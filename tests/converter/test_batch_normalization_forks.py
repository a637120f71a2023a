"""``BN`` in its three meanings, against their formulas."""

from __future__ import annotations

import caffeport
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from caffeport.formats import caffemodel
from support import nets
from support.backends import ATOL, RTOL, assert_all, assert_gradients, numbers, runs

CHANNELS = 4


def bn_blobs(count, shape=(1, CHANNELS, 1, 1)):
    random = np.random.default_rng(1)
    blobs = [random.standard_normal(CHANNELS) for _ in range(3)] + [random.random(CHANNELS) + 0.2]
    return [blob.astype(np.float32).reshape(shape) for blob in blobs[:count]]


def bn_net(tmp_path, blobs, text="", shape=(2, CHANNELS, 3, 5), tops="y", before="", **options):
    """Make a BN net whose stored blobs are ``blobs`` (None: no weights)."""
    weights = None
    if blobs is not None:
        weights = tmp_path / "n.caffemodel"
        caffemodel.write(weights, "n", [("y", "BN", ["x"], ["y"], blobs)])
    text = nets.inputs(x=shape) + nets.layer("BN", "x", tops, f"bn_param {{ {text} }}" if text else "")
    return nets.load(tmp_path, text, weights, **options)


def spread(blob):
    return np.asarray(blob, np.float64).reshape(1, -1, 1, 1)


def by_batch(x, eps):
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + eps)


def bn_forms():
    weight, bias, mean, last = (spread(blob) for blob in bn_blobs(4))
    yield "segnet-inference", 2, "bn_mode: INFERENCE", {}, lambda x: x * weight + bias
    yield "segnet-learn", 2, "", {}, lambda x: by_batch(x, 1e-9) * weight + bias
    variance = {"bn": "variance"}
    for title, text, eps in (
        ("pspnet", "slope_filler { value: 1 } frozen: true momentum: 0.95", 1e-5),
        ("pspnet-eps", "eps: 0.5", 0.5),
        ("pspnet-first", "scale_filler { value: 1 } moving_average: true decay: 0.05", 1e-10),
        ("pspnet-first-eps", "var_eps: 0.5", 0.5),
        ("pspnet-no-fields", "", 1e-5),
    ):
        yield title, 4, text, variance, lambda x, e=eps: (x - mean) / np.sqrt(last + e) * weight + bias
    yield "pspnet-batch", 4, "moving_average: false", variance, lambda x: by_batch(x, 1e-10) * weight + bias
    for text in ("", "eps: 0.5 momentum: 0.9"):
        yield f"caffe-windows{text}", 4, text, {"bn": "inverse_std"}, lambda x: (x - mean) * last * weight + bias


BN_FORMS = {title: rest for title, *rest in bn_forms()}


@pytest.mark.parametrize("shape", [(1, CHANNELS, 1, 1), (1, CHANNELS), (CHANNELS,)], ids=["4d", "2d", "1d"])
@pytest.mark.parametrize(("count", "text", "options", "formula"), BN_FORMS.values(), ids=BN_FORMS)
def test_bn(tmp_path, count, text, options, formula, shape):
    net = bn_net(tmp_path, bn_blobs(count, shape), text, **options)
    x = numbers(3, CHANNELS, 4, 6)
    assert_all(net, tmp_path, formula(x.astype(np.float64)), x)
    assert_gradients(net, numbers(2, CHANNELS, 2, 2))
    # Back to Caffe with the bits and shapes of the file, from a module too.
    net.with_weights(net.to_torch()).save(tmp_path / "b.caffemodel", prototxt=tmp_path / "b.prototxt")
    again = caffeport.load(tmp_path / "b.prototxt", tmp_path / "b.caffemodel", **options)
    assert [blob.shape for blob in again.layer("y").blobs] == [shape] * count
    assert [blob.tobytes() for blob in again.layer("y").blobs] == [blob.tobytes() for blob in bn_blobs(count)]


def test_bn_folds_into_the_convolution(tmp_path):
    text = nets.inputs(x=(1, 3, 6, 5)) + nets.conv("x", "c", CHANNELS) + nets.layer("BN", "c", "c", name="y")
    net = nets.load(tmp_path, text, bn="variance").with_weights({"y": bn_blobs(4)})
    net.to_onnx(tmp_path / "n.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "n.onnx").graph.node] == ["Conv"]
    x = numbers(2, 3, 6, 5)
    torch_made, *others = runs(net, tmp_path, x)
    for found in others:
        np.testing.assert_allclose(found, torch_made, RTOL, ATOL)


@pytest.mark.parametrize(
    ("bn", "text", "keep"),
    [("variance", "momentum: 0.8", 0.8), ("variance", "", 0.9), ("variance", "decay: 0.3", 0.7),
     ("inverse_std", "", 0.9)],
)  # fmt: skip
def test_bn_in_training(tmp_path, bn, text, keep):
    blobs = bn_blobs(4)
    net = bn_net(tmp_path, blobs, text, bn=bn, phase="train")
    model, x = net.to_torch(), numbers(2, CHANNELS, 3, 5)
    eps = 1e-10 if "decay" in text else 1e-5
    y = by_batch(x.astype(np.float64), eps) * spread(blobs[0]) + spread(blobs[1])
    np.testing.assert_allclose(model(torch.tensor(x)).detach().numpy(), y, RTOL, ATOL)
    variance = x.var((0, 2, 3), dtype=np.float64)
    new = [x.mean((0, 2, 3)), variance if bn == "variance" else 1 / np.sqrt(variance + eps)]
    for blob, old, seen in zip(net.with_weights(model).layer("y").blobs[2:], blobs[2:], new, strict=True):
        np.testing.assert_allclose(blob.ravel(), keep * old.ravel() + (1 - keep) * seen, RTOL, ATOL)
    assert sorted(name for name, _ in model.named_parameters()) == ["y.bias", "y.weight"]


def test_bn_frozen_in_training(tmp_path):
    blobs = bn_blobs(4)
    net = bn_net(tmp_path, blobs, "frozen: true", bn="variance", phase="train")
    model, x = net.to_torch(), numbers(2, CHANNELS, 3, 5)
    weight, bias, mean, variance = map(spread, blobs)
    expected = (x - mean) / np.sqrt(variance + 1e-5) * weight + bias
    np.testing.assert_allclose(model(torch.tensor(x)).numpy(), expected, RTOL, ATOL)
    assert not list(model.parameters())
    np.testing.assert_array_equal(net.with_weights(model).layer("y").blobs[3], blobs[3])


def test_segnets_statistics(tmp_path):
    net = bn_net(tmp_path, bn_blobs(2), tops="y m v")
    assert net.blob_shapes["v"] == (1, CHANNELS, 1, 1)
    x = numbers(3, CHANNELS, 4, 5)
    made = net.to_torch()(torch.tensor(x))
    net.to_onnx(tmp_path / "n.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "n.onnx"), providers=["CPUExecutionProvider"])
    exported = dict(zip(net.outputs, session.run(None, {"x": x}), strict=True))
    for found in (exported, {name: tensor.detach().numpy() for name, tensor in made.items()}):
        np.testing.assert_allclose(found["m"], x.mean((0, 2, 3), keepdims=True), RTOL, ATOL)
        np.testing.assert_allclose(found["v"], x.var((0, 2, 3), keepdims=True), RTOL, ATOL)


@pytest.mark.parametrize(
    ("text", "options", "blobs"),
    [("", {}, 2), ("bn_mode: LEARN", {"bn": "variance"}, 2), ("frozen: true", {}, 4), ("", {"bn": "inverse_std"}, 4),
     ("moving_average: true", {}, 4)],
)  # fmt: skip
def test_bn_without_weights(tmp_path, text, options, blobs):
    assert len(bn_net(tmp_path, None, text, **options).layer("y").blobs) == blobs


@pytest.mark.parametrize(
    ("count", "text", "options", "match"),
    [
        (4, "", {}, r'bn="variance".*bn="inverse_std".*--bn variance or --bn inverse_std'),
        (4, "bn_mode: INFERENCE", {"bn": "variance"}, "bn_mode belongs to SegNet's form.*the weights hold 4"),
        (3, "", {"bn": "variance"}, "expected 2 or 4 blobs, the weights hold 3"),
        (2, "frozen: true", {}, "frozen belongs to the forms with 4 blobs"),
        (4, "scale_filler { }", {"bn": "variance", "phase": "train"}, "expected a decay"),
    ],
)
def test_bn_refused(tmp_path, count, text, options, match):
    with pytest.raises(caffeport.NetError, match=match):
        bn_net(tmp_path, bn_blobs(count), text, **options)
