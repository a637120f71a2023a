"""One face layer as a net, and the helpers that its tests share."""

from __future__ import annotations

import numpy as np
import torch
from torch.autograd import gradcheck

from support import nets

TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}  # both sides compute in float64, from parameters that float64 holds


MESSAGES = {
    "CenterLoss": "center_loss_param",
    "GeneralContrastiveLoss": "general_contrastive_loss_param",
    "GeneralTripletLoss": "general_triplet_loss_param",
    "MarginInnerProduct": "margin_inner_product_param",
    "LargeMarginInnerProduct": "largemargin_inner_product_param",
    "LabelSpecificAdd": "label_specific_add_param",
    "LabelSpecificRescale": "label_specific_rescale_param",
    "LabelSpecificMargin": "label_specific_margin_param",
    "CosinAddm": "cosin_add_m_param",
    "CombinedMargin": "combined_margin_param",
    "AdaCosAddmScale": "adacos_add_m_scale_param",
    "LabelSpecificHardMargin": "label_specific_hard_margin_param",
    "LabelSpecificAffine": "label_specific_affine_param",
    "RadialRemovalMargin": "radial_removal_margin_param",
    "GlobalLSEMargin": "scale_param",
    "FocalLoss": "focal_loss_param",
    "RangeLoss": "range_loss_param",
    "RankHardLoss": "rank_hard_loss_param",
    "InterClass": "inter_class_param",
}


def one_layer(kind, fields="", shape=(5, 7), labels=None, tops="out", extra=""):
    """Return the text of one layer on ``data`` and ``label``."""
    message = f"{MESSAGES[kind]} {{ {fields} }} {extra}"
    return nets.inputs(data=shape, label=(labels or shape[0],)) + nets.layer(kind, "data label", tops, message)


def build(tmp_path, kind, fields="", shape=(5, 7), tops="out", extra="", phase="train", **options):
    """Return the layer as a float64 module."""
    text = one_layer(kind, fields, shape, tops=tops, extra=extra)
    return nets.load(tmp_path, text, phase=phase, **options).to_torch().double()


def leaf(array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def run(model, x, labels):
    """(the tops by name, the gradient in x of the weighted losses)"""
    x = leaf(x)
    tops = model(x, torch.tensor(labels))
    if torch.is_tensor(tops):
        tops = {model.output_names[0]: tops}
    (gradient,) = torch.autograd.grad(model.loss(tops), x, allow_unused=True)
    return {name: top.detach().numpy() for name, top in tops.items()}, gradient.numpy()


def same(actual, expected):
    np.testing.assert_allclose(actual, expected, **TOLERANCE)


def is_derivative(model, x, labels):
    """Run gradcheck in the bottom and in every parameter."""
    names, values = zip(*model.named_parameters(), strict=True) if list(model.parameters()) else ((), ())

    def top(x, *values):
        tops = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x, torch.tensor(labels)))
        return tops if torch.is_tensor(tops) else tops["out"]

    return gradcheck(top, (leaf(x), *(leaf(value.detach().numpy()) for value in values)))


def text(fields):
    return " ".join(f"{name}: {str(value).lower()}" for name, value in fields.items())
