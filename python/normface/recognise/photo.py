"""A photo's face as a feature: found, aligned, extracted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.lazy import LazyModule

from ..alignment import SIZES, align_face, choose_faces
from ..data import decode
from ..errors import DataError, NormfaceError, NormfaceWarning, did_you_mean
from ..features import Extractor
from ..reading import MAX_IMAGE, read_file

cv2 = LazyModule("cv2")

WHICH = ("central", "largest")


@dataclass(frozen=True)
class PhotoFace:
    """box: (5,) x1, y1, x2, y2, score, or None where the photo was taken as an aligned face."""

    path: str
    aligned: np.ndarray
    """uint8 (H, W, 3) BGR, what the net saw."""
    feature: np.ndarray
    """float32 (D,)."""
    box: np.ndarray | None
    others: int
    """Faces of the photo that were not chosen."""


class FaceReader:
    """detector: anything with ``detect(image)``, or None for photos that are aligned faces already.

    which: "central" or "largest", of several faces.
    """

    def __init__(self, extractor: Extractor, detector: Any | None, which: str = "central") -> None:
        if which not in WHICH:
            raise NormfaceError(f'faces "{which}" is unknown{did_you_mean(which, WHICH)}; known: {", ".join(WHICH)}')
        self._extractor, self._detector, self._which = extractor, detector, which
        self._face_size = _face_size(extractor)

    @property
    def extractor(self) -> Extractor:
        return self._extractor

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by which the extractor makes its features."""
        return self._extractor.settings

    def read(self, path: str | Path) -> PhotoFace:
        """Raises DataError for a file that is no image, and for a photo in which no face is found."""
        image = decode(read_file(path, MAX_IMAGE), str(path), color=True)
        aligned, box, others = self._face(image, str(path))
        seen = aligned if self._extractor.color else cv2.cvtColor(aligned, cv2.COLOR_BGR2GRAY)[..., None]
        try:
            feature = self._extractor.features_of([seen])[0]
        except DataError as error:
            raise DataError(f"{path}: {str(error).removeprefix('an image: ')}") from error
        return PhotoFace(str(path), aligned, feature, box, others)

    def _face(self, image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray | None, int]:
        if self._detector is None:
            return image, None, 0
        faces = self._detector.detect(image)
        if not len(faces.boxes):
            if image.shape[:2] in (*SIZES, self._extractor.size):  # an aligned face leaves a detector little to see
                return image, None, 0
            raise DataError(f"{name}: no face was found; smaller faces need a smaller --min-size")
        if len(faces.boxes) > 1:
            which = "most central" if self._which == "central" else self._which
            message = f"{name}: has {len(faces.boxes)} faces; the {which} one is taken (--faces)"
            warnings.warn(message, NormfaceWarning, stacklevel=3)
        chosen = choose_faces(faces.boxes, image.shape, self._which)[0]  # type: ignore[arg-type]
        aligned = align_face(image, faces.landmarks[chosen], self._face_size)
        return aligned, faces.boxes[chosen], len(faces.boxes) - 1


def _face_size(extractor: Extractor) -> tuple[int, int]:
    """(H, W) to which a found face is aligned: the net's, or the one of its proportions that is then fitted to it."""
    if extractor.preprocessing.fit == "pad":
        return 112, 96
    height, width = extractor.size
    return (112, 96) if abs(width / height - 96 / 112) < abs(width / height - 1) else (112, 112)
