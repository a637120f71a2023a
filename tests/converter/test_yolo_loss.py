"""YOLO's losses against loops that follow their definitions, and the gradients that they define."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import numbers

BIASES = [(1.08, 1.19), (3.42, 4.41), (6.63, 5.38), (2.42, 5.11), (4.62, 1.52)]
ANCHORS = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)]
CLASSES, H, W = 3, 4, 5


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def iou(a, b):
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1)
    ]
    common = sides[0] * sides[1] if min(sides) >= 0 else 0
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def labels(images, seed, rows=6):
    """Up to three labels an image, two of them at one place; then rows of 0."""
    random = np.random.default_rng(seed)
    result = np.zeros((images, 1, rows, 5))
    for image in range(images - (images > 2)):
        result[image, 0, :2, 0] = random.integers(0, CLASSES, 2)
        result[image, 0, :2, 1:3] = 0.1 + 0.8 * random.random((2, 2))
        result[image, 0, :2, 3:] = 0.1 + 0.5 * random.random((2, 2))
        result[image, 0, 2] = result[image, 0, 0] + [0, 0.001, 0.001, 0.02, 0.02]
        result[image, 0, 2, 0] = (result[image, 0, 0, 0] + image) % CLASSES
    return result.astype(np.float32)


def repeated(name, values):
    return " ".join(f"{name}: {value}" for value in values)


def prepared(tmp_path, kind, message, parameters, boxes):
    text = nets.inputs(x=(3, boxes * (5 + CLASSES), H, W), label=(3, 1, 6, 5))
    text += nets.layer(kind, "x label", "loss", f"{message} {{ num_class: {CLASSES} num: {boxes} {parameters} }}")
    return nets.load(tmp_path, text, phase="train")


def assert_loss(net, x, label, delta, gradient, value=None):
    """The loss is sum d^2 / N, or this value / N, its gradient what the definition writes."""
    inputs = torch.tensor(x).requires_grad_()
    loss = net.to_torch()(inputs, torch.tensor(label))
    (2 * loss).backward()
    np.testing.assert_allclose(loss.item(), ((delta**2).sum() if value is None else value) / len(x), 1e-5)
    np.testing.assert_allclose(inputs.grad.numpy(), 2 * gradient / len(x), 1e-4, 1e-5)  # float32 against float64


def region_delta(x, label, p):
    """d of every number, in the order of the definition's loops."""
    n = len(x)
    x = x.astype(float).reshape(n, len(BIASES), 5 + CLASSES, H, W)
    delta = np.zeros_like(x)
    for b in range(n):
        rows = list(label[b, 0].astype(float))
        rows = rows[: next((k for k, row in enumerate(rows) if row[1] == 0), len(rows))]

        def box(a, j, i, b=b):
            v = x[b, a, :, j, i]
            return [(i + sigmoid(v[0])) / W, (j + sigmoid(v[1])) / H, math.exp(v[2]) * BIASES[a][0] / W,
                    math.exp(v[3]) * BIASES[a][1] / H]  # fmt: skip

        for a, j, i in np.ndindex(len(BIASES), H, W):
            thing = sigmoid(x[b, a, 4, j, i])
            if max((iou(box(a, j, i), row[1:]) for row in rows), default=0) <= p["thresh"]:
                delta[b, a, 4, j, i] = p["noobject_scale"] * thing * thing * (1 - thing)
        for row in rows:
            i, j = int(row[1] * W), int(row[2] * H)
            sizes = [
                (BIASES[a][0] / W, BIASES[a][1] / H) if p["bias_match"] else box(a, j, i)[2:]
                for a in range(len(BIASES))
            ]
            best = int(np.argmax([iou([0, 0, *size], [0, 0, *row[3:]]) for size in sizes]))
            v, d = x[b, best, :, j, i], delta[b, best, :, j, i]
            scale = p["coord_scale"] * (1 if p["rescore"] else 2 - row[3] * row[4])
            for k, (goal, step) in enumerate(((row[1] * W - i, 1), (row[2] * H - j, 1))):
                s = sigmoid(v[k])
                d[k] = -scale * (goal - s) * s * (1 - s) * step
            d[2] = -scale * (math.log(row[3] * W / BIASES[best][0]) - v[2])
            d[3] = -scale * (math.log(row[4] * H / BIASES[best][1]) - v[3])
            thing = sigmoid(v[4])
            goal = iou(box(best, j, i), row[1:]) if p["rescore"] else 1
            d[4] = -p["object_scale"] * (goal - thing) * thing * (1 - thing)
            shares = np.exp(v[5:]) / np.exp(v[5:]).sum()
            for c in range(CLASSES):
                d[5 + c] = -p["class_scale"] * ((c == int(row[0])) - shares[c])
    return delta


@pytest.mark.parametrize("bias_match", [0, 1])
@pytest.mark.parametrize("rescore", [0, 1])
def test_region_loss(tmp_path, bias_match, rescore):
    p = {"bias_match": bias_match, "rescore": rescore, "object_scale": 5.0, "noobject_scale": 1.0, "class_scale": 1.5,
         "coord_scale": 2.0, "thresh": 0.3}  # fmt: skip
    parameters = " ".join(f"{key}: {value}" for key, value in p.items()) + " side: 13 coords: 4 softmax: 1 jitter: 0.2 "
    net = prepared(tmp_path, "RegionLoss", "region_loss_param", parameters + repeated("biases", sum(BIASES, ())), 5)
    for seed in range(3):
        x, label = numbers(3, 5 * (5 + CLASSES), H, W, seed=seed), labels(3, seed)
        delta = region_delta(x, label, p).reshape(x.shape)
        assert_loss(net, x, label, delta, delta)


def likeness(a, b, kind):
    """GIoU, DIoU (with darknet's power), CIoU, or the overlap, of boxes (x, y, w, h)."""
    shared = iou(a, b)
    ends = [[(c[i] - c[i + 2] / 2, c[i] + c[i + 2] / 2) for c in (a, b)] for i in (0, 1)]
    spans = [max(high for _, high in pair) - min(low for low, _ in pair) for pair in ends]
    if kind == "GIOU":
        union = (a[2] * a[3] + b[2] * b[3]) / (1 + shared)
        return shared - (spans[0] * spans[1] - union) / (spans[0] * spans[1])
    apart = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (spans[0] ** 2 + spans[1] ** 2)
    if kind == "DIOU":
        return shared - apart**0.6
    if kind == "CIOU":
        shape = 4 / math.pi**2 * (math.atan(b[2] / b[3]) - math.atan(a[2] / a[3])) ** 2
        return shared - (apart + shape * shape / (1 - shared + shape + 1e-6))
    return shared


def darknet_step(a, b, kind):
    """dx, dy, dw, dh as darknet takes them, side by side: left, top, right and bottom of box a."""
    left, top, right, bottom = a[0] - a[2] / 2, a[1] - a[3] / 2, a[0] + a[2] / 2, a[1] + a[3] / 2
    goal = [b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2]
    iw, ih = min(right, goal[2]) - max(left, goal[0]), min(bottom, goal[3]) - max(top, goal[1])
    cw, ch = max(right, goal[2]) - min(left, goal[0]), max(bottom, goal[3]) - min(top, goal[1])
    common, area = iw * ih, a[2] * a[3]
    union, around = area + b[2] * b[3] - common, cw * ch
    d_area = {"l": -a[3], "t": -a[2], "r": a[3], "b": a[2]}
    d_common = {"l": -ih if left > goal[0] else 0, "t": -iw if top > goal[1] else 0,
                "r": ih if right < goal[2] else 0, "b": iw if bottom < goal[3] else 0}  # fmt: skip
    d_around = {"l": -ch if left < goal[0] else 0, "t": -cw if top < goal[1] else 0,
                "r": ch if right > goal[2] else 0, "b": cw if bottom > goal[3] else 0}  # fmt: skip
    sides = {}
    for k in "ltrb":
        d_union = d_area[k] - d_common[k]
        sides[k] = (union * d_common[k] - common * d_union) / union**2
        if kind == "GIOU":
            extra = (around * d_union - union * d_around[k]) / around**2
            sides[k] = extra if iw <= 0 or ih <= 0 else sides[k] + extra
    step = np.array(
        [sides["l"] + sides["r"], sides["t"] + sides["b"], sides["r"] - sides["l"], sides["b"] - sides["t"]]
    )
    if kind in ("DIOU", "CIOU"):
        diagonal, distance = cw**2 + ch**2, (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
        wider, narrower = [right > goal[2], bottom > goal[3]], [left < goal[0], top < goal[1]]
        extra = np.zeros(4)
        for i, span in enumerate((cw, ch)):
            extra[i] = 2 * (b[i] - a[i]) * diagonal - 2 * span * (int(wider[i]) - int(narrower[i])) * distance
            extra[2 + i] = 2 * span * (wider[i] / 2 + narrower[i] / 2) * distance
        extra /= diagonal**2
        if kind == "CIOU":
            angle = math.atan(b[2] / b[3]) - math.atan(a[2] / a[3])
            shape = 4 / math.pi**2 * angle**2
            weight = shape / (1 - common / union + shape + 1e-6)
            extra[2] += weight * 8 / math.pi**2 * angle * a[3]
            extra[3] -= weight * 8 / math.pi**2 * angle * a[2]
        step = extra if iw <= 0 or ih <= 0 else step + extra
    return step


def yolo3_delta(x, label, p):
    """(d, gradient without / N), label by label; what the boxes lack of likeness goes to p["lacking"]."""
    kind, p["lacking"] = p["kind"], []
    mask, scale_a = p["mask"], p["anchors_scale"]
    n = len(x)
    x = x.astype(float).reshape(n, len(mask), 5 + CLASSES, H, W)
    delta = np.zeros_like(x)

    def smoothed(target):
        return target * (1 - p["eps"]) + 0.5 * p["eps"]

    active = np.where(np.isin(np.arange(5 + CLASSES), (2, 3))[None, None, :, None, None], x, 1 / (1 + np.exp(-x)))
    for b in range(n):
        rows = list(label[b, 0].astype(float))
        rows = rows[: next((k for k, row in enumerate(rows) if row[1] == 0), len(rows))]
        for a, j, i in np.ndindex(len(mask), H, W):
            v, anchor = active[b, a, :, j, i], ANCHORS[mask[a]]
            box = [(i + v[0]) / W, (j + v[1]) / H, math.exp(v[2]) * anchor[0] / (W * scale_a),
                   math.exp(v[3]) * anchor[1] / (H * scale_a)]  # fmt: skip
            if max((likeness(box, row[1:], kind) for row in rows), default=0) <= p["thresh"]:
                delta[b, a, 4, j, i] = v[4]
        for row in rows:
            i, j = int(row[1] * W), int(row[2] * H)

            def assign(a, row=row, i=i, j=j, b=b):
                v, d, anchor = active[b, a, :, j, i], delta[b, a, :, j, i], ANCHORS[mask[a]]
                scale, c = p["coord_scale"] * (2 - row[3] * row[4]), int(row[0])
                if kind == "MSE":
                    d[0], d[1] = -scale * (row[1] * W - i - v[0]), -scale * (row[2] * H - j - v[1])
                    d[2] = -scale * (math.log(row[3] * W * scale_a / anchor[0]) - v[2])
                    d[3] = -scale * (math.log(row[4] * H * scale_a / anchor[1]) - v[3])
                else:
                    size = math.exp(v[2]) * anchor[0] / (W * scale_a), math.exp(v[3]) * anchor[1] / (H * scale_a)
                    box = [(i + v[0]) / W, (j + v[1]) / H, *size]
                    step = darknet_step(box, row[1:], kind) * [1, 1, math.exp(v[2]), math.exp(v[3])]
                    d[:4] = (d[:4] if p["accumulate"] else 0) - np.clip(0.5 * step, -p["max_delta"], p["max_delta"])
                    p["lacking"].append(1 - likeness(box, row[1:], "DIOU" if kind == "IOU" else kind))
                d[4] = -(1 - v[4]) * (p["object_scale"] if p["logic"] else 1)
                if d[5 + c]:
                    d[5 + c] = -p["class_scale"] * (smoothed(1) - v[5 + c])
                elif p["focal"]:
                    pt = v[5 + c]
                    focus = -(1 - pt) * (2 * pt * math.log(pt) + pt - 1)
                    for k in range(CLASSES):
                        d[5 + k] = -p["class_scale"] * ((k == c) - v[5 + k]) * 0.5 * focus
                else:
                    for k in range(CLASSES):
                        d[5 + k] = -p["class_scale"] * (smoothed(k == c) - v[5 + k])

            sizes = [[0, 0, w / (W * scale_a), h / (H * scale_a)] for w, h in ANCHORS]
            shares = [likeness(size, [0, 0, *row[3:]], kind) for size in sizes]
            best = int(np.argmax(shares))
            if shares[best] > 0 and best in mask:
                best = mask.index(best)
                assign(best)
            for k, shared in enumerate(shares):
                if k in mask and k != best and p["iou_thresh"] < 1 and shared > p["iou_thresh"]:
                    assign(mask.index(k))
    gradient = delta.copy()
    if p["logic"]:
        through = active.copy()
        if kind != "MSE":
            through[:, :, :2] = x[:, :, :2]
        sizes = np.isin(np.arange(5 + CLASSES), (2, 3))[None, None, :, None, None]
        gradient *= np.where(sizes, 1, through * (1 - through))
    return delta, gradient


YOLO3 = {
    "usual": {},
    "before-smoothing": {"eps": 0.0, "iou_thresh": 1.0},
    "logic": {"logic": True, "object_scale": 5.0},
    "focal": {"focal": True},
    "wide": {"iou_thresh": 0.1, "mask": [5, 0, 4, 2]},
    "other-anchors": {"mask": [0], "thresh": 0.01},
    **{kind: {"kind": kind, "thresh": 0.1} for kind in ("IOU", "GIOU", "DIOU", "CIOU")},
    "GIOU-logic": {"kind": "GIOU", "logic": True, "max_delta": 0.05},
    "CIOU-not-added": {"kind": "CIOU", "accumulate": False, "iou_thresh": 0.1, "mask": [5, 0, 4, 2]},
}


@pytest.mark.parametrize("case", YOLO3.values(), ids=YOLO3)
def test_yolov3(tmp_path, case):
    p = {"mask": [3, 4, 5], "anchors_scale": 32, "thresh": 0.3, "coord_scale": 1.5, "class_scale": 0.7, "eps": 0.1,
         "object_scale": 1.0, "iou_thresh": 0.5, "logic": False, "focal": False,
         "kind": "MSE", "accumulate": True, "max_delta": 10, **case}  # fmt: skip
    parameters = (
        f"{repeated('biases', sum(ANCHORS, ()))} {repeated('mask', p['mask'])} anchors_scale: 32 thresh: {p['thresh']} "
        f"coord_scale: 1.5 class_scale: 0.7 label_smooth_eps: {p['eps']} object_scale: {p['object_scale']} "
        f"iou_thresh: {p['iou_thresh']} use_logic_gradient: {str(p['logic']).lower()} "
        f"use_focal_loss: {str(p['focal']).lower()} noobject_scale: 1 side: 13 iou_loss: {p['kind']} "
        f"iou_normalizer: 0.5 accumulate: {str(p['accumulate']).lower()} max_delta: {p['max_delta']}"
    )
    net = prepared(tmp_path, "Yolov3", "yolov3_param", parameters, len(p["mask"]))
    for seed in range(3):
        x, label = numbers(3, len(p["mask"]) * (5 + CLASSES), H, W, seed=seed), labels(3, seed)
        delta, gradient = yolo3_delta(x, label, p)
        value = (delta**2).sum()
        if p["kind"] != "MSE":
            value = (delta[:, :, 4:] ** 2).sum() + 0.5 * np.mean(p["lacking"])
        assert_loss(net, x, label, delta.reshape(x.shape), gradient.reshape(x.shape), value)


def test_yolov3_has_its_definition_s_defaults(tmp_path):
    parameters = f"{repeated('biases', sum(ANCHORS, ()))} {repeated('mask', (3, 4, 5))}"
    net = prepared(tmp_path, "Yolov3", "yolov3_param", parameters, 3)
    x, label = numbers(3, 3 * (5 + CLASSES), H, W), labels(3, 0)
    p = {"mask": [3, 4, 5], "anchors_scale": 32, "thresh": 0.2, "coord_scale": 5.0, "class_scale": 1.0, "eps": 0.1,
         "object_scale": 1.0, "iou_thresh": 0.5, "logic": False, "focal": False,
         "kind": "MSE"}  # fmt: skip
    delta, gradient = yolo3_delta(x, label, p)
    assert_loss(net, x, label, delta.reshape(x.shape), gradient.reshape(x.shape))


@pytest.mark.parametrize("weighted", [False, True])
def test_yolo_seg(tmp_path, weighted):
    shapes = {"x": (2, 3, 4, 5), "label": (2, 3, 4, 5)} | ({"areas": (2, 3)} if weighted else {})
    text = nets.inputs(**shapes) + nets.layer("YoloSeg", " ".join(shapes), "loss", "yolo_seg_param { object_scale: 3 }")
    net = nets.load(tmp_path, text, phase="train")
    x, label = numbers(2, 3, 4, 5), (numbers(2, 3, 4, 5, seed=1) > 0).astype(np.float32)
    areas = label.sum((2, 3))
    delta = 3 * (1 / (1 + np.exp(-x.astype(float))) - label)
    if weighted:
        share = areas.sum(0) / (20 - areas).sum(0)
        delta = np.where(label > 0.5, delta * (2 - share)[None, :, None, None], delta)
    inputs = torch.tensor(x).requires_grad_()
    loss = net.to_torch()(inputs, torch.tensor(label), *([torch.tensor(areas)] if weighted else []))
    loss.backward()
    np.testing.assert_allclose(loss.item(), (delta**2).sum() / 2, 1e-5)
    np.testing.assert_allclose(inputs.grad.numpy(), delta / 2, 1e-5, 1e-6)


def test_samples_train(tmp_path):
    """The nets make themselves inputs that their losses can take."""
    parameters = f"{repeated('biases', sum(ANCHORS, ()))} {repeated('mask', (3, 4, 5))}"
    for net in (
        prepared(tmp_path, "Yolov3", "yolov3_param", parameters, 3),
        prepared(tmp_path, "RegionLoss", "region_loss_param", repeated("biases", sum(BIASES, ())), 5),
    ):
        sample = net.sample_inputs(0)
        assert float(net.to_torch()(*(torch.tensor(np.asarray(sample[name])) for name in net.inputs))) > 0


REFUSED = [
    ("Yolov3", "yolov3_param", f"{repeated('biases', range(1, 13))} mask: 6", 1, "a mask of numbers of 6 biases"),
    ("Yolov3", "yolov3_param", "", 1, "a mask of 1, got 0 and 0"),
    ("RegionLoss", "region_loss_param", "biases: 1 biases: 2", 1, "for 5 boxes, got 2 numbers"),
]


@pytest.mark.parametrize(("kind", "message", "parameters", "boxes", "words"), REFUSED)
def test_refused(tmp_path, kind, message, parameters, boxes, words):
    with pytest.raises(caffeport.NetError, match=rf'"loss" \({kind}\): .*{words}'):
        prepared(tmp_path, kind, message, parameters, boxes)
