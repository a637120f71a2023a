"""Photos with the faces marked, for people to look at."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from caffeport.lazy import LazyModule

cv2 = LazyModule("cv2")

CHOSEN, OTHER = (80, 220, 80), (150, 150, 150)
"""BGR of the boxes of faces that were aligned, and of the rest."""
POINTS = ((255, 140, 0), (255, 140, 0), (0, 220, 255), (60, 60, 255), (60, 60, 255))
"""BGR of the eyes, the nose and the corners of the mouth."""


def draw_faces(
    image: np.ndarray, boxes: np.ndarray, landmarks: np.ndarray, chosen: Collection[int] | None = None
) -> np.ndarray:
    """Return a copy of the photo (H, W, 3) BGR with boxes (n, 4+), scores (a fifth column) and landmarks (n, 5, 2).

    chosen: the faces that count, in green; None: all. Lines are as thick as the photo's size asks for.
    """
    drawn = np.ascontiguousarray(image).copy()
    thick = max(1, round(min(image.shape[:2]) / 250))
    for i, (box, points) in enumerate(zip(boxes, landmarks, strict=True)):
        colour = CHOSEN if chosen is None or i in chosen else OTHER
        x1, y1, x2, y2 = (int(side) for side in np.clip(np.round(box[:4]), -1e6, 1e6))
        cv2.rectangle(drawn, (x1, y1), (x2, y2), colour, thick, cv2.LINE_AA)
        if len(box) > 4:
            _write_score(drawn, f"{box[4]:.3f}", x1, y1, thick, colour)
        radius = max(thick, round((x2 - x1) / 40))
        for point, dot in zip(np.clip(np.round(points), -1e6, 1e6).astype(int).tolist(), POINTS, strict=True):
            cv2.circle(drawn, tuple(point), radius, dot, -1, cv2.LINE_AA)
    return drawn


def _write_score(drawn: np.ndarray, text: str, left: int, top: int, thick: int, colour: tuple[int, int, int]) -> None:
    """Write black on a plate of the box's colour, on the box's upper edge, or within the photo where that is outside.

    At least 12 pixels high, however small the photo, since text over hair and lights is not read.
    """
    scale = max(0.45, 0.3 * thick)
    weight = max(1, round(scale * 1.6))
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    edge = max(2, thick)
    plate_width, plate_height = width + 2 * edge, height + below + edge
    x = int(np.clip(left - thick // 2, 0, max(0, drawn.shape[1] - plate_width)))
    y = int(np.clip(top - plate_height, 0, max(0, drawn.shape[0] - plate_height)))
    cv2.rectangle(drawn, (x, y), (x + plate_width, y + plate_height), colour, -1)
    place = (x + edge, y + edge // 2 + height + 1)
    cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), weight, cv2.LINE_AA)
