"""How Cascade R-CNN and MS-CNN train, against loops that follow their layers place by place."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets

RTOL, ATOL = 1e-4, 1e-5  # float32 against float64, sums of some hundred terms
MEAN, STD = (0.01, -0.02, 0.03, 0.0), (0.1, 0.2, 0.15, 0.3)
SPREAD = "bbox_reg_param { " + " ".join([f"bbox_mean: {v}" for v in MEAN] + [f"bbox_std: {v}" for v in STD] + ["%s }"])
FIELDS = [(30, 20), (20, 30)]
FIELD_TEXT = " ".join(f"field_w: {w} field_h: {h}" for w, h in FIELDS)


def truth(count, height, width, classes, seed=0):
    random = np.random.default_rng(seed)
    maps = random.random((count, 6, height, width))
    maps[:, 0] = random.integers(1, classes, maps[:, 0].shape) * (random.random(maps[:, 0].shape) < 0.2)
    maps[:, 1:3] *= 40
    maps[:, 3:5] = maps[:, 3:5] * 40 + 0.5
    return maps.astype(np.float32)


def bounds(xyr, whr):
    """[least, most] of moves and of logarithms of growth, normalised as the layers do."""
    middle = [(MEAN[0] + MEAN[1]) / 2, (MEAN[2] + MEAN[3]) / 2]
    scale = [math.sqrt(STD[0] * STD[1]), math.sqrt(STD[2] * STD[3])]
    return [[(s * reach - m) / d for s in (-1, 1)]
            for reach, m, d in zip((1 / xyr, math.log(whr)), middle, scale, strict=True)]  # fmt: skip


def map_loss(scores, deltas, gt, mask, weight, fields, stride, lam, smooth, limits, objectness):
    """(loss, box loss, gradient of scores, gradient of deltas) over the places that are kept."""
    scores, deltas, gt = (array.astype(np.float64) for array in (scores, deltas, gt))
    class_loss, box_loss, classes, boxes = 0.0, 0.0, 0, 0
    score_gradient, delta_gradient = np.zeros(scores.shape), np.zeros(deltas.shape)
    for m, h, w in zip(*np.nonzero(mask), strict=True):
        label = int(gt[m, 0, h, w])
        own = min(label, 1) if objectness else label
        e = np.exp(scores[m, :, h, w] - scores[m, :, h, w].max())
        prob = e / e.sum()
        class_loss -= math.log(prob[own]) * weight[m, h, w]
        score_gradient[m, :, h, w] = (prob - np.eye(len(prob))[own]) * weight[m, h, w]
        classes += 1
        if label == 0:
            continue
        field = fields[m % len(fields)]
        target = [(gt[m, 1, h, w] - (w + 0.5) * stride) / field[0], (gt[m, 2, h, w] - (h + 0.5) * stride) / field[1],
                  math.log(max(gt[m, 3, h, w], 2) / field[0]), math.log(max(gt[m, 4, h, w], 2) / field[1])]  # fmt: skip
        for k in range(4):
            goal = (target[k] - MEAN[k]) / STD[k]
            value = deltas[m, k, h, w]
            if limits:
                value = min(max(value, limits[k // 2][0]), limits[k // 2][1])
            d = value - goal
            linear = smooth and abs(d) >= 1
            box_loss += abs(d) - 0.5 if linear else 0.5 * d * d
            delta_gradient[m, k, h, w] = np.sign(d) if linear else d
            boxes += 1
    class_loss, box_loss = class_loss / max(classes, 1), lam * box_loss / max(boxes, 1)
    return (class_loss + box_loss, box_loss, score_gradient / max(classes, 1), lam * delta_gradient / max(boxes, 1))


def group_net(tmp_path, fields, classes=2):
    shapes = {"s": (4, classes, 5, 6), "d": (4, 4, 5, 6), "gt": (4, 6, 5, 6)}
    fields = f"cls_num: {classes} stride: 8 {FIELD_TEXT} {fields}"
    text = nets.inputs(**shapes) + nets.layer(
        "DetectionGroupLoss", "s d gt", "total", f"detection_group_loss_param {{ {fields} }} " + SPREAD % ""
    )
    return nets.load(tmp_path, text, phase="train")


def group_arrays(classes, labels=None):
    random = np.random.default_rng(1)
    arrays = [random.standard_normal((4, classes, 5, 6)), random.standard_normal((4, 4, 5, 6)) * 2]
    return [array.astype(np.float32) for array in arrays] + [truth(4, 5, 6, labels or classes)]


GROUP_CASES = {
    "all": ("bg_multiple: 99 bg_threshold: 0.6 lambda: 0.7", 3, None, 0.6, False, True),
    "bounded": ("bg_multiple: 99 bg_threshold: 2 field_xyr: 1 field_whr: 2", 3, [[1.0, 2.0]], 2, False, True),
    "euclidean": ('bg_multiple: 99 bbox_loss_type: "Euclidean_L2"', 3, None, 0.5, False, False),
    "objectness": ("bg_multiple: 99 objectness: true pos_neg_weighted: true", 2, None, 0.5, True, True),
}


@pytest.mark.parametrize(("fields", "classes", "reach", "threshold", "objectness", "smooth"),
                         GROUP_CASES.values(), ids=GROUP_CASES)  # fmt: skip
def test_group_loss_and_gradients(tmp_path, fields, classes, reach, threshold, objectness, smooth):
    """With so many negatives asked for that none is left out."""
    net = group_net(tmp_path, fields, classes)
    assert net.blob_shapes["total"] == (1, 1, 1, 2)
    arrays = group_arrays(classes, 5 if objectness else None)
    gt = arrays[2]
    kept = (gt[:, 0] > 0) | (gt[:, 5] < np.float32(threshold))
    weight = np.ones(kept.shape)
    if "weighted" in fields:
        share, positive = 1 / 100, gt[:, 0] > 0
        weight = np.where(positive, share * kept.sum() / (kept & positive).sum(),
                          (1 - share) * kept.sum() / (kept & ~positive).sum())  # fmt: skip
    lam = 0.7 if "lambda" in fields else 1.0
    limits = bounds(1, 2) if reach else None
    expected = map_loss(*arrays, kept, weight, FIELDS, 8, lam, smooth, limits, objectness)
    tensors = [torch.tensor(array, requires_grad=index < 2) for index, array in enumerate(arrays)]
    model = net.to_torch()
    found = model(*tensors)
    np.testing.assert_allclose(found.detach().ravel(), expected[:2], RTOL)
    model.loss(found).backward()  # Caffe's backward pass reads the first number's weight alone
    np.testing.assert_allclose(tensors[0].grad, expected[2], RTOL, ATOL)
    np.testing.assert_allclose(tensors[1].grad, expected[3], RTOL, ATOL)


@pytest.mark.parametrize("ranking", ["conf_loss", "conf_prob"])
@pytest.mark.parametrize(("mode", "hard"), [("random", 0.0), ("bootstrap", 1.0), ("mixture", 0.5)])
@pytest.mark.parametrize("batch", [-1, 20])
def test_group_sampling(tmp_path, mode, hard, batch, ranking):
    """How many of each image, and that the hardest negatives are among them."""
    fields = (
        f'neg_mining_type: "{mode}" neg_ranking_type: "{ranking}" batch_size: {batch} bg_multiple: 1 min_num_neg: 7'
    )
    layer = group_net(tmp_path, fields).to_torch().get_submodule("total")
    scores, _, gt = group_arrays(2)
    torch.manual_seed(0)
    masks = [layer.sample(torch.tensor(scores), torch.tensor(gt)).numpy() for _ in range(2)]
    assert mode == "bootstrap" or (masks[0] != masks[1]).any()
    prob = 1 / (1 + np.exp(scores[:, 1] - scores[:, 0]))  # of class 0
    for kept in masks:
        for image in range(2):
            own = slice(2 * image, 2 * image + 2)
            positive = gt[own, 0] > 0
            negative = (gt[own, 0] == 0) & (gt[own, 5] < 0.5)
            positives = positive.sum() if batch < 0 else min(round(batch / 2), positive.sum())
            wanted = max(positives, 7) if batch < 0 else batch - positives
            assert (kept[own] & positive).sum() == positives
            assert (kept[own] & negative).sum() == min(wanted, negative.sum())
            assert not (kept[own] & ~positive & ~negative).any()
            hardest = sorted(zip(*np.nonzero(negative), strict=True), key=lambda p: prob[own][p])
            assert all(kept[own][place] for place in hardest[: math.floor(wanted * hard + 0.5)])


def mscnn_net(tmp_path, fields, classes=3):
    fields = f"cls_num: {classes} downsample_rate: 8 field_w: 30 field_h: 20 {fields}"
    text = nets.inputs(x=(2, classes + 4, 5, 6), gt=(2, 6, 5, 6)) + nets.layer(
        "DetectionLoss", "x gt", "total", f"detection_loss_param {{ {fields} }} " + SPREAD % ""
    )
    return nets.load(tmp_path, text, phase="train")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("mode", ["all", "bootstrap"])
def test_mscnn_loss_and_gradients(tmp_path, mode, smooth, weighted):
    words = str(weighted).lower()
    fields = f'sample_mode: "{mode}" bb_smooth: {str(smooth).lower()} iou_weighted: {words} pos_neg_weighted: {words} '
    net = mscnn_net(tmp_path, fields + "bg_multiple: 1 lambda: 0.5 field_xyr: 1 field_whr: 2")
    x = np.random.default_rng(0).standard_normal((2, 7, 5, 6)).astype(np.float32)
    gt = truth(2, 5, 6, 3, seed=2)
    possible = (gt[:, 0] == 0) & (gt[:, 5] < 0.5)
    kept = possible | (gt[:, 0] != 0)
    if mode == "bootstrap":
        kept = gt[:, 0] != 0
        for image in range(2):
            for k in (1, 2):
                most = max(4, int((gt[image, 0] == k).sum()))
                places = sorted(zip(*np.nonzero(possible[image]), strict=True), key=lambda p: -x[image, k][p])
                for place in places[:most]:
                    kept[image][place] = True
    weight, positive = np.ones(kept.shape), gt[:, 0] != 0
    if weighted:
        weight = np.where(positive, gt[:, 5], 1.0)
        sums = (weight * positive).sum(), (weight * (kept & ~positive)).sum()
        weight *= np.where(positive, 0.5 * kept.sum() / sums[0], 0.5 * kept.sum() / sums[1])
    expected = map_loss(x[:, :3], x[:, 3:], gt, kept, weight, [(30, 20)], 8, 0.5, smooth, bounds(1, 2), False)
    tensor = torch.tensor(x, requires_grad=True)
    model = net.to_torch()
    found = model(tensor, torch.tensor(gt))
    np.testing.assert_allclose(found.detach().ravel(), expected[:2], RTOL)
    model.loss(found).backward()
    np.testing.assert_allclose(tensor.grad, np.concatenate(expected[2:], 1), RTOL, ATOL)


@pytest.mark.parametrize("mode", ["random", "mixture"])
def test_mscnn_draws_negatives(tmp_path, mode):
    layer = mscnn_net(tmp_path, f'sample_mode: "{mode}" bg_multiple: 1').to_torch().get_submodule("total")
    gt = truth(2, 5, 6, 3, seed=2)
    possible = (gt[:, 0] == 0) & (gt[:, 5] < 0.5)
    scores = torch.tensor(np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32))
    torch.manual_seed(0)
    masks = [layer.sample(scores, torch.tensor(gt)).numpy() for _ in range(3)]
    most = [max(int((gt[i, 0] != 0).sum() * (0.5 if mode == "mixture" else 1)), 8) for i in range(2)]
    for kept in masks:
        assert not (kept & ~possible).any() and kept.any()
        for image in range(2):
            assert kept[image].sum() <= most[image] + (8 if mode == "mixture" else 0)
    assert (masks[0] != masks[1]).any()


def iou(a, b, pixel):
    """Return the overlap of boxes (x, y, w, h), as JaccardOverlap (pixel 1) and BoxIOU (pixel 0) have it."""
    if min(a[2], a[3], b[2], b[3]) <= 0:
        return 0.0
    wide = min(a[0] + a[2], b[0] + b[2]) - pixel - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - pixel - max(a[1], b[1])
    if (wide < 0 or high < 0) if pixel else (wide <= 0 or high <= 0):
        return 0.0
    shared = (wide + pixel) * (high + pixel)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def accuracy(scores, deltas, gt, fields, objectness, top_k, pixel, threshold=0.5, xyr=4.0, whr=2.0):
    right = counted = true_positive = positive = 0
    overlaps = []
    for m, h, w in np.ndindex(scores.shape[0], *scores.shape[2:]):
        label = int(gt[m, 0, h, w])
        own = min(label, 1) if objectness else label
        if label:
            x, y, bw, bh = (float(deltas[m, k, h, w]) * STD[k] + MEAN[k] for k in range(4))
            field = fields[m % len(fields)]
            x, y = (min(max(v, -1 / xyr), 1 / xyr) for v in (x, y))
            bw, bh = (min(max(v, -math.log(whr)), math.log(whr)) for v in (bw, bh))
            bw, bh = field[0] * math.exp(bw), field[1] * math.exp(bh)
            box = x * field[0] + (w + 0.5) * 8 - bw / 2, y * field[1] + (h + 0.5) * 8 - bh / 2, bw, bh
            gx, gy, gw, gh = map(float, gt[m, 1:5, h, w])
            overlaps.append(iou(box, (gx - gw / 2, gy - gh / 2, gw, gh), pixel))
        if own == 0 and gt[m, 5, h, w] >= np.float32(threshold):
            continue
        order = sorted(range(scores.shape[1]), key=lambda k: (-scores[m, k, h, w], k if pixel else -k))
        hit = own in order[:top_k]
        right, counted = right + hit, counted + 1
        true_positive, positive = true_positive + (hit and own != 0), positive + (own != 0)
    shares = [a / b if b else -1 for a, b in ((right, counted), (true_positive, positive))]
    return shares, np.mean(overlaps) if overlaps else -1


@pytest.mark.parametrize("objectness", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_group_accuracy(tmp_path, objectness, empty):
    classes = 2 if objectness else 3
    fields = f"cls_num: {classes} stride: 8 objectness: {str(objectness).lower()} {FIELD_TEXT}"
    text = nets.inputs(s=(4, classes, 5, 6), d=(4, 4, 5, 6), gt=(4, 6, 5, 6)) + nets.layer(
        "DetectionGroupAccuracy", "s d gt", "right overlap",
        f"detection_group_accuracy_param {{ {fields} }} " + SPREAD % "",
    )  # fmt: skip
    net = nets.load(tmp_path, text, phase="train")
    scores, deltas, gt = group_arrays(classes, 5)
    scores = np.round(scores)  # with ties
    gt[:, 3:5] += 10
    gt[:, 0] = gt[:, 0] * (not empty) if objectness else np.minimum(gt[:, 0], 2) * (not empty)
    shares, mean = accuracy(scores, deltas, gt, FIELDS, objectness, 1, 1)
    found = net.to_torch()(*map(torch.tensor, (scores, deltas, gt)))
    np.testing.assert_allclose(found["right"].ravel(), shares, RTOL)
    np.testing.assert_allclose(found["overlap"].ravel(), [mean], RTOL)
    assert [tuple(found[name].shape) for name in ("right", "overlap")] == [(1, 1, 1, 2), (1, 1, 1, 1)]


@pytest.mark.parametrize("top_k", [1, 2])
def test_mscnn_accuracy(tmp_path, top_k):
    fields = f"cls_num: 3 downsample_rate: 8 field_w: 30 field_h: 20 top_k: {top_k}"
    text = nets.inputs(x=(2, 7, 5, 6), gt=(2, 6, 5, 6)) + nets.layer(
        "DetectionAccuracy", "x gt", "right overlap", f"detection_accuracy_param {{ {fields} }} " + SPREAD % ""
    )
    net = nets.load(tmp_path, text, phase="train")
    x = np.random.default_rng(0).standard_normal((2, 7, 5, 6)).astype(np.float32)
    x[:, :3] = np.round(x[:, :3])
    gt = truth(2, 5, 6, 3, seed=2)
    shares, mean = accuracy(x[:, :3], x[:, 3:], gt, [(30, 20)], False, top_k, 0)
    found = net.to_torch()(torch.tensor(x), torch.tensor(gt))
    np.testing.assert_allclose(found["right"].ravel(), shares, RTOL)
    np.testing.assert_allclose(found["overlap"].ravel(), [mean], RTOL)


GROUP = "detection_group_loss_param { cls_num: 2 stride: 8 field_w: 9 %s }"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nets.layer("DetectionGroupLoss", "s d gt", "y", GROUP % ""), "expected as many field_w as field_h"),
        (nets.layer("DetectionGroupLoss", "s d gt", "y", GROUP % "field_h: 9 batch_size: 0"), "expected a batch_size"),
        (nets.layer("DetectionGroupLoss", "s d d", "y", GROUP % "field_h: 9"), r"expected truth of \(4, 6, 5, 6\)"),
        (nets.layer("DetectionGroupLoss", "s d gt", "y", GROUP % 'field_h: 9 neg_mining_type: "x"'), "neg_mining_t"),
        (nets.layer("DetectionLoss", "s gt", "y", "detection_loss_param { cls_num: 2 }"), "expected as many field_w"),
        (
            nets.layer("DetectionLoss", "s gt", "y",
                       "detection_loss_param { cls_num: 2 field_w: 3 field_h: 3 downsample_rate: 8 }"),
            "expected 2 scores and 4 deltas, got 2 channels",
        ),
    ],
)  # fmt: skip
def test_what_they_refuse(tmp_path, layer, message):
    text = nets.inputs(s=(4, 2, 5, 6), d=(4, 4, 5, 6), gt=(4, 6, 5, 6)) + layer
    with pytest.raises(caffeport.NetError, match=message):
        nets.load(tmp_path, text, phase="train")


def test_data_with_a_map_for_each_field(tmp_path):
    """The tops of "ImageGtData" as its text sizes them: whole numbers of places, boxes of 7 numbers."""
    fields = "batch_size: 4 resize_width: 1920 resize_height: 576 crop_width: 768 crop_height: 0 downsample_rate: 8 "
    fields += "downsample_rate: 35 field_w: 60 field_w: 84 field_h: 60 field_h: 84 output_gt_boxes: true"
    layer = nets.layer("ImageGtData", "", "data a b boxes", f"image_gt_data_param {{ {fields} }}")
    net = nets.load(tmp_path, layer, phase="train")
    assert net.blob_shapes == {
        "data": (4, 3, 576, 768),
        "a": (4, 6, 72, 96),
        "b": (4, 6, 16, 21),
        "boxes": (1, 7, 1, 1),
    }
    with pytest.raises(caffeport.NetError, match=r"its text makes 4 tops .* but 2 are named"):
        nets.load(tmp_path, layer.replace('top: "b" top: "boxes"', ""), phase="train")
