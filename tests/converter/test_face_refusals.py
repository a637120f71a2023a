"""What the face layers refuse: labels out of range, options of no meaning, ONNX of a training layer."""

from __future__ import annotations

import caffeport
import numpy as np
import onnxruntime
import pytest
import torch
from support import nets
from support.face_layers import build, one_layer

EVERY = {
    "CenterLoss": "num_output: 7",
    "GeneralContrastiveLoss": "",
    "GeneralTripletLoss": "",
    "MarginInnerProduct": 'num_output: 7 type: DOUBLE weight_filler { type: "xavier" }',
    "LargeMarginInnerProduct": 'num_output: 7 type: DOUBLE weight_filler { type: "xavier" }',
    "LabelSpecificRescale": "",
    "LabelSpecificMargin": "margin_base: 4",
}


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("label", [7, float("nan")])
def test_a_label_out_of_range_is_an_error(tmp_path, kind, label):
    model = build(tmp_path, kind, EVERY[kind])
    x, labels = torch.zeros(5, 7, dtype=torch.float64), torch.zeros(5)
    model(x, labels)
    labels[3] = label
    with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
        model(x, labels)


@pytest.mark.parametrize("kind", EVERY)
def test_labels_must_be_as_many_as_rows(tmp_path, kind):
    with pytest.raises(caffeport.NetError, match=rf'layer "out" \({kind}\): expected .*label'):
        nets.load(tmp_path, one_layer(kind, EVERY[kind], labels=4), phase="train")


@pytest.mark.parametrize("kind", [kind for kind in EVERY if not kind.startswith("LabelSpecific")])
def test_onnx_refuses(tmp_path, kind):
    net = nets.load(tmp_path, one_layer(kind, EVERY[kind]))
    with pytest.raises(caffeport.ExportError, match="loss layer" if kind.endswith("Loss") else "it needs labels"):
        net.to_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("LabelSpecificRescale", "rescale_test"),
        ("LabelSpecificMargin", "margin_on_test"),
        ("LabelSpecificAdd", "transform_test"),
    ],
)
def test_onnx_refuses_what_acts_in_the_test_phase(tmp_path, kind, field):
    with pytest.raises(caffeport.ExportError, match=f"with {field} it needs labels"):
        nets.load(tmp_path, one_layer(kind, f"{field}: true")).to_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind.startswith("LabelSpecific")])
def test_a_deployed_net_passes_scores_through(tmp_path, kind):
    nets.load(tmp_path, one_layer(kind, EVERY[kind])).to_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(9).normal(size=(3, 7)).astype(np.float32)
    feed = {"data": x, "label": np.zeros(3, np.float32)}
    (out,) = session.run(None, {bottom.name: feed[bottom.name] for bottom in session.get_inputs()})
    assert np.array_equal(out, x)


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        ("CenterLoss", "", "expected a num_output of 1 or more, got 0"),
        ("CenterLoss", 'num_output: 2 distance_type: "L3"', 'expected distance_type "L1" or "L2", got "L3"'),
        ("CenterLoss", "num_output: 2 axis: 0", "expected axis 1, got 0"),
        ("GeneralContrastiveLoss", "square: true", "square is not supported"),
        ("GeneralContrastiveLoss", "negative_weight: -1", "expected a negative_weight of 0 or more, got -1"),
        ("GeneralTripletLoss", "positive_weight: -1", "expected a positive_weight of 0 or more, got -1"),
        ("MarginInnerProduct", "", "expected a num_output of 1 or more, got 0"),
        ("LabelSpecificRescale", "power_on_positive: true", "power_on_positive is not supported"),
        ("LabelSpecificRescale", "positive_lower_bound: 0.1", "positive_lower_bound is not supported"),
        ("LabelSpecificRescale", "negative_upper_bound: 0.1", "negative_upper_bound is not supported"),
        ("LabelSpecificMargin", "type: SOFT", "type SOFT is not supported"),
        ("LabelSpecificMargin", "auto_tune: true", "auto_tune is not supported"),
        ("LabelSpecificMargin", "reset_margin: true", "reset_margin is not supported"),
    ],
)
def test_what_the_layers_refuse(tmp_path, kind, fields, problem):
    with pytest.raises(caffeport.NetError, match=rf'layer "out" \({kind}\): {problem}'):
        build(tmp_path, kind, fields)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("GeneralContrastiveLoss", "normalize_negative: 1"), ("GeneralTripletLoss", "positive_weight: 2")],
)
@pytest.mark.parametrize(("extra", "options"), [("", {"exact_gradients": True}), ("exact_gradient: true", {})])
def test_exact_gradients_refuse_what_acts_on_the_gradient_only(tmp_path, kind, fields, extra, options):
    with pytest.raises(caffeport.NetError, match=f"{fields.partition(':')[0]} changes the gradient only"):
        build(tmp_path, kind, f"{fields} {extra}", **options)


def test_normalize_refuses_an_eps_with_which_zero_vectors_are_nan(tmp_path):
    text = nets.inputs(data=(2, 3)) + nets.layer("Normalize", "data", "n", "normalize_param { eps: 0 }")
    with pytest.raises(caffeport.NetError, match=r'layer "n" \(Normalize\): expected an eps above 0.*got 0'):
        nets.load(tmp_path, text)
