"""What can stand on LeNet++'s feature ``ip1``, in Caffe's text.

"softmax" and "normalized" are those of ``prototxt/mnist``, which toy_nets takes from there; the others are here.
A head's class weights are the first blob of its ``weight_layer``, (classes, size); a bias is the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

XAVIER = 'type: "xavier"'
UNIT_BALL = 'type: "gaussian_unitball"'

COSINE = """
layer { name: "norm1" type: "Normalize" bottom: "ip1" top: "norm1" }
layer { name: "weight" type: "Parameter" top: "weight" param { lr_mult: 1 decay_mult: 1 }
  parameter_param { shape { dim: %(classes)d dim: %(size)d } blob_filler { type: "gaussian_unitball" } } }
layer { name: "weight_unit" type: "Normalize" bottom: "weight" top: "weight_unit" }
layer { name: "cosine" type: "InnerProduct" bottom: "norm1" bottom: "weight_unit" top: "cosine"
  inner_product_param { bias_term: false } }
"""
LOSS = """
layer { name: "softmax_loss" type: "SoftmaxWithLoss" bottom: "%(scores)s" bottom: "label" top: "softmax_loss" }
"""
ACCURACY = """
layer { name: "accuracy" type: "Accuracy" bottom: "%(plain)s" bottom: "label" top: "accuracy"
  include { phase: TEST } }
"""


@dataclass(frozen=True)
class Head:
    """text: (classes, size, **options) -> layers; None for a head of prototxt/mnist.

    unit_weights, unit_features: what the scores normalise.
    """

    text: Callable[..., str] | None
    weight_layer: str
    unit_weights: bool = False
    unit_features: bool = False


def softmax_with_bias(classes: int, size: int) -> str:
    return f"""
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
  inner_product_param {{ num_output: {classes} weight_filler {{ {XAVIER} }} bias_filler {{ type: "constant" }} }} }}
""" + _ends("ip2")


def unit_weights(classes: int, size: int) -> str:
    """|f| cos: only the class weights are normalised."""
    return f"""
layer {{ name: "weight" type: "Parameter" top: "weight" param {{ lr_mult: 1 decay_mult: 1 }}
  parameter_param {{ shape {{ dim: {classes} dim: {size} }} blob_filler {{ {UNIT_BALL} }} }} }}
layer {{ name: "weight_unit" type: "Normalize" bottom: "weight" top: "weight_unit" }}
layer {{ name: "scores" type: "InnerProduct" bottom: "ip1" bottom: "weight_unit" top: "scores"
  inner_product_param {{ bias_term: false }} }}
""" + _ends("scores")


def unit_features(classes: int, size: int) -> str:
    """|w| cos: only the features are normalised; a weight's length is its class's scale."""
    return f"""
layer {{ name: "norm1" type: "Normalize" bottom: "ip1" top: "norm1" }}
layer {{ name: "ip2" type: "InnerProduct" bottom: "norm1" top: "ip2" param {{ lr_mult: 1 decay_mult: 1 }}
  inner_product_param {{ num_output: {classes} bias_term: false weight_filler {{ {XAVIER} }} }} }}
""" + _ends("ip2")


def positive_scale(classes: int, size: int, *, positive: float, scale: float, positive_only: float = 1) -> str:
    """The label's cosine times ``positive``: the slides' margin. positive_only: leave negative cosines alone."""
    only = "for_ip: true " if positive_only else ""
    rescale = f"LabelSpecificRescale label_specific_rescale_param {{ positive_weight: {positive} {only}}}"
    return _cosine_margin(classes, size, rescale, scale)


def am_softmax(classes: int, size: int, *, margin: float, scale: float) -> str:
    """AM-Softmax: the label's cosine less the margin."""
    add = f"LabelSpecificAdd label_specific_add_param {{ bias: {-margin} }}"
    return _cosine_margin(classes, size, add, scale)


def arcface(classes: int, size: int, *, margin: float, scale: float) -> str:
    """ArcFace: cos(theta + margin), in degrees."""
    shift = f"LabelSpecificMargin label_specific_margin_param {{ margin_base: {margin} gamma: 0 }}"
    return _cosine_margin(classes, size, shift, scale)


def sphereface(classes: int, size: int, *, base: float, lambda_min: float) -> str:
    """SphereFace, m = 4; the margin comes in as lambda falls from ``base`` to ``lambda_min``."""
    return _multiplied_angle("MarginInnerProduct", "margin_inner_product_param", classes, base, lambda_min)


def large_margin(classes: int, size: int, *, base: float, lambda_min: float) -> str:
    """L-Softmax, m = 4, as SphereFace with the weights' lengths left as they are."""
    return _multiplied_angle("LargeMarginInnerProduct", "largemargin_inner_product_param", classes, base, lambda_min)


def center(classes: int, size: int, *, weight: float) -> str:
    """Softmax and ``weight`` times the center loss, by the paper's step of the centers."""
    return f"""
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" param {{ lr_mult: 1 decay_mult: 1 }}
  inner_product_param {{ num_output: {classes} bias_term: false weight_filler {{ {XAVIER} }} }} }}
layer {{ name: "center_loss" type: "CenterLoss" bottom: "ip1" bottom: "label" top: "center_loss"
  loss_weight: {weight} param {{ lr_mult: 50 decay_mult: 0 }}
  center_loss_param {{ num_output: {classes} center_filler {{ {XAVIER} }} center_step: PAPER }} }}
""" + _ends("ip2")


def _cosine_margin(classes: int, size: int, margin: str, scale: float) -> str:
    kind, fields = margin.split(" ", 1)
    return (
        COSINE % {"classes": classes, "size": size}
        + f"""
layer {{ name: "margin" type: "{kind}" bottom: "cosine" bottom: "label" top: "margin" {fields} }}
layer {{ name: "cosine_scale" type: "Scale" bottom: "margin" top: "scores" param {{ lr_mult: 0 decay_mult: 0 }}
  scale_param {{ num_axes: 0 filler {{ value: {scale} }} }} }}
"""
        + _ends("scores", plain="cosine")
    )


def _multiplied_angle(kind: str, parameter: str, classes: int, base: float, lambda_min: float) -> str:
    exact = " exact_gradient: true" if kind == "MarginInnerProduct" else ""
    return f"""
layer {{ name: "ip2" type: "{kind}" bottom: "ip1" bottom: "label" top: "ip2" top: "lambda"
  param {{ lr_mult: 1 decay_mult: 1 }}
  {parameter} {{ num_output: {classes} type: QUADRUPLE weight_filler {{ {XAVIER} }}
    base: {base} gamma: 0.12 power: 1 lambda_min: {lambda_min}{exact} }} }}
""" + _ends("ip2")


def _ends(scores: str, plain: str | None = None) -> str:
    """The loss, and the accuracy of the scores without a margin."""
    return LOSS % {"scores": scores} + ACCURACY % {"plain": plain or scores}


HEADS: dict[str, Head] = {
    "softmax": Head(None, "ip2"),
    "normalized": Head(None, "weight", True, True),
    "softmax-with-bias": Head(softmax_with_bias, "ip2"),
    "unit-weights": Head(unit_weights, "weight", unit_weights=True),
    "unit-features": Head(unit_features, "ip2", unit_features=True),
    "positive-scale": Head(positive_scale, "weight", True, True),
    "am-softmax": Head(am_softmax, "weight", True, True),
    "arcface": Head(arcface, "weight", True, True),
    "sphereface": Head(sphereface, "ip2", unit_weights=True),
    "large-margin": Head(large_margin, "ip2"),
    "center": Head(center, "ip2"),
}
