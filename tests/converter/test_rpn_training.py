"""What Faster R-CNN's Python layers choose to train on, against NumPy that follows them step by step."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets

RTOL, ATOL = 1e-5, 1e-6  # float32 of float64
ANCHORS = "rpn.anchor_target_layer", "AnchorTargetLayer"  # "Python:rpn.anchor_target_layer.AnchorTargetLayer"
REGIONS = "rpn.proposal_target_layer", "ProposalTargetLayer"  # "Python:rpn.proposal_target_layer.ProposalTargetLayer"
STD = np.array([0.1, 0.1, 0.2, 0.2])


def python(module, layer, bottoms, tops, param_str):
    words = f'module: "{module}" layer: "{layer}" param_str: "{param_str}"'
    return nets.layer("Python", bottoms, tops, f"python_param {{ {words} }}")


def iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def deltas(a, b):
    w, h, gw, gh = a[2] - a[0] + 1, a[3] - a[1] + 1, b[2] - b[0] + 1, b[3] - b[1] + 1
    return np.array([(b[0] + gw / 2 - a[0] - w / 2) / w, (b[1] + gh / 2 - a[1] - h / 2) / h,
                     math.log(gw / w), math.log(gh / h)])  # fmt: skip


SCALES = (1, 2, 4)
TRUTH = np.array([[10, 12, 50, 70, 3], [60, 20, 95, 60, 1], [0, 0, 30, 30, 2], [70, 50, 130, 100, 1]], np.float32)


def anchor_net(tmp_path, extra="", **options):
    text = nets.inputs(s=(1, 18, 5, 7), gt=(4, 5), info=(1, 3), data=(1, 3, 80, 112))
    settings = f"{{'feat_stride': 16, 'scales': [1, 2, 4]{extra}}}"
    layer = python(*ANCHORS, "s gt info data", "labels targets inside outside", settings)
    return nets.load(tmp_path, text + layer, phase="train", layer_options=options)


def anchors():
    for h in range(5):
        for w in range(7):
            for ratio in (0.5, 1, 2):
                width = round(math.sqrt(256 / ratio))
                height = round(width * ratio)
                for scale in SCALES:
                    x, y = 7.5 + 16 * w, 7.5 + 16 * h
                    half = (width * scale - 1) / 2, (height * scale - 1) / 2
                    yield [x - half[0], y - half[1], x + half[0], y + half[1]]


def labels(boxes, inside, clobber, high=0.7, low=0.3):
    shared = np.array([[iou(box, gt) for gt in TRUTH[:, :4]] for box in boxes])[inside]
    values = np.full(len(boxes), -1.0)
    own = np.full(len(shared), -1.0)
    if not clobber:
        own[shared.max(1) < low] = 0
    own[np.where(shared == shared.max(0))[0]] = 1
    own[shared.max(1) >= high] = 1
    if clobber:
        own[shared.max(1) < low] = 0
    values[inside] = own
    match = np.zeros(len(boxes), int)
    match[inside] = shared.argmax(1)
    return values, match


def as_map(columns, each):
    return columns.reshape(1, 5, 7, 9 * each).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("border", [0, 40])
@pytest.mark.parametrize("clobber", [0, 1])
@pytest.mark.parametrize("weight", [-1.0, 0.3])
@pytest.mark.parametrize("normalize", [0, 1])
def test_anchor_targets(tmp_path, border, clobber, weight, normalize):
    """With so many asked for that none is left out."""
    options = {"rpn_batchsize": 100000, "rpn_clobber_positives": clobber, "rpn_positive_weight": weight,
               "rpn_normalize_targets": normalize}  # fmt: skip
    net = anchor_net(tmp_path, f", 'allowed_border': {border}", **options)
    assert net.blob_shapes["labels"] == (1, 1, 45, 7) and net.blob_shapes["targets"] == (1, 36, 5, 7)
    info = np.array([[80, 112, 1]], np.float32)
    boxes = list(anchors())
    inside = np.array([min(b[:2]) >= -border and b[2] < 112 + border and b[3] < 80 + border for b in boxes])
    label, match = labels(boxes, inside, clobber)
    target = np.array([deltas(box, TRUTH[m]) for box, m in zip(boxes, match, strict=True)]) * inside[:, None]
    target = target / STD if normalize else target
    shares = {1: 1 / (label >= 0).sum(), 0: 1 / (label >= 0).sum()}
    if weight > 0:
        shares = {1: weight / (label == 1).sum(), 0: (1 - weight) / (label == 0).sum()}
    outside = np.array([shares.get(value, 0.0) for value in label])
    arrays = np.zeros((1, 18, 5, 7), np.float32), TRUTH, info, np.zeros((1, 3, 80, 112), np.float32)
    found = net.to_torch()(*map(torch.tensor, arrays))
    np.testing.assert_array_equal(found["labels"], as_map(label, 1).reshape(1, 1, 45, 7))
    assert {-1, 0, 1} <= set(label)
    for name, columns in (
        ("targets", target),
        ("inside", np.repeat(label == 1, 4)),
        ("outside", np.repeat(outside, 4)),
    ):
        np.testing.assert_allclose(found[name], as_map(np.asarray(columns, float), 4), RTOL, ATOL)


def test_a_sample_of_anchors(tmp_path):
    net = anchor_net(tmp_path, ", 'allowed_border': 40", rpn_batchsize=12, rpn_fg_fraction=0.25)
    arrays = (np.zeros((1, 18, 5, 7), np.float32), TRUTH, np.array([[80, 112, 1]], np.float32),
              np.zeros((1, 3, 80, 112), np.float32))  # fmt: skip
    boxes = list(anchors())
    inside = np.array([min(b[:2]) >= -40 and b[2] < 152 and b[3] < 120 for b in boxes])
    every = as_map(labels(boxes, inside, 0)[0], 1).reshape(1, 1, 45, 7)
    torch.manual_seed(0)
    model = net.to_torch()
    samples = [model(*map(torch.tensor, arrays))["labels"].numpy() for _ in range(2)]
    assert (samples[0] != samples[1]).any()
    for found in samples:
        assert (found == 1).sum() == 3 and (found == 0).sum() == 9
        assert ((found == -1) | (found == every)).all()
    with pytest.raises(caffeport.ExportError, match="chooses examples to train on"):
        net.to_onnx(tmp_path / "n.onnx", outputs=["labels"])


def test_anchors_of_one_image(tmp_path):
    text = nets.inputs(s=(2, 18, 5, 7), gt=(4, 5), info=(1, 3))
    net = nets.load(tmp_path, text + python(*ANCHORS, "s gt info", "a b c d", "'feat_stride': 16"), phase="train")
    assert net.blob_shapes["a"] == (2, 1, 45, 7)
    with pytest.raises(caffeport.CaffeportError, match="one image at a time, got a batch of 2"):
        net.to_torch()(torch.zeros(2, 18, 5, 7), torch.tensor(TRUTH), torch.ones(1, 3))


def region_net(tmp_path, **options):
    text = nets.inputs(r=(30, 5), gt=(4, 5))
    layer = python(*REGIONS, "r gt", "rois labels targets inside outside", "'num_classes': 5")
    return nets.load(tmp_path, text + layer, phase="train", layer_options=options)


def regions():
    random = np.random.default_rng(0)
    near = TRUTH[random.integers(0, 3, 30), :4] + random.integers(-20, 20, (30, 4))
    corners = np.sort(near.reshape(30, 2, 2), 1).reshape(30, 4)
    return np.concatenate([np.zeros((30, 1)), corners], 1).astype(np.float32)


@pytest.mark.parametrize("agnostic", [0, 1])
@pytest.mark.parametrize("normalize", [0, 1])
@pytest.mark.parametrize("batch", [-1, 8])
def test_region_targets(tmp_path, agnostic, normalize, batch):
    net = region_net(tmp_path, batch_size=batch, agnostic=agnostic, bbox_normalize_targets_precomputed=normalize,
                     bg_thresh_lo=0.2)  # fmt: skip
    assert net.blob_shapes["rois"] == (34 if batch < 0 else 8, 5, 1, 1)
    rows = regions()
    every = np.concatenate([rows, np.concatenate([np.zeros((4, 1)), TRUTH[:, :4]], 1)])
    shared = np.array([[iou(row[1:], gt) for gt in TRUTH[:, :4]] for row in every])
    positive, negative = shared.max(1) >= 0.5, (shared.max(1) < 0.5) & (shared.max(1) >= 0.2)
    torch.manual_seed(0)
    found = {name: top[..., 0, 0].numpy()
             for name, top in net.to_torch()(torch.tensor(rows), torch.tensor(TRUTH)).items()}  # fmt: skip
    if batch < 0:
        expected = every[positive | negative].astype(np.float32)
        assert sorted(found["rois"].tolist()) == sorted(expected.tolist())
        assert (found["labels"] > 0).sum() == positive.sum()
    else:
        assert (found["labels"] > 0).sum() == 2 and len(found["rois"]) == 8
    for row, label, target, inside in zip(*(found[n] for n in ("rois", "labels", "targets", "inside")), strict=True):
        overlaps = [iou(row[1:], gt) for gt in TRUTH[:, :4]]
        match = TRUTH[int(np.argmax(overlaps))]
        assert label[0] == (match[4] if max(overlaps) >= 0.5 else 0)
        expected, weights = np.zeros(20), np.zeros(20)
        if label[0] > 0:
            start = 4 * (1 if agnostic else int(label[0]))
            expected[start : start + 4] = deltas(row[1:], match) / (STD if normalize else 1)
            weights[start : start + 4] = 1
        np.testing.assert_allclose(target, expected, 1e-4, 1e-5)
        np.testing.assert_array_equal(inside, weights)
    np.testing.assert_array_equal(found["inside"], found["outside"])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (python(*ANCHORS, "s r info", "a b c d", "'feat_stride': 16, 'border': 1"), 'has the setting "border"'),
        (python(*ANCHORS, "s x info", "a b c d", "'feat_stride': 16"), "expected true boxes of 5 numbers a row"),
        (python(*REGIONS, "r x", "a b c d e", "'num_classes': 5"), "expected regions and true boxes of 5 numbers"),
        (python(*REGIONS, "r r", "a b c d e", "'classes': 5"), "expected num_classes in param_str"),
        (python(*REGIONS, "r r", "a b c d e", "'num_classes': 1"), "expected num_classes of 2 or more"),
    ],
)
def test_what_they_refuse(tmp_path, layer, message):
    text = nets.inputs(s=(1, 18, 5, 7), r=(4, 5), x=(4, 4), info=(1, 3)) + layer
    with pytest.raises(caffeport.NetError, match=message):
        nets.load(tmp_path, text, phase="train")
