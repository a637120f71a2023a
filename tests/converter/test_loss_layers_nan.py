"""Caffe's loss layers and the forks': one NaN among the scores or distances is a NaN in the loss.

Where the formula does not read a number (an ignored position; all but the label's, in MultinomialLogisticLoss) it may
be anything. Accuracy counts what is no number as wrong.
"""

from __future__ import annotations

import itertools
import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets

N, C = 4, 3
LABELS = torch.tensor([0.0, 1.0, 2.0, 1.0])

BY_CLASSES = {
    "SoftmaxWithLoss": ["", "loss_param { normalization: FULL }"],
    "InfogainLoss": [""],
    "HingeLoss": ["", "hinge_loss_param { norm: L2 }"],
    "GeneralContrastiveLoss": [
        f"general_contrastive_loss_param {{ {p} }}"
        for p in (
            "",
            "max_negative_only: true",
            "max_positive_only: true",
            "positive_first: true positive_upper_bound: 0",
            "exp_negative_weight: true",
            "add_intra_mae: true max_negative_margin: 2",
            "negative_margin: 0",
        )
    ],
    "GeneralTripletLoss": [
        f"general_triplet_loss_param {{ {p} }}"
        for p in (
            "",
            "hardest_only: true",
            "positive_first: true positive_upper_bound: 0",
            "add_center_loss: true",
            "margin: 0",
        )
    ],
    "CenterLoss": ["center_loss_param { num_output: 3 }"],
}


def module(
    tmp_path, layer: str, shapes: dict[str, tuple[int, ...]], exact: bool
) -> caffeport.to_torch.module.CaffeModule:
    path = nets.write(tmp_path, nets.inputs(**shapes) + layer)
    net = caffeport.load(path, phase="train", exact_gradients=exact)
    return net.to_torch().train()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("kind", "fields"), [(kind, f) for kind, several in BY_CLASSES.items() for f in several])
def test_one_nan_is_the_loss(tmp_path, kind, fields, exact):
    bottoms, shapes = "x label", {"x": (N, C), "label": (N,)}
    more = []
    if kind == "InfogainLoss":
        bottoms, shapes = "x label gain", {**shapes, "gain": (1, 1, C, C)}
        more = [torch.rand(1, 1, C, C, generator=torch.Generator().manual_seed(2))]
    model = module(tmp_path, nets.layer(kind, bottoms, "loss", fields), shapes, exact)
    x = torch.rand(N, C, generator=torch.Generator().manual_seed(1)) * 3
    assert torch.isfinite(model(x, LABELS, *more))
    for i, j in itertools.product(range(N), range(C)):
        spoilt = x.clone()
        spoilt[i, j] = math.nan
        fresh = module(tmp_path, nets.layer(kind, bottoms, "loss", fields), shapes, exact)
        assert torch.isnan(fresh(spoilt, LABELS, *more)), (i, j)


def test_a_fork_gradient_alone_does_not_hide_it(tmp_path):
    """normalize_negative, which exact gradients refuse."""
    layer = nets.layer(
        "GeneralContrastiveLoss", "x label", "loss", "general_contrastive_loss_param { normalize_negative: 1 }"
    )
    model = module(tmp_path, layer, {"x": (N, C), "label": (N,)}, False)
    x = torch.rand(N, C, generator=torch.Generator().manual_seed(1))
    x[1, 2] = math.nan
    assert torch.isnan(model(x, LABELS))


@pytest.mark.parametrize(
    ("kind", "fields", "label"),
    [
        ("EuclideanLoss", "", (N, C)),
        ("SigmoidCrossEntropyLoss", "", (N, C)),
        ("ContrastiveLoss", "contrastive_loss_param { margin: 1 }", (N,)),
        ("ContrastiveLoss", "contrastive_loss_param { margin: 0.1 legacy_version: true }", (N,)),
    ],
)
@pytest.mark.parametrize("similar", [0.0, 1.0])
def test_of_pairs_too(tmp_path, kind, fields, label, similar):
    pair = kind == "ContrastiveLoss"
    shapes = {"x": (N, C), "y": (N, C), "label": label} if pair else {"x": (N, C), "y": label}
    model = module(tmp_path, nets.layer(kind, " ".join(shapes), "loss", fields), shapes, False)
    random = torch.Generator().manual_seed(3)
    inputs = [torch.rand(N, C, generator=random) for _ in range(2)] + ([torch.full((N,), similar)] if pair else [])
    for which, i, j in itertools.product(range(2), range(N), range(C)):
        spoilt = [tensor.clone() for tensor in inputs]
        spoilt[which][i, j] = math.nan
        assert torch.isnan(model(*spoilt)), (which, i, j)


def test_what_the_formula_does_not_read_may_be_anything(tmp_path):
    shapes = {"x": (N, C), "label": (N,)}
    x = torch.rand(N, C, generator=torch.Generator().manual_seed(4)) + 0.1
    ignoring = module(
        tmp_path, nets.layer("SoftmaxWithLoss", "x label", "loss", "loss_param { ignore_label: 2 }"), shapes, False
    )
    spoilt = x.clone()
    spoilt[2] = math.nan
    assert torch.equal(ignoring(spoilt, LABELS), ignoring(x, LABELS))
    chosen = module(tmp_path, nets.layer("MultinomialLogisticLoss", "x label", "loss"), shapes, False)
    spoilt = torch.full_like(x, math.nan)
    rows = torch.arange(N)
    spoilt[rows, LABELS.long()] = x[rows, LABELS.long()]
    assert torch.equal(chosen(spoilt, LABELS), chosen(x, LABELS))
    spoilt[1, 1] = math.nan
    assert torch.isnan(chosen(spoilt, LABELS))


@pytest.mark.parametrize("which", ["label", "other"])
def test_accuracy_does_not_take_nan_for_right(tmp_path, which):
    """Two of four are right; a NaN in one of these two, on its label or beside it, leaves one. All NaN: none."""
    shapes = {"x": (N, C), "label": (N,)}
    layer = nets.layer("Accuracy", "x label", "right each") + nets.layer("SoftmaxWithLoss", "x label", "loss")
    model = module(tmp_path, layer, shapes, False)
    x = torch.tensor([[2.0, 0, 0], [0, 2, 0], [2, 0, 0], [0, 0, 2]])
    assert float(model(x, LABELS)["right"]) == 0.5
    x[0, 0 if which == "label" else 2] = math.nan
    assert float(model(x, LABELS)["right"]) == 0.25
    outputs = model(torch.full((N, C), math.nan), LABELS)
    assert float(outputs["right"]) == 0 and np.array_equal(outputs["each"], [0, 0, 0])
