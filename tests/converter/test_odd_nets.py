"""Nets that parse and are odd: few axes, no numbers, negative sizes, one class, nothing to compute."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import caffeport
import caffeport.parity.backends
import numpy as np
import onnxruntime
import pytest
import torch
from caffeport import CaffeportError, ExportError, NetError
from caffeport.cli.main import main
from caffeport.operators import builtin
from caffeport.operators.base import Role
from support import nets

SHARED = Path(__file__).parents[2].parent / "shared" / "cases"
# Bottoms that have too few axes for the layer, which Caffe refuses too.
TOO_FEW = [
    ("ArgMax", {"x": ()}, "a bottom of 1 or more axes, got 0"),
    ("Axpy", {"x": (), "y": (), "z": ()}, "bottom 0 of 2 or more axes, got 0"),
    ("BatchNorm", {"x": ()}, "a bottom of 1 or more axes, got 0"),
    ("BatchReindex", {"x": (), "y": (3,)}, "bottom 0 of 1 or more axes, got 0"),
    ("BatchReindex", {"x": (2, 2), "y": (3, 1)}, "bottom 1 of 1 axes, got 2"),
    ("ChannelScale", {"x": (4,), "y": (4,)}, "bottom 0 of 2 or more axes, got 1"),
    ("ContrastiveLoss", {"x": (), "y": (), "z": ()}, "bottom 0 of 1 or more axes, got 0"),
    ("EuclideanLoss", {"x": (), "y": ()}, "bottom 0 of 1 or more axes, got 0"),
    ("Filter", {"x": (), "y": ()}, "bottom 0 of 1 or more axes, got 0"),
    ("Flip", {"x": (2, 3, 4)}, "a bottom of 4 axes, got 3"),
    ("HingeLoss", {"x": (), "y": ()}, "bottom 0 of 1 or more axes, got 0"),
    ("InnerProduct", {"x": (2, 3), "y": ()}, "bottom 1 of 1 or more axes, got 0"),
    ("InnerDistance", {"x": (2, 3), "y": ()}, "bottom 1 of 1 or more axes, got 0"),
    ("LRN", {"x": (2, 3, 4)}, "a bottom of 4 axes, got 3"),
    ("MVN", {"x": (1, 2, 3, 4, 5)}, "a bottom of 1 to 4 axes, got 5"),
    ("MultinomialLogisticLoss", {"x": (), "y": ()}, "bottom 0 of 1 or more axes, got 0"),
    ("PReLU", {"x": (4,)}, "a bottom of 2 or more axes, got 1"),
    ("Pooling", {"x": (4, 4)}, "a bottom of 4 axes, got 2"),
    ("SigmoidCrossEntropyLoss", {"x": (), "y": ()}, "bottom 0 of 1 or more axes, got 0"),
]  # fmt: skip
PARAMETERS = {"Pooling": "pooling_param { kernel_size: 2 }", "InnerProduct": "inner_product_param { bias_term: false }"}


def text_of(kind: str, bottoms: dict, parameters: str = "", tops: str = "t") -> str:
    return nets.inputs(**bottoms) + nets.layer(kind, " ".join(bottoms), tops, parameters, "odd")


@pytest.mark.parametrize(("kind", "bottoms", "problem"), TOO_FEW)
def test_too_few_axes(tmp_path, kind, bottoms, problem):
    with pytest.raises(NetError, match=rf'layer "odd" \({kind}\): expected {problem}$'):
        nets.load(tmp_path, text_of(kind, bottoms, PARAMETERS.get(kind, "")))


@pytest.mark.parametrize(
    ("kind", "bottoms", "parameters", "problem"),
    [
        ("BatchNorm", {"x": (2, 3)}, "batch_norm_param { eps: -0.3 }", "expected an eps of 0 or more, got -0.3"),
        ("BatchNorm", {"x": (2, 3)}, "batch_norm_param { eps: nan }", "expected an eps of 0 or more, got nan"),
        ("LRN", {"x": (1, 2, 3, 4)}, "lrn_param { local_size: -1 }", "expected an odd local_size of 1 or more, got -1"),
        ("Flatten", {"x": (2, 3, 4, 5)}, "flatten_param { axis: 3 end_axis: 1 }", "axis 3 is behind end_axis 1"),
        ("HingeLoss", {"x": (8, 2), "y": (8, 2)}, "", "expected a label for each of 8 rows"),
        ("MultinomialLogisticLoss", {"x": (8, 2), "y": (8, 2)}, "", "expected a label for each of 8 rows"),
        ("Clip", {"x": (2,)}, "clip_param { min: nan max: 1 }", "expected numbers for min and max, got nan and 1"),
        (
            "PriorBox",
            {"x": (1, 1, 2, 2), "y": (1, 1, 4, 4)},
            "prior_box_param { min_size: inf }",
            "expected a min_size",
        ),
        ("Parameter", {}, "parameter_param { shape { dim: 2 dim: 0 } }", "would have the shape 2x0"),
        ("Parameter", {}, "parameter_param { shape { dim: -2 } }", "would have the shape -2"),
    ],
)
def test_odd_parameters(tmp_path, kind, bottoms, parameters, problem):
    with pytest.raises(NetError, match=rf'layer "odd" \({kind}\):.*{problem}'):
        nets.load(tmp_path, text_of(kind, bottoms, parameters))


@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")  # a scalar has no batch
@pytest.mark.parametrize(
    ("kind", "bottoms", "parameters", "expected"),
    [
        ("Reshape", {"x": ()}, "", lambda x: x),
        ("Permute", {"x": ()}, "", lambda x: x),
        ("Permute", {"x": (2, 3)}, "", lambda x: x),
        ("ReLU", {"x": ()}, "", lambda x: np.maximum(x, 0)),
        ("Scale", {"x": (), "y": ()}, "scale_param { num_axes: 0 }", lambda x, y: x * y),
        ("Bias", {"x": (), "y": ()}, "", lambda x, y: x + y),
        ("Flatten", {"x": (2, 3, 4, 5)}, "flatten_param { axis: 2 end_axis: 1 }", lambda x: x[:, :, None]),
        ("Power", {"x": (2,)}, "power_param { scale: 0 shift: -1 power: 0.5 }", lambda x: x * np.nan),
        ("Power", {"x": (2,)}, "power_param { scale: 0 shift: 0 power: -1 }", lambda x: x * 0 + np.inf),
        ("Exp", {"x": (2,)}, "exp_param { shift: 1000 }", lambda x: x * 0 + np.inf),
        ("Filter", {"x": (2, 1), "y": (2, 1)}, "", lambda x, y: x[y[:, 0] != 0]),
        (
            "BatchNorm",
            {"x": (2, 3, 4, 5)},
            "batch_norm_param { eps: 0 use_global_stats: false }",
            lambda x: (x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True),
        ),
        # The weight is the second bottom: its numbers in their order, whatever its shape.
        (
            "InnerProduct",
            {"x": (6, 1, 1), "y": (6, 4)},
            "inner_product_param { axis: 2 transpose: true bias_term: false }",
            lambda x, y: x @ y.reshape(1, 24),
        ),
        (
            "InnerProduct",
            {"x": (4, 2), "y": (4, 2)},
            "inner_product_param { transpose: true bias_term: false }",
            lambda x, y: x @ y.reshape(2, 4),
        ),
    ],
)
def test_the_right_numbers(tmp_path, kind, bottoms, parameters, expected):
    net = nets.load(tmp_path, text_of(kind, bottoms, parameters))
    fed = net.sample_inputs(1)
    with np.errstate(all="ignore"):
        numbers = expected(*(array.astype(np.float64) for array in fed.values()))
    made = caffeport.parity.backends.run_torch(net, fed)["t"]
    assert made.shape == net.blob_shapes["t"] == numbers.shape
    np.testing.assert_allclose(made, numbers, rtol=1e-5, atol=1e-6)
    report = caffeport.check(net, fed)
    assert report.ok and report.rows[0].errors
    net.to_onnx(tmp_path / "n.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx")
    np.testing.assert_allclose(session.run(None, fed)[0], numbers, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("MultinomialLogisticLoss", lambda x, y, n: -np.log(np.maximum(x[range(n), y], 1e-20)).sum() / n),
        ("HingeLoss", lambda x, y, n: np.maximum(1 - x[range(n), y], 0).sum() / n),
    ],
)
def test_losses_over_rows_of_one_number(tmp_path, kind, formula):
    """A bottom of one axis is N rows of one class, as Caffe's num() and count / num have it."""
    net = nets.load(tmp_path, text_of(kind, {"x": (6,), "y": (6,)}))
    fed = net.sample_inputs()
    assert (fed["y"] == 0).all()  # the only class there is
    expected = formula(fed["x"].astype(float)[:, None], fed["y"].astype(int), 6)
    np.testing.assert_allclose(caffeport.parity.backends.run_torch(net, fed)["t"], expected, rtol=1e-5)


LOSSES = ["Accuracy", "GeneralContrastiveLoss", "GeneralTripletLoss", "HingeLoss", "LabelSpecificAdd",
          "LabelSpecificRescale", "MultinomialLogisticLoss", "SoftmaxWithLoss"]  # fmt: skip


@pytest.mark.parametrize("kind", LOSSES)
def test_labels_of_a_single_class(tmp_path, kind):
    """Random labels are classes that there are; the same blob may be scores and labels too."""
    for text in (text_of(kind, {"x": (4, 1), "y": (4,)}), nets.inputs(x=(4, 1)) + nets.layer(kind, "x x", "t")):
        net = nets.load(tmp_path, text, phase="train")
        module = net.to_torch()
        module(*(torch.from_numpy(array) for array in net.sample_inputs().values()))


SILENCE = 'layer { name: "s" type: "Silence" bottom: "x" }'


@pytest.mark.parametrize("rest", ["", SILENCE], ids=["input", "silence"])
def test_nothing_to_compute(tmp_path, rest):
    text = nets.inputs(x=(4, 2)) + rest
    net = nets.load(tmp_path, text)
    with pytest.raises(ExportError, match="has no output"):
        net.to_onnx(tmp_path / "n.onnx")
    with pytest.raises(CaffeportError, match="has nothing to compare"):
        caffeport.check(net)


def test_a_label_beyond_the_classes_names_the_layer(tmp_path):
    net = nets.load(tmp_path, text_of("SoftmaxWithLoss", {"x": (4, 3), "y": (4,)}), phase="train")
    with pytest.raises(CaffeportError, match=r'^layer "odd" \(SoftmaxWithLoss\): torch: index 3 is out of bounds'):
        caffeport.parity.backends.run_torch(net, {"x": np.zeros((4, 3), np.float32), "y": np.full(4, 3, np.float32)})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")  # a bottom that a phase passes over
def test_scalars_into_every_operator(tmp_path):
    """A clear refusal or a forward pass of the declared shapes, and nothing else."""
    for kind, cls in builtin().items():
        if cls.role is Role.DATA:
            continue
        least, most = cls.bottoms
        for shape in ((), (1,), (3,), (1, 1)):
            for count in range(least, (least + 2 if most is None else most) + 1):
                bottoms = {f"x{i}": shape for i in range(count)}
                text = text_of(kind, bottoms, tops=" ".join(f"t{i}" for i in range(max(cls.tops[0], 1))))
                if cls.tops[1] == 0:
                    continue
                try:
                    net = nets.load(tmp_path, text)
                    made = caffeport.parity.backends.run_torch(net, net.sample_inputs())
                except CaffeportError:
                    continue
                assert {value.key: made[value.key].shape for value in net.values} == {
                    value.key: value.shape for value in net.values
                }


needs_cases = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs {SHARED}")


@needs_cases
@pytest.mark.parametrize("path", sorted((SHARED / "layers").glob("*.prototxt")), ids=lambda path: path.stem)
@pytest.mark.parametrize("command", ["show", "check"])
def test_nets_of_a_grammar(path, command, capfd):
    start = time.process_time()
    code = main([command, str(path)])
    out, error = capfd.readouterr()
    assert time.process_time() - start < 10  # two hundredths of it when the machine is idle
    assert "unexpected" not in error
    assert (code == 0 and out) or (code == 2 and error.count("caffeport: error: ") == 1)


@needs_cases
@pytest.mark.parametrize("path", sorted((SHARED / "readers").glob("prototxt-*")), ids=lambda path: path.name)
def test_damaged_texts(path, capfd):
    assert main(["show", str(path)]) == 2
    error = capfd.readouterr().err
    assert error.startswith(f"caffeport: error: {path}:") and error.count("\n") == 1


@pytest.mark.parametrize("bounds", ["min: 2", "max: -1", "max: inf", "min: -inf", "min: nan"])
def test_a_filler_without_a_range(tmp_path, bounds):
    filler = f'parameter_param {{ shape {{ dim: 2 }} blob_filler {{ type: "uniform" {bounds} }} }}'
    net = nets.load(tmp_path, nets.inputs(x=(1,)) + nets.layer("Parameter", "", "t", filler))
    with pytest.raises(NetError, match=r'^layer "t": a uniform filler needs a min no larger than its max, got'):
        net.to_torch()


def test_names_that_would_break_a_table(tmp_path, capfd):
    text = nets.inputs(x=(1, 2)) + nets.layer("ReLU", "x", "y", name="a\\nb\\033[31m\\377")
    nets.write(tmp_path, text)
    assert main(["show", str(tmp_path / "net.prototxt")]) == 0
    out = capfd.readouterr().out
    assert out.count("\n") == 5 and r"a\nb\x1b[31m\xff" in out


@pytest.mark.slow
def test_a_terminal_that_lacks_a_letter(tmp_path):
    nets.write(tmp_path, nets.inputs(x=(1, 2)) + nets.layer("ReLU", "x", "y", name="卷积"))
    command = [sys.executable, "-m", "caffeport", "show", "net.prototxt"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0 and r"\u5377\u79ef" in done.stdout


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (
            nets.layer("L1Loss", "data", "y", "l1_loss_param { normalize_by_num_entries: true }"),
            r'layer "y" \(L1Loss\): l2_prescale_by_channels and normalize_by_num_entries expect channels on axis 1',
        ),
        (
            nets.layer("L1Loss", "data", "y", "l1_loss_param { l2_prescale_by_channels: true }"),
            r'layer "y" \(L1Loss\): l2_prescale_by_channels and normalize_by_num_entries expect channels on axis 1',
        ),
        (
            nets.layer("ThresholdedReLU", "data", "y", "thresholded_relu_param { alpha: nan }"),
            r'layer "y" \(ThresholdedReLU\): expected an alpha that is a number, got nan',
        ),
    ],
)
def test_layers_of_forks_refuse_what_their_formula_cannot_take(tmp_path, layer, problem):
    with pytest.raises(caffeport.NetError, match=problem):
        nets.load(tmp_path, nets.inputs(data=(3,)) + layer)


def test_a_variance_of_zero_without_an_eps_is_the_same_in_torch_and_onnx(tmp_path):
    text = nets.inputs(data=(2, 3, 2, 2)) + nets.layer(
        "BN", "data", "y", "bn_param { scale_filler { value: 2 } var_eps: 0 }"
    )
    assert caffeport.check(nets.load(tmp_path, text)).ok


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("pad_h: 1", "pad"),
        ("pad: 1 pad_h: 0 pad_w: 0", "pad"),
        ("stride_w: 2", "stride"),
        ("stride: 2 stride_h: 1", "stride"),
        ("pad_h: 1 pad_w: 0 stride_h: 1 stride_w: 2", ""),
        ("pad: 1 stride: 2", ""),
    ],
)
def test_a_pooling_that_caffe_refuses_is_told(tmp_path, fields, told):
    """PoolingLayer::LayerSetUp of BVLC Caffe: "pad is pad OR pad_h and pad_w are required", and so for the stride."""
    text = nets.inputs(data=(1, 1, 4, 4)) + nets.layer(
        "Pooling", "data", "p", f"pooling_param {{ kernel_size: 2 {fields} }}"
    )
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        nets.load(tmp_path, text)
    words = f'layer "p" (Pooling): Caffe refuses it, which takes either {told}, or {told}_h and {told}_w'
    assert [words in str(note.message) for note in notes] == ([True] if told else [])


@pytest.mark.parametrize("beside", ["kernel_h: 1", "kernel_w: 1"])
def test_a_kernel_size_of_a_pooling_stands_whatever_is_beside_it(tmp_path, beside):
    """Caffe's check lets one of kernel_h and kernel_w stand beside kernel_size, and then does not read it."""
    pooling = f"pooling_param {{ pool: AVE kernel_size: 2 {beside} }}"
    net = nets.load(tmp_path, nets.inputs(x=(1, 1, 3, 4)) + nets.layer("Pooling", "x", "y", pooling))
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    windows = [[x[0, 0, i : i + 2, j : j + 2].mean() for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(net.to_torch()(torch.from_numpy(x)), [[windows]], rtol=1e-6)
