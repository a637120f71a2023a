"""SSD's last layer on offsets, scores and default boxes, box by box, and numbers to try it on."""

from __future__ import annotations

import numpy as np


def overlap(a, b):
    """SSD's JaccardOverlap: boxes whose corners are the wrong way round share nothing."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(area) - width * height)


def detections(loc, conf, prior, classes, shared, background, top_k, threshold, eta, keep, confidence):
    """SSD's DetectionOutput with CENTER_SIZE, box by box."""
    prior, variance = prior.reshape(2, -1, 4).astype(np.float64)
    loc = loc.reshape(len(loc), len(prior), -1, 4)
    conf = conf.reshape(len(conf), len(prior), classes)
    size, center = prior[:, 2:] - prior[:, :2], (prior[:, 2:] + prior[:, :2]) / 2
    rows = []
    for image in range(len(loc)):
        candidates = []
        for label in (c for c in range(classes) if c != background):
            move = loc[image, :, 0 if shared else label] * variance
            middle, half = center + move[:, :2] * size, size * np.exp(move[:, 2:]) / 2
            boxes = np.concatenate([middle - half, middle + half], 1)
            scores = conf[image, :, label]
            order = sorted((i for i in range(len(prior)) if scores[i] > confidence), key=lambda i: -scores[i])
            chosen, limit = [], threshold
            for i in order[: top_k if top_k >= 0 else None]:
                if all(overlap(boxes[i], boxes[j]) <= limit for j in chosen):
                    chosen.append(i)
                    if eta < 1 and limit > 0.5:
                        limit *= eta
            candidates += [(label, scores[i], boxes[i]) for i in chosen]
        if 0 <= keep < len(candidates):
            best = sorted(range(len(candidates)), key=lambda i: -candidates[i][1])[:keep]
            candidates = [candidates[i] for i in sorted(best)]
        rows += [[image, label, score, *box] for label, score, box in candidates]
    if not rows:
        rows = [[image, *[-1] * 6] for image in range(len(loc))]
    return np.array(rows)[None, None]


def detection_inputs(images, priors, classes, shared, seed):
    random = np.random.default_rng(seed)
    low = random.random((priors, 2)) * 0.4
    corners = np.concatenate([low, low + 0.2 + random.random((priors, 2)) * 0.3], 1)
    corners[0] = corners[0][[2, 1, 0, 3]]  # the wrong way round
    prior = np.stack([corners.ravel(), np.tile([0.1, 0.1, 0.2, 0.2], priors)])[None]
    loc = random.standard_normal((images, priors * 4 * (1 if shared else classes)))
    conf = random.integers(0, 100, (images, priors, classes)) / 100  # with ties
    conf[1:2] *= 0.3  # an image that keeps nothing beside others that do
    return [array.astype(np.float32) for array in (loc, conf.reshape(images, -1), prior)]
