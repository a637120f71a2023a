"""The choice of the faces that are meant among those of a photo."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..errors import DataError, did_you_mean

WHICH = ("central", "largest", "all")


def choose_faces(boxes: np.ndarray, shape: tuple[int, ...], which: Literal["central", "largest", "all"]) -> list[int]:
    """Return the indices of the chosen ones among boxes (n, 4+), x1, y1, x2, y2; none of none.

    boxes, shape: the boxes, and the photo's (height, width, ...).
    which: how to choose:
        "central": the one whose middle is nearest to the photo's, as the published pipelines take it.
        "largest": the one of the largest area.
        "all": every one, in the order in which they are.

    >>> boxes = np.array([[0, 0, 9, 9], [40, 40, 60, 60]])
    >>> choose_faces(boxes, (100, 100), "central"), choose_faces(boxes, (100, 100), "all")
    ([1], [0, 1])
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
