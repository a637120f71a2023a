"""Multi-task Network Cascades' and CTPN's layers, against loops over their definitions."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import OPSETS, assert_all, assert_gradients, numbers, run_file

pytestmark = pytest.mark.filterwarnings("ignore:.*random weights", "ignore:.*fixes the batch size")


def c_round(x):
    return math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


def samples(size, bins, number):
    """Return the places where one bin is sampled, stepped in float32 as the kernel steps."""
    steps = math.ceil(size / bins)
    place, end = np.float32(number), number + 1
    step = np.float32(1) / np.float32(steps) if steps else np.float32(np.inf)
    while place <= end:
        yield float(place) * size / bins
        place = np.float32(place + step)


def point(plane, y, x):
    height, width = plane.shape
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = (y - top if top < height - 1 else 0.0), (x - left if left < width - 1 else 0.0)
    upper = (1 - across) * plane[top, left] + across * plane[top, right]
    return (1 - down) * upper + down * ((1 - across) * plane[bottom, left] + across * plane[bottom, right])


def roi_warping(x, regions, height, width, scale):
    y = np.zeros((len(regions), x.shape[1], height, width))
    rows, columns = x.shape[2:]
    for r, region in enumerate(regions):
        x1, y1, x2, y2 = (c_round(float(v) * scale) for v in region[1:])
        wide, high = max(x2 - x1, 0), max(y2 - y1, 0)
        for c, i, j in np.ndindex(x.shape[1], height, width):
            found = [point(x[int(region[0]), c], y1 + dy, x1 + dx)
                     for dy in samples(high, height, i) for dx in samples(wide, width, j)
                     if -0.5 <= y1 + dy <= rows - 0.5 and -0.5 <= x1 + dx <= columns - 0.5]  # fmt: skip
            y[r, c, i, j] = max(found, default=0.0)
    return y


def boxes(count, images, size, seed):
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform(-0.3 * size, 1.3 * size, (count, 2, 2)), 1).reshape(count, 4)
    corners[0] = corners[0, [2, 1, 0, 3]]  # the wrong way round: one column
    return np.concatenate([random.integers(0, images, (count, 1)), corners], 1).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "scale"), [(7, 7, 0.25), (3, 2, 0.5), (1, 4, 1), (14, 14, 0.0625)])
def test_roi_warping(tmp_path, height, width, scale):
    text = nets.inputs(x=(2, 2, 9, 11), rois=(9, 5)) + nets.layer(
        "ROIWarping", "x rois", "y",
        f"roi_warping_param {{ pooled_h: {height} pooled_w: {width} spatial_scale: {scale} }}",
    )  # fmt: skip
    net = nets.load(tmp_path, text)
    for count, (rows, columns) in ((9, (9, 11)), (4, (5, 20))):  # the file leaves regions and size free
        x, regions = numbers(2, 2, rows, columns), boxes(count, 2, 10 / scale, seed=height)
        assert_all(net, tmp_path, roi_warping(x, regions, height, width, scale), x, regions)
    assert_gradients(net, numbers(2, 2, 4, 5), boxes(3, 2, 4 / scale, seed=1))
    assert net.check().ok


def python(module, layer, bottoms, tops, param_str=""):
    words = f'module: "{module}" layer: "{layer}" param_str: "{param_str}"'
    return nets.layer("Python", bottoms, tops, f"python_param {{ {words} }}")


MASK = ("pylayer.mask_layer", "MaskLayer")  # "Python:pylayer.mask_layer.MaskLayer"
BRIDGE = ("pylayer.stage_bridge_layer", "StageBridgeLayer")  # "Python:pylayer.stage_bridge_layer.StageBridgeLayer"
TEXT = ("layers.text_proposal_layer", "ProposalLayer")  # "Python:layers.text_proposal_layer.ProposalLayer"


@pytest.mark.parametrize("axes", [2, 4])
def test_mask_layer(tmp_path, axes):
    shape = (5, 16, 1, 1)[:axes]
    text = nets.inputs(x=shape) + python(*MASK, "x", "y")
    net = nets.load(tmp_path, text, layer_options={"mask_size": 4})
    for count in (5, 2):
        x = numbers(count, *shape[1:])
        assert_all(net, tmp_path, x.reshape(count, 1, 4, 4), x)
    assert_gradients(net, numbers(*shape))


def test_stage_bridge(tmp_path):
    text = nets.inputs(r=(7, 5), d=(7, 12), s=(7, 3), info=(1, 3)) + python(*BRIDGE, "r d s info", "y")
    net = nets.load(tmp_path, text)
    random = np.random.default_rng(0)
    corners = np.sort(random.uniform(0, 100, (7, 2, 2)), 1).reshape(7, 4)
    rows = np.concatenate([np.zeros((7, 1)), corners], 1)
    deltas, scores = random.standard_normal((7, 12)), random.integers(0, 3, (7, 3)) / 2  # with ties: the first
    expected = []
    for row, delta, score in zip(rows, deltas.reshape(7, 3, 4), scores, strict=True):
        dx, dy, dw, dh = delta[list(score).index(max(score))]
        w, h = row[3] - row[1] + 1, row[4] - row[2] + 1
        cx, cy = dx * w + row[1] + 0.5 * w, dy * h + row[2] + 0.5 * h
        half = 0.5 * math.exp(dw) * w, 0.5 * math.exp(dh) * h
        box = [cx - half[0], cy - half[1], cx + half[0], cy + half[1]]
        expected.append([0, *(min(max(v, 0), m) for v, m in zip(box, (109, 89, 109, 89), strict=True))])
    arrays = [np.asarray(a, np.float32) for a in (rows, deltas, scores, [[90, 110, 1]])]
    assert_all(net, tmp_path, np.array(expected), *arrays)


def text_proposals(scores, deltas, info, stride):
    rows = []
    for y in range(scores.shape[2]):
        for x in range(scores.shape[3]):
            for a, height in enumerate((11, 16, 23, 33, 48, 68, 97, 139, 198, 283)):
                # Python 2 halves whole numbers downwards, and int32 cuts corners towards 0.
                top, bottom = int(7.5 - height // 2) + y * stride, int(7.5 + height // 2) + y * stride
                left, right = int(7.5 - 8) + x * stride, int(7.5 + 8) + x * stride
                tall = bottom - top + 1
                h = math.exp(deltas[0, 2 * a + 1, y, x]) * tall
                start = deltas[0, 2 * a, y, x] * tall + (top + bottom) / 2 - h / 2
                box = [left, start, right, start + h]
                limits = (info[0, 1] - 1, info[0, 0] - 1) * 2
                rows.append([*(max(min(v, m), 0) for v, m in zip(box, limits, strict=True)), scores[0, 10 + a, y, x]])
    return np.array(rows)


def test_text_proposals(tmp_path):
    text = nets.inputs(s=(1, 20, 3, 4), d=(1, 20, 3, 4), info=(1, 3))
    net = nets.load(tmp_path, text + python(*TEXT, "s d info", "boxes scores", "'feat_stride': 16"))
    assert net.blob_shapes["boxes"] == (120, 4) and net.blob_shapes["scores"] == (120, 1)
    for opset in OPSETS:
        net.to_onnx(tmp_path / f"{opset}.onnx", opset=opset)
    for height, width in ((3, 4), (5, 2)):
        arrays = [numbers(1, 20, height, width), numbers(1, 20, height, width, seed=1) * np.float32(0.3)]
        arrays.append(np.array([[40, 60, 1]], np.float32))
        expected = text_proposals(*arrays, 16)
        feed = dict(zip(net.inputs, arrays, strict=True))
        results = [run_file(tmp_path / f"{opset}.onnx", feed) for opset in OPSETS]
        results.append({name: top.numpy() for name, top in net.to_torch()(*map(torch.tensor, arrays)).items()})
        for found in results:
            np.testing.assert_allclose(found["boxes"], expected[:, :4], 1e-5, 1e-3)
            np.testing.assert_array_equal(found["scores"], expected[:, 4:].astype(np.float32))


@pytest.mark.parametrize("empty", [False, True])
def test_weighted_sigmoid_loss(tmp_path, empty):
    text = nets.inputs(x=(3, 4), t=(3, 4), w=(3, 4)) + nets.layer("SigmoidCrossEntropyLoss", "x t w", "total")
    net = nets.load(tmp_path, text, phase="train")
    x, target = numbers(3, 4), np.random.default_rng(1).random((3, 4)).astype(np.float32)
    weight = np.random.default_rng(2).integers(0, 3, (3, 4)).astype(np.float32) * (not empty)
    prob = 1 / (1 + np.exp(-x.astype(np.float64)))
    loss = -(weight * (target * np.log(prob) + (1 - target) * np.log(1 - prob))).sum() / max(weight.sum(), 1)
    tensor = torch.tensor(x, requires_grad=True)
    found = net.to_torch()(tensor, torch.tensor(target), torch.tensor(weight))
    np.testing.assert_allclose(found.item(), loss, 1e-5)
    found.backward()
    np.testing.assert_allclose(tensor.grad, weight * (prob - target) / max(weight.sum(), 1), 1e-4, 1e-6)


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (nets.layer("ROIWarping", "x r", "y"), {}, "expected a positive pooled_h"),
        (nets.layer("SigmoidCrossEntropyLoss", "s s r", "y"), {"phase": "train"}, "expected a weight for every pred"),
        (python(*MASK, "s", "y"), {}, "expected masks of 21 x 21 numbers"),
        (python(*MASK, "s", "y"), {"phase": "train"}, "what it does in training is not supported"),
        (python(*BRIDGE, "r r s i", "y"), {}, "expected deltas of 12 numbers a row"),
        (python(*TEXT, "x x i", "y z", "'feat_stride': 16"), {}, "expected scores and deltas"),
        (python(*TEXT, "x x i", "y z", "'scales': 16"), {}, "expected feat_stride in param_str"),
    ],
)
def test_what_they_refuse(tmp_path, layer, options, message):
    text = nets.inputs(x=(1, 3, 4, 5), r=(6, 5), s=(6, 3), i=(1, 3)) + layer
    with pytest.raises(caffeport.NetError, match=message):
        nets.load(tmp_path, text, **options)
