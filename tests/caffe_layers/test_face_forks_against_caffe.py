"""The face layers of caffeport against real Caffe with the C++ layers: tops and gradients on random configurations.

Both take the text as it stands, in the TRAIN phase; the tops get random gradients. test_caffeport_against_caffe.py
compares the forks' recordings, whole nets and the TEST phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from support import nets
from support.caffe_jobs import run_jobs

RTOL, ATOL = 2e-4, 2e-5  # float32 in Caffe against float64, sums of some hundred terms, slopes up to 30
ROUNDS = 12


@dataclass
class Case:
    """A layer of some random shape; ``inputs`` by the bottoms' names, the first of which has a gradient."""

    kind: str
    fields: str
    inputs: dict[str, np.ndarray]
    tops: str = "y"
    reached: tuple[str, ...] = ("x",)
    """The bottoms of which gradients are compared."""

    @property
    def text(self) -> str:
        shapes = {name: array.shape for name, array in self.inputs.items()}
        layer = nets.layer(self.kind, " ".join(self.inputs), self.tops, self.fields, name="l")
        return "force_backward: true\n" + nets.inputs(**shapes) + layer


def pick(random: np.random.Generator, *values: str) -> str:
    return str(random.choice(values))


def labels(random: np.random.Generator, rows: int, classes: int) -> np.ndarray:
    """Some of them below 0."""
    return np.where(random.random(rows) < 0.15, -1, random.integers(0, classes, rows)).astype(np.float32)


def scored(random: np.random.Generator) -> tuple[dict[str, np.ndarray], int, int]:
    """(cosines and labels, N, C)"""
    rows, classes = int(random.integers(2, 9)), int(random.integers(2, 12))
    x = random.uniform(-0.97, 0.97, (rows, classes)).astype(np.float32)
    return {"x": x, "label": labels(random, rows, classes)}, rows, classes


def features(random: np.random.Generator, size: tuple[int, ...] = ()) -> tuple[dict[str, np.ndarray], int, int]:
    """(features and labels, N, C)"""
    rows, classes = int(random.integers(2, 9)), int(random.integers(2, 7))
    size = size or tuple(int(n) for n in random.integers(1, 5, random.integers(1, 4)))
    return (
        {"x": random.normal(size=(rows, *size)).astype(np.float32), "label": labels(random, rows, classes)},
        rows,
        classes,
    )


def number(random: np.random.Generator, low: float, high: float) -> str:
    return f"{random.uniform(low, high):.4f}"


def angles(kind: str, message: str) -> Callable[[np.random.Generator], Case]:
    def make(random: np.random.Generator) -> Case:
        inputs, _, classes = scored(random)
        r = random
        fields = {
            "CosinAddm": f"m: {number(r, 0, 1.5)}" + pick(r, "", f" t: {number(r, 1, 1.5)}"),
            "CombinedMargin": pick(r, "", f"m1: {number(r, 0.5, 3)} m2: {number(r, -0.5, 1)} m3: {number(r, 0, 0.5)}"),
            "AdaCosAddmScale": f"m: {number(r, 0, 1)} num_classes: {classes + 5}",
        }[kind]
        return Case(kind, f"{message} {{ {fields} }}", inputs)

    return make


def hard_margin(random: np.random.Generator) -> Case:
    inputs, _, _ = scored(random)
    fields = f"positive_weight: {number(random, 0, 1)} exact_gradient: {pick(random, 'true', 'false')}"
    return Case(
        "LabelSpecificHardMargin", f"label_specific_hard_margin_param {{ {fields} }}", inputs, pick(random, "y", "y r")
    )


def radial(random: np.random.Generator) -> Case:
    inputs, rows, _ = scored(random)
    if random.random() < 0.5:
        inputs["scales"] = random.uniform(1, 20, rows).astype(np.float32)
    return Case(
        "RadialRemovalMargin", f"radial_removal_margin_param {{ scale: {number(random, 1, 40)} }}", inputs, "y r"
    )


def affine(random: np.random.Generator) -> Case:
    inputs, _, _ = scored(random)
    r = random
    fields = (
        f"scale_base: {number(r, 0.2, 2)} scale_gamma: 0.1 scale_power: {number(r, -1, 1)} scale_min: 0 scale_max: 9 "
        f"bias_base: {number(r, -0.5, 0.5)} bias_gamma: 0.1 bias_min: -1 bias_max: {number(r, 0, 1)} "
        f"power_base: {number(r, 0.5, 3)} power_gamma: 0.2 power_min: 0.1 power_max: 2 iteration: {r.integers(0, 5)} "
        f"original_bp: {pick(r, 'true', 'false')}"
    )
    return Case("LabelSpecificAffine", f"label_specific_affine_param {{ {fields} }}", inputs, "y r")


def global_lse(random: np.random.Generator) -> Case:
    inputs, rows, _ = scored(random)
    inputs["label"] = np.maximum(inputs["label"], 0)
    reached = ("x",)
    if random.random() < 0.5:
        inputs["scales"] = random.uniform(1, 20, rows).astype(np.float32)
        reached = ("x", "scales")
    fields = pick(random, "", f"scale_param {{ filler {{ value: {number(random, 2, 40)} }} max_value: 20 }}")
    return Case("GlobalLSEMargin", fields, inputs, pick(random, "y", "y r"), reached)


def triplet(random: np.random.Generator) -> Case:
    shape = tuple(int(n) for n in random.integers(1, 6, random.integers(2, 5)))
    inputs = {name: random.normal(size=shape).astype(np.float32) for name in ("x", "p", "n")}
    return Case(
        "TripletLoss", f"triplet_loss_param {{ margin: {number(random, 0, 2)} }} loss_weight: 0.5", inputs, "y",
        ("x", "p", "n"),
    )  # fmt: skip


def ring(random: np.random.Generator) -> Case:
    inputs, _, _ = features(random)
    del inputs["label"]
    fields = pick(random, "", f"ring_loss_param {{ radius_filler {{ value: {number(random, 0.5, 3)} }} }}")
    return Case("RingLoss", f"{fields} loss_weight: 0.5", inputs)


def focal(random: np.random.Generator) -> Case:
    outer, classes, inner = (int(n) for n in random.integers(2, 6, 3))
    inputs = {
        "x": random.normal(0, 2, (outer, classes, inner)).astype(np.float32),
        "label": labels(random, outer * inner, classes).reshape(outer, inner),
    }
    loss = pick(random, "", "loss_param { normalization: FULL }", "loss_param { ignore_label: 1 }")
    fields = f"type: {pick(random, 'ORIGIN', 'ONEADDP')} gamma: {number(random, 0, 3)}"
    return Case("FocalLoss", f"focal_loss_param {{ {fields} }} {loss}", inputs)


def rank_hard(random: np.random.Generator) -> Case:
    pairs, size = int(random.integers(2, 6)), int(random.integers(1, 6))
    of_pairs = np.where(random.random(pairs) < 0.2, -1, np.arange(pairs)).astype(np.float32)
    inputs = {
        "x": random.normal(size=(2 * pairs, size)).astype(np.float32),
        "label": np.repeat(of_pairs, 2),
    }
    fields = f"pair_size: 2 neg_num: {random.integers(1, 8)} hard_ratio: 1 margin: {number(random, 0, 1)}"
    return Case("RankHardLoss", f"rank_hard_loss_param {{ {fields} }} loss_weight: 0.5", inputs)


def ranges(random: np.random.Generator) -> Case:
    inputs, _, _ = features(random)
    r = random
    fields = (
        f"choose_k: {r.integers(1, 4)} inter_weight: {number(r, 0, 1)} intra_weight: {number(r, 0, 1)} "
        f"margin: {number(r, 0, 20)}"
    )
    return Case("RangeLoss", f"range_loss_param {{ {fields} }} loss_weight: 0.5", inputs)


def inter_class(random: np.random.Generator) -> Case:
    inputs, _, classes = features(random)
    r = random
    fields = (
        f"num_output: {classes} type: {pick(r, 'MEAN', 'AMONG')} normalize: {pick(r, 'true', 'false')} "
        f"alpha_start_value: {number(r, 0, 9)} alpha_stepvalue: 1 alpha_stepvalue: 3 alpha_step: 0.5 iteration: "
        f"{r.integers(0, 4)} weight_filler {{ type: 'gaussian' }}"
    )
    return Case("InterClass", f"inter_class_param {{ {fields} }} loss_weight: 0.5", inputs, reached=())


def axpy(random: np.random.Generator) -> Case:
    shape = tuple(int(n) for n in random.integers(1, 6, 4))
    inputs = {name: random.normal(size=shape).astype(np.float32) for name in ("x", "b")}
    scale = random.normal(size=(*shape[:2], 1, 1)[: int(random.choice([2, 4]))]).astype(np.float32)
    return Case("Axpy", "", {"a": scale, **inputs}, "y", ("a", "x", "b"))


def depthwise(random: np.random.Generator) -> Case:
    n, channels, height, width = (int(n) for n in (*random.integers(1, 5, 2), *random.integers(4, 9, 2)))
    r = random
    fields = (
        f"num_output: {channels * r.integers(1, 3)} kernel_size: {r.integers(1, 4)} stride: {r.integers(1, 3)} "
        f"pad: {r.integers(0, 2)} bias_term: {pick(r, 'true', 'false')} weight_filler {{ type: 'gaussian' }}"
    )
    x = random.normal(size=(n, channels, height, width)).astype(np.float32)
    return Case("DepthwiseConvolution", f"convolution_param {{ {fields} }}", {"x": x})


def without_class(kind: str, message: str, fields: Callable[[np.random.Generator, int], str], distances: bool = False):
    def make(random: np.random.Generator) -> Case:
        inputs, _, classes = scored(random)
        if distances:
            inputs["x"] = random.uniform(0.05, 2.2, inputs["x"].shape).astype(np.float32)
        return Case(kind, f"{message} {{ {fields(random, classes)} }}", inputs)

    return make


MAKERS: dict[str, Callable[[np.random.Generator], Case]] = {
    "CosinAddm": angles("CosinAddm", "cosin_add_m_param"),
    "CombinedMargin": angles("CombinedMargin", "combined_margin_param"),
    "AdaCosAddmScale": angles("AdaCosAddmScale", "adacos_add_m_scale_param"),
    "LabelSpecificHardMargin": hard_margin,
    "RadialRemovalMargin": radial,
    "LabelSpecificAffine": affine,
    "GlobalLSEMargin": global_lse,
    "TripletLoss": triplet,
    "RingLoss": ring,
    "FocalLoss": focal,
    "RankHardLoss": rank_hard,
    "RangeLoss": ranges,
    "InterClass": inter_class,
    "Axpy": axpy,
    "DepthwiseConvolution": depthwise,
    "CenterLoss": without_class(
        "CenterLoss", "loss_weight: 0.5 center_loss_param",
        lambda r, classes: f"num_output: {classes} center_filler {{ type: 'gaussian' }} center_step: "
        + pick(r, "PAPER", "FORK", "DERIVATIVE"),
    ),
    "GeneralContrastiveLoss": without_class(
        "GeneralContrastiveLoss", "general_contrastive_loss_param",
        lambda r, _: f"max_negative_only: {pick(r, 'true', 'false')} positive_first: {pick(r, 'true', 'false')} "
        f"exp_negative_weight: {pick(r, 'true', 'false')} {pick(r, '', 'normalize_negative: 0.3')}", True,
    ),
    "GeneralTripletLoss": without_class(
        "GeneralTripletLoss", "general_triplet_loss_param",
        lambda r, _: f"hardest_only: {pick(r, 'true', 'false')} positive_first: {pick(r, 'true', 'false')}", True,
    ),
    "MarginInnerProduct": without_class(
        "MarginInnerProduct", "margin_inner_product_param",
        lambda r, classes: f"num_output: {classes} weight_filler {{ type: 'gaussian' }} base: 0.5 type: "
        f"{pick(r, 'DOUBLE', 'TRIPLE', 'QUADRUPLE')} exact_gradient: {pick(r, 'true', 'false')}",
    ),
    "LabelSpecificMargin": without_class(
        "LabelSpecificMargin", "label_specific_margin_param",
        lambda r, _: f"margin_base: {number(r, 0, 90)} gamma: 0 pass_bp: {pick(r, 'true', 'false')}",
    ),
    "LabelSpecificRescale": without_class(
        "LabelSpecificRescale", "label_specific_rescale_param",
        lambda r, _: f"positive_weight: {number(r, 0, 2)} negative_weight: {number(r, 0, 2)} "
        f"do_backward: {pick(r, 'true', 'false')}",
    ),
    "LabelSpecificAdd": without_class(
        "LabelSpecificAdd", "label_specific_add_param", lambda r, _: f"bias: {number(r, -0.5, 0.5)}"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(pycaffe, tmp_path_factory):
    """Of every layer: (case, net of caffeport, the gradient fed in, what Caffe gives)."""
    folder = tmp_path_factory.mktemp("forks")
    jobs, told = {}, {}
    for kind, make in MAKERS.items():
        for number_ in range(ROUNDS):
            random = np.random.default_rng([number_, len(kind), sum(map(ord, kind))])
            name, case = f"{kind}{number_}", make(random)
            (folder / name).mkdir()
            net = nets.load(folder / name, case.text, phase="train")
            job = {"kind": "once", "net": case.text, "phase": "train", "backward": True}
            job |= {f"input/{key}": array for key, array in case.inputs.items()}
            for layer in net.layers:
                job |= {f"weight/l/{i}": blob for i, blob in enumerate(layer.blobs) if layer.name == "l"}
            gradient = random.normal(size=net.blob_shapes["y"]).astype(np.float32)
            if net.blob_shapes["y"]:
                job["top_diff/y"] = gradient
            jobs[name] = job
            told[name] = (case, net, gradient)
    found = run_jobs(pycaffe, folder, jobs)
    return {name: (*told[name], found[name]) for name in jobs}


@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
@pytest.mark.parametrize("kind", MAKERS)
def test_tops_and_gradients(answers, kind):
    compared = 0
    for number_ in range(ROUNDS):
        case, net, gradient, caffe = answers[f"{kind}{number_}"]
        model = net.to_torch().double().train()
        inputs = {key: torch.tensor(array, dtype=torch.float64) for key, array in case.inputs.items()}
        for name in case.reached:
            inputs[name].requires_grad_(True)
        tops = model(*(inputs[name] for name in net.inputs))
        tops = tops if isinstance(tops, dict) else {net.outputs[0]: tops}
        for name, top in tops.items():
            np.testing.assert_allclose(
                top.detach().numpy(), caffe[f"data/{name}"], RTOL, ATOL, err_msg=f"{name} of {case.text}"
            )
        if net.blob_shapes["y"]:
            (tops["y"] * torch.tensor(gradient, dtype=torch.float64)).sum().backward()
        else:
            model.loss(tops).backward()
        for name in case.reached:
            ours = inputs[name].grad
            ours = np.zeros(inputs[name].shape) if ours is None else ours.numpy()
            np.testing.assert_allclose(ours, caffe[f"diff/{name}"], RTOL, ATOL, err_msg=f"{name} of {case.text}")
            compared += 1
        layer = next(layer for layer in net.layers if layer.name == "l")
        for i, param in enumerate(layer.params):
            blob = dict(model.named_parameters()).get(f"l.{param.spec.name}") if param.spec.trained else None
            # MarginInnerProduct stores unit rows first, and has their gradient; caffeport has that of the rows before.
            if blob is not None and kind != "MarginInnerProduct":
                ours = np.zeros(blob.shape) if blob.grad is None else blob.grad.numpy()
                np.testing.assert_allclose(ours, caffe[f"blob_diff/l/{i}"], RTOL, ATOL, err_msg=f"{i} of {case.text}")
                compared += 1
    assert compared >= ROUNDS
