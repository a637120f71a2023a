"""Which face layers' gradient is the derivative by default, and which repeat a fork's; exact_gradients mends them all.

A new layer, or a changed default, has to be entered here. Weights that the fork normalises or clamps in place
(InnerProduct, InnerDistance, Scale) get the gradient of the changed weight, which is not that of the stored one: only
the bottom's is checked there.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import nets
from support.face_layers import MESSAGES, is_derivative, leaf
from torch.autograd import gradcheck

WEIGHT = 'num_output: 7 weight_filler { type: "gaussian" std: 1 }'
CENTERS = 'num_output: 7 center_filler { type: "gaussian" std: 1 }'

DERIVATIVES = [
    ("GeneralContrastiveLoss", ""),
    ("GeneralContrastiveLoss", "max_negative_only: true"),
    ("GeneralContrastiveLoss", "exp_negative_weight: true"),
    ("GeneralTripletLoss", "hardest_only: true add_center_loss: false margin: 0.8"),
    ("CenterLoss", f"{CENTERS} center_step: DERIVATIVE"),
    ("LargeMarginInnerProduct", f"{WEIGHT} type: QUADRUPLE"),
    ("LabelSpecificAdd", "bias: -0.35"),
    ("LabelSpecificRescale", "positive_weight: 0.75"),
    ("LabelSpecificMargin", "margin_base: 28.65 gamma: 0"),
    ("LabelSpecificMargin", "margin_base: 100 gamma: 0"),
]
FORKS = [
    ("GeneralContrastiveLoss", "positive_margin: 0.5 positive_outlier_thresh: 1"),
    ("GeneralTripletLoss", ""),
    ("GeneralTripletLoss", "add_center_loss: false"),
    ("CenterLoss", CENTERS),
    ("CenterLoss", f"{CENTERS} center_step: FORK"),
    ("MarginInnerProduct", f"{WEIGHT} type: SINGLE"),
    ("MarginInnerProduct", f"{WEIGHT} type: QUADRUPLE"),
    ("LabelSpecificMargin", "margin_base: 28.65 gamma: 0 exact_gradient: false"),
]


def layer_at(tmp_path, kind, fields, **options):
    """(the layer as a float64 module, numbers that suit it, labels)"""
    message = f"{MESSAGES[kind]} {{ {fields} }}"
    text = nets.inputs(data=(6, 7), label=(6,)) + nets.layer(kind, "data label", "out", message)
    random = np.random.default_rng(11)
    distances = kind.startswith("General")  # and else cosines, or features
    x = random.uniform(0.05, 3, (6, 7)) if distances else random.uniform(-0.97, 0.97, (6, 7))
    return nets.load(tmp_path, text, phase="train", **options).to_torch().double(), x, np.array([0, 4, 0, 2, 6, 5])


@pytest.mark.parametrize(("kind", "fields"), DERIVATIVES)
def test_the_default_is_the_derivative(tmp_path, kind, fields):
    model, x, labels = layer_at(tmp_path, kind, fields)
    assert is_derivative(model, x, labels)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "fields"), FORKS)
def test_a_forks_gradient_is_another_one_and_exact_gradients_is_the_derivative(tmp_path, kind, fields):
    model, x, labels = layer_at(tmp_path, kind, fields)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        is_derivative(model, x, labels)
    model, x, labels = layer_at(tmp_path, kind, fields, exact_gradients=True)
    assert is_derivative(model, x, labels)


@pytest.mark.parametrize(
    ("fields", "options", "derivative"),
    [
        ("", {}, True),
        ("normalize: true", {}, True),
        ("update_center_only: true", {}, True),
        ('distance_type: "L1"', {}, False),
        ('distance_type: "L1"', {"exact_gradients": True}, True),
        ('distance_type: "L1" update_center_only: true exact_gradient: true', {}, True),
    ],
)
def test_the_bottoms_gradient_of_inner_distance(tmp_path, fields, options, derivative):
    labelled = "center_only" in fields
    text = nets.inputs(data=(6, 7), **({"label": (6,)} if labelled else {}))
    message = f"inner_distance_param {{ {WEIGHT} {fields} }}"
    text += nets.layer("InnerDistance", "data label" if labelled else "data", "out", message)
    model = nets.load(tmp_path, text, phase="train", **options).to_torch().double()
    x = leaf(np.random.default_rng(12).normal(size=(6, 7)))
    labels = [torch.tensor([0, 4, 0, 2, 6, 5])] if labelled else []
    if derivative:
        assert gradcheck(lambda x: model(x, *labels), (x,))
    else:
        with pytest.raises(RuntimeError, match="Jacobian mismatch"):
            gradcheck(lambda x: model(x, *labels), (x,))
