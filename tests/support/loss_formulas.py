"""The losses' papers' formulas, bare: points of a circle given by length and angle, loops and math, no tensors.

Every formula takes (features, weights, labels): lists of (length, angle in degrees), and whole numbers; then the
loss's options. The mean over the samples comes out.
"""

from __future__ import annotations

import math

Point = tuple[float, float]

FEATURES: list[Point] = [(1.0, 10), (0.5, 100), (2.0, 205), (3.0, 350), (1.5, 45), (1.25, 25), (0.75, 80)]
WEIGHTS: list[Point] = [(1.0, 0), (2.0, 95), (0.5, 190), (1.25, 300)]
LABELS = [0, 1, 2, 3, 3, 2, 0]
"""From near its weight (5 degrees) to nearly opposite (165)."""


def rows(points: list[Point]) -> list[list[float]]:
    """Return x and y."""
    return [[r * math.cos(math.radians(a)), r * math.sin(math.radians(a))] for r, a in points]


def angle(one: Point, other: Point) -> float:
    """Return the angle between two points, in [0, pi]."""
    apart = abs(one[1] - other[1]) % 360
    return math.radians(min(apart, 360 - apart))


def cross_entropy(scores: list[list[float]], labels: list[int]) -> float:
    total = 0.0
    for row, y in zip(scores, labels, strict=True):
        most = max(row)
        total += most + math.log(sum(math.exp(score - most) for score in row)) - row[y]
    return total / len(labels)


def scored(features, weights, labels, others, own) -> float:
    """Return the cross-entropy of ``others(x, w)``, where the label's is ``own(x, w)``."""
    table = [
        [own(x, w) if j == y else others(x, w) for j, w in enumerate(weights)]
        for x, y in zip(features, labels, strict=True)
    ]
    return cross_entropy(table, labels)


def dot(x: Point, w: Point) -> float:
    return x[0] * w[0] * math.cos(angle(x, w))


def softmax(features, weights, labels) -> float:
    return scored(features, weights, labels, dot, dot)


def normalized_softmax(features, weights, labels, scale=10.0) -> float:
    def score(x, w):
        return scale * math.cos(angle(x, w))

    return scored(features, weights, labels, score, score)


def positive_scale_softmax(features, weights, labels, scale=15.0, positive_scale=0.75, positive_only=False) -> float:
    def own(x, w):
        cosine = math.cos(angle(x, w))
        return scale * cosine * (1 if positive_only and cosine <= 0 else positive_scale)

    return scored(features, weights, labels, lambda x, w: scale * math.cos(angle(x, w)), own)


def l2_softmax(features, weights, labels, alpha=16.0) -> float:
    def score(x, w):
        return alpha * w[0] * math.cos(angle(x, w))

    return scored(features, weights, labels, score, score)


def am_softmax(features, weights, labels, scale=30.0, margin=0.35, above_margin_only=False) -> float:
    def own(x, w):
        cosine = math.cos(angle(x, w))
        return scale * (cosine if above_margin_only and cosine <= margin else cosine - margin)

    return scored(features, weights, labels, lambda x, w: scale * math.cos(angle(x, w)), own)


def arcface(features, weights, labels, scale=64.0, margin=0.5, beyond="linear") -> float:
    def own(x, w):
        theta = angle(x, w)
        if beyond == "linear" and theta > math.pi - margin:
            return scale * (math.cos(theta) - margin * math.sin(margin))
        if beyond == "easy" and theta >= math.pi / 2:
            return scale * math.cos(theta)
        return scale * math.cos(theta + margin)

    return scored(features, weights, labels, lambda x, w: scale * math.cos(angle(x, w)), own)


def psi(theta: float, m: int) -> float:
    """(-1)^k cos(m theta) - 2k, theta in [k pi / m, (k + 1) pi / m]."""
    k = min(int(theta * m / math.pi), m - 1)
    return (-1) ** k * math.cos(m * theta) - 2 * k


def annealed(base: float, gamma: float, power: float, lambda_min: float, t: int) -> float:
    return max(lambda_min, base * (1 + gamma * t) ** -power)


def large_margin_softmax(
    features, weights, labels, margin=4, base=1000.0, gamma=0.12, power=1.0, lambda_min=5.0, t=1
) -> float:
    decay = annealed(base, gamma, power, lambda_min, t)

    def own(x, w):
        theta = angle(x, w)
        return x[0] * w[0] * (psi(theta, margin) + decay * math.cos(theta)) / (1 + decay)

    return scored(features, weights, labels, dot, own)


def sphereface(features, weights, labels, margin=4, base=1000.0, gamma=0.12, power=1.0, lambda_min=5.0, t=1) -> float:
    decay = annealed(base, gamma, power, lambda_min, t)

    def own(x, w):
        theta = angle(x, w)
        return x[0] * (psi(theta, margin) + decay * math.cos(theta)) / (1 + decay)

    return scored(features, weights, labels, lambda x, w: x[0] * math.cos(angle(x, w)), own)


def distance(x: Point, w: Point) -> float:
    """Return the squared distance of the points' directions: a chord's square."""
    return (2 * math.sin(angle(x, w) / 2)) ** 2


def c_contrastive(
    features, weights, labels, positive_margin=0.0, negative_margin=1.0, positive_weight=1.0, negative_weight=1.0,
    positive_outlier_thresh=4.0,
) -> float:  # fmt: skip
    total = 0.0
    for x, y in zip(features, labels, strict=True):
        for j, w in enumerate(weights):
            if j == y:
                total += positive_weight * min(max(distance(x, w) - positive_margin, 0), positive_outlier_thresh)
            else:
                total += negative_weight * max(negative_margin - distance(x, w), 0)
    return total / len(labels)


def c_triplet(features, weights, labels, margin=0.8, hardest_only=True, negative_weight=1.0) -> float:
    total = 0.0
    for x, y in zip(features, labels, strict=True):
        hinges = [max(0.0, distance(x, weights[y]) + margin - distance(x, w)) for j, w in enumerate(weights) if j != y]
        total += negative_weight * (max(hinges) if hardest_only else sum(hinges))
    return total / len(labels)


def center(features, weights, labels) -> float:
    total = 0.0
    for x, y in zip(rows(features), labels, strict=True):
        total += sum((a - c) ** 2 for a, c in zip(x, rows(weights)[y], strict=True)) / 2
    return total / len(labels)


def logits(name: str, x: Point, w: Point) -> float:
    """Return a class's score without margin, by the loss's name, for its default options."""
    cosine = math.cos(angle(x, w))
    return {
        "softmax": dot(x, w),
        "normalized-softmax": 10 * cosine,
        "positive-scale-softmax": 15 * cosine,
        "l2-softmax": 16 * w[0] * cosine,
        "am-softmax": 30 * cosine,
        "arcface": 64 * cosine,
        "large-margin-softmax": dot(x, w),
        "sphereface": x[0] * cosine,
        "c-contrastive": -distance(x, w),
        "c-triplet": -distance(x, w),
        "center": -(x[0] ** 2 + w[0] ** 2 - 2 * dot(x, w)),
    }[name]
