"""Features read between places, against loops point by point."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
from support import nets
from support.backends import assert_all, assert_gradients, numbers

pytestmark = pytest.mark.filterwarnings("ignore:.*random weights")


def bilinear(plane, y, x):
    """One point of a map, 0 beyond half a place outside, as ROIAlign and MaskResize read it."""
    height, width = plane.shape
    if y < -0.5 or y > height - 0.5 or x < -0.5 or x > width - 0.5:
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    return (
        (1 - down) * ((1 - across) * plane[top, left] + across * plane[top, right])
        + down * ((1 - across) * plane[bottom, left] + across * plane[bottom, right])
    )  # fmt: skip


def roi_align(x, regions, height, width, scale, pad_ratio):
    y = np.zeros((len(regions), x.shape[1], height + 1, width + 1))
    for r, (image, x1, y1, x2, y2) in enumerate(regions.astype(np.float64)):
        pad = (x2 - x1 + 1) * pad_ratio, (y2 - y1 + 1) * pad_ratio
        left, top = (x1 - pad[0]) * scale - 0.5, (y1 - pad[1]) * scale - 0.5
        right, bottom = (x2 + pad[0]) * scale - 0.5, (y2 + pad[1]) * scale - 0.5
        if right <= left or bottom <= top:
            continue
        for c, i, j in np.ndindex(x.shape[1], height + 1, width + 1):
            point = top + i * (bottom - top) / height, left + j * (right - left) / width
            y[r, c, i, j] = bilinear(x[int(image), c], *point)
    return y


def boxes(count, images, size, seed):
    """Inside, across the borders, and one without area; never on the very border of what counts as inside."""
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform(-0.3 * size, 1.3 * size, (count, 2, 2)), 1).reshape(count, 4)
    corners[0] = 3, 4, 3, 9
    return np.concatenate([random.integers(0, images, (count, 1)), corners], 1).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "scale", "pad_ratio"), [(7, 7, 0.25, 0), (3, 2, 0.5, 0.1), (1, 4, 1, 0.5)])
def test_roi_align(tmp_path, height, width, scale, pad_ratio):
    text = nets.inputs(x=(2, 3, 9, 11), rois=(12, 5, 1, 1)) + nets.layer(
        "ROIAlign", "x rois", "y",
        f"roi_pooling_param {{ pooled_h: {height} pooled_w: {width} spatial_scale: {scale} pad_ratio: {pad_ratio} }}",
    )  # fmt: skip
    net = nets.load(tmp_path, text)
    for count, (rows, columns) in ((12, (9, 11)), (5, (4, 20))):  # the file leaves regions and size free
        x, regions = numbers(2, 3, rows, columns), boxes(count, 2, 10 / scale, seed=height)
        expected = roi_align(x, regions, height, width, scale, pad_ratio)
        assert_all(net, tmp_path, expected, x, regions.reshape(count, 5, 1, 1))
    assert_gradients(net, numbers(2, 3, 4, 5), boxes(4, 2, 5 / scale, seed=1).reshape(4, 5, 1, 1))
    assert net.check().ok


@pytest.mark.parametrize("pad_ratio", [0.25, 0.6])
def test_padded_roi_pooling(tmp_path, pad_ratio):
    """The same as pooling of regions that are grown beforehand."""
    text = "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 %s }"
    both = nets.inputs(x=(2, 3, 9, 11), rois=(12, 5))
    padded = nets.load(
        tmp_path, both + nets.layer("ROIPooling", "x rois", "y", text % f"pad_ratio: {pad_ratio}")
    )  # fmt: skip
    plain = nets.load(tmp_path, both + nets.layer("ROIPooling", "x rois", "y", text % ""))
    x, regions = numbers(2, 3, 9, 11), boxes(12, 2, 20, seed=3)
    pad = (regions[:, 3:] - regions[:, 1:3] + 1) * np.float32(pad_ratio)
    grown = np.concatenate([regions[:, :1], regions[:, 1:3] - pad, regions[:, 3:] + pad], 1)
    from support.backends import runs

    expected = next(runs(plain, tmp_path, x, grown, opsets=()))
    assert_all(padded, tmp_path, expected, x, regions)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(14, 14), (4, 9), (1, 1)])
def test_mask_resize(tmp_path, height, width):
    text = nets.inputs(x=(2, 1, 7, 5)) + nets.layer(
        "MaskResize", "x", "y", f"mask_resize_param {{ output_height: {height} output_width: {width} }}"
    )
    net = nets.load(tmp_path, text)
    x = numbers(2, 1, 7, 5)
    expected = np.zeros((2, 1, height, width))
    for n, i, j in np.ndindex(2, height, width):
        expected[n, 0, i, j] = bilinear(x[n, 0], i * 7 / height, j * 5 / width)
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x)


def test_mask_pooling(tmp_path):
    text = nets.inputs(x=(2, 3, 4, 5), mask=(2, 1, 4, 5)) + nets.layer("MaskPooling", "x mask", "y")
    net = nets.load(tmp_path, text)
    x, mask = numbers(2, 3, 4, 5), numbers(2, 1, 4, 5, seed=1)
    expected = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        expected[place] = float(x[place]) * float(mask[place[0], 0, place[2], place[3]])
    assert_all(net, tmp_path, expected, x, mask)
    assert_gradients(net, x, mask)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nets.layer("ROIAlign", "x r", "y", "roi_pooling_param { pooled_h: 2 }"), "expected a positive pooled_h"),
        *(
            (nets.layer(kind, "x r", "y", f"roi_pooling_param {{ pooled_h: 2 pooled_w: 2 spatial_scale: {scale} }}"),
             f"expected a positive pooled_h, pooled_w and spatial_scale.*spatial_scale={scale}")
            for kind in ("ROIAlign", "ROIPooling") for scale in ("inf", "nan")
        ),
        (nets.layer("MaskResize", "x", "y"), "expected a positive output_height"),
        (nets.layer("MaskPooling", "x x", "y"), r"expected a mask of \(2, 1, 4, 5\)"),
    ],
)  # fmt: skip
def test_what_they_refuse(tmp_path, layer, message):
    with pytest.raises(caffeport.NetError, match=message):
        nets.load(tmp_path, nets.inputs(x=(2, 3, 4, 5), r=(3, 5)) + layer)
