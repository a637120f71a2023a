"""The verdict on whether two photos show one person."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.files import replacing
from caffeport.lazy import LazyModule

from ..errors import NormfaceError, shape_text
from .photo import PhotoFace
from .threshold import Threshold

cv2 = LazyModule("cv2")
HEIGHT, FRAME, CAPTION = 224, 6, 44  # pixels of the drawing


@dataclass(frozen=True)
class Verdict:
    """threshold: None where none is known for this model and these faces; ``unknown`` then says why."""

    a: PhotoFace
    b: PhotoFace
    cosine: float
    threshold: Threshold | None
    unknown: str = ""

    @property
    def same(self) -> bool | None:
        """None without a threshold: then there is no verdict."""
        return None if self.threshold is None else self.cosine >= self.threshold.cosine

    @property
    def words(self) -> str:
        if self.threshold is None:
            return f"no verdict: cosine {self.cosine:.3f}"
        sign = ">=" if self.same else "<"
        what = "same person" if self.same else "different people"
        return f"{what}: cosine {self.cosine:.3f} {sign} {self.threshold.cosine:.3f} ({self.threshold.words})"

    def to_dict(self) -> dict[str, Any]:
        known = self.threshold
        return {
            "same": self.same,
            "cosine": self.cosine,
            "threshold": None if known is None else known.cosine,
            "far": None if known is None else known.far,
            "far_between": None if known is None or known.between is None else list(known.between),
            "threshold_source": None if known is None else known.source,
            "no_threshold": self.unknown or None,
            "photos": [
                {"path": face.path, "box": None if face.box is None else face.box.tolist(), "other_faces": face.others}
                for face in (self.a, self.b)
            ],
        }


def compare(a: PhotoFace, b: PhotoFace, threshold: Threshold | None, unknown: str = "") -> Verdict:
    """Judge by the cosine of the two features, 0 where one of them is zero.

    unknown: why there is no threshold, where that is None. A threshold that was measured on faces of another size than
    these is none for them.
    """
    for face in (a, b):
        size = face.aligned.shape[:2]
        if threshold is not None and threshold.face is not None and size != threshold.face:
            unknown = (
                f"{face.path}: is an aligned face of {shape_text(size)} (HxW); no threshold is known "
                f"for those, it was measured on {shape_text(threshold.face)}: give one (--threshold COSINE)"
            )
            threshold = None
    norms = float(np.linalg.norm(a.feature) * np.linalg.norm(b.feature))
    cosine = float(a.feature @ b.feature) / norms if norms else 0.0
    return Verdict(a, b, min(1.0, max(-1.0, cosine)), threshold, unknown)


def checked_drawing(path: str | Path) -> Path:
    """The path, or NormfaceError where ``draw`` cannot write there; asked before the work is done."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise NormfaceError(f"{path}: an image is written as .png or .jpg; choose one of these endings")
    if not os.path.isdir(path.parent):
        raise NormfaceError(f"{path}: the folder {path.parent} does not exist")
    return path


def draw(path: str | Path, verdict: Verdict) -> None:
    """Both faces side by side as the net saw them, framed in green for one person, in red for two, else in grey."""
    path = checked_drawing(path)
    colour = {True: (80, 160, 0), False: (40, 40, 200), None: (128, 128, 128)}[verdict.same]
    framed = []
    for face in (verdict.a.aligned, verdict.b.aligned):
        width = max(round(face.shape[1] * HEIGHT / face.shape[0]), 1)
        large = cv2.resize(face, (width, HEIGHT))
        framed.append(cv2.copyMakeBorder(large, *[FRAME] * 4, cv2.BORDER_CONSTANT, value=colour))
    row = np.concatenate(framed, axis=1)
    caption = np.full((CAPTION, row.shape[1], 3), 255, np.uint8)
    words = verdict.words.partition(" (")[0].replace(" person", "").replace(" people", "")
    cv2.putText(caption, words, (8, 29), cv2.FONT_HERSHEY_SIMPLEX, 0.55, colour, 1, cv2.LINE_AA)
    done, coded = cv2.imencode(path.suffix, np.concatenate([row, caption]))
    if not done:
        raise NormfaceError(f"{path}: OpenCV cannot write such an image")
    with replacing(path) as stream:
        stream.write(coded.tobytes())
