"""The verdicts on detections, right or wrong (see caffeport.operators.ssd_training)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

CASCADE_DETECTION = [0, 5, 6, 1, 2, 3, 4]
"""The places in cascade-rcnn's rows (image, corners, label, score) of image, label, score, corners."""
CASCADE_TRUTH = [0, 5, 6, 1, 2, 3, 4, 7]
"""The places in its rows (image, corners, label, ignored, difficult) of image, label, ignored, corners, difficult."""
Rows = dict[int, dict[int, np.ndarray]]
"""{image: {label: rows}}, in rising order of both."""


class DetectionEvaluate(nn.Module):
    """``sizes`` are (height, width) of every image of the data set in turn; empty to compare boxes as they are."""

    running_state = ("position",)

    def __init__(
        self,
        num_classes: int,
        background: int,
        threshold: float,
        evaluate_difficult: bool,
        sizes: list[tuple[int, int]],
    ) -> None:
        super().__init__()
        self.labels = [label for label in range(num_classes) if label != background]
        self.background, self.threshold, self.evaluate_difficult = background, threshold, evaluate_difficult
        self.sizes, self.position = sizes, 0

    @torch.no_grad()
    def forward(self, detections: Tensor, truth: Tensor, image_sizes: Tensor | None = None) -> Tensor:
        detection_rows, true = (x.detach().cpu().double().numpy() for x in (detections, truth))
        detection_rows, true = detection_rows.reshape(-1, 7), true.reshape(-1, 8)
        count = len(detection_rows)
        if image_sizes is None:
            end = np.flatnonzero(true[:, 0].astype(int) == -1)
            true = true[: end[0]] if len(end) else true
        else:
            detection_rows, true = detection_rows[:, CASCADE_DETECTION], true[:, CASCADE_TRUTH]
        truths = _grouped(true)
        rows = [[-1, label, self._boxes(truths, label), -1, -1] for label in self.labels]
        for image, by_label in _grouped(detection_rows).items():
            for label, some in by_label.items():
                boxes = truths.get(image, {}).get(label)
                if image_sizes is not None and label == -1:
                    continue  # cascade-rcnn's row for no detection
                if label == self.background or (boxes is None and label < 0):
                    raise ValueError(f"detections of image {image} have the label {label}, which is no object's")
                if boxes is None:
                    rows += [[image, label, score, 0, 1] for score in some[:, 2]]
                    continue
                some = some[np.argsort(-some[:, 2], kind="stable")]
                shared = self._overlaps(some[:, 3:7], boxes[:, 3:7], image, image_sizes)
                verdicts = self._verdicts(shared, boxes[:, 7] != 0)
                rows += [[image, label, score, *verdict] for score, verdict in zip(some[:, 2], verdicts, strict=True)]
            self.position = (self.position + 1) % max(len(self.sizes), 1)
        if image_sizes is not None:
            return detections.new_tensor(np.array(rows, float))[:, :, None, None]
        top = np.zeros((len(self.labels) + count, 5))  # a row of no detection stays 0
        top[: len(rows)] = rows
        return detections.new_tensor(top)[None, None]

    def _boxes(self, truths: Rows, label: int) -> int:
        """Return the number of boxes of this label."""
        groups = [boxes for by_label in truths.values() for key, boxes in by_label.items() if key == label]
        return sum(len(boxes) if self.evaluate_difficult else int((boxes[:, 7] == 0).sum()) for boxes in groups)

    def _overlaps(
        self, detections: np.ndarray, boxes: np.ndarray, image: int, image_sizes: Tensor | None
    ) -> np.ndarray:
        """Return intersection over union (A, B), in the pixels of the original image where its size is known."""
        if not self.sizes:
            return _shares(detections, boxes, int(image_sizes is not None), 0)
        height, width = self.sizes[self.position]
        if image_sizes is not None:
            own = image_sizes.reshape(-1, 2)[image].tolist()
            height, width = height / own[0], width / own[1]
        scale = np.array([width, height] * 2, np.float32)
        # In pixels SSD's boxes that do not meet share one, as its width of 0 counts as 1.
        return _shares(detections * scale, boxes * scale, 1, int(image_sizes is None))

    def _verdicts(self, shared: np.ndarray, difficult: np.ndarray) -> list[tuple[int, int]]:
        """Return (true positive, false positive) of every detection of one image and label, best first."""
        seen, verdicts = set(), []
        for row in shared:
            best = int(row.argmax())
            if row[best] < self.threshold:
                verdicts.append((0, 1))
            elif difficult[best] and not self.evaluate_difficult:
                verdicts.append((0, 0))
            else:
                verdicts.append((0, 1) if best in seen else (1, 0))
                seen.add(best)
        return verdicts


def _grouped(rows: np.ndarray) -> Rows:
    """Group rows by their image (column 0) and label (column 1), in rising order; those of image -1 are none."""
    rows = rows[rows[:, 0].astype(int) != -1]
    images, labels = rows[:, 0].astype(int), rows[:, 1].astype(int)
    return {
        int(image): {int(one): rows[(images == image) & (labels == one)] for one in np.unique(labels[images == image])}
        for image in np.unique(images)
    }


def _shares(detections: np.ndarray, boxes: np.ndarray, pixel: int, apart: float) -> np.ndarray:
    """Return intersection over union (A, B). ``pixel`` is 1 where corners are pixels, which belong to the box;
    ``apart`` is the intersection of boxes that do not meet."""
    low = np.maximum(detections[:, None, :2], boxes[:, :2])
    high = np.minimum(detections[:, None, 2:], boxes[:, 2:])
    common = np.where((high >= low).all(2), (high - low + pixel).prod(2), apart)
    areas = []
    for some in (detections, boxes):
        sides = some[:, 2:] - some[:, :2]
        areas.append(np.where((sides >= 0).all(1), (sides + pixel).prod(1), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(common > 0, common / (areas[0][:, None] + areas[1] - common), 0)
