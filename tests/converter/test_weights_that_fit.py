"""Weights that fit though they look otherwise: axes of 1, layers that their fillers fix, NVCaffe's implicit blobs."""

from __future__ import annotations

import caffeport
import h5py
import numpy as np
import pytest
from caffeport import WeightsError, WeightsWarning
from caffeport.formats.stored import Blob
from support import nets, protos

RANDOM = np.random.default_rng(3)


def random(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def write(tmp_path, **layers):
    return protos.write(tmp_path / "n.caffemodel", protos.net(*(protos.layer(n, "", *b) for n, b in layers.items())))


@pytest.mark.parametrize(
    ("stored", "needed"),
    [
        ((1, 1, 1, 4), (4,)), ((4, 1, 1, 1), (4,)), ((1, 4, 1, 1), (4,)), ((4,), (1, 4)), ((4,), (1, 4, 1, 1)),
        ((1, 1, 2, 64), (2, 64)), ((2, 64, 1, 1), (2, 64)), ((2, 3, 1), (2, 3)), ((1,), ()), ((), (1, 1)), ((), ()),
        ((1, 1), (1,)), ((3, 1, 5), (3, 1, 5)),
    ],
)  # fmt: skip
def test_axes_of_one_around_a_shape_are_no_difference(stored, needed):
    assert Blob(stored).fits(needed)


@pytest.mark.parametrize(
    ("stored", "needed"),
    [
        ((1, 4), (4, 1)), ((4, 1, 1, 1), (1, 4, 1, 1)), ((2, 3, 1, 3), (2, 3, 3, 1)), ((4,), (5,)), ((4,), (2, 2)),
        ((2, 1, 3), (2, 3)), ((64, 2), (2, 64)), ((2, 64), (128,)), ((1, 1, 2, 2), (4,)), ((0,), ()),
    ],
)  # fmt: skip
def test_another_shape_is_another(stored, needed):
    assert not Blob(stored).fits(needed)


def test_shapes_of_other_writers_are_taken_with_their_numbers(tmp_path):
    conv, bias, slope, fc = random(4, 3, 3, 3), random(4), random(4), random(2, 64)
    text = (
        nets.inputs(data=(1, 3, 6, 6))
        + nets.conv("data", "c", 4, "kernel_size: 3")
        + nets.layer("PReLU", "c", "p")
        + nets.inner_product("p", "ip", 2, "bias_term: false")
    )
    layers = {"c": [conv, bias.reshape(1, 1, 1, 4)], "p": [slope.reshape(4, 1, 1)], "ip": [fc.reshape(2, 64, 1, 1)]}
    net = nets.load(tmp_path, text, write(tmp_path, **layers))
    for name, arrays in (("c", (conv, bias)), ("p", (slope,)), ("ip", (fc,))):
        for blob, array in zip(net.layer(name).blobs, arrays, strict=True):
            assert blob.shape == array.shape and blob.tobytes() == array.tobytes()


UP = """layer { name: "up_" type: "Deconvolution" bottom: "c" top: "up" %s convolution_param {
        num_output: 2 group: 2 kernel_size: 2 stride: 2 %s } }"""
CONVOLVED = nets.inputs(data=(1, 3, 4, 4)) + nets.conv("data", "c", 2, "kernel_size: 1")
FROZEN = "param { lr_mult: 0 }"


@pytest.mark.parametrize(
    "layer",
    [
        UP % (FROZEN, 'bias_term: false weight_filler { type: "constant" value: 1 }'),
        UP % ("", 'bias_term: false weight_filler { type: "bilinear" }'),
        UP % (FROZEN * 2, 'weight_filler { value: 0.25 } bias_filler { type: "constant" value: 2 }'),
        nets.layer("Scale", "c", "up", f"{FROZEN} scale_param {{ }}", "up_"),
        nets.layer("Scale", "c", "up", "scale_param { filler { value: 3 } }", "up_"),
    ],
)
def test_a_layer_that_its_fillers_fix_is_no_loss(tmp_path, layer):
    path = write(tmp_path, c=[random(2, 3, 1, 1), random(2)])
    with pytest.warns(WeightsWarning, match=r'n\.caffemodel lacks "up_": as the text\'s fillers fix them'):
        net = nets.load(tmp_path, CONVOLVED + layer, path)
    assert not net.has_random_weights
    assert net.weights_source == f'{path}; by its filler, without chance, for "up_"'
    assert not net.cut(["up"]).has_random_weights
    assert not net.with_weights({"c": net.layer("c").blobs}).has_random_weights
    alone = nets.load(tmp_path, CONVOLVED + layer)
    assert [blob.tobytes() for blob in net.layer("up_").blobs] == [blob.tobytes() for blob in alone.layer("up_").blobs]


@pytest.mark.parametrize(
    "layer",
    [
        UP % (FROZEN, 'bias_term: false weight_filler { type: "gaussian" std: 0.1 }'),
        UP % (FROZEN, "bias_term: false"),  # zeros, which no layer is for
        UP % ("", ""),
        UP % (FROZEN, 'weight_filler { value: 1 } bias_filler { type: "uniform" }'),
        nets.layer("Scale", "c", "up", "", "up_"),
        nets.layer("PReLU", "c", "up", "", "up_"),
        nets.layer("BatchNorm", "c", "up", FROZEN * 3, "up_"),
    ],
)
def test_a_layer_that_was_trained_is_a_loss(tmp_path, layer):
    path = write(tmp_path, c=[random(2, 3, 1, 1), random(2)])
    with pytest.raises(WeightsError, match=r'lacks the weights of "up_"'):
        nets.load(tmp_path, CONVOLVED + layer, path)


def test_stored_weights_that_no_layer_takes_are_named(tmp_path):
    layer = UP % (FROZEN, 'bias_term: false weight_filler { type: "constant" value: 1 }')
    path = write(tmp_path, c=[random(2, 3, 1, 1), random(2)], up=[random(2, 1, 2, 2)], head=[random(3)], empty=[])
    with pytest.warns(
        WeightsWarning, match=r'no layer of the net takes its weights of "up", "head"; it lacks "up_" \(did'
    ):
        nets.load(tmp_path, CONVOLVED + layer, path)


def test_weights_behind_the_nets_end_are_told_as_such(tmp_path):
    c = [random(2, 3, 1, 1), random(2)]
    with pytest.warns(WeightsWarning, match=r'"fc6", "loss" are not taken: behind this net\'s end$'):
        nets.load(tmp_path, CONVOLVED, write(tmp_path, c=c, fc6=[random(3)], loss=[random(3)]))
    with pytest.warns(WeightsWarning, match=r'no layer of the net takes its weights of "a", "fc6"$'):
        nets.load(tmp_path, CONVOLVED, write(tmp_path, a=[random(3)], c=c, fc6=[random(3)]))
    with h5py.File(tmp_path / "w.caffemodel.h5", "w") as file:
        file["data/c/0"], file["data/c/1"], file["data/fc6/0"] = *c, random(3)  # behind "c" by its name alone
    with pytest.warns(WeightsWarning, match=r'no layer of the net takes its weights of "fc6"$'):
        caffeport.load(tmp_path / "net.prototxt", tmp_path / "w.caffemodel.h5")


def test_weights_of_the_other_phase_are_no_surprise(tmp_path, recwarn):
    head = nets.layer("InnerProduct", "c", "head", "inner_product_param { num_output: 2 } include { phase: TRAIN }")
    nets.load(
        tmp_path, CONVOLVED + head, write(tmp_path, c=[random(2, 3, 1, 1), random(2)], head=[random(2, 32), random(2)])
    )
    assert not [warning for warning in recwarn if issubclass(warning.category, WeightsWarning)]


@pytest.mark.parametrize(
    "fields",
    [
        "scale_filler { value: 1 }",
        'bias_filler { type: "constant" value: 0 }',
        "scale_filler { } bias_filler { }",
        "scale_bias: false scale_filler { }",
        "scale_bias: true",
    ],
)
def test_nvcaffe_scales_and_shifts_where_one_of_the_fillers_is_given(tmp_path, fields):
    """y = (x - mean / f) / sqrt(variance / f + eps) * scale + shift, in float64."""
    mean, variance, factor = random(3), RANDOM.random(3).astype(np.float32) + 1, np.array([2], np.float32)
    scale, shift, x = random(3), random(3), random(2, 3, 2, 2)
    text = nets.inputs(data=(2, 3, 2, 2)) + nets.layer("BatchNorm", "data", "bn", f"batch_norm_param {{ {fields} }}")
    net = nets.load(tmp_path, text, write(tmp_path, bn=[mean, variance, factor, scale, shift]))
    m, v, s, b = (array.astype(np.float64)[:, None, None] for array in (mean / 2, variance / 2, scale, shift))
    expected = (x - m) / np.sqrt(v + 1e-5) * s + b
    import torch

    np.testing.assert_allclose(net.to_torch()(torch.from_numpy(x)).detach(), expected, rtol=1e-5, atol=1e-6)
    assert caffeport.check(net).ok


def test_without_its_fillers_there_are_three_blobs(tmp_path):
    text = nets.inputs(data=(2, 3, 2, 2)) + nets.layer("BatchNorm", "data", "bn")
    path = write(tmp_path, bn=[random(3), random(3), random(1), random(3), random(3)])
    with pytest.raises(WeightsError, match=r"has 3 blobs \(3, 3, 1\), but .* holds 5"):
        nets.load(tmp_path, text, path)


def test_dropout_that_draws_in_the_test_phase_is_refused_by_name(tmp_path):
    text = nets.inputs(data=(1, 3, 8, 8)) + nets.layer(
        "Dropout", "data", "y", "dropout_param { sample_weights_test: %s }"
    )
    with pytest.raises(caffeport.NetError, match=r'layer "y" \(Dropout\): sample_weights_test draws other numbers'):
        nets.load(tmp_path, text % "true")
    assert nets.load(tmp_path, text % "false").outputs == ["y"]
    assert nets.load(tmp_path, text % "true", phase="train").outputs == ["y"]
