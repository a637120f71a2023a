"""The layers of NoiseFace, against loops that follow their definitions."""

from __future__ import annotations

import math
from collections import deque

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import assert_all, assert_gradients, numbers


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 4), (3, 2, 2, 2)])
def test_norm_l2(tmp_path, shape):
    net = nets.load(tmp_path, nets.inputs(x=shape) + nets.layer("NormL2", "x", "y"))
    x = numbers(*shape)
    x[0] = 0  # nothing to divide
    flat = x.reshape(3, -1).astype(np.float64)
    expected = (flat / np.sqrt((flat**2).sum(1, keepdims=True) + 1e-7)).reshape(*shape, *[1] * (4 - len(shape)))
    assert_all(net, tmp_path, expected, x)
    assert_gradients(net, x[1:])


def arcface(x, labels, m):
    """(values, slopes) of the label's scores, cos(theta + m), by a sine of 1e-3 or more (Deng et al. 2019)."""
    y, slopes = x.astype(np.float64).copy(), np.ones(x.shape)
    for row, label in enumerate(labels):
        if label < 0:
            continue
        cosine = float(x[row, label])
        if cosine <= math.cos(math.pi - m):
            y[row, label] = cosine - m * math.sin(m)
        elif cosine < 1:
            y[row, label] = math.cos(math.acos(cosine) + m)
            slopes[row, label] = math.sin(math.acos(cosine) + m) / max(math.sin(math.acos(cosine)), 1e-3)
        else:  # no angle: as far on as the cosine is beyond 1
            y[row, label] = cosine * math.cos(m)
            slopes[row, label] = math.cos(m) + cosine / 1e-3 * math.sin(m)
    return y, slopes


@pytest.mark.parametrize("phase", ["test", "train"])
def test_arcface(tmp_path, phase):
    text = nets.inputs(x=(6, 4), label=(6,)) + nets.layer("Arcface", "x label", "y", "arcface_param { m: 0.4 }")
    model = nets.load(tmp_path, text, phase=phase).to_torch()
    x = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
    labels = np.array([0, 1, 2, -1, 3, 0])
    x[0, 0], x[1, 1], x[5, 0] = -0.99, 1.0, 1.2  # beyond pi - m, no sine, beyond a cosine
    values, slopes = arcface(x, labels, 0.4)
    tensor = torch.tensor(x, requires_grad=True)
    top = model(tensor, torch.tensor(labels).float())
    np.testing.assert_allclose(top.detach(), values, 1e-5, 1e-6)
    weights = numbers(6, 4, seed=1)
    (top * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(tensor.grad, weights * slopes, 1e-4, 1e-6)


class Reference:
    """NoiseTolerantFR's state and weights, in loops over lists as the fork has them."""

    def __init__(self, bins, batches, start, low=-1.0, high=1.0):
        self.bins, self.batches, self.low, self.high = bins, batches, low, high
        self.start, self.passes, self.queue = max(start, batches), 0, deque()
        self.ends = dict.fromkeys(["l", "r", "lt", "rt"], -1)

    def weights(self, cosines):
        """A weight for every cosine (None for a sample without a label); None where nothing is weighed."""
        scale = self.bins / (self.high - self.low)
        places = [None if c is None else min(max(int(scale * (c - self.low)), 0), self.bins) for c in cosines]
        self.queue.extend(places)
        while len(self.queue) > self.batches * len(cosines):
            self.queue.popleft()
        pdf = [sum(place == i for place in self.queue) for i in range(self.bins + 1)]
        smooth = [0.0] * (self.bins + 1)
        for i in range(2, self.bins - 1):
            smooth[i] = sum(pdf[i - 2 : i + 3]) / 5
        shares = np.cumsum(smooth) / sum(smooth)
        self.passes += 1
        if self.passes < self.start:
            return None
        left = next(i for i in range(self.bins + 1) if shares[i] >= 0.005)
        right = next(i for i in reversed(range(self.bins + 1)) if shares[i] <= 0.995)
        assert left < right
        middle, top = (left + right) // 2, smooth.index(max(smooth))
        peaks, i = [], max(left, 5)
        while i <= min(right, self.bins - 5):
            s = smooth
            if (
                s[i] >= max(s[i - 1], s[i + 1]) and s[i] > max(s[i - 2], s[i + 2])
                and s[i] > max(s[i - 3], s[i + 3]) + 1 and s[i] > max(s[i - 4], s[i + 4]) + 2
                and s[i] > max(s[i - 5], s[i + 5]) + 3
            ):  # fmt: skip
                peaks.append(i)
                i += 5
            i += 1
        peaks = peaks or [top]
        lt, rt = (top, max(peaks[-1], middle)) if top < middle else (min(peaks[0], middle), top)
        for name, new in {"l": left, "r": right, "lt": lt, "rt": rt}.items():
            old = self.ends[name]
            self.ends[name] += new - old if old == -1 else int(np.sign(new - old))
        return [1.0 if place is None else self.weight(place) for place in places]

    def weight(self, place):
        l, r, lt, rt = (self.ends[name] for name in ["l", "r", "lt", "rt"])  # noqa: E741
        w2 = min(max(math.log(1 + math.exp(10 * (place - lt) / (r - lt))) / math.log(1 + math.exp(10)), 0), 1)
        a = (r - rt if place > rt else rt - l) / 2.576
        w3 = math.exp(-((place - rt) ** 2) / (2 * a * a))
        alpha = min(max(self.low + (self.high - self.low) * r / self.bins, 0), 1)
        beta = 2 - 1 / (1 + math.exp(5 - 20 * alpha)) - 1 / (1 + math.exp(20 * alpha - 15))
        return beta * (alpha < 0.5) + (1 - beta) * w2 + beta * (alpha > 0.5) * w3


def batches(count, size, mean, seed):
    """Cosines of the label's class: clean samples around ``mean``, a fifth of noise around 0."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        noise = random.random(size) < 0.2
        yield np.where(noise, random.normal(0, 0.07, size), random.normal(mean, 0.1, size)).astype(np.float32)


@pytest.mark.parametrize("mean", [0.15, 0.35, 0.8])
@pytest.mark.parametrize("shield", [False, True])
def test_noise_tolerant_fr(tmp_path, mean, shield):
    text = nets.inputs(x=(200, 3), cos=(200, 3), label=(200,)) + nets.layer(
        "NoiseTolerantFR", "x cos label", "y",
        f"noise_tolerant_fr_param {{ bins: 50 slide_batch_num: 3 shield_forward: {str(shield).lower()} }}",
    )  # fmt: skip
    model = nets.load(tmp_path, text, phase="train").to_torch().train()
    reference, random = Reference(50, 3, 1), np.random.default_rng(1)
    weighed = 0
    for own in batches(7, 200, mean, 0):
        labels = random.integers(0, 3, 200)
        labels[::10] = -1
        cosines = random.uniform(-1, 1, (200, 3)).astype(np.float32)
        cosines[np.arange(200), labels] = own
        weights = reference.weights([None if label < 0 else float(c) for c, label in zip(own, labels, strict=True)])
        weighed += weights is not None
        weights = np.ones(200) if weights is None else np.array(weights)
        x = torch.tensor(numbers(200, 3), requires_grad=True)
        top = model(x, torch.tensor(cosines), torch.tensor(labels).float())
        column = weights[:, None]
        np.testing.assert_allclose(top.detach(), x.detach().numpy() * (1 if shield else column), 1e-5, 1e-6)
        top.sum().backward()
        np.testing.assert_allclose(x.grad, np.broadcast_to(column, (200, 3)), 1e-5, 1e-6)
    assert weighed == 5  # from the third pass on


def test_noise_tolerant_fr_of_a_deployed_net(tmp_path):
    text = nets.inputs(x=(2, 3), label=(2,)) + nets.layer("NoiseTolerantFR", "x x label", "y")
    net = nets.load(tmp_path, text)
    x = numbers(2, 3)
    model = net.to_torch().eval()
    np.testing.assert_array_equal(model(torch.tensor(x), torch.zeros(2)), x)
    assert net.check().ok


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (nets.inputs(x=(2, 3), y=(2,)) + nets.layer("Arcface", "x y", "z", "arcface_param { m: 4 }"), "m from 0 to"),
        (nets.inputs(x=(2, 3), y=(3,)) + nets.layer("Arcface", "x y", "z"), "N labels"),
        (nets.inputs(x=(2, 3), y=(3,)) + nets.layer("NoiseTolerantFR", "x x y", "z"), "2 labels"),
        (
            nets.inputs(x=(2, 3), y=(2,)) + nets.layer("NoiseTolerantFR", "x x y", "z",
            "noise_tolerant_fr_param { bins: 0 }"), "bins of 1 or more",
        ),
        (
            nets.inputs(x=(2, 3), y=(2,)) + nets.layer("NoiseTolerantFR", "x x y", "z",
            "noise_tolerant_fr_param { value_high: -1 }"), "value_high above",
        ),
    ],
)  # fmt: skip
def test_refusals(tmp_path, text, words):
    with pytest.raises(caffeport.NetError, match=words):
        nets.load(tmp_path, text)
