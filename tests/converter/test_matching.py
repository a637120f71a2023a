"""FlowNet's Correlation and Resample, against loops that follow their definitions."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers


def correlate(a, b, kernel, reach, stride_1, stride_2, pad, multiply):
    a, b = (np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)]) for x in (a, b))
    border = reach + (kernel - 1) // 2
    height, width = (math.ceil((n - 2 * border) / stride_1) for n in a.shape[2:])
    radius = reach // stride_2
    grid = 2 * radius + 1
    y = np.zeros((len(a), grid * grid, height, width))
    for channel, i, j in np.ndindex(*y.shape[1:]):
        row, column = (channel // grid - radius) * stride_2, (channel % grid - radius) * stride_2
        top, left = i * stride_1 + reach, j * stride_1 + reach
        one = a[:, :, top : top + kernel, left : left + kernel]
        other = b[:, :, top + row : top + row + kernel, left + column : left + column + kernel]
        y[:, channel, i, j] = (one * other if multiply else np.abs(one - other)).mean((1, 2, 3))
    return y


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["MULTIPLY", "SUBTRACT"])
@pytest.mark.parametrize(
    ("kernel", "reach", "stride_1", "stride_2", "pad"),
    [(1, 2, 1, 1, 2), (1, 4, 1, 2, 4), (3, 2, 1, 1, 3), (3, 3, 2, 2, 4)],
)
def test_correlation(tmp_path, kind, kernel, reach, stride_1, stride_2, pad):
    text = f"correlation_param {{ kernel_size: {kernel} max_displacement: {reach} stride_1: {stride_1} "
    text += f"stride_2: {stride_2} pad: {pad} correlation_type: {kind} }}"
    net = nets.load(tmp_path, nets.inputs(a=(1, 3, 6, 7), b=(1, 3, 6, 7)) + nets.layer("Correlation", "a b", "y", text))
    a, b = numbers(2, 3, 6, 7), numbers(2, 3, 6, 7, seed=1)
    expected = correlate(a.astype(np.float64), b, kernel, reach, stride_1, stride_2, pad, kind == "MULTIPLY")
    assert_all(net, tmp_path, expected, a, b)
    assert_gradients(net, a[:1], b[:1])
    other = numbers(1, 3, 8, 5), numbers(1, 3, 8, 5, seed=1)
    expected = correlate(
        other[0].astype(np.float64), other[1], kernel, reach, stride_1, stride_2, pad, kind == "MULTIPLY"
    )
    np.testing.assert_allclose(net.to_torch()(*map(torch.tensor, other)), expected, 1e-4, 1e-5)


def c_round(x):
    return math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


def resample(x, height, width, kind, antialias=True):
    """Pixel by pixel, with the fork's swapped half steps."""
    fy, fx = x.shape[2] / height, x.shape[3] / width
    antialias = antialias and max(fx, fy) > 1

    def weight(d):
        d = abs(d)
        if kind == "LINEAR":
            return max(1 - d, 0)
        if d <= 1:
            return d * d * (1.5 * d - 2.5) + 1
        return d * (d * (-0.5 * d + 2.5) - 4) + 2 if d < 2 else 0

    y = np.zeros((*x.shape[:2], height, width))
    for i, j in np.ndindex(height, width):
        row, column = i * fy + fx / 2 - 0.5, j * fx + fy / 2 - 0.5
        if kind == "NEAREST":
            y[:, :, i, j] = x[
                :, :, min(max(c_round(row), 0), x.shape[2] - 1), min(max(c_round(column), 0), x.shape[3] - 1)
            ]
            continue
        ax, ay = (1 / fx, 1 / fy) if antialias else (1, 1)
        width_of = {"LINEAR": 2, "CUBIC": 4}[kind]
        rx, ry = (2 if f < 1 else math.ceil(width_of / a) for f, a in ((fx, ax), (fy, ay)))
        total = 0.0
        for r in range(max(c_round(row) - ry, 0), min(c_round(row) + ry, x.shape[2] - 1) + 1):
            for c in range(max(c_round(column) - rx, 0), min(c_round(column) + rx, x.shape[3] - 1) + 1):
                w = weight(ax * (column - c)) * weight(ay * (row - r))
                y[:, :, i, j] += w * x[:, :, r, c]
                total += w
        y[:, :, i, j] = y[:, :, i, j] / total if total else 0
    return y


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["NEAREST", "LINEAR", "CUBIC"])
@pytest.mark.parametrize("size", [(12, 14), (9, 11), (6, 7), (3, 4), (4, 14)])
@pytest.mark.parametrize("antialias", [True, False])
def test_resample(tmp_path, kind, size, antialias):
    text = f"resample_param {{ height: {size[0]} width: {size[1]} type: {kind} antialias: {str(antialias).lower()} }}"
    net = nets.load(tmp_path, nets.inputs(x=(1, 3, 6, 7)) + nets.layer("Resample", "x", "y", text))
    x = numbers(2, 3, 6, 7)
    assert_all(net, tmp_path, resample(x.astype(np.float64), *size, kind, antialias), x)
    assert_gradients(net, x[:1])


def test_resample_to_the_size_of_a_second_bottom(tmp_path):
    text = nets.inputs(x=(1, 3, 6, 7), like=(1, 1, 9, 5)) + nets.layer("Resample", "x like", "y")
    x, like = numbers(2, 3, 6, 7), numbers(2, 1, 9, 5)
    net = nets.load(tmp_path, text)
    expected = resample(x.astype(np.float64), 9, 5, "LINEAR")
    np.testing.assert_allclose(net.to_torch()(torch.tensor(x), torch.tensor(like)), expected, 1e-4, 1e-5)
    assert net.check().ok


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("Correlation", "correlation_param { kernel_size: 3 }", "a kernel_size and a max_displacement"),
        ("Correlation", "correlation_param { kernel_size: 2 max_displacement: 1 }", "an odd kernel_size"),
        ("Correlation", "correlation_param { kernel_size: 1 max_displacement: 4 }", "leaves no place"),
        ("Correlation", "correlation_param { kernel_size: 1 max_displacement: 1 do_abs: true }", "do_abs are not"),
        ("Correlation", "correlation_param { kernel_size: 1 max_displacement: 400 pad: 400 }", "are too many"),
        ("Resample", "resample_param { type: AREA }", "NEAREST, LINEAR or CUBIC"),
    ],
)
def test_refusals(tmp_path, kind, text, words):
    layers = nets.inputs(a=(1, 3, 6, 7), b=(1, 3, 6, 7)) + nets.layer(kind, "a b", "y", text)
    with pytest.raises(caffeport.NetError, match=words):
        nets.load(tmp_path, layers)
