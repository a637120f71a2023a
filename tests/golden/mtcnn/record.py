"""Records what an independent implementation finds in photos: faces.json beside this file.

    python tests/golden/mtcnn/record.py PHOTO...

in an environment with faceie==0.0.5 and opencv-python-headless. faceie has MTCNN's nets and weights in NumPy, and
a cascade of its own around them. Recorded are

- "faceie": its own cascade (``detect_faces``, upright only, thresholds 0.6/0.7/0.7, factor 0.709, 20 pixels);
- "published": its nets within the cascade of the published MATLAB code, which this file writes out face by face.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
from faceie.mtcnn import detect_faces
from faceie.mtcnn.model import o_net, p_net, r_net
from PIL import Image

MIN_SIZE, FACTOR, THRESHOLDS = 20, 0.709, (0.6, 0.7, 0.7)


def shrink(image, rows, columns):
    if (rows, columns) == image.shape[:2]:
        return image
    smaller = rows <= image.shape[0] and columns <= image.shape[1]
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def as_input(image):
    return ((image.astype(np.float32) - 127.5) * 0.0078125).transpose(2, 0, 1)


def fix(number):
    return math.floor(number) if number > 0 else math.ceil(number)


def nms(boxes, threshold, smaller=False):
    """boxes: lists x1, y1, x2, y2, score, ..."""

    def area(box):
        return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)

    def overlap(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0]) + 1
        height = min(a[3], b[3]) - max(a[1], b[1]) + 1
        common = max(width, 0) * max(height, 0)
        return common / (min(area(a), area(b)) if smaller else area(a) + area(b) - common)

    kept = []
    for box in sorted(boxes, key=lambda box: -box[4]):
        if all(overlap(box, other) <= threshold for other in kept):
            kept.append(box)
    return kept


def moved(box, offsets, one):
    w, h = box[2] - box[0] + one, box[3] - box[1] + one
    return [box[0] + offsets[0] * w, box[1] + offsets[1] * h, box[2] + offsets[2] * w, box[3] + offsets[3] * h, box[4]]


def square(box):
    w, h = box[2] - box[0], box[3] - box[1]
    side = max(w, h)
    x, y = box[0] + w / 2 - side / 2, box[1] + h / 2 - side / 2
    return [fix(x), fix(y), fix(x + side), fix(y + side), box[4]]


def cut(image, box, size):
    """Pixels x1..x2, y1..y2, counted from 1; black outside."""
    x1, y1, x2, y2 = box[:4]
    part = np.zeros((y2 - y1 + 1, x2 - x1 + 1, 3), np.uint8)
    for y in range(max(y1, 1), min(y2, image.shape[0]) + 1):
        row = image[y - 1, max(x1, 1) - 1 : min(x2, image.shape[1])]
        part[y - y1, max(x1, 1) - x1 : max(x1, 1) - x1 + len(row)] = row
    return as_input(shrink(part, size, size))


LAST = [0, 0, 1, 1]  # faceie's offsets count from the first corner throughout; the published ones each from its own


def cascade(image):
    height, width = image.shape[:2]
    boxes = []
    scale = 12 / MIN_SIZE
    while min(height, width) * scale >= 12:
        level = shrink(image, math.ceil(height * scale), math.ceil(width * scale))
        scores, offsets = p_net(as_input(level))
        found = []
        for row, column in zip(*np.where(scores >= THRESHOLDS[0]), strict=True):
            corners = [fix((2 * at + one) / scale) for one in (1, 12) for at in (column, row)]
            found.append([*corners, scores[row, column], *(offsets[row, column] - LAST)])
        boxes += nms(found, 0.5)
        scale *= FACTOR
    boxes = [square(moved(box, box[5:], 0)) for box in nms(boxes, 0.7)]
    if not boxes:
        return [], []
    scores, offsets = r_net(np.stack([cut(image, box, 24) for box in boxes]))
    judged = zip(boxes, scores, offsets, strict=True)
    kept = nms([[*box[:4], s, *(o - LAST)] for box, s, o in judged if s > THRESHOLDS[1]], 0.7)
    boxes = [square(moved(box, box[5:], 1)) for box in kept]
    if not boxes:
        return [], []
    scores, offsets, points = o_net(np.stack([cut(image, box, 48) for box in boxes]))
    faces = []
    for box, s, o, p in zip(boxes, scores, offsets, points, strict=True):
        if s > THRESHOLDS[2]:
            w, h = box[2] - box[0] + 1, box[3] - box[1] + 1
            places = [(w * p[2 * i] + box[0] - 1, h * p[2 * i + 1] + box[1] - 1) for i in range(5)]
            faces.append([*moved([*box[:4], s], o - LAST, 1), places])
    faces = nms(faces, 0.7, smaller=True)
    return [[*(side - 1 for side in face[:4]), face[4]] for face in faces], [face[5] for face in faces]


def rounded(array):
    return np.round(np.array(array, float), 4).tolist()


def record(path):
    image = Image.open(path).convert("RGB")
    boxes, points = cascade(np.asarray(image))
    own = detect_faces(
        image,
        rotations=[0],
        pyramid_downscale_factor=1 / FACTOR,
        proposal_skip_downscale_factor=MIN_SIZE / 12,
        proposal_probability_threshold=THRESHOLDS[0],
        refine_probability_threshold=THRESHOLDS[1],
        output_probability_threshold=THRESHOLDS[2],
        extract_images=None,
    )
    own_boxes = np.column_stack([own.bounding_boxes, own.probabilities])
    return {
        "size": [image.height, image.width],
        "faceie": {"boxes": rounded(own_boxes), "landmarks": rounded(own.landmarks.reshape(-1, 5, 2))},
        "published": {"boxes": rounded(boxes), "landmarks": rounded(points)},
    }


if __name__ == "__main__":
    content = {Path(path).name: record(path) for path in sys.argv[1:]}
    Path(__file__).with_name("faces.json").write_text(json.dumps(content, indent=1) + "\n")
