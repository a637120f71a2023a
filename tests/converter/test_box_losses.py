"""Losses of boxes and hard example mining, against loops over the definitions, gradients included."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import numbers

RTOL, ATOL = 1e-4, 1e-5  # float32 against float64, sums of some hundred terms


def smooth(d, sigma):
    """(value, slope) of one number."""
    if abs(d) < 1 / sigma**2:
        return 0.5 * (sigma * d) ** 2, sigma**2 * d
    return abs(d) - 0.5 / sigma**2, float(np.sign(d))


def smooth_l1(a, b, weights, sigma, divisor):
    """(loss, loss of each row and place, gradient of a) as the layers' forward and backward passes have them."""
    rows, _, height, width = a.shape
    each, gradient, total = np.zeros((rows, 1, height, width)), np.zeros(a.shape), 0.0
    for place in np.ndindex(a.shape):
        inside = weights[0][place] if weights else 1.0
        outside = weights[1][place] if len(weights) > 1 else 1.0
        value, slope = smooth(inside * (float(a[place]) - float(b[place])), sigma)
        total += outside * value
        each[place[0], 0, place[2], place[3]] += outside * value
        # Three bottoms: the weight is not in the backward pass. Four: both are.
        gradient[place] = slope * (inside * outside if len(weights) > 1 else 1.0) / divisor
    return total / divisor, each, gradient


def loss_net(tmp_path, kind, shape, bottoms, tops, fields, **options):
    names = ["a", "b", "inside", "outside"][:bottoms]
    text = nets.inputs(**dict.fromkeys(names, shape))
    text += nets.layer(kind, " ".join(names), " ".join(["loss", "each"][:tops]), fields)
    return nets.load(tmp_path, text, phase="train", **options)


MAP, BOXES = (3, 4, 2, 5), (6, 8)
FIXED = "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 256 }"
CASES = {  # type, shape, bottoms, tops, fields, sigma, divisor
    "rpn": ("SmoothL1Loss", MAP, 4, 1, "smooth_l1_loss_param { sigma: 3 }", 3.0, 3),
    "rpn-with-loss-param": ("SmoothL1Loss", MAP, 4, 1, "loss_param { normalization: FULL }", 1.0, 3),
    "fast-rcnn": ("SmoothL1Loss", BOXES, 3, 1, "", 1.0, 6),
    "no-weights": ("SmoothL1Loss", MAP, 2, 1, "", 1.0, 3),
    "cascade": ("SmoothL1Loss", MAP, 4, 2, "", 1.0, 3),
    "rfcn": ("SmoothL1Loss", BOXES, 3, 1, FIXED, 1.0, 256),
    "rfcn-each": ("SmoothL1Loss", MAP, 3, 2, "", 1.0, 30),
    "ohem": ("SmoothL1LossOHEM", MAP, 3, 1, "", 1.0, 30),
    "ohem-batch": ("SmoothL1LossOHEM", MAP, 3, 1, "loss_param { normalize: false }", 1.0, 3),
    "ohem-none": ("SmoothL1LossOHEM", MAP, 2, 2, "loss_param { normalization: NONE }", 1.0, 1),
    "less-than-one": (
        "SmoothL1LossOHEM", BOXES, 3, 1, "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 0.25 }", 1.0, 1
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "shape", "bottoms", "tops", "fields", "sigma", "divisor"), CASES.values(), ids=CASES)
def test_smooth_l1_loss(tmp_path, kind, shape, bottoms, tops, fields, sigma, divisor):
    net = loss_net(tmp_path, kind, shape, bottoms, tops, fields)
    arrays = [numbers(*shape, seed=i) for i in range(bottoms)]
    arrays[0].ravel()[0], arrays[1].ravel()[0] = 2.0, 1.0  # a difference of 1 is on the other branch
    wide = [array.reshape((*shape, 1, 1)[:4]) for array in arrays]
    loss, each, gradient = smooth_l1(*wide[:2], wide[2:], sigma, divisor)
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    model = net.to_torch()
    outputs = model(*tensors)
    found = outputs if tops == 1 else outputs["loss"]
    np.testing.assert_allclose(found.item(), loss, RTOL)
    if tops > 1:
        assert net.blob_shapes["each"] == each.shape and not outputs["each"].requires_grad
        np.testing.assert_allclose(outputs["each"].detach(), each, RTOL, ATOL)
    model.loss(outputs).backward()
    np.testing.assert_allclose(tensors[0].grad.reshape(gradient.shape), gradient, RTOL, ATOL)
    np.testing.assert_allclose(tensors[1].grad.reshape(gradient.shape), -gradient, RTOL, ATOL)
    assert all(tensor.grad is None for tensor in tensors[2:])


@pytest.mark.parametrize("case", ["rpn", "fast-rcnn", "no-weights", "ohem"])
def test_exact_gradients_are_the_derivative(tmp_path, case):
    kind, shape, bottoms, tops, fields, *_ = CASES[case]
    model = loss_net(tmp_path, kind, shape, bottoms, tops, fields, exact_gradients=True).to_torch().double()
    tensors = [torch.tensor(numbers(*shape, seed=i)).double().requires_grad_(i < 2) for i in range(bottoms)]
    assert torch.autograd.gradcheck(lambda a, b: model(a, b, *tensors[2:]), tensors[:2])


@pytest.mark.parametrize("labels", [(5,), (5, 1, 1, 1)])
@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "SoftmaxWithLossOHEM"])
@pytest.mark.parametrize(("fields", "divisor"), [(FIXED, 256.0), ("", 5.0), ("loss_param { ignore_label: 2 }", None)])
def test_softmax_loss_of_each_label(tmp_path, kind, fields, divisor, labels):
    text = nets.inputs(x=(5, 4), label=labels) + nets.layer(kind, "x label", "loss prob each", fields)
    net = nets.load(tmp_path, text, phase="train")
    x, label = numbers(5, 4), np.array([0, 2, 3, 2, 1], np.float32)
    prob = np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum(1, keepdims=True)
    each = -np.log(prob[np.arange(5), label.astype(int)])
    kept = label != 2 if divisor is None else np.ones(5, bool)
    each = each * kept
    divisor = divisor or kept.sum()
    tensor = torch.tensor(x, requires_grad=True)
    outputs = net.to_torch()(tensor, torch.tensor(label.reshape(labels)))
    np.testing.assert_allclose(outputs["loss"].item(), each.sum() / divisor, RTOL)
    np.testing.assert_allclose(outputs["prob"].detach(), prob, RTOL, ATOL)
    assert outputs["each"].shape == net.blob_shapes["each"] == (5, 1, 1, 1) and not outputs["each"].requires_grad
    np.testing.assert_allclose(outputs["each"].ravel(), each, RTOL, ATOL)
    outputs["loss"].backward()
    gradient = (prob - np.eye(4)[label.astype(int)]) * kept[:, None] / divisor
    np.testing.assert_allclose(tensor.grad, gradient, RTOL, ATOL)


@pytest.mark.parametrize("places", [(), (1, 1), (2, 3)])
def test_box_annotator(tmp_path, places):
    """Three of each image, by falling loss; with ties, and an image that has fewer."""
    rows, channels = 10, 8
    spatial = (*places, 1, 1)[:2]
    shapes = {"rois": (rows, 5, *places), "each": (rows, 1, *places), "label": (rows, 1, *places),
              "weights": (rows, channels, *places)}  # fmt: skip
    text = nets.inputs(**shapes) + nets.layer(
        "BoxAnnotatorOHEM", "rois each label weights", "label_ohem weights_ohem",
        "box_annotator_ohem_param { roi_per_img: 3 ignore_label: -1 }",
    )  # fmt: skip
    net = nets.load(tmp_path, text, phase="train")
    random = np.random.default_rng(0)
    rois = random.random((rows, 5, *spatial))
    rois[:, 0] = random.integers(0, 2, (rows, *spatial))
    rois[0, 0] = 2
    each = random.integers(0, 6, (rows, 1, *spatial)) / 4
    label = random.integers(0, 9, (rows, 1, *spatial))
    weights = random.random((rows, channels, *spatial))
    expected_label, expected_weights = np.full(label.shape, -1.0), np.zeros(weights.shape)
    left = dict.fromkeys(range(3), 3)
    places_by_loss = sorted(np.ndindex(rows, *spatial), key=lambda p: -each[p[0], 0, p[1], p[2]])
    for n, h, w in places_by_loss:
        if left[int(rois[n, 0, h, w])] > 0:
            left[int(rois[n, 0, h, w])] -= 1
            expected_label[n, 0, h, w] = label[n, 0, h, w]
            expected_weights[n, :, h, w] = weights[n, :, h, w]
    arrays = [array.reshape(shape) for array, shape in zip((rois, each, label, weights), shapes.values(), strict=True)]
    outputs = net.to_torch()(*(torch.tensor(array, dtype=torch.float32) for array in arrays))
    assert net.blob_shapes["label_ohem"] == expected_label.shape
    np.testing.assert_array_equal(outputs["label_ohem"], expected_label)
    np.testing.assert_array_equal(outputs["weights_ohem"], expected_weights.astype(np.float32))
    with pytest.raises(caffeport.ExportError, match=r"BoxAnnotatorOHEM.*chooses examples to train on"):
        net.to_onnx(tmp_path / "n.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nets.layer("SmoothL1Loss", "a b", "y", "smooth_l1_loss_param { sigma: 0 }"), "expected a positive sigma"),
        (nets.layer("SmoothL1Loss", "a c", "y"), "expected bottoms of one shape"),
        (nets.layer("BoxAnnotatorOHEM", "a a a a", "y z"), "expected a positive roi_per_img"),
        (
            nets.layer("BoxAnnotatorOHEM", "a c c a", "y z", "box_annotator_ohem_param { roi_per_img: 2 }"),
            r"expected regions of \(3, 5, 1, 1\), got \(3, 4, 1, 1\)",
        ),
        (
            nets.layer("SmoothL1LossOHEM", "a b", "y", FIXED.replace("256", "inf")),
            "expected a finite pre_fixed_normalizer",
        ),
    ],
)  # fmt: skip
def test_what_they_refuse(tmp_path, text, message):
    with pytest.raises(caffeport.NetError, match=message):
        nets.load(tmp_path, nets.inputs(a=(3, 4), b=(3, 4), c=(3, 1)) + text, phase="train").to_torch()
