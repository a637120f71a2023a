"""A sample with a label below 0 has no class: margins leave it alone, a loss is what it is without the sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import nets
from support.face_layers import MESSAGES, leaf

LABELS = np.array([2.0, -1.0, 0.0, 4.0, -3.0, 2.0])
KEPT = [0, 2, 3, 5]
RANDOM = np.random.default_rng(7)
X = RANDOM.uniform(0.05, 0.95, (6, 7))
BASIS = RANDOM.uniform(0.05, 2.2, (6, 7))
WEIGHT = 'num_output: 7 weight_filler { type: "gaussian" std: 1 }'
CENTERS = 'num_output: 7 center_filler { type: "gaussian" std: 1 }'

CASES = [
    ("CenterLoss", CENTERS),
    ("CenterLoss", f"{CENTERS} center_step: FORK"),
    ("CenterLoss", f'{CENTERS} center_step: DERIVATIVE distance_type: "L1"'),
    ("GeneralContrastiveLoss", ""),
    ("GeneralContrastiveLoss", "max_positive_only: true max_negative_only: true"),
    ("GeneralContrastiveLoss", "positive_first: true positive_upper_bound: 0.5 add_intra_mae: true"),
    ("GeneralContrastiveLoss", "exp_negative_weight: true normalize_negative: 0.1"),
    ("GeneralContrastiveLoss", "exact_gradient: true"),
    ("GeneralTripletLoss", ""),
    ("GeneralTripletLoss", "hardest_only: true margin: 0.8 exact_gradient: true"),
    ("GeneralTripletLoss", "positive_first: true positive_upper_bound: 0.5"),
    ("MarginInnerProduct", f"{WEIGHT} type: QUADRUPLE"),
    ("MarginInnerProduct", f"{WEIGHT} type: QUADRUPLE exact_gradient: true"),
    ("LargeMarginInnerProduct", f"{WEIGHT} type: TRIPLE"),
    ("LabelSpecificAdd", "bias: -0.35"),
    ("LabelSpecificRescale", "positive_weight: 0.75 negative_weight: 0.5"),
    ("LabelSpecificMargin", "margin_base: 28.65 gamma: 0"),
]


def run(tmp_path, kind, fields, rows):
    """(the tops, the gradients in the bottom and in the parameters) of these rows."""
    loss, report = kind.endswith("Loss"), kind.startswith("General")
    tops = "out report" if report else "out"
    text = nets.inputs(data=(len(rows), 7), label=(len(rows),))
    text += nets.layer(kind, "data label", tops, f"{MESSAGES[kind]} {{ {fields} }}")
    model = nets.load(tmp_path, text, phase="train").to_torch().double()
    x = leaf(X[rows])
    answer = model(x, torch.tensor(LABELS[rows]))
    answers = list(answer.values()) if isinstance(answer, dict) else [answer]
    top = answers[0]
    weights = torch.ones_like(top) if loss else torch.tensor(np.arange(6 * top.shape[1]).reshape(6, -1)[rows] % 5 - 1.5)
    (top * weights).sum().backward()
    gradients = [p.grad.numpy() for p in model.parameters() if p.requires_grad]
    return [each.detach().numpy() for each in answers], x.grad.numpy(), gradients


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_a_label_below_0(tmp_path, kind, fields):
    everything, kept = run(tmp_path, kind, fields, list(range(6))), run(tmp_path, kind, fields, KEPT)
    same = {"rtol": 1e-12, "atol": 1e-12}
    if kind.endswith("Loss"):
        for ours, theirs in zip(everything[0], kept[0], strict=True):
            np.testing.assert_allclose(ours, theirs, **same)
        assert not everything[1][[1, 4]].any()
        for ours, theirs in zip(everything[2], kept[2], strict=True):
            np.testing.assert_allclose(ours, theirs, **same)
    else:
        np.testing.assert_allclose(everything[0][0][KEPT], kept[0][0], **same)
        if kind.startswith("LabelSpecific"):
            np.testing.assert_array_equal(everything[0][0][[1, 4]], X[[1, 4]])
    np.testing.assert_allclose(everything[1][KEPT], kept[1], **same)


@pytest.mark.parametrize("kind", ["MarginInnerProduct", "LargeMarginInnerProduct"])
def test_without_a_class_there_is_no_margin(tmp_path, kind):
    plain, margin = (run(tmp_path, kind, f"{WEIGHT} type: {m} exact_gradient: true" if kind[0] == "M" else
                         f"{WEIGHT} type: {m}", [1, 4]) for m in ("SINGLE", "QUADRUPLE"))  # fmt: skip
    np.testing.assert_allclose(margin[0][0], plain[0][0], rtol=1e-12)
    np.testing.assert_allclose(margin[1], plain[1], rtol=1e-12)


@pytest.mark.parametrize("kind", ["CenterLoss", "GeneralContrastiveLoss", "GeneralTripletLoss"])
def test_a_batch_without_any_class_is_no_loss(tmp_path, kind):
    tops, gradient, _ = run(tmp_path, kind, CENTERS if kind == "CenterLoss" else "", [1, 4])
    assert tops[0] == 0 and not gradient.any()


def test_a_sample_without_a_class_moves_no_row_of_inner_distance(tmp_path):
    message = f"inner_distance_param {{ {WEIGHT} update_center_only: true }}"
    gradients = []
    for rows in (list(range(6)), KEPT):
        text = nets.inputs(data=(len(rows), 7), label=(len(rows),))
        model = (
            nets.load(tmp_path, text + nets.layer("InnerDistance", "data label", "out", message)).to_torch().double()
        )
        model(torch.tensor(X[rows]), torch.tensor(LABELS[rows])).sum().backward()
        gradients.append(model.out.weight.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("LabelSpecificMargin", "margin_base: 28.65 gamma: 0 pass_bp: true"),
        ("LabelSpecificRescale", "positive_weight: 0.75 negative_weight: 0.5 bias_fix: true do_backward: false"),
    ],
)
def test_the_gradient_passes_as_it_is(tmp_path, kind, fields):
    text = nets.inputs(data=(6, 7), label=(6,)) + nets.layer(
        kind, "data label", "out", f"{MESSAGES[kind]} {{ {fields} }}"
    )
    model = nets.load(tmp_path, text, phase="train").to_torch().double()
    x, gradient = leaf(X), torch.tensor(BASIS)
    y = model(x, torch.tensor(LABELS.clip(0)))
    assert (y != x).any()
    y.backward(gradient)
    np.testing.assert_allclose(x.grad.numpy(), BASIS, rtol=1e-12)


@pytest.mark.parametrize(
    "fields",
    [
        "",
        "exp_negative_weight: true normalize_negative: 0.1",
        "positive_first: true positive_upper_bound: 0.7 positive_margin: 0.2",
    ],
)
def test_the_third_bottom_of_the_contrastive_loss(tmp_path, fields):
    """The loss is that of bottom 0, its gradient the fork's of bottom 2 (happynear/caffe-windows, branch ms)."""
    message = f"general_contrastive_loss_param {{ {fields} }}"
    text = nets.inputs(data=(6, 7), label=(6,))
    alone = nets.load(
        tmp_path, text + nets.layer("GeneralContrastiveLoss", "data label", "out", message), phase="train"
    ).to_torch().double()  # fmt: skip
    text = nets.inputs(data=(6, 7), label=(6,), basis=(6, 7))
    both = nets.load(
        tmp_path, text + nets.layer("GeneralContrastiveLoss", "data label basis", "out", message), phase="train"
    ).to_torch().double()  # fmt: skip
    labels, x, basis = torch.tensor(LABELS), leaf(X), leaf(BASIS)
    loss = both(x, labels, basis)
    assert loss.item() == alone(torch.tensor(X), labels).item()
    loss.backward()
    alone(basis, labels).backward()
    assert np.abs(basis.grad.numpy()).max() > 0
    np.testing.assert_allclose(x.grad.numpy(), basis.grad.numpy(), rtol=1e-12)
