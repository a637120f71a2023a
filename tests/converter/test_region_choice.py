"""Which regions are trained on, against loops that follow Cascade R-CNN's and MS-CNN's layers row by row."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets

RTOL, ATOL = 1e-4, 1e-5  # float32 against float64
MEAN, STD = (0.01, -0.02, 0.03, 0.0), (0.1, 0.2, 0.15, 0.3)
SPREAD = "bbox_reg_param { " + " ".join([f"bbox_mean: {v}" for v in MEAN] + [f"bbox_std: {v}" for v in STD] + ["%s }"])


def boxes(count, images, seed, columns=5):
    random = np.random.default_rng(seed)
    rows = np.zeros((count, columns))
    rows[:, 0] = random.integers(0, images, count)
    rows[:, 1:3] = random.integers(0, 60, (count, 2))
    rows[:, 3:5] = rows[:, 1:3] + random.integers(20, 60, (count, 2))
    return rows.astype(np.float32)


def iou(a, b):
    """JaccardOverlap of corners whose end pixels count."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    if wide < 1 or high < 1:
        return 0.0
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return wide * high / (sum(areas) - wide * high)


@pytest.mark.parametrize(("images", "each"), [(2, 4), (2, 9), (3, 20)])
def test_hard_mining(tmp_path, images, each):
    text = nets.inputs(s=(20, 1), r=(20, 5), x=(20, 3, 2)) + nets.layer(
        "HardMining", "s r x", "rr xx", f"hard_mining_param {{ num_image: {images} num_roi_per_image: {each} }}"
    )
    net = nets.load(tmp_path, text, phase="train")
    random = np.random.default_rng(0)
    scores = (random.integers(0, 8, (20, 1)) / 8).astype(np.float32)  # with ties: the later first
    rows, x = boxes(20, 2, 1), random.random((20, 3, 2)).astype(np.float32)
    rows[:16, 0] = 0
    order = sorted(range(20), key=lambda i: (-scores[i, 0], -i))
    chosen = [i for image in range(images) for i in [j for j in order if rows[j, 0] == image][:each]]
    chosen += [i for i in order if i not in chosen][: min(images * each, 20) - len(chosen)]
    found = net.to_torch()(*map(torch.tensor, (scores, rows, x)))
    assert net.blob_shapes["rr"] == (len(chosen), 5, 1, 1) and net.blob_shapes["xx"] == (len(chosen), 3, 2, 1)
    np.testing.assert_array_equal(found["rr"][:, :, 0, 0], rows[sorted(chosen)])
    np.testing.assert_array_equal(found["xx"][..., 0], x[sorted(chosen)])
    with pytest.raises(caffeport.ExportError, match="chooses examples to train on"):
        net.to_onnx(tmp_path / "n.onnx")


TOPS = "rois label target inside outside matched weight"


def target_net(tmp_path, fields, columns=8, aware=True, tops=7):
    text = nets.inputs(r=(40, 5), gt=(6, columns)) + nets.layer(
        "ProposalTarget", "r gt", " ".join(TOPS.split()[:tops]),
        f"proposal_target_param {{ cls_num: 4 num_img_per_batch: 2 img_width: 200 img_height: 180 {fields} }} "
        + SPREAD % f"cls_aware: {str(aware).lower()}",
    )  # fmt: skip
    return nets.load(tmp_path, text, phase="train")


def true_boxes(columns):
    rows = np.concatenate([boxes(6, 2, 5), np.zeros((6, columns - 5))], 1).astype(np.float32)
    rows[:, 5] = [1, 3, 2, 1, 2, 3]
    rows[5, 0] = -1  # no box at all
    if columns == 7:
        rows = rows[:5]
    return rows


def described(row, gt, aware):
    """Return what the tops say of one positive region: targets at its class, and the matched box."""
    real = [b for b in gt.tolist() if b[0] == row[0] and b[0] >= 0]
    overlaps = [iou(row[1:], b[1:5]) for b in real]
    match = real[int(np.argmax(overlaps))]
    width, height = row[3] - row[1] + 1, row[4] - row[2] + 1
    w, h = match[3] - match[1] + 1, match[4] - match[2] + 1
    deltas = [(match[1] + w / 2 - row[1] - width / 2) / width, (match[2] + h / 2 - row[2] - height / 2) / height,
              math.log(w / width), math.log(h / height)]  # fmt: skip
    label = int(match[5])
    target = np.zeros(16 if aware else 8)
    start = 4 * (label if aware else 1)
    target[start : start + 4] = [(d - m) / s for d, m, s in zip(deltas, MEAN, STD, strict=True)]
    return label, target, [label, *match[1:5], max(overlaps)]


def best_overlap(row, gt):
    return max([iou(row[1:], b[1:5]) for b in gt.tolist() if b[0] == row[0] and b[0] >= 0], default=0.0)


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_all_regions_are_taken(tmp_path, aware, weighted):
    """batch_size -1 leaves nothing to chance: every region in the order of positives, then negatives."""
    fields = "batch_size: -1 fg_thr: 0.4 bg_thr_hg: 0.4 bg_thr_lw: 0.05 bbox_thr_hg: 0.8 pickup_discard: false "
    net = target_net(tmp_path, fields + f"iou_weighted: {str(weighted).lower()}", aware=aware)
    rows, gt = boxes(40, 2, 3), true_boxes(8)
    gt[1, 6] = 1  # ignored
    assert net.blob_shapes["rois"] == (46, 5, 1, 1) and net.blob_shapes["target"] == (46, 16 if aware else 8, 1, 1)
    every = np.concatenate([rows, gt[:5, :5]])
    overlaps = [best_overlap(row, gt) for row in every.tolist()]
    positives = [i for i, o in enumerate(overlaps) if o >= 0.4]
    ignored = [i for i in positives if described(every[i].tolist(), gt, aware)[2][1:5] == gt[1, 1:5].tolist()]
    positives = [i for i in positives if i not in ignored]
    negatives = [i for i, o in enumerate(overlaps) if 0.05 <= o < 0.4]
    found = net.to_torch()(torch.tensor(rows), torch.tensor(gt))
    found = {name: top[..., 0, 0].numpy() for name, top in found.items()}
    np.testing.assert_array_equal(found["rois"], every[positives + negatives])
    weights = [overlaps[i] if weighted else 1.0 for i in positives] + [1.0] * len(negatives)
    for place, index in enumerate(positives):
        label, target, matched = described(every[index].tolist(), gt, aware)
        assert found["label"][place, 0] == label
        np.testing.assert_allclose(found["target"][place], target, RTOL, ATOL)
        np.testing.assert_allclose(found["matched"][place], matched, RTOL)
        expected = (target != 0) * (overlaps[index] <= 0.8)
        np.testing.assert_array_equal(found["inside"][place].nonzero()[0], np.flatnonzero(expected))
    for name in ("label", "target", "inside", "outside", "matched"):
        assert not found[name][len(positives) :].any()
    np.testing.assert_array_equal(found["inside"], found["outside"])
    sums = sum(weights[: len(positives)]), sum(weights[len(positives) :])
    total = len(weights)
    expected = [w * (0.25 * total / sums[0] if i < len(positives) else 0.75 * total / sums[1])
                for i, w in enumerate(weights)]  # fmt: skip
    np.testing.assert_allclose(found["weight"][:, 0], expected, RTOL)


@pytest.mark.parametrize("columns", [7, 8])
def test_a_sample_of_regions(tmp_path, columns):
    """A fourth positive at most, all of the right kind; MS-CNN's (7 columns) batch is always full."""
    fields = "batch_size: 24 fg_thr: 0.5 bg_thr_hg: 0.5 bg_thr_lw: 0.3 pickup_discard: false"
    net = target_net(tmp_path, fields, columns, tops=6)
    rows, gt = boxes(40, 2, 3), true_boxes(columns)
    every = np.concatenate([rows, gt[gt[:, 0] >= 0, :5]])
    torch.manual_seed(0)
    model = net.to_torch()
    samples = [model(torch.tensor(rows), torch.tensor(gt)) for _ in range(2)]
    assert not np.array_equal(samples[0]["rois"], samples[1]["rois"])
    torch.manual_seed(0)
    assert np.array_equal(samples[0]["rois"], model(torch.tensor(rows), torch.tensor(gt))["rois"])
    for found in samples:
        regions, label = found["rois"][..., 0, 0].numpy(), found["label"].ravel().numpy()
        overlaps = np.array([best_overlap(row, gt) for row in regions.tolist()])
        known = {tuple(row) for row in every.tolist()}
        assert (label > 0).sum() == 6 and (overlaps[label > 0] >= 0.5).all()
        negative = overlaps[label == 0]
        assert (negative < 0.5).all()
        if columns == 8:
            assert (negative >= 0.3).all() and len(regions) < 24
        else:
            assert len(regions) == 24
        drawn = [row for row in regions.tolist() if tuple(row) not in known]
        assert columns == 7 or not drawn
        for row in drawn:
            assert row[0] in (0, 1) and row[3] - row[1] >= 31 and row[4] - row[2] >= 31


def test_a_random_box_where_there_is_none(tmp_path):
    net = target_net(tmp_path, "batch_size: 8 pickup_discard: false append_gtbox: false bg_thr_lw: 0.1", tops=6)
    rows, gt = boxes(40, 2, 3), true_boxes(8)
    rows[:, 1:] += 1000
    found = net.to_torch()(torch.tensor(rows), torch.tensor(gt))
    assert found["rois"].shape == (1, 5, 1, 1) and not found["label"].any()
    assert best_overlap(found["rois"].ravel().tolist(), gt) < 0.5


def test_discarded_regions_fill_up(tmp_path):
    net = target_net(tmp_path, "batch_size: 30 append_gtbox: false bg_thr_lw: 0.45", tops=6)
    rows, gt = boxes(40, 2, 3), true_boxes(8)
    overlaps = [best_overlap(row, gt) for row in rows.tolist()]
    found = net.to_torch()(torch.tensor(rows), torch.tensor(gt))
    positives = min(sum(o >= 0.5 for o in overlaps), 8)
    negatives = [i for i, o in enumerate(overlaps) if 0.45 <= o < 0.5]
    others = [i for i, o in enumerate(overlaps) if o < 0.45]
    expected = (negatives + others)[: 30 - positives]
    np.testing.assert_array_equal(found["rois"][positives:, :, 0, 0], rows[expected])


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("empty", [False, True])
def test_bbox_accuracy(tmp_path, aware, empty):
    text = nets.inputs(d=(20, 16 if aware else 8), r=(20, 5), gt=(20, 6)) + nets.layer(
        "BboxAccuracy", "d r gt", "after before", SPREAD % f"cls_aware: {str(aware).lower()}"
    )
    net = nets.load(tmp_path, text, phase="train")
    random = np.random.default_rng(0)
    deltas, rows = random.standard_normal((20, 16 if aware else 8)).astype(np.float32), boxes(20, 1, 1)
    gt = np.concatenate([random.integers(0, 4, (20, 1)), rows[:, 1:] + random.integers(-9, 9, (20, 4)),
                         random.random((20, 1))], 1).astype(np.float32)  # fmt: skip
    gt[2, 0], gt[2, 5] = 1, 0.99  # a true box itself
    gt[:, 0] *= not empty
    after, before = [], []
    for delta, row, match in zip(deltas, rows.tolist(), gt.tolist(), strict=True):
        label = int(match[0])
        if label <= 0 or match[5] > 0.975:
            continue
        start = 4 * (label if aware else 1)
        x, y, w, h = (float(d) * s + m for d, s, m in zip(delta[start : start + 4], STD, MEAN, strict=True))
        width, height = row[3] - row[1] + 1, row[4] - row[2] + 1
        x, y = x * width + row[1] + width / 2, y * height + row[2] + height / 2
        w, h = width * math.exp(w), height * math.exp(h)
        box = [x - w / 2, y - h / 2, x + w / 2 - 1, y + h / 2 - 1]
        after.append(iou(box, match[1:5]))
        before.append(iou(row[1:], match[1:5]))
    found = net.to_torch()(*map(torch.tensor, (deltas, rows, gt)))
    np.testing.assert_allclose(found["after"].ravel(), [np.mean(after) if after else -1], RTOL)
    np.testing.assert_allclose(found["before"].ravel(), [np.mean(before) if before else -1], RTOL)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nets.layer("HardMining", "s r", "y", "hard_mining_param { num_image: 0 }"), "expected a positive num_roi"),
        (nets.layer("HardMining", "s r s", "y"), "expected a top for each bottom but the first"),
        (nets.layer("HardMining", "r r", "y"), "expected scores of 1 numbers a row"),
        (nets.layer("ProposalTarget", "r s", TOPS, "proposal_target_param { cls_num: 3 }"), "true boxes of 7 or 8"),
        (nets.layer("ProposalTarget", "r gt", TOPS), "expected a cls_num of 2 or more"),
        (nets.layer("BboxAccuracy", "gt r s", "y"), "expected matched boxes of 5 numbers a row or more"),
    ],
)
def test_what_they_refuse(tmp_path, layer, message):
    with pytest.raises(caffeport.NetError, match=message):
        nets.load(tmp_path, nets.inputs(s=(6, 1), r=(6, 5), gt=(6, 8)) + layer, phase="train")
