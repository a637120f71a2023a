"""YOLO's last layers and Reorg, against loops that follow their definitions number by number."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import OPSETS, assert_all, assert_gradients, numbers, run_file

ANCHORS = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def reorg(x, s, reverse):
    """Number by number: one of the two is read, the other written, at these places."""
    n, c, h, w = x.shape
    out_c = c // (s * s)
    flat, result = x.ravel(), np.zeros(x.size)
    for b in range(n):
        for k in range(c):
            for j in range(h):
                for i in range(w):
                    inner = i + w * (j + h * (k + c * b))
                    group, block = k % out_c, k // out_c
                    outer = i * s + block % s + w * s * (j * s + block // s + h * s * (group + out_c * b))
                    if reverse:
                        result[outer] = flat[inner]
                    else:
                        result[inner] = flat[outer]
    return result.reshape((n, out_c, h * s, w * s) if reverse else (n, c * s * s, h // s, w // s))


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("shape", "stride"), [((2, 8, 4, 6), 2), ((1, 9, 6, 3), 3), ((1, 1, 2, 3), 1)])
def test_reorg(tmp_path, shape, stride, reverse):
    text = nets.inputs(x=shape) + nets.layer(
        "Reorg", "x", "y", f"reorg_param {{ stride: {stride} reverse: {str(reverse).lower()} }}"
    )
    net = nets.load(tmp_path, text)
    for factor in (1, 2):  # the file leaves batch, height and width free
        x = numbers(shape[0] + factor, shape[1], shape[2] * factor, shape[3] * factor)
        assert_all(net, tmp_path, reorg(x, stride, reverse), x)
    assert_gradients(net, numbers(*shape))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("stride: 3", "channels in groups of 9, got 8"),
        ("", "positive stride"),
        ("stride: 2", "5 x 6, are no multiples"),
    ],
)
def test_refused_reorg(tmp_path, parameters, words):
    text = nets.inputs(x=(1, 8, 5, 6)) + nets.layer("Reorg", "x", "y", f"reorg_param {{ {parameters} }}")
    with pytest.raises(caffeport.NetError, match=rf'"y" \(Reorg\): .*{words}'):
        nets.load(tmp_path, text)


def iou(a, b):
    """Return the overlap of boxes (x, y, w, h) around their center."""
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1)
    ]
    if min(sides) < 0:
        return 0.0
    common = sides[0] * sides[1]
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def kept_rows(candidates, threshold, images):
    """Candidates (score, label, box), the best first; those that overlap one before are out."""
    survivors = []
    for score, label, box in sorted(candidates, key=lambda one: -one[0]):
        if all(iou(box, other) < threshold for _, _, other in survivors):
            survivors.append((score, label, box))
    rows = [
        [0, label + 1, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2] for score, label, (x, y, w, h) in survivors
    ] or [[image, *[-1] * 6] for image in range(images)]
    return np.array(rows)[None, None]


def yolo2(arrays, biases, classes, confidence, threshold):
    candidates = []
    for x in arrays:
        n, channels, height, width = x.shape
        x = x.reshape(n, len(biases), channels // len(biases), height, width).astype(float)
        for b, j, i, a in np.ndindex(n, height, width, len(biases)):
            v = x[b, a, :, j, i]
            shares = np.exp(v[5:] - v[5:].max())
            shares /= shares.sum()
            score = sigmoid(v[4]) * shares.max()
            if score >= confidence:
                size = math.exp(v[2]) * biases[a][0] / width, math.exp(v[3]) * biases[a][1] / height
                box = ((i + sigmoid(v[0])) / width, (j + sigmoid(v[1])) / height, *size)
                candidates.append((score, int(shares.argmax()), box))
    return kept_rows(candidates, threshold, len(arrays[0]))


def yolo3(arrays, groups, scales, classes, confidence, threshold, gaussian):
    """``groups``: of every scale, its anchors."""
    candidates = []
    for x, anchors, scale in zip(arrays, groups, scales, strict=True):
        n, channels, height, width = x.shape
        x = x.reshape(n, len(anchors), channels // len(anchors), height, width).astype(float)
        for b, j, i, a in np.ndindex(n, height, width, len(anchors)):
            v = x[b, a, :, j, i]
            if gaussian:
                unsure = sum(sigmoid(v[k]) for k in (1, 3, 5, 7))
                thing, coordinates, rest = sigmoid(v[8]) * (4 - unsure) / 4, v[[0, 2, 4, 6]], v[9:]
            else:
                thing, coordinates, rest = sigmoid(v[4]), v[:4], v[5:]
            center = (i + sigmoid(coordinates[0])) / width, (j + sigmoid(coordinates[1])) / height
            size = [math.exp(coordinates[2 + k]) * anchors[a][k] / (scale * (width, height)[k]) for k in (0, 1)]
            for label in range(classes):
                score = sigmoid(rest[label]) * thing
                if score > confidence:
                    candidates.append((score, label, (*center, *size)))
    return kept_rows(candidates, threshold, len(arrays[0]))


def repeated(name, values):
    return " ".join(f"{name}: {value}" for value in values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bottoms", "confidence", "threshold"),
    [(1, 0.1, 0.45), (2, 0.2, 0.3), (1, 0.0, 2.0), (1, 0.999, 0.45), (2, 0.05, 0.9)],
)
def test_yolo_detection_output(tmp_path, bottoms, confidence, threshold):
    biases = [(1.08, 1.19), (3.42, 4.41)]
    shapes = {f"x{k}": (2, 2 * 8, 4 * (k + 1), 3 * (k + 1)) for k in range(bottoms)}
    text = nets.inputs(**shapes) + nets.layer(
        "YoloDetectionOutput", " ".join(shapes), "y",
        f"yolo_detection_output_param {{ num_classes: 3 num_box: 2 coords: 4 confidence_threshold: {confidence} "
        f"side: 13 nms_threshold: {threshold} {repeated('biases', sum(biases, ()))} label_map_file: 'x' }}",
    )  # fmt: skip
    net = nets.load(tmp_path, text)
    for images, factor in ((2, 1), (1, 1), (3, 3 - bottoms)):  # inputs of two sizes do not grow together
        arrays = [numbers(images, *s[1:2], s[2] * factor, s[3] * factor, seed=images) for s in shapes.values()]
        expected = yolo2(arrays, biases, 3, np.float32(confidence), threshold)
        assert_all(net, tmp_path, expected, *arrays)


CASES = {
    "usual": {},
    "one-scale": {"scales": (32,)},
    "three-scales": {"scales": (32, 16, 8)},
    "gaussian": {"gaussian": True},
    "nothing": {"confidence": 1.0},
    "nothing-overlaps-too-much": {"threshold": 1.5},
    "few": {"confidence": 0.6, "threshold": 0.05},
    "none-overlaps": {"threshold": 1e-6},
}


def yolo3_net(tmp_path, scales=(32, 16), confidence=0.3, threshold=0.45, gaussian=False, classes=3):
    boxes = len(ANCHORS) // len(scales)
    order = range(len(ANCHORS))[::-1]  # the largest anchors are the coarsest scale's
    channels = boxes * ((9 if gaussian else 5) + classes)
    shapes = {f"x{k}": (1, channels, 2 * 2**k, 3 * 2**k) for k in range(len(scales))}
    text = nets.inputs(**shapes) + nets.layer(
        "Yolov3DetectionOutput", " ".join(shapes), "y",
        f"yolov3_detection_output_param {{ num_classes: {classes} num_box: {boxes} mask_group_num: {len(scales)} "
        f"{repeated('biases', sum(ANCHORS, ()))} {repeated('mask', order)} {repeated('anchors_scale', scales)} "
        f"confidence_threshold: {confidence} nms_threshold: {threshold} gaussian_box: {str(gaussian).lower()} }}",
    )  # fmt: skip
    groups = [[ANCHORS[a] for a in order[boxes * k : boxes * (k + 1)]] for k in range(len(scales))]
    return nets.load(tmp_path, text), shapes, groups


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_yolov3_detection_output(tmp_path, case):
    net, shapes, groups = yolo3_net(tmp_path, **case)
    values = {"scales": (32, 16), "confidence": 0.3, "threshold": 0.45, "gaussian": False, **case}
    for images, factor in ((1, 1), (2, 1), (1, 2 if len(shapes) == 1 else 1)):  # inputs of two sizes keep theirs
        arrays = [numbers(images, s[1], s[2] * factor, s[3] * factor, seed=7 + images) for s in shapes.values()]
        expected = yolo3(
            arrays,
            groups,
            values["scales"],
            3,
            np.float32(values["confidence"]),
            values["threshold"],
            values["gaussian"],
        )
        assert_all(net, tmp_path, expected, *arrays)


@pytest.mark.slow
def test_declared_rows_and_gradients(tmp_path):
    net, shapes, _ = yolo3_net(tmp_path)
    assert net.blob_shapes["y"] == (1, 1, 3 * sum(s[2] * s[3] for s in shapes.values()), 7)
    assert_gradients(net, *(numbers(*s, seed=8) for s in shapes.values()))


REFUSED = [
    ("num_classes: 3", "num_classes: 0", "num_classes of 1 or more"),
    ("mask_group_num: 2", "mask_group_num: 3", "to be that of the bottoms, 2, got 3 and 2"),
    ("biases: 14", "", "biases in pairs"),
    ("mask: 5", "mask: 6", "a mask of 6 or more numbers of 6 biases"),
    ("nms_threshold: 0.45", "nms_threshold: 0", "positive nms_threshold"),
    ("num_box: 3", "num_box: 2", "2 boxes of 8 numbers, 16 channels, got 24"),
]


@pytest.mark.parametrize(("old", "new", "words"), REFUSED)
def test_refused(tmp_path, old, new, words):
    yolo3_net(tmp_path)
    path = tmp_path / "net.prototxt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(caffeport.NetError, match=rf'"y" \(Yolov3DetectionOutput\): .*{words}'):
        caffeport.load(path)


def conv(bottom, top, outputs, shape):
    """Write a convolution that keeps the size of its numbers."""
    return nets.layer(
        "Convolution", bottom, top, f"convolution_param {{ num_output: {outputs} {shape} "
        'weight_filler { type: "msra" } bias_filler { type: "gaussian" std: 0.1 } }',
    )  # fmt: skip


def yolov3_text(height, width):
    """Write a YOLOv3: five halvings, a head at 1/32, and one at 1/16 over an upsampled map beside an earlier one."""
    text, bottom = nets.inputs(data=(1, 3, height, width)), "data"
    for index, outputs in enumerate((8, 8, 12, 16, 20)):
        text += conv(bottom, f"conv{index}", outputs, "kernel_size: 3 pad: 1 stride: 2")
        text += nets.layer("ReLU", f"conv{index}", f"conv{index}", "relu_param { negative_slope: 0.1 }", f"relu{index}")
        bottom = f"conv{index}"
    text += conv("conv4", "head0", 3 * 8, "kernel_size: 1")
    text += nets.layer(
        "Deconvolution", "conv4", "up", "convolution_param { num_output: 20 group: 20 kernel_size: 4 stride: 2 pad: 1 "
        'bias_term: false weight_filler { type: "bilinear" } }',
    )  # fmt: skip
    text += nets.layer("Concat", "up conv3", "both")
    text += conv("both", "head1", 3 * 8, "kernel_size: 1")
    return text + nets.layer(
        "Yolov3DetectionOutput", "head0 head1", "detection_out",
        f"yolov3_detection_output_param {{ num_classes: 3 mask_group_num: 2 {repeated('biases', sum(ANCHORS, ()))} "
        f"{repeated('mask', (3, 4, 5, 0, 1, 2))} anchors_scale: 32 anchors_scale: 16 confidence_threshold: 0.3 }}",
    )  # fmt: skip


def test_a_yolov3_in_onnx_runtime_at_two_sizes(tmp_path):
    """One file, with random weights: torch's boxes at the declared size and at another."""
    net = nets.load(tmp_path, yolov3_text(96, 128))
    model = net.to_torch()
    net.to_onnx(tmp_path / "yolo.onnx")
    for height, width in ((96, 128), (160, 64)):
        x = numbers(1, 3, height, width)
        with torch.no_grad():
            expected = model(torch.tensor(x)).numpy()
        found = run_file(tmp_path / "yolo.onnx", {"data": x})["detection_out"]
        assert len(expected[0, 0]) > 10
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, 1e-3, 1e-4)  # sums of some hundred terms, and exp of them


@pytest.mark.slow
def test_a_low_threshold_takes_no_time(tmp_path):
    """Random weights score every class of every box alike; a box counts once, whatever the number of classes."""
    net, shapes, _ = yolo3_net(tmp_path, scales=(32,), confidence=0.0, classes=80)
    x = 0.01 * numbers(1, next(iter(shapes.values()))[1], 26, 26)
    with torch.no_grad():
        found = net.to_torch()(torch.tensor(x))
    assert 1 < found.shape[2] < 26 * 26 * 6


def test_opsets(tmp_path):
    net, shapes, _ = yolo3_net(tmp_path)
    arrays = [numbers(*s, seed=8) for s in shapes.values()]
    expected = net.to_torch()(*map(torch.tensor, arrays)).numpy()
    assert_all(net, tmp_path, expected, *arrays, opsets=(*OPSETS, 17), dynamic_batch=False)
