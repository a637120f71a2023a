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
            place = (x1, max(y1 - 3 * thick, 10 * thick))
            cv2.putText(
                drawn, f"{box[4]:.3f}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thick, colour, thick, cv2.LINE_AA
            )
        radius = max(thick, round((x2 - x1) / 40))
        for point, dot in zip(np.clip(np.round(points), -1e6, 1e6).astype(int).tolist(), POINTS, strict=True):
            cv2.circle(drawn, tuple(point), radius, dot, -1, cv2.LINE_AA)
    return drawn
