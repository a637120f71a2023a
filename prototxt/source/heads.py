"""What stands on the feature: the losses of each paper while training, the merged and normalised feature after it.

L2 distances between unit vectors are squared ones: 2 - 2 cosine.
"""

from __future__ import annotations

from .layers import (
    UNIT_BALL,
    XAVIER,
    accuracy,
    concat,
    dims,
    eltwise,
    inner_product,
    layer,
    message,
    normalize,
    param,
    softmax_loss,
)  # fmt: skip


def softmax_and_center(feature: str, classes: int) -> list[str]:
    """Wen et al. 2016: softmax over w f + b, and 0.008 times the center loss."""
    fields = message("center_loss_param", f"num_output: {classes}", f"center_filler {{ {XAVIER} }}")
    loss = layer(
        "center_loss", "CenterLoss", f"{feature} label", "center_loss", "loss_weight: 0.008", param(1, 2), fields
    )
    return [inner_product("fc6", feature, classes), softmax_loss("fc6"), loss, accuracy("fc6")]


def softmax(feature: str, classes: int) -> list[str]:
    """Plain softmax without a bias, which damages the geometry of the features."""
    fields = message(
        "inner_product_param", f"num_output: {classes}", "bias_term: false", f"weight_filler {{ {XAVIER} }}"
    )
    return [
        layer("ip2", "InnerProduct", feature, "ip2", param(1, 1), fields),
        softmax_loss("ip2"),
        accuracy("ip2"),
    ]


def scaled_cosine_softmax(feature: str, classes: int) -> list[str]:
    """NormFace: softmax over s cos(f, w), the scale s learned. The weight rows are kept at unit length."""
    fields = message(
        "inner_product_param",
        f"num_output: {classes}",
        "bias_term: false",
        "normalize: true",
        f"weight_filler {{ {UNIT_BALL} }}",
    )
    return [
        normalize("norm1", feature),
        layer("cosine", "InnerProduct", "norm1", "cosine", param(100, 0), fields),
        cosine_scale(10),
        softmax_loss("scaled_cosine"),
        accuracy("cosine"),
    ]


def cosine_scale(start: float) -> str:
    """The learned s. Its lower bound keeps it positive."""
    fields = message("scale_param", "num_axes: 0", f"filler {{ value: {start:g} }}", "min_value: 0.01")
    return layer("cosine_scale", "Scale", "cosine", "scaled_cosine", fields)


def c_contrastive(feature: str, classes: int) -> list[str]:
    """NormFace: the contrastive loss between features and class agents, both of unit length."""
    fields = message(
        "inner_distance_param", f"num_output: {classes}", "normalize: true", f"weight_filler {{ {UNIT_BALL} }}"
    )
    return [
        normalize("norm1", feature),
        layer("distance", "InnerDistance", "norm1", "distance", param(100, 0), fields),
        contrastive_loss(1),
        accuracy("distance", of_distances=True),
    ]


def contrastive_loss(weight: float) -> str:
    """The second top reports mean distances; it has no part in the loss."""
    margins = message("general_contrastive_loss_param", "positive_margin: 0", "negative_margin: 1")
    weights = (f"loss_weight: {weight:g}", "loss_weight: 0")
    tops = "contrastive_loss mean_distance"
    return layer("contrastive_loss", "GeneralContrastiveLoss", "distance label", tops, *weights, margins)


def c_triplet(feature: str, classes: int, dimension: int) -> list[str]:
    """NormFace: the hardest class agent has to be farther than the own one by the margin; the own one always pulls."""
    fields = message("general_triplet_loss_param", "margin: 0.8", "hardest_only: true", "add_center_loss: true")
    weights = ("loss_weight: 1", "loss_weight: 0")
    tops = "triplet_loss mean_distance"
    return [
        normalize("norm1", feature),
        *unit_rows("agent", classes, dimension, decay_mult=0),
        layer("distance", "InnerDistance", "norm1 agent_unit", "distance"),
        layer("triplet_loss", "GeneralTripletLoss", "distance label", tops, *weights, fields),
        accuracy("distance", of_distances=True),
    ]


def unit_rows(name: str, classes: int, dimension: int, *, lr_mult: float = 1, decay_mult: float = 1) -> list[str]:
    """A vector for each class, learned as it is and normalised for use: the gradient goes through the norm."""
    shape = f"shape {{ {dims((classes, dimension))} }}"
    fields = message("parameter_param", shape, f"blob_filler {{ {UNIT_BALL} }}")
    return [layer(name, "Parameter", "", name, param(lr_mult, decay_mult), fields), normalize(f"{name}_unit", name)]


def normalized_softmax(
    feature: str, classes: int, dimension: int, *, scale: float = 10, lr_mult: float = 1
) -> list[str]:
    """The same loss as scaled_cosine_softmax, with weight rows that are learned as they are and normalised for use."""
    product = layer("cosine", "InnerProduct", "norm1 weight_unit", "cosine", "inner_product_param { bias_term: false }")
    return [
        normalize("norm1", feature),
        *unit_rows("weight", classes, dimension, lr_mult=lr_mult),
        product,
        cosine_scale(scale),
        softmax_loss("scaled_cosine"),
        accuracy("cosine"),
    ]


def softmax_and_c_contrastive(feature: str, classes: int, dimension: int) -> list[str]:
    """NormFace's best: softmax over s cos(f, w) + 0.01 C-contrastive, each with class vectors of its own."""
    return [
        *normalized_softmax(feature, classes, dimension, scale=4),
        *unit_rows("agent", classes, dimension),
        layer("distance", "InnerDistance", "norm1 agent_unit", "distance"),
        contrastive_loss(0.01),
    ]


def am_softmax(feature: str, classes: int) -> list[str]:
    """AM-Softmax: softmax over s (cos - m at the label), s = 30, m = 0.35 (Wang et al. 2018)."""
    fields = message(
        "inner_product_param",
        f"num_output: {classes}",
        "bias_term: false",
        "normalize: true",
        f"weight_filler {{ {XAVIER} }}",
    )
    scale = message("scale_param", "filler { value: 30 }")
    return [
        normalize("norm1", feature),
        layer("fc6_l2", "InnerProduct", "norm1", "fc6", param(1, 1), fields),
        layer("margin", "LabelSpecificAdd", "fc6 label", "fc6_margin", "label_specific_add_param { bias: -0.35 }"),
        layer("fc6_margin_scale", "Scale", "fc6_margin", "fc6_scaled", param(0, 0), scale),
        softmax_loss("fc6_scaled"),
        accuracy("fc6"),
    ]


def with_mirror_image() -> list[str]:
    """The images, and after them their mirror images, as one batch, ``both``."""
    return [layer("mirrored", "Flip", "data", "mirrored"), concat("both", "data mirrored", axis=0)]


def merged_features(feature: str, how: str) -> list[str]:
    """The features of an image and of its mirror image as one of unit length. ``how``: SUM, MAX or CONCAT."""
    tops = f"{feature}_front {feature}_mirrored"
    name = f"{feature}_{how.lower()}"
    merge = concat(name, tops, axis=1) if how == "CONCAT" else eltwise(name, tops, how)
    return [
        layer(f"{feature}_split", "Slice", feature, tops, "slice_param { axis: 0 }"),
        merge,
        normalize("norm1", name),
    ]
