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


def combined_margin(features, weights, labels, scale=64.0, m1=1.0, m2=0.3, m3=0.2) -> float:
    def own(x, w):
        return scale * (math.cos(m1 * angle(x, w) + m2) - m3)

    return scored(features, weights, labels, lambda x, w: scale * math.cos(angle(x, w)), own)


def sub_center_arcface(features, weights, labels, scale=64.0, margin=0.5) -> float:
    """Of one center a class."""
    return arcface(features, weights, labels, scale, margin)


def elasticface(features, weights, labels, scale=64.0, margin=0.5, cosine=None) -> float:
    """Without deviation; cosine: the margin, where it is taken off the cosine."""
    if cosine is not None:
        return am_softmax(features, weights, labels, scale, cosine)
    return arcface(features, weights, labels, scale, margin, beyond="nothing")


def guided(features, weights, labels, scale, others, target, mask=None) -> float:
    """Softmax of scale others(cosine) of classes whose cosine is above mask(theta) (target's), of the rest plain."""
    table = []
    for x, y in zip(features, labels, strict=True):
        theta = angle(x, weights[y])
        row = []
        for j, w in enumerate(weights):
            cosine = math.cos(angle(x, w))
            hard = cosine > (mask or target)(theta)
            row.append(scale * (target(theta) if j == y else others(cosine) if hard else cosine))
        table.append(row)
    return cross_entropy(table, labels)


def sv_x_softmax(features, weights, labels, scale=32.0, margin=None, margin_on="cosine", t=1.2) -> float:
    if margin_on == "cosine":

        def target(theta):
            return math.cos(theta) - (0.35 if margin is None else margin)
    else:

        def target(theta):
            return math.cos(theta + (0.5 if margin is None else margin) * (theta < math.pi / 2))

    return guided(features, weights, labels, scale, lambda c: t * c + t - 1, target)


def curricularface(features, weights, labels, scale=64.0, margin=0.5, momentum=0.01, before=0.0) -> float:
    """before: t of the steps before."""
    mean = sum(math.cos(angle(x, weights[y])) for x, y in zip(features, labels, strict=True)) / len(labels)
    t = momentum * mean + (1 - momentum) * before

    def target(theta):
        if theta > math.pi - margin:
            return math.cos(theta) - margin * math.sin(margin)
        return math.cos(theta + margin)

    return guided(
        features, weights, labels, scale, lambda c: c * (t + c), target, mask=lambda theta: math.cos(theta + margin)
    )


def own_margins(features, weights, labels, scale, targets) -> float:
    """Cross-entropy where each sample i has its own targets[i](theta) for its label."""
    table = [
        [scale * (target(angle(x, w)) if j == y else math.cos(angle(x, w))) for j, w in enumerate(weights)]
        for x, y, target in zip(features, labels, targets, strict=True)
    ]
    return cross_entropy(table, labels)


def magface(
    features, weights, labels, scale=64.0, least_margin=0.45, most_margin=0.8, shortest=10.0, longest=110.0,
    lambda_g=35.0, easy=True,
) -> float:  # fmt: skip
    lengths = [min(max(x[0], shortest), longest) for x in features]

    def target_of(a):
        m = least_margin + (most_margin - least_margin) * (a - shortest) / (longest - shortest)

        def target(theta):
            if easy and theta >= math.pi / 2:
                return math.cos(theta)
            if not easy and theta > math.pi - m:
                return math.cos(theta) - m * math.sin(m)
            return math.cos(theta + m)

        return target

    pull = sum(1 / a + a / longest**2 for a in lengths) / len(lengths)
    return own_margins(features, weights, labels, scale, map(target_of, lengths)) + lambda_g * pull


def adaface(
    features, weights, labels, scale=64.0, margin=0.4, h=0.333, momentum=0.01, before=(20.0, 100.0)
) -> float:  # fmt: skip
    """before: mean and standard deviation of the steps before."""
    lengths = [min(max(x[0], 0.001), 100) for x in features]
    mean = sum(lengths) / len(lengths)
    deviation = math.sqrt(sum((a - mean) ** 2 for a in lengths) / (len(lengths) - 1))
    mean, deviation = (
        momentum * now + (1 - momentum) * old for now, old in zip((mean, deviation), before, strict=True)
    )

    def cut(cosine):
        return min(max(cosine, -0.999), 0.999)

    table = []
    for x, a, y in zip(features, lengths, labels, strict=True):
        z = min(max(h * (a - mean) / (deviation + 0.001), -1), 1)
        row = [scale * cut(math.cos(angle(x, w))) for w in weights]
        theta = math.acos(cut(math.cos(angle(x, weights[y]))))
        row[y] = scale * (math.cos(min(max(theta - margin * z, 0.001), math.pi - 0.001)) - margin * (z + 1))
        table.append(row)
    return cross_entropy(table, labels)


def sphereface2_bias(classes, scale=40.0, margin=0.4, balance=0.7, power=3.0) -> float:
    """By bisection: where more bias pulls as much as it pushes, at cosines of 0."""

    def sigmoid(v):
        return 1 / (1 + math.exp(-v))

    g, low, high = 2 * 0.5**power - 1, -200.0, 200.0
    for _ in range(200):
        b = (low + high) / 2
        push = (1 - balance) * (classes - 1) * sigmoid(scale * (g + margin) + b)
        low, high = (b, high) if balance * sigmoid(-scale * (g - margin) - b) > push else (low, b)
    return (low + high) / 2


def sphereface2(features, weights, labels, scale=40.0, margin=0.4, balance=0.7, power=3.0) -> float:
    b, total = sphereface2_bias(len(weights), scale, margin, balance, power), 0.0
    for x, y in zip(features, labels, strict=True):
        for j, w in enumerate(weights):
            g = 2 * ((math.cos(angle(x, w)) + 1) / 2) ** power - 1
            if j == y:
                total += balance / scale * math.log1p(math.exp(-scale * (g - margin) - b))
            else:
                total += (1 - balance) / scale * math.log1p(math.exp(scale * (g + margin) + b))
    return total / len(labels)


def ring(features, weights, labels, radius) -> float:
    return sum((x[0] - radius) ** 2 for x in features) / (2 * len(features))


def charges(apart: float, power: float) -> float:
    return math.log(1 / apart) if power == 0 else 1 / apart**power


def mhe(features, weights, labels, power=2.0, over="batch", half_space=False) -> float:
    """The mean energy of pairs: of the labels' classes with the others, or of all with all others."""
    directions = [(1, w[1]) for w in weights]
    total, pairs = 0.0, 0
    for y in labels if over == "batch" else range(len(weights)):
        for j, other in enumerate(directions):
            if j != y:
                total += charges(math.sqrt(distance(directions[y], other)), power)
                pairs += 1
            if half_space:
                total += charges(math.sqrt(distance(directions[y], (1, other[1] + 180))), power)
                pairs += 1
    return total / pairs


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
        "combined-margin": 64 * cosine,
        "sv-x-softmax": 32 * cosine,
        "curricularface": 64 * cosine,
        "magface": 64 * cosine,
        "adaface": 64 * cosine,
        "sub-center-arcface": 64 * cosine,
        "elasticface": 64 * cosine,
        "sphereface2": 40 * (2 * ((cosine + 1) / 2) ** 3 - 1) + sphereface2_bias(len(WEIGHTS)),
        "center": -(x[0] ** 2 + w[0] ** 2 - 2 * dot(x, w)),
    }[name]
