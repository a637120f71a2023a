"""Cascade R-CNN's and MS-CNN's boxes, against loops that follow their layers box by box."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import OPSETS, run_file

RTOL, ATOL = 1e-5, 1e-3  # pixels: float32 corners of some hundred pixels
MEAN, STD = (0.01, -0.02, 0.03, 0.0), (0.1, 0.2, 0.15, 0.3)
SPREAD = (
    "bbox_reg_param { " + " ".join(f"bbox_mean: {v}" for v in MEAN) + " " + " ".join(f"bbox_std: {v}" for v in STD)
    + " %s }"
)  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:.*random weights", "ignore:.*fixes the batch size")


def overlap(a, b, pixel, mode="IOU"):
    """JaccardOverlap of cascade-rcnn (pixel: 1), BoxIOU of mscnn (pixel: 0)."""
    sides = [(box[2] - box[0] + pixel, box[3] - box[1] + pixel) for box in (a, b)]
    if pixel and any(box[2] < box[0] or box[3] < box[1] for box in (a, b)):
        return 0.0
    if not pixel and any(min(side) <= 0 for side in sides):
        return 0.0
    left, top, right, bottom = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    if top >= bottom or (left > right if pixel else left >= right):
        return 0.0
    shared = (right - left + pixel) * (bottom - top + pixel)
    areas = [side[0] * side[1] for side in sides]
    return shared / {"IOU": sum(areas) - shared, "IOMU": min(areas), "IOFU": areas[0]}[mode]


def suppressed(boxes, threshold, pixel, mode="IOU"):
    """Boxes (box, score) in order, without those that overlap one kept before."""
    kept = []
    for box, score in boxes:
        if all(overlap(other, box, pixel, mode) <= threshold for other, _ in kept):
            kept.append((box, score))
    return kept


def decode(delta, region):
    """DecodeBBoxesWithPrior of one box."""
    delta = [float(d) * s + m for d, s, m in zip(delta, STD, MEAN, strict=True)]
    width, height = region[2] - region[0] + 1, region[3] - region[1] + 1
    cx, cy = 0.5 * (region[0] + region[2]), 0.5 * (region[1] + region[3])
    w, h = width * math.exp(delta[2]), height * math.exp(delta[3])
    x, y = delta[0] * width + cx - (w - 1) / 2, delta[1] * height + cy - (h - 1) / 2
    return [x, y, x + w - 1, y + h - 1]


def regions(count, seed, columns=5):
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform(0, 200, (count, 2, 2)), 1).reshape(count, 4)
    rows = np.zeros((count, columns))
    rows[:, 1:5] = corners
    return rows.astype(np.float32)


def results(net, tmp_path, arrays, opsets=OPSETS):
    """{top: array} from torch, then from ONNX Runtime for each opset."""
    with torch.no_grad():
        found = net.to_torch()(*(torch.tensor(array) for array in arrays))
    found = found if isinstance(found, dict) else {net.outputs[0]: found}
    yield {name: top.numpy() for name, top in found.items()}
    for opset in opsets:
        net.to_onnx(tmp_path / "n.onnx", opset=opset)
        yield run_file(tmp_path / "n.onnx", dict(zip(net.inputs, arrays, strict=True)))


def assert_rows(net, tmp_path, arrays, opsets=OPSETS, **expected):
    for found in results(net, tmp_path, arrays, opsets):
        for name, rows in expected.items():
            rows = np.asarray(rows, np.float64)
            assert found[name].shape == (*rows.shape, 1, 1)[: max(4, rows.ndim)]
            np.testing.assert_allclose(found[name].reshape(rows.shape), rows, RTOL, ATOL)


@pytest.mark.parametrize("axes", [2, 4])
def test_decode_bbox(tmp_path, axes):
    shapes = {"d": (12, 8, 1, 1)[:axes], "r": (12, 5, 1, 1)[:axes]}
    text = nets.inputs(**shapes) + nets.layer("DecodeBBox", "d r", "y", SPREAD % "cls_aware: false")
    net = nets.load(tmp_path, text)
    for count in (12, 5):
        deltas = np.random.default_rng(count).standard_normal((count, 8)).astype(np.float32)
        rows = regions(count, 1)
        expected = [[row[0], *decode(delta[4:], row[1:])] for delta, row in zip(deltas, rows.tolist(), strict=True)]
        arrays = [deltas.reshape(count, 8, *[1] * (axes - 2)), rows.reshape(count, 5, *[1] * (axes - 2))]
        assert_rows(net, tmp_path, arrays, y=expected)


@pytest.mark.parametrize("bottoms", [2, 3])
def test_decode_bbox_leaves_out_in_training(tmp_path, bottoms):
    names = ["d", "r", "gt"][:bottoms]
    text = nets.inputs(d=(12, 8), r=(12, 5), gt=(12, 6)) + nets.layer(
        "DecodeBBox", " ".join(names), "y", SPREAD % "" + " decode_bbox_param { gt_iou_thr: 0.6 }"
    )
    net = nets.load(tmp_path, text, phase="train")
    random = np.random.default_rng(0)
    rows, deltas = regions(12, 1), random.standard_normal((12, 8)).astype(np.float32)
    deltas[3, 6] = -40  # less than a pixel wide: the wrong way round
    truth = random.random((12, 6)).astype(np.float32)
    expected = []
    for row, delta, gt in zip(rows.tolist(), deltas, truth, strict=True):
        box = decode(delta[4:], row[1:])
        if box[0] <= box[2] and box[1] <= box[3] and (bottoms == 2 or gt[5] < 0.6):
            expected.append([row[0], *box])
    found = net.to_torch()(*map(torch.tensor, (deltas, rows, truth)))
    found = found["y"] if isinstance(found, dict) else found
    np.testing.assert_allclose(found[:, :, 0, 0], expected, RTOL, ATOL)
    with pytest.raises(caffeport.ExportError, match="chooses examples to train on"):
        net.to_onnx(tmp_path / "n.onnx", outputs=["y"])


@pytest.mark.parametrize(
    ("fields", "low", "high"),
    [("low_scale: 40 high_scale: 90", 40, 90), ("high_scale: 60", 0, 60), ("low_scale: 70", 70, math.inf),
     ("low_scale: 50 high_scale: 50.001", 50, 50.001), ("low_scale: 1000", 1000, math.inf), ("", 0, math.inf)],
)  # fmt: skip
def test_scale_route(tmp_path, fields, low, high):
    text = nets.inputs(r=(20, 5), x=(20, 3, 2, 2)) + nets.layer(
        "ScaleRoute", "r x", "y z", f"scale_route_param {{ {fields} }}"
    )
    net = nets.load(tmp_path, text)
    assert net.blob_shapes["y"] == (1, 5, 1, 1) and net.blob_shapes["z"] == (1, 3, 2, 2)
    rows, x = regions(20, 2), np.random.default_rng(0).random((20, 3, 2, 2)).astype(np.float32)
    rows[4, 3] = rows[4, 1] - 2  # without area
    scales = [math.sqrt((r[3] - r[1] + 1) * (r[4] - r[2] + 1)) if r[3] >= r[1] and r[4] >= r[2] else 0
              for r in rows.astype(np.float64)]  # fmt: skip
    chosen = [i for i, scale in enumerate(scales) if low <= scale < high]
    if not chosen:
        middle = math.sqrt(low * high) if low and high < math.inf else low or high
        chosen = [min((i for i in range(20) if scales[i]), key=lambda i: abs(math.log2(scales[i] / middle)))]
    assert_rows(net, tmp_path, [rows, x], y=rows[chosen], z=x[chosen])


def detections(scores, deltas, rows, size, aware, confidence, threshold, most, mode="IOU"):
    found = []
    for label in range(1, scores.shape[1]):
        boxes = []
        for score, delta, row in zip(scores[:, label], deltas, rows.tolist(), strict=True):
            if score >= np.float32(confidence):
                start = 4 * label if aware else 4
                x1, y1, x2, y2 = decode(delta[start : start + 4], row[1:5])
                boxes.append(([max(x1, 0), max(y1, 0), min(x2, size[1]), min(y2, size[0])], float(score)))
        boxes.sort(key=lambda pair: -pair[1])
        found += [[0, *box, label, score] for box, score in suppressed(boxes, threshold, 1, mode)]
    if most and len(found) > most:
        best = sorted(range(len(found)), key=lambda i: -found[i][6])[:most]
        found = [found[i] for i in sorted(best)]
    return [[0, *[-1] * 6], *found]


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize(("confidence", "threshold", "most"), [(0.3, 0.4, 0), (0.001, 0.5, 12), (2, 0.5, 5)])
def test_frcnn_output(tmp_path, aware, confidence, threshold, most):
    text = nets.inputs(s=(30, 4), d=(30, 16 if aware else 8), r=(30, 6), size=(1, 2)) + nets.layer(
        "FrcnnOutput", "s d r size", "y",
        f"frcnn_output_param {{ conf_thr: {confidence} iou_thr: {threshold} max_det_num: {most} }}"
        + SPREAD % f"cls_aware: {str(aware).lower()}",
    )  # fmt: skip
    net = nets.load(tmp_path, text)
    assert net.blob_shapes["y"] == (1 + (most or 90), 7, 1, 1)
    for count in (30, 9):
        random = np.random.default_rng(count)
        scores = (random.permutation(4 * count) / (4 * count)).reshape(count, 4)
        deltas = random.standard_normal((count, 16 if aware else 8))
        arrays = [np.asarray(a, np.float32) for a in (scores, deltas, regions(count, 3, 6), [[150, 180]])]
        expected = detections(*arrays[:3], arrays[3][0], aware, confidence, threshold, most)
        assert_rows(net, tmp_path, arrays, y=expected)


@pytest.mark.parametrize("mode", ["IOMU", "IOFU"])
def test_other_overlaps_are_for_torch(tmp_path, mode):
    text = nets.inputs(s=(30, 4), d=(30, 16), r=(30, 6), size=(1, 2)) + nets.layer(
        "FrcnnOutput", "s d r size", "y", f'frcnn_output_param {{ nms_type: "{mode}" }} ' + SPREAD % ""
    )
    net = nets.load(tmp_path, text)
    random = np.random.default_rng(0)
    scores = random.permutation(120).reshape(30, 4) / 120
    arrays = [np.asarray(a, np.float32)
              for a in (scores, random.standard_normal((30, 16)), regions(30, 3, 6), [[150, 180]])]  # fmt: skip
    expected = detections(*arrays[:3], arrays[3][0], True, 0, 0.5, 0, mode)
    assert_rows(net, tmp_path, arrays, opsets=(), y=expected)
    with pytest.raises(caffeport.ExportError, match=f"not nms_type {mode}"):
        net.to_onnx(tmp_path / "n.onnx")


def field_box(delta, field, place, stride, size, whr, xyr, pixel):
    """One box of a map, as DecodeGroupBBoxes and BoxOutput make it; then clipped."""
    x, y, w, h = (float(d) * s + m for d, s, m in zip(delta, STD, MEAN, strict=True))
    x, y = (min(max(v, -1 / xyr), 1 / xyr) for v in (x, y))
    w, h = (field[i] * math.exp(min(max(v, -math.log(whr)), math.log(whr))) for i, v in enumerate((w, h)))
    x = x * field[0] + (place[1] + 0.5) * stride - w / 2
    y = y * field[1] + (place[0] + 0.5) * stride - h / 2
    limit = size[1] * stride, size[0] * stride
    if pixel:
        return [max(x, 0), max(y, 0), min(x + w - 1, limit[0]), min(y + h - 1, limit[1])]
    x, y = max(x, 0), max(y, 0)
    return [x, y, x + min(w, limit[0] - x), y + min(h, limit[1] - y)]


def chosen_boxes(boxes, least, min_size, pre, post, threshold, pixel):
    """Sort (box, score) in the order of the maps; mscnn's sort puts the later of equal scores first."""
    boxes = [(b, s) for b, s in boxes
             if s >= np.float32(least) and min(b[2] - b[0], b[3] - b[1]) + pixel >= min_size]  # fmt: skip
    boxes = sorted(boxes if pixel else boxes[::-1], key=lambda pair: -pair[1])[: pre or None]
    return suppressed(boxes, threshold, pixel)[: post or None]


GROUPS = [([(30, 20), (20, 30)], 8), ([(60, 40), (40, 60), (50, 50)], 16)]


@pytest.mark.parametrize(("least", "pre", "post"), [(0.4, 40, 15), (0, 0, 0), (1.5, 10, 10)])
def test_box_group_output(tmp_path, least, pre, post):
    groups = " ".join(
        "box_group_param { " + " ".join(f"field_w: {w} field_h: {h}" for w, h in sizes) + f" stride: {stride} }}"
        for sizes, stride in GROUPS
    )
    fields = f"fg_thr: {least} iou_thr: 0.5 {groups} field_whr: 3 field_xyr: 1.5 max_nms_num: {pre} "
    fields += f"max_post_nms_num: {post} min_size: 18"
    text = nets.inputs(p0=(4, 2, 4, 5), d0=(4, 4, 4, 5), p1=(6, 2, 2, 3), d1=(6, 4, 2, 3)) + nets.layer(
        "BoxGroupOutput", "p0 d0 p1 d1", "rois scored", f"box_group_output_param {{ {fields} }} " + SPREAD % ""
    )
    net = nets.load(tmp_path, text)
    most = min(n for n in (58, pre or 58, post or 58))
    assert net.blob_shapes["rois"] == (2 * most, 5, 1, 1) and net.blob_shapes["scored"] == (2 * most, 6, 1, 1)
    for seed in range(2):
        random, images = np.random.default_rng(seed), 2
        arrays, rows = [], []
        for (sizes, _), shape in zip(GROUPS, ((4, 5), (2, 3)), strict=True):
            count = images * len(sizes)
            prob = random.permutation(count * shape[0] * shape[1]).reshape(count, 1, *shape) / 5000 + 0.3
            arrays += [np.concatenate([1 - prob, prob], 1), random.standard_normal((count, 4, *shape))]
        arrays = [array.astype(np.float32) for array in arrays]
        for image in range(images):
            boxes = []
            for index, (sizes, stride) in enumerate(GROUPS):
                prob, deltas = arrays[2 * index], arrays[2 * index + 1]
                for k, field in enumerate(sizes):
                    n = image * len(sizes) + k
                    for place in np.ndindex(prob.shape[2:]):
                        box = field_box(
                            deltas[(n, slice(None), *place)], field, place, stride, prob.shape[2:], 3, 1.5, 1
                        )
                        boxes.append((box, float(1 - prob[(n, 0, *place)])))
            rows += [[image, *box, score] for box, score in chosen_boxes(boxes, least, 18, pre, post, 0.5, 1)]
        rois = [row[:5] for row in rows] or [[0, 1, 1, 10, 10]]
        assert_rows(net, tmp_path, arrays, opsets=OPSETS, rois=rois, scored=rows or [[0.0] * 6])


@pytest.mark.parametrize(("least", "pre", "post"), [(-0.5, 30, 12), (-9, 0, 0), (9, 10, 10)])
def test_box_output(tmp_path, least, pre, post):
    fields = "field_w: 30 field_w: 60 field_h: 20 field_h: 40 downsample_rate: 8 downsample_rate: 16 field_whr: 3 "
    fields += f"field_xyr: 1.5 fg_thr: {least} iou_thr: 0.4 max_nms_num: {pre} max_post_nms_num: {post} min_size: 18"
    text = nets.inputs(a=(2, 7, 4, 5), b=(2, 7, 2, 3)) + nets.layer(
        "BoxOutput", "a b", "rois scored", f"box_output_param {{ {fields} }} " + SPREAD % ""
    )
    net = nets.load(tmp_path, text)
    for images in (2, 1):  # the ONNX file leaves the batch free
        random = np.random.default_rng(images)
        arrays = [random.standard_normal((images, 7, 4, 5)), random.standard_normal((images, 7, 2, 3))]
        arrays = [np.concatenate([np.round(array[:, :3], 1), array[:, 3:]], 1).astype(np.float32) for array in arrays]
        rows = []
        for image in range(images):
            boxes = []
            for maps, field, stride in zip(arrays, ((30, 20), (60, 40)), (8, 16), strict=True):
                for place in np.ndindex(maps.shape[2:]):
                    box = field_box(
                        maps[(image, slice(3, None), *place)], field, place, stride, maps.shape[2:], 3, 1.5, 0
                    )
                    score = maps[(image, slice(1, 3), *place)].max() - maps[(image, 0, *place)]  # in float32, with ties
                    boxes.append((box, float(score)))
            rows += [[image, *box, score] for box, score in chosen_boxes(boxes, least, 18, pre, post, 0.4, 0)]
        rois = [row[:5] for row in rows] or [[0, 1, 1, 10, 10]]
        assert_rows(net, tmp_path, arrays, opsets=OPSETS, rois=rois, scored=rows or [[0.0] * 6])


def cascade():
    """A map of stride 4, proposals of two fields from it, and two stages of boxes on them, routed by their size."""
    text = nets.inputs(data=(1, 3, 32, 48)) + nets.conv("data", "map", 8, "kernel_size: 4 stride: 4")
    text += nets.conv("map", "cls", 4, "kernel_size: 1") + nets.conv("map", "reg", 8, "kernel_size: 1")
    for bottom, each in (("cls", 2), ("reg", 4)):
        shape = f"reshape_param {{ shape {{ dim: -1 dim: {each} dim: 0 dim: 0 }} }}"
        text += nets.layer("Reshape", bottom, f"{bottom}_groups", shape)
    text += nets.layer("Softmax", "cls_groups", "prob")
    group = "box_group_param { field_w: 12 field_w: 20 field_h: 20 field_h: 12 stride: 4 }"
    text += nets.layer(
        "BoxGroupOutput", "prob reg_groups", "proposals",
        f"box_group_output_param {{ fg_thr: 0.2 iou_thr: 0.6 min_size: 4 max_nms_num: 60 {group} }}",
    )  # fmt: skip
    bottoms = []
    for route, fields in (("small", "high_scale: 15"), ("large", "low_scale: 15")):
        text += nets.layer("ScaleRoute", "proposals", route, f"scale_route_param {{ {fields} }}")
        align = "roi_pooling_param { pooled_w: 3 pooled_h: 3 spatial_scale: 0.25 }"
        text += nets.layer("ROIAlign", f"map {route}", f"{route}_grid", align)
        pool = "pooling_param { pool: AVE kernel_size: 2 stride: 1 }"
        text += nets.layer("Pooling", f"{route}_grid", f"{route}_pool", pool)
        bottoms.append((route, f"{route}_pool"))
    for top, names in zip(("rois", "pooled"), zip(*bottoms, strict=True), strict=True):
        text += nets.layer("Concat", " ".join(names), top, "concat_param { axis: 0 }")
    text += nets.inner_product("pooled", "bbox", 8)
    spread = SPREAD % "cls_aware: false"
    return text + nets.layer("DecodeBBox", "bbox rois", "second", spread)


@pytest.mark.slow
@pytest.mark.parametrize("opset", OPSETS)
def test_a_cascade_in_one_file(tmp_path, opset):
    """Of any size and any number of images, in ONNX Runtime as in torch."""
    net = nets.load(tmp_path, cascade())
    outputs = ["proposals", "pooled", "second"]
    net.to_onnx(tmp_path / "n.onnx", opset=opset, outputs=outputs)
    model = net.to_torch(outputs=outputs)
    for images, height, width in ((1, 32, 48), (2, 48, 40)):
        data = np.random.default_rng(height).standard_normal((images, 3, height, width)).astype(np.float32)
        with torch.no_grad():
            expected = model(torch.tensor(data))
        found = run_file(tmp_path / "n.onnx", {"data": data})
        assert len(set(found["proposals"][:, 0, 0, 0])) == images
        for name in outputs:
            assert found[name].shape == tuple(expected[name].shape)
            np.testing.assert_allclose(found[name], expected[name], 1e-4, ATOL)


X = nets.inputs(d=(6, 8), r=(6, 5), r2=(5, 5), s=(6, 1), p=(2, 2, 3, 3), q=(2, 4, 3, 3), size=(1, 2))
GROUP = "box_group_output_param { %s box_group_param { field_w: 9 field_h: 9 stride: 4 } }"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nets.layer("DecodeBBox", "r r", "y"), "expected deltas of 8 numbers a row"),
        (nets.layer("DecodeBBox", "d r2", "y"), "expected bottoms of as many rows"),
        (nets.layer("DecodeBBox", "d r", "y", "bbox_reg_param { bbox_mean: 0 bbox_std: 1 }"), "expected 4 bbox_mean"),
        (nets.layer("ScaleRoute", "r d", "y"), "expected a top for each of 2 bottoms"),
        (nets.layer("ScaleRoute", "r", "y", "scale_route_param { low_scale: 9 high_scale: 3 }"), "low_scale <= high"),
        (nets.layer("FrcnnOutput", "s d r size", "y"), "expected scores of 2 classes or more"),
        (nets.layer("BoxGroupOutput", "p q", "y"), "expected a box_group_param for each pair of bottoms"),
        (nets.layer("BoxGroupOutput", "p p", "y", GROUP % ""), "expected probabilities and deltas of 1 boxes a place"),
        (
            nets.layer("BoxGroupOutput", "p q", "y", GROUP % 'nms_type: "IOX"'),
            "expected an nms_type of IOU, IOMU, IOFU",
        ),
        (nets.layer("BoxGroupOutput", "p q", "y", GROUP % "field_whr: 0.5"), "a field_whr of 1 or more"),
        (nets.layer("BoxOutput", "q", "y"), "expected 1 each of field_w, field_h and downsample_rate"),
    ],
)
def test_what_they_refuse(tmp_path, layer, message):
    with pytest.raises(caffeport.NetError, match=message):
        nets.load(tmp_path, X + layer)


def test_tiny_boxes_are_for_torch(tmp_path):
    net = nets.load(tmp_path, X + nets.layer("BoxGroupOutput", "p q", "y", GROUP % "min_size: 1"))
    with pytest.raises(caffeport.ExportError, match="share less than a pixel"):
        net.to_onnx(tmp_path / "n.onnx", outputs=["y"])
