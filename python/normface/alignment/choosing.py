"""The choice of the faces that are meant among those of a photo."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..errors import DataError, did_you_mean

WHICH = ("central", "largest", "all")


def choose_faces(boxes: np.ndarray, shape: tuple[int, ...], which: Literal["central", "largest", "all"]) -> list[int]:
    """Indices of the chosen ones among boxes (n, 4+), x1, y1, x2, y2; none of none.

    "central": the one whose middle is nearest to the photo's (of shape (height, width, ...)), as the published
    pipelines take it; "largest": the one of the largest area; "all", in the order in which they are.
    """
    if which not in WHICH:
        raise DataError(f'faces "{which}" is unknown{did_you_mean(which, WHICH)}; known: {", ".join(WHICH)}')
    if which == "all" or len(boxes) == 0:
        return list(range(len(boxes)))
    boxes = np.asarray(boxes, np.float64)
    if which == "largest":
        return [int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))]
    middle = (np.array(shape[1::-1]) - 1) / 2
    return [int(np.argmin(np.linalg.norm((boxes[:, 0:2] + boxes[:, 2:4]) / 2 - middle, axis=1)))]
