"""Layers of published forks whose .cpp can be compiled beside ours, and random configurations of them.

Where our numbers differ on purpose (each header says why), the configurations keep off that place, or the quantity is
not compared. Not here but in test_forks_in_emulation.py are those that the forks have on the GPU only:
LabelSpecificHardMargin, RadialRemovalMargin, GlobalLSEMargin, and Normalize's L1 and fix_gradient; and
LabelSpecificAffine, whose CPU code there is another function than its GPU code, which nets are trained with.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from .layer_lines import Line, choice, schedule, scores, sizes


def noise(r: random.Random, seed: int) -> str:
    """Bins of few samples mostly, in which whether heights are equal is a matter of rounding."""
    rows, classes = r.randint(60, 200), r.randint(2, 5)
    batches, bins, shield = (
        r.choice([1, 2, 3, 3, 3, 4]),
        r.choice([60, 100, 200, 200, 200]),
        r.choice(["true", "false"]),
    )
    fields = f"slide_batch_num: {batches} bins: {bins} shield_forward: {shield}"
    bottoms = f"normal:{rows},{classes} cos:{rows},{classes} label{classes}:{rows}"
    return f"{seed}|{bottoms}|1|0|type: 'NoiseTolerantFR' noise_tolerant_fr_param {{ {fields} }}"


def adaptive(r: random.Random, seed: int) -> str:
    """Mean angles on either side of 45 degrees, the most that counts."""
    rows, classes = r.randint(1, 9), r.randint(3, 12)
    fields = f"m: {r.uniform(0, 1.5):.3f} num_classes: {classes + r.randint(0, 99)}"
    bottoms = f"{r.choice(['cos', 'near'])}:{rows},{classes} label{classes}:{rows}"
    return f"{seed}|{bottoms}|1|0|type: 'AdaCosAddmScale' adacos_add_m_scale_param {{ {fields} }}"


def norm(r: random.Random, seed: int) -> str:
    shape = ",".join(str(r.randint(1, 5)) for _ in range(4))
    return f"{seed}|normal:{shape}|1|0|type: 'NormL2'"


def rank(r: random.Random, seed: int) -> str:
    pairs, size, negatives = r.randint(2, 6), r.randint(1, 6), r.randint(1, 8)
    fields = f"pair_size: 2 neg_num: {negatives} hard_ratio: 1 margin: {r.uniform(0, 1):.3f}"
    bottoms = f"normal:{2 * pairs},{size} pair2:{2 * pairs}"
    return f"{seed}|{bottoms}|1|0|type: 'RankHardLoss' rank_hard_loss_param {{ {fields} }}"


def inter(r: random.Random, seed: int) -> str:
    rows, size, classes = r.randint(1, 9), r.randint(1, 9), r.randint(2, 9)
    fields = (
        f"num_output: {classes} type: {r.choice(['MEAN', 'AMONG'])} normalize: {r.choice(['true', 'false'])} "
        f"alpha_start_iter: {r.choice([1, 2, 3])} alpha_start_value: {r.uniform(0, 9):.3f}"
    )
    return f"{seed}|normal:{rows},{size} label{classes}:{rows}|1|w|type: 'InterClass' inter_class_param {{ {fields} }}"


def axpy(r: random.Random, seed: int) -> str:
    n, c, h, w = (r.randint(1, 5) for _ in range(4))
    return f"{seed}|normal:{n},{c},1,1 normal:{n},{c},{h},{w} normal:{n},{c},{h},{w}|1|0 1 2|type: 'Axpy'"


def center(r: random.Random, seed: int) -> str:
    rows, size, classes = r.randint(1, 9), r.randint(1, 9), r.randint(2, 9)
    fields = f"num_output: {classes} center_step: FORK distance_type: '{r.choice(['L1', 'L2'])}'"
    bottoms = f"normal:{rows},{size} label{classes}:{rows}"
    return f"{seed}|{bottoms}|1|0 w|type: 'CenterLoss' center_loss_param {{ {fields} }}"


def add(r: random.Random, _: int) -> str:
    if r.random() < 0.5:
        fields = f"bias: {r.uniform(-0.5, 0.5):.3f}"
    else:
        fields = f"{schedule(r, 'bias_base', -0.5, 0.2, 'bias_')} bias_min: {r.uniform(-0.6, -0.2):.3f} bias_max: 0.4"
    return f"type: 'LabelSpecificAdd' label_specific_add_param {{ {fields} }}"


def margin(r: random.Random, _: int) -> str:
    """Degrees: theta + m is beyond pi for no cosine above -0.97."""
    fields = f"margin_base: {r.uniform(0, 9):.3f} gamma: {r.uniform(0, 0.5):.3f} margin_max: {r.uniform(5, 13):.3f}"
    return f"type: 'LabelSpecificMargin' label_specific_margin_param {{ {fields} {choice(r, 'iteration', 1, 5)} }}"


def rescale(r: random.Random, _: int) -> str:
    fields = choice(r, "positive_weight", 0.25, 0.75, 1.5) + choice(r, "negative_weight", 0.5, 2)
    fields += choice(r, "for_ip", True) + choice(r, "bias_fix", True)
    if r.random() < 0.5:
        fields += schedule(r, "positive_weight_base", 0.2, 2)
        fields += choice(r, "positive_weight_min", 0.5) + choice(r, "positive_weight_max", 1.25)
    return f"type: 'LabelSpecificRescale' label_specific_rescale_param {{ {fields} }}"


def distances(text: Callable[[random.Random], str]) -> Line:
    """Lines for a loss of (distances, labels), with the report as its second top."""

    def line(r: random.Random, seed: int) -> str:
        rows, classes, tops = r.randint(1, 9), r.randint(2, 12), r.choice([1, 2])
        weights = "loss_weight: 1 loss_weight: 0 " if tops == 2 else ""
        return f"{seed}|positive:{rows},{classes} label{classes}:{rows}|{tops}|0|{weights}{text(r)}"

    return line


def triplets_of_agents(r: random.Random) -> str:
    fields = f"margin: {r.uniform(0, 1):.3f} " + choice(r, "add_center_loss", False) + choice(r, "hardest_only", True)
    fields += choice(r, "positive_first", True) + choice(r, "positive_upper_bound", 0.5)
    fields += choice(r, "positive_weight", 0.5, 2) + choice(r, "negative_weight", 0.25, 3)
    return f"type: 'GeneralTripletLoss' general_triplet_loss_param {{ {fields} }}"


def contrasts_of_agents(r: random.Random) -> str:
    fields = choice(r, "positive_margin", 0.2, 0.5) + choice(r, "negative_margin", 0.7, 1.3)
    fields += choice(r, "positive_weight", 0.5, 2) + choice(r, "negative_weight", 0.25, 3)
    fields += choice(r, "positive_outlier_thresh", 0.3, 0.8) + choice(r, "max_positive_only", True)
    fields += choice(r, "positive_first", True) + choice(r, "positive_upper_bound", 0.5)
    fields += choice(r, "exp_negative_weight", True) + choice(r, "max_negative_only", True)
    fields += choice(r, "normalize_negative", 0.5, 2)
    return f"type: 'GeneralContrastiveLoss' general_contrastive_loss_param {{ {fields} }}"


def inner_distance(r: random.Random, seed: int) -> str:
    rows, size, classes = r.randint(1, 9), r.randint(2, 9), r.randint(2, 9)
    fields = f"num_output: {classes} " + choice(r, "distance_type", "'L1'", "'L2'") + choice(r, "normalize", True)
    fields += "weight_filler { type: 'gaussian' }"
    return f"{seed}|normal:{rows},{size}|1|0 w|type: 'InnerDistance' inner_distance_param {{ {fields} }}"


def normalised_product(r: random.Random, seed: int) -> str:
    rows, size, classes = r.randint(1, 9), r.randint(2, 9), r.randint(2, 9)
    fields = f"num_output: {classes} normalize: true bias_term: false weight_filler {{ type: 'gaussian' }}"
    return f"{seed}|normal:{rows},{size}|1|0 w|type: 'InnerProduct' inner_product_param {{ {fields} }}"


def normalize(r: random.Random, seed: int) -> str:
    """The fork's L1 gradient on the CPU, of a macro without parentheses, is not that of its GPU, which ours is."""
    shape = ",".join(str(r.randint(1, 5)) for _ in range(4))
    kind, tops = r.choice(["L1", "L2"]), r.choice([1, 2])
    fields = f"normalize_type: '{kind}' " + choice(r, "bp_norm", True)
    return (
        f"{seed}|normal:{shape}|{tops}|{'0' if kind == 'L2' else ''}|type: 'Normalize' normalize_param {{ {fields} }}"
    )


def channel_scale(r: random.Random, seed: int) -> str:
    n, c, h, w = (r.randint(1, 5) for _ in range(4))
    fields = choice(r, "do_forward", False) + choice(r, "do_backward_feature", False)
    fields += choice(r, "do_backward_scale", False)
    bottoms = f"normal:{n},{c},{h},{w} normal:{n},1,{h},{w}"
    return f"{seed}|{bottoms}|1|0 1|type: 'ChannelScale' channel_scale_param {{ {fields} }}"


def focal(r: random.Random, seed: int) -> str:
    rows, classes = r.randint(1, 9), r.randint(2, 9)
    fields = f"focal_loss_param {{ gamma: {r.uniform(0, 4):.3f} }} " + choice(r, "loss_param { normalize", "false }")
    return f"{seed}|normal:{rows},{classes} label{classes}:{rows}|1|0|type: 'FocalLoss' {fields}"


def flip(r: random.Random, seed: int) -> str:
    shape = ",".join(str(r.randint(1, 5)) for _ in range(4))
    fields = choice(r, "flip_width", False) + choice(r, "flip_height", True)
    return f"{seed}|normal:{shape}|1|0|type: 'Flip' flip_param {{ {fields} }}"


def psi(type_: str, field: str) -> Line:
    """Lines for a margin of psi(theta)."""

    def line(r: random.Random, seed: int) -> str:
        rows, size, classes = r.randint(1, 9), r.randint(2, 9), r.randint(2, 9)
        kind = r.choice(["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"])
        fields = f"num_output: {classes} type: {kind} weight_filler {{ type: 'gaussian' }} "
        fields += f"{schedule(r, 'base', 0, 9)} lambda_min: {r.uniform(0, 2):.3f} {choice(r, 'iteration', 3)}"
        bottoms = f"normal:{rows},{size} label{classes}:{rows}"
        return f"{seed}|{bottoms}|2|0 w|type: '{type_}' {field} {{ {fields} }}"  # the forks need both tops

    return line


def center_face(r: random.Random, seed: int) -> str:
    rows, size, classes = r.randint(1, 9), r.randint(2, 9), r.randint(2, 9)
    bottoms = f"normal:{rows},{size} label{classes}:{rows}"
    return f"{seed}|{bottoms}|1|0 w|type: 'CenterLoss' center_loss_param {{ num_output: {classes} }}"


def depthwise(r: random.Random, seed: int) -> str:
    n, c, h, w = (r.randint(1, 6) for _ in range(4))
    fields = f"num_output: {c} group: {c} kernel_size: {r.randint(2, 3)} pad: {r.randint(1, 2)} "
    fields += f"stride: {r.randint(1, 2)} bias_term: false weight_filler {{ type: 'gaussian' }}"
    return f"{seed}|normal:{n},{c},{h},{w}|1|0 w|type: 'DepthwiseConvolution' convolution_param {{ {fields} }}"


def triplets(r: random.Random, seed: int) -> str:
    rows, size, _ = sizes(r)
    bottoms = " ".join([f"normal:{rows},{size}"] * 3)
    return f"{seed}|{bottoms}|1|0 1 2|type: 'TripletLoss' triplet_loss_param {{ margin: {r.uniform(0, 3):.3f} }}"


class Fork(NamedTuple):
    """A layer of a fork: OWNER+NAME, the class, its .cpp and .hpp, the lines, and macros that its file needs.

    ``of_many``: the header declares many layers and wants all of its fork, so that the class is cut out of it.
    """

    name: str
    class_name: str
    source: str
    header: str
    line: Line
    macros: tuple[str, ...] = ()
    of_many: bool = False


def normface(class_name: str, source: str, line: Line, header: str = "", macros: tuple[str, ...] = ()) -> Fork:
    path = f"include/caffe/layers/{header or source}_layer.hpp"
    stem = source if source.startswith("label_specific") else f"{source}_layer"
    return Fork("happynear+caffe-windows", class_name, f"src/caffe/layers/{stem}.cpp", path, line, macros)


SPHEREFACE = "tools/caffe-sphereface"
LAYERS: dict[str, Fork] = {
    "CosinAddm": Fork(
        "xialuxi+arcface-caffe", "CosinAddmLayer", "cosin_add_m_layer.cpp", "cosin_add_m_layer.hpp",
        scores(lambda r, _: f"type: 'CosinAddm' cosin_add_m_param {{ m: {r.uniform(0, 2):.3f} }}"),
    ),
    "Arcface": Fork(
        "huangyangyu+NoiseFace", "ArcfaceLayer", "layer/arcface_layer.cpp", "layer/arcface_layer.hpp",
        scores(lambda r, _: f"type: 'Arcface' arcface_param {{ m: {r.uniform(0, 2):.3f} }}"),
    ),
    "AdaCosAddmScale": Fork(
        "xialuxi+arcface-caffe", "AdaCosAddmScaleLayer", "AdaCos/adacos_add_m_scale_layer.cpp",
        "AdaCos/adacos_add_m_scale_layer.hpp",
        adaptive,
    ),
    "NormL2": Fork("huangyangyu+NoiseFace", "NormL2Layer", "layer/normL2_layer.cpp", "layer/normL2_layer.hpp", norm),
    "NoiseTolerantFR": Fork(
        "huangyangyu+NoiseFace", "NoiseTolerantFRLayer", "layer/noise_tolerant_fr_layer.cpp",
        "layer/noise_tolerant_fr_layer.hpp", noise,
    ),
    "RankHardLoss": Fork(
        "wujiyang+Triplet-Loss", "RankHardLossLayer", "rank_hard_loss_layer.cpp", "rank_hard_loss_layer.hpp", rank,
    ),
    "InterClass": Fork(
        "wy1iu+sphereface-plus", "InterClassLayer", "tools/caffe-sfplus/src/caffe/layers/inter_class_layer.cpp",
        "tools/caffe-sfplus/include/caffe/layers/inter_class_layer.hpp", inter,
    ),
    # m1 theta + m2 is beyond pi for no cosine above -0.97.
    "CombinedMargin": Fork(
        "gehaocool+CombinedMargin-caffe", "CombinedMarginLayer", "combined_margin_layer.cpp",
        "combined_margin_layer.hpp",
        scores(lambda r, _: f"type: 'CombinedMargin' combined_margin_param {{ m1: {r.uniform(0.5, 1):.3f} "
               f"m2: {r.uniform(0, 0.2):.3f} m3: {r.uniform(0, 1):.3f} }}"),
    ),
    "MarginInnerProduct": Fork(
        "wy1iu+sphereface", "MarginInnerProductLayer", f"{SPHEREFACE}/src/caffe/layers/margin_inner_product_layer.cpp",
        f"{SPHEREFACE}/include/caffe/layers/margin_inner_product_layer.hpp",
        psi("MarginInnerProduct", "margin_inner_product_param"),
    ),
    "LargeMarginInnerProduct": Fork(
        "wy1iu+LargeMargin_Softmax_Loss", "LargeMarginInnerProductLayer",
        "src/caffe/layers/largemargin_inner_product_layer.cpp",
        "include/caffe/layers/largemargin_inner_product_layer.hpp",
        psi("LargeMarginInnerProduct", "largemargin_inner_product_param"),
    ),
    "CenterLoss of caffe-face": Fork(
        "ydwen+caffe-face", "CenterLossLayer", "src/caffe/layers/center_loss_layer.cpp",
        "include/caffe/layers/center_loss_layer.hpp", center_face,
    ),
    "DepthwiseConvolution": Fork(
        "xialuxi+arcface-caffe", "DepthwiseConvolutionLayer", "landmark_and_pose/depthwise_conv_layer.cpp",
        "landmark_and_pose/depthwise_conv_layer.hpp", depthwise,
    ),
    "CenterLoss": normface("CenterLossLayer", "center_loss", center),
    "Axpy": normface("AxpyLayer", "axpy", axpy),
    "LabelSpecificAdd": normface("LabelSpecificAddLayer", "label_specific_add", scores(add)),
    "LabelSpecificMargin": normface("LabelSpecificMarginLayer", "label_specific_margin", scores(margin)),
    "LabelSpecificRescale": normface("LabelSpecificRescaleLayer", "label_specific_rescale", scores(rescale)),
    "GeneralTripletLoss": normface("GeneralTripletLossLayer", "general_triplet_loss", distances(triplets_of_agents)),
    "GeneralContrastiveLoss": normface(
        "GeneralContrastiveLossLayer", "general_constrastive_loss", distances(contrasts_of_agents),
        "general_contrastive_loss",
    ),
    "InnerDistance": normface("InnerDistanceLayer", "inner_distance", inner_distance),
    "InnerProduct": normface("InnerProductLayer", "inner_product", normalised_product),
    "Normalize": normface("NormalizeLayer", "normalize", normalize),
    "ChannelScale": normface("ChannelScaleLayer", "channel_scale", channel_scale),
    "FocalLoss": normface("FocalLossLayer", "focal_loss", focal),
    "Flip": normface("FlipLayer", "flip", flip),
    "TripletLoss": Fork(
        "happynear+caffe-windows", "TripletLossLayer", "src/caffe/layers/triplet_loss_layer.cpp",
        "include/caffe/custom_layers.hpp", triplets, of_many=True,
    ),
}  # fmt: skip

LIMITS = {
    # These forks keep theta, or its sine and cosine, in a float.
    "CombinedMargin": 1e-6,
    "AdaCosAddmScale": 1e-6,
    "LabelSpecificMargin": 1e-6,
    # Ours add 1e-9 to |x| |w|, so that a zero vector has the cosine 0; psi is up to 16 times as steep as the cosine,
    # and the gradient divides by lengths of 0.1 again.
    "MarginInnerProduct": 2e-7,
    "LargeMarginInnerProduct": 2e-7,
    # Our eps is a float field, 1e-6 but for 2e-14, and theirs a double: seen where features are 0.01 long.
    "Normalize": 1e-8,
}
"""Where numbers differ by more than the order of sums: how much, relative, and absolute below 1."""
