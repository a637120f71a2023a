"""The losses with the options that their tests try, on the points of loss_formulas."""

from __future__ import annotations

import torch
from normface import losses

from . import loss_formulas as bare
from .loss_formulas import FEATURES, LABELS, WEIGHTS

CASES = [
    ("softmax", {}, {}),
    ("normalized-softmax", {}, {}),
    ("normalized-softmax", {"scale": 1.0}, {"scale": 1.0}),
    ("normalized-softmax", {"scale": "learned", "initial_scale": 25.0}, {"scale": 25.0}),
    ("normalized-softmax", {"scale": 300.0}, {"scale": 300.0}),
    ("positive-scale-softmax", {}, {}),
    ("positive-scale-softmax", {"scale": 7.0, "positive_scale": 0.5, "positive_only": True}, None),
    ("l2-softmax", {}, {}),
    ("l2-softmax", {"alpha": "learned", "initial_alpha": 3.0}, {"alpha": 3.0}),
    ("am-softmax", {}, {}),
    ("am-softmax", {"scale": 10.0, "margin": 0.2, "above_margin_only": True}, None),
    ("arcface", {}, {}),
    ("arcface", {"scale": 8.0, "margin": 0.3, "beyond": "easy"}, None),
    ("arcface", {"scale": 8.0, "beyond": "nothing"}, None),
    ("arcface", {"scale": 8.0, "beyond": "linear", "margin": 1.0}, None),
    *[("large-margin-softmax", {"margin": m, "base": 2.0, "lambda_min": 0.0}, None) for m in (1, 2, 3, 4)],
    ("large-margin-softmax", {}, {}),
    *[("sphereface", {"margin": m, "base": 2.0, "lambda_min": 0.0}, None) for m in (1, 2, 3, 4)],
    ("sphereface", {}, {}),
    ("c-contrastive", {}, {}),
    ("c-contrastive", {"negative_margin": 3.0, "positive_weight": 0.5, "negative_weight": 2.0}, None),
    ("c-contrastive", {"positive_margin": 0.3, "positive_outlier_thresh": 1.5}, None),
    ("c-triplet", {}, {}),
    ("c-triplet", {"margin": 0.3, "hardest_only": False, "negative_weight": 0.5}, None),
    ("center", {}, {}),
    ("center", {"center_step": "derivative"}, {}),
    ("combined-margin", {}, {}),
    ("combined-margin", {"m1": 0.9, "m2": 0.4, "m3": 0.15}, None),
    ("combined-margin", {"scale": 8.0, "m1": 2.0, "m2": 0.0, "m3": 0.1}, None),
    ("sv-x-softmax", {}, {}),
    ("sv-x-softmax", {"scale": 8.0, "margin": 0.2, "t": 1.5}, None),
    ("sv-x-softmax", {"margin_on": "angle"}, None),
    ("curricularface", {}, {}),
    ("curricularface", {"scale": 8.0, "margin": 0.3, "momentum": 0.4}, None),
    ("magface", {}, {}),
    ("magface", {"scale": 8.0, "shortest": 0.6, "longest": 2.5, "lambda_g": 2.0}, None),
    ("magface", {"scale": 8.0, "shortest": 0.6, "longest": 2.5, "easy": False}, None),
    ("adaface", {}, {}),
    ("adaface", {"scale": 8.0, "margin": 0.3, "h": 0.5, "momentum": 1.0}, None),
    ("sub-center-arcface", {}, {}),
    ("sub-center-arcface", {"scale": 8.0, "margin": 0.3, "sub_centers": 1}, {"scale": 8.0, "margin": 0.3}),
    ("elasticface", {"std": 0.0}, {}),
    ("elasticface", {"std": 0.0, "margin_on": "cosine", "scale": 8.0, "margin": 0.2}, {"scale": 8.0, "cosine": 0.2}),
    ("sphereface2", {}, {}),
    ("sphereface2", {"scale": 10.0, "margin": 0.2, "balance": 0.4, "power": 1.0}, None),
]
"""(name, the loss's options, the formula's: None for the same)"""


def made(name, dtype=torch.float64, **options):
    """The loss with the hand-made weights."""
    loss = losses.make(name, len(WEIGHTS), 2, dtype=dtype, **options)
    with torch.no_grad():
        loss.weight.copy_(torch.tensor(bare.rows(WEIGHTS), dtype=torch.float64))
        if name == "sub-center-arcface":
            loss.more.copy_(loss.weight.expand_as(loss.more))  # all the same: the others are tested by themselves
    return loss


def points(dtype=torch.float64):
    return torch.tensor(bare.rows(FEATURES), dtype=dtype, requires_grad=True), torch.tensor(LABELS)


def with_parameters(loss, labels):
    """The loss as a function of the embeddings and all parameters, and these."""
    names, values = zip(*loss.named_parameters(), strict=True)

    def function(x, *parameters):
        return torch.func.functional_call(loss, dict(zip(names, parameters, strict=True)), (x, labels))

    return function, [value.detach().clone().requires_grad_() for value in values]
