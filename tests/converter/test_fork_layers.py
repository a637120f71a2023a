"""Layers of Caffe forks for which there are no recordings, against loops that follow their definitions.

Boxes are in test_detection.py, BN is in test_batch_normalization_forks.py; what they refuse is here too.
"""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers

# Regions


def c_round(x):
    return math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


def bins(start, size, n, limit):
    """[first, end) of each of n bins, in float32 as Caffe computes them."""
    step = np.float32(size) / np.float32(n)
    starts = [math.floor(np.float32(i) * step + start) for i in range(n)]
    ends = [math.ceil(np.float32(i + 1) * step + start) for i in range(n)]
    return [(min(max(a, 0), limit), min(max(b, 0), limit)) for a, b in zip(starts, ends, strict=True)]


def roi_pooling(x, regions, height, width, scale):
    y = np.zeros((len(regions), x.shape[1], height, width))
    for r, region in enumerate(regions):
        x1, y1, x2, y2 = (c_round(np.float32(v) * np.float32(scale)) for v in region[1:])
        rows = bins(y1, max(y2 - y1 + 1, 1), height, x.shape[2])
        columns = bins(x1, max(x2 - x1 + 1, 1), width, x.shape[3])
        for i, j in np.ndindex(height, width):
            window = x[int(region[0]), :, slice(*rows[i]), slice(*columns[j])].reshape(x.shape[1], -1)
            y[r, :, i, j] = window.max(1) if window.size else 0
    return y


def psroi_pooling(x, regions, outputs, group, scale):
    y = np.zeros((len(regions), outputs, group, group))
    scale = np.float32(scale)
    for r, region in enumerate(regions):
        x1, y1, x2, y2 = (np.float32(c_round(v) + (k > 1)) * scale for k, v in enumerate(region[1:]))
        rows = bins(y1, max(y2 - y1, np.float32(0.1)), group, x.shape[2])
        columns = bins(x1, max(x2 - x1, np.float32(0.1)), group, x.shape[3])
        for d, i, j in np.ndindex(outputs, group, group):
            window = x[int(region[0]), (d * group + i) * group + j, slice(*rows[i]), slice(*columns[j])]
            y[r, d, i, j] = window.mean() if window.size else 0
    return y


def regions(count, images, size, seed):
    """Inside, across the borders, outside, the wrong way round, and at halves."""
    random = np.random.default_rng(seed)
    boxes = random.integers(-size, 3 * size, (count, 4)) / 2
    ordered = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1)
    boxes = np.where(np.arange(count)[:, None] % 8 == 0, boxes, ordered)
    return np.concatenate([random.integers(0, images, (count, 1)), boxes], 1).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [2, 4])
@pytest.mark.parametrize(("height", "width", "scale"), [(3, 2, 0.5), (7, 7, 0.25), (1, 4, 1.0), (6, 7, 0.0625)])
def test_roi_pooling(tmp_path, axes, height, width, scale):
    rois = (40, 5, 1, 1)[:axes]
    text = nets.inputs(x=(2, 3, 9, 11), rois=rois) + nets.layer(
        "ROIPooling", "x rois", "y",
        f"roi_pooling_param {{ pooled_h: {height} pooled_w: {width} spatial_scale: {scale} }}",
    )  # fmt: skip
    net = nets.load(tmp_path, text)
    x, boxes = numbers(2, 3, 9, 11), regions(40, 2, 10 / scale, seed=height)
    assert_all(net, tmp_path, roi_pooling(x, boxes, height, width, scale), x, boxes.reshape(rois))
    assert_gradients(net, x[:, :1, :5, :5], boxes[:6])
    tied = torch.zeros(1, 3, 9, 11, requires_grad=True)
    net.to_torch()(tied, torch.tensor([[0.0, 0, 0, 3 / scale, 3 / scale]])).sum().backward()
    assert tied.grad[0, 0, 0, 0] >= 1  # of equal numbers the first is the maximum
    assert net.check().ok


@pytest.mark.slow
@pytest.mark.parametrize(("outputs", "group", "scale"), [(2, 3, 0.5), (1, 7, 0.25), (3, 1, 0.0625)])
def test_psroi_pooling(tmp_path, outputs, group, scale):
    channels = outputs * group * group
    text = nets.inputs(x=(2, channels, 9, 11), rois=(40, 5)) + nets.layer(
        "PSROIPooling", "x rois", "y",
        f"psroi_pooling_param {{ spatial_scale: {scale} output_dim: {outputs} group_size: {group} }}",
    )  # fmt: skip
    net = nets.load(tmp_path, text)
    boxes = regions(40, 2, 10 / scale, seed=group)
    for height, width in ((9, 11), (14, 8)):  # the ONNX file leaves the size free
        x = numbers(2, channels, height, width)
        assert_all(net, tmp_path, psroi_pooling(x, boxes, outputs, group, scale), x, boxes)
    assert_gradients(net, numbers(2, channels, 3, 3), boxes[:3])
    assert net.check().ok


# Sizes


def interpolate(x, height, width):
    """Bilinear with aligned corners, weight by weight."""

    def weights(old, new):
        matrix = np.zeros((new, old))
        for i in range(new):
            place = i * (old - 1) / (new - 1) if new > 1 else 0.0
            low = min(int(place), old - 1)
            matrix[i, low] += 1 - (place - low)
            matrix[i, min(low + 1, old - 1)] += place - low
        return matrix

    return np.einsum("ih,jw,nchw->ncij", weights(x.shape[2], height), weights(x.shape[3], width), x)


INTERP = {
    "height: 5 width: 13": lambda h, w: (5, 13),
    "height: 1 width: 1": lambda h, w: (1, 1),
    "zoom_factor: 3": lambda h, w: ((h - 1) * 3 + 1, (w - 1) * 3 + 1),
    "shrink_factor: 2": lambda h, w: ((h - 1) // 2 + 1, (w - 1) // 2 + 1),
    "shrink_factor: 2 zoom_factor: 3": lambda h, w: ((h - 1) // 2 * 3 + 1, (w - 1) // 2 * 3 + 1),
    # As in the forks' code, one factor wins over height and width, and they win over both.
    "zoom_factor: 2 height: 5 width: 5": lambda h, w: (2 * h - 1, 2 * w - 1),
    "shrink_factor: 2 zoom_factor: 2 height: 5 width: 6": lambda h, w: (5, 6),
}


@pytest.mark.parametrize("pads", [(0, 0), (-1, 0), (0, -2), (-2, -1)])
@pytest.mark.parametrize("text", INTERP)
def test_interp(tmp_path, text, pads):
    net = nets.load(tmp_path, nets.inputs(x=(2, 3, 8, 9)) + nets.layer(
        "Interp", "x", "y", f"interp_param {{ {text} pad_beg: {pads[0]} pad_end: {pads[1]} }}"
    ))  # fmt: skip
    for height, width in ((8, 9), (11, 6)):
        x = numbers(1, 3, height, width)
        cut = x[:, :, -pads[0] : height + pads[1], -pads[0] : width + pads[1]]
        assert_all(net, tmp_path, interpolate(cut, *INTERP[text](*cut.shape[2:])), x)
    assert_gradients(net, numbers(1, 1, 6, 5))


def test_interp_to_the_size_of_a_second_bottom(tmp_path):
    text = nets.inputs(x=(1, 3, 8, 9)) + nets.layer("Pooling", "x", "p", "pooling_param { kernel_size: 2 stride: 2 }")
    net = nets.load(tmp_path, text + nets.layer("Interp", "p x", "y"))
    x = numbers(2, 3, 12, 7)
    pooled = torch.nn.functional.max_pool2d(torch.tensor(x), 2, ceil_mode=True).numpy()
    assert_all(net, tmp_path, interpolate(pooled, 12, 7), x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "size"),
    [("", (8, 6)), ("scale: 3", (12, 9)), ("scale_h: 2 scale_w: 4", (8, 12)),
     ("pad_out_h: true pad_out_w: true", (7, 5)), ("upsample_h: 9 upsample_w: 7", (9, 7))],
)  # fmt: skip
def test_upsample_by_mask(tmp_path, text, size):
    net = nets.load(tmp_path, nets.inputs(x=(2, 3, 4, 3), mask=(2, 3, 4, 3)) + nets.layer(
        "Upsample", "x mask", "y", f"upsample_param {{ {text} }}"
    ))  # fmt: skip
    random, x = np.random.default_rng(0), numbers(5, 3, 4, 3)
    mask = np.stack([random.permutation(math.prod(size))[:12] for _ in range(15)]).reshape(x.shape)
    expected = np.zeros((5, 3, *size))
    for place in np.ndindex(*x.shape):
        expected[(*place[:2], *divmod(mask[place], size[1]))] = x[place]
    assert_all(net, tmp_path, expected, x, mask.astype(np.float32))
    assert_gradients(net, x, mask)
    assert net.check().ok


def test_segnets_pooling_and_back(tmp_path):
    """MAX pooling's mask into Upsample: every maximum back in its place."""
    text = nets.inputs(x=(2, 3, 8, 6)) + nets.layer(
        "Pooling", "x", "p mask", "pooling_param { kernel_size: 2 stride: 2 }"
    )
    net = nets.load(tmp_path, text + nets.layer("Upsample", "p mask", "y", "upsample_param { scale: 2 }"))
    x = numbers(2, 3, 8, 6)
    highest = x.reshape(2, 3, 4, 2, 3, 2).max((3, 5), keepdims=True)
    expected = np.where(x.reshape(2, 3, 4, 2, 3, 2) == highest, highest, 0).reshape(x.shape)
    assert_all(net, tmp_path, expected, x)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_upsample_nearest(tmp_path, scale):
    text = f"upsample_param {{ scale: {scale} }}"
    net = nets.load(tmp_path, nets.inputs(x=(1, 2, 4, 3)) + nets.layer("Upsample", "x", "y", text))
    x = numbers(2, 2, 5, 7)
    assert_all(net, tmp_path, np.kron(x, np.ones((scale, scale))), x)


def test_pixel_shuffle(tmp_path):
    text = "pixel_shuffle_param { upscale_factor: 3 }"
    net = nets.load(tmp_path, nets.inputs(x=(1, 18, 2, 3)) + nets.layer("PixelShuffle", "x", "y", text))
    x = numbers(2, 18, 4, 5)
    expected = np.zeros((2, 2, 12, 15))
    for c, i, j in np.ndindex(2, 3, 3):
        expected[:, c, i::3, j::3] = x[:, (c * 3 + i) * 3 + j]
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[:, :, :2, :2])


# What is refused

REGIONS = {"x": (1, 4, 5, 5), "rois": (3, 5)}
REFUSED = {
    "PriorBox": [
        ({"x": (1, 3, 4, 4), "im": (1, 3, 9, 9)}, text, match)
        for text, match in (
            ("", "expected a min_size"),
            ("min_size: 4 max_size: 3", "larger max_size for every min_size"),
            ("min_size: 4 variance: 1 variance: 2", "1 or 4 positive variances"),
            ("min_size: 4 img_size: 9 img_h: 9 img_w: 9", "expected img_size, or img_h and img_w, not both"),
            ("min_size: 4 step_h: 9", "expected a positive step, or step_h and step_w"),
        )
    ],
    "DetectionOutput": [
        ({"loc": (1, 8), "conf": (1, 6), "prior": (1, 2, 8)}, text, match)
        for text, match in (
            ("", "num_classes of 1 or more"),
            ("num_classes: 2", r"scores are \(1, 6\); expected 2 numbers for each of 2 priors"),
            ("num_classes: 3 share_location: false", r"offsets are \(1, 8\); expected 12 numbers"),
            ("num_classes: 3 visualize: true", "visualize is not supported"),
            ("num_classes: 3 keep_top_k: 0", "keeps nothing"),
            ("num_classes: 3 nms_param { eta: 2 }", "0 < eta <= 1"),
        )
    ],
    "ROIPooling": [(REGIONS, "pooled_h: 2", "expected a positive pooled_h, pooled_w")],
    "PSROIPooling": [
        (REGIONS, "spatial_scale: 1 output_dim: 2 group_size: 2", "expected 2 x 2 x 2 channels, got 4"),
        (REGIONS, "output_dim: 1 group_size: 2", "expected a positive spatial_scale"),
    ],
    "Interp": [
        ({"x": (1, 2, 4, 4)}, "height: 3", "expected height and width, a zoom_factor"),
        ({"x": (1, 2, 4, 4)}, "zoom_factor: 2 pad_beg: 1", "of 0 or less"),
        ({"x": (1, 2, 4, 4)}, "zoom_factor: 2 pad_beg: -4", "leave nothing"),
        ({"x": (1, 2, 4, 4)}, 'zoom_factor: 2 interp_type: "nearest_neighbor"', "nearest_neighbor.*not supported"),
        ({"x": (1, 2, 4, 4), "z": (1, 2, 4, 4)}, "zoom_factor: 2", "takes its size from bottom 1"),
    ],
    "Upsample": [
        ({"x": (1, 2, 4, 4)}, "scale: 2 pad_out_h: true", "YOLO's form.*only a scale"),
        ({"x": (1, 2, 4, 4), "m": (1, 2, 4, 4)}, "scale: 3 pad_out_h: true", "are for a scale of 2"),
        ({"x": (1, 2, 4, 4), "m": (1, 2, 4, 4)}, "scale_h: 3", "both scale_h and scale_w"),
        ({"x": (1, 2, 4, 4), "m": (1, 2, 4, 3)}, "", "bottoms of one shape"),
    ],
    "PixelShuffle": [({"x": (1, 6, 4, 4)}, "upscale_factor: 2", "does not divide 6 channels")],
    "BN": [
        ({"x": (1, 2, 4, 4)}, "axis: 2", "axis 2 is not supported"),
        ({"x": (1, 2, 4, 4)}, "eps: 1 var_eps: 1", "expected var_eps or eps"),
        ({"x": (1, 2, 4, 4)}, "bn_mode: LEARN momentum: 0.5", "momentum belongs to the forms with 4 blobs"),
    ],
}
MESSAGES = {"PriorBox": "prior_box", "DetectionOutput": "detection_output", "ROIPooling": "roi_pooling",
            "PSROIPooling": "psroi_pooling", "PixelShuffle": "pixel_shuffle"}  # fmt: skip


# ChannelScale


@pytest.mark.parametrize("do_forward", [True, False])
@pytest.mark.parametrize("do_backward_feature", [True, False])
@pytest.mark.parametrize("do_backward_scale", [True, False])
def test_channel_scale_switches(tmp_path, do_forward, do_backward_feature, do_backward_scale):
    """Each switch acts on its own part alone: y = x, dx = g, ds = 0."""
    text = "".join(
        f"{key}: {str(value).lower()} "
        for key, value in (
            ("do_forward", do_forward),
            ("do_backward_feature", do_backward_feature),
            ("do_backward_scale", do_backward_scale),
        )
    )
    text = nets.layer("ChannelScale", "x s", "y", f"channel_scale_param {{ {text} }}")
    model = nets.load(tmp_path, nets.inputs(x=(2, 3, 2, 2), s=(2, 2, 2)) + text).to_torch()
    x, s, g = (torch.tensor(numbers(*shape)) for shape in ((2, 3, 2, 2), (2, 2, 2), (2, 3, 2, 2)))
    x.requires_grad_(), s.requires_grad_()
    y = model(x, s)
    y.backward(g)
    torch.testing.assert_close(y, x * s[:, None] if do_forward else x)
    torch.testing.assert_close(x.grad, g * s[:, None] if do_backward_feature else g)
    expected = (g * x).sum(1) if do_backward_scale else torch.zeros_like(s)
    torch.testing.assert_close(torch.zeros_like(s) if s.grad is None else s.grad, expected)


@pytest.mark.parametrize(
    ("kind", "shapes", "text", "match"), [(kind, *case) for kind, cases in REFUSED.items() for case in cases]
)
def test_refused(tmp_path, kind, shapes, text, match):
    message = f"{MESSAGES.get(kind, kind.lower())}_param {{ {text} }}"
    with pytest.raises(caffeport.NetError, match=rf'layer "y" \({kind}\): .*{match}'):
        nets.load(tmp_path, nets.inputs(**shapes) + nets.layer(kind, " ".join(shapes), "y", message))
