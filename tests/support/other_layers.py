"""Random configurations of the layers that fork_layers has none of, and of all."""

from __future__ import annotations

import random

from . import fork_layers
from .layer_lines import Line, choice, scores, sizes


def accuracy(r: random.Random, seed: int) -> str:
    rows, _, classes = sizes(r)
    fields = f"min_is_better: true top_k: {r.randint(1, classes)}"
    return f"{seed}|positive:{rows},{classes} label{classes}:{rows}|1||type: 'Accuracy' accuracy_param {{ {fields} }}"


def bounded_scale(r: random.Random, seed: int) -> str:
    rows, size, _ = sizes(r)
    fields = f"min_value: {r.uniform(-1, 0):.3f} max_value: {r.uniform(0, 1):.3f} " + choice(r, "bias_term", True)
    return f"{seed}|normal:{rows},{size},2|1|0 w|type: 'Scale' scale_param {{ {fields} }}"


def parameter(r: random.Random, seed: int) -> str:
    rows, size, _ = sizes(r)
    fields = f"shape {{ dim: {rows} dim: {size} }} blob_filler {{ type: 'gaussian' }}"
    return f"{seed}||1|w|type: 'Parameter' parameter_param {{ {fields} }}"


def products_of_bottoms(r: random.Random, seed: int) -> str:
    rows, size, classes = sizes(r)
    bottoms = f"normal:{rows},{size} normal:{classes},{size} normal:{classes}"
    return f"{seed}|{bottoms}|1|0 1 2|type: 'InnerProduct'"


def lse_margin(r: random.Random, seed: int) -> str:
    rows, _, classes = sizes(r)
    fields = f"filler {{ value: {r.uniform(2, 30):.3f} }} min_value: 1 max_value: 20"
    return f"{seed}|cos:{rows},{classes} label{classes}:{rows}|1|0 w|type: 'GlobalLSEMargin' scale_param {{ {fields} }}"


def ranges(r: random.Random, seed: int) -> str:
    pairs, size, _ = sizes(r)
    fields = f"margin: {r.uniform(1, 30):.3f} inter_weight: {r.uniform(0, 1):.3f}"
    return f"{seed}|normal:{2 * pairs},{size} pair2:{2 * pairs}|1|0|type: 'RangeLoss' range_loss_param {{ {fields} }}"


def ring(r: random.Random, seed: int) -> str:
    rows, size, _ = sizes(r)
    fields = f"radius_filler {{ value: {r.uniform(0, 3):.3f} }}"
    return f"{seed}|normal:{rows},{size}|1|0 w|type: 'RingLoss' ring_loss_param {{ {fields} }}"


def affine(r: random.Random, _: int) -> str:
    fields = f"scale_base: {r.uniform(0.2, 2):.3f} scale_gamma: 0.125 scale_power: {r.uniform(-1, 1):.3f} "
    fields += f"scale_min: 0 scale_max: 9 bias_base: {r.uniform(-0.5, 0.5):.3f} bias_gamma: 0.125 bias_min: -1 "
    fields += f"bias_max: {r.uniform(0, 1):.3f} power_base: {r.uniform(0.5, 3):.3f} power_gamma: 0.25 power_min: 0.25 "
    fields += f"power_max: 2 iteration: {r.randint(0, 5)} " + choice(r, "original_bp", True)
    return f"type: 'LabelSpecificAffine' label_specific_affine_param {{ {fields} }}"


LAYERS: dict[str, Line] = {
    "Accuracy": accuracy,
    "GlobalLSEMargin": lse_margin,
    "InnerProduct of bottoms": products_of_bottoms,
    "LabelSpecificAffine": scores(affine, tops=(1, 2)),
    "LabelSpecificHardMargin": scores(
        lambda r, _: (
            "type: 'LabelSpecificHardMargin' label_specific_hard_margin_param { "
            f"positive_weight: {r.uniform(0, 1):.3f} }}"
        ),
        tops=(1, 2),
    ),
    "Parameter": parameter,
    "RadialRemovalMargin": scores(
        lambda r, _: f"type: 'RadialRemovalMargin' radial_removal_margin_param {{ scale: {r.uniform(5, 40):.3f} }}",
        tops=(1, 2),
    ),
    "RangeLoss": ranges,
    "RingLoss": ring,
    "Scale": bounded_scale,
}

KINDS = sorted({*fork_layers.LAYERS, *LAYERS})
"""Every layer, some in two of their uses."""


def lines(kind: str, count: int, seed: int = 7) -> list[str]:
    """Return random configurations of one of KINDS."""
    r = random.Random(seed)
    line = LAYERS[kind] if kind in LAYERS else fork_layers.LAYERS[kind].line
    return [line(r, number) for number in range(count)]
