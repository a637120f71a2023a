"""Aligning many photos into a folder, so that a run which is stopped goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from caffeport.files import replacing
from caffeport.lazy import LazyModule

from ..detection import Detector
from ..errors import DataError
from ..prefetch import prefetch
from ..progress import progress
from .choosing import choose_faces
from .crop import align_face
from .drawing import draw_faces
from .landmarks import Landmarks
from .photos import Photo
from .record import Record
from .template import template

cv2 = LazyModule("cv2")

JPEG_QUALITY = 95
_AHEAD = 3
"""Photos decoded in advance; few, since one of 50 megapixels takes 150 MB."""
_BATCH, _BATCH_PIXELS = 8, 1 << 21
"""Photos that go through the detector together: at most so many, and only while they are small."""


@dataclass
class Outcome:
    """The outcome of a run: names of photos, and how many faces were written."""

    photos: int = 0
    faces: int = 0
    skipped: int = 0
    without_face: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def count(self, entry: dict[str, Any]) -> None:
        """Add a photo's entry of the record."""
        if "error" in entry:
            self.failed.append((entry["photo"], entry["error"]))
        elif not entry["faces"]:
            self.without_face.append(entry["photo"])
        else:
            self.faces += len(entry["faces"])


@dataclass(frozen=True)
class Aligner:
    """The way to find, choose and cut faces: a detector or a landmarks file, and the options of align_face."""

    finder: Detector | Landmarks
    faces: Literal["central", "largest", "all"] = "central"
    size: tuple[int, int] = (112, 96)
    origin: int = 0

    def __post_init__(self) -> None:
        template(self.size)
        choose_faces(np.empty((0, 5)), (1, 1), self.faces)

    @property
    def settings(self) -> dict[str, Any]:
        """Return what the faces depend on, for the record."""
        chosen = {"faces": self.faces, "size": list(self.size), "origin": self.origin}
        return chosen | self.finder.settings

    def find(self, photos: Sequence[tuple[Photo, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(boxes (n, 4 or 5), landmarks (n, 5, 2)) of each; a landmarks file gives the points' own extent as box."""
        if isinstance(self.finder, Detector):
            faces = self.finder.detect_many([image for _, image in photos])
            return [(one.boxes, one.landmarks) for one in faces]
        found = []
        for photo, _ in photos:
            points = self.finder.of(photo.name)
            if not len(points):
                points = self.finder.of(photo.title)
            found.append((np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1), points))
        return found


def align_photos(
    photos: Sequence[Photo],
    out: str | Path,
    aligner: Aligner,
    *,
    draw: str | Path | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> Outcome:
    """Write the aligned faces of ``photos`` below ``out``, with faces.jsonl, and the marked photos below ``draw``.

    Photos that an earlier run with the same settings has done are passed over unless ``overwrite``. A photo that
    cannot be read, or whose landmarks fit no transform, is told in the outcome and tried again by the next run.

    Raises DataError where a folder cannot be written, or was filled with other settings.
    """
    out, draw = Path(out), None if draw is None else Path(draw)
    for folder in (out,) if draw is None else (out, draw):
        _make(folder)
    outcome = Outcome(photos=len(photos))
    record = Record(out, aligner.settings, overwrite)
    try:
        waiting = []
        for photo in photos:
            done = record.done(photo.name)
            if done is None or (draw is not None and not os.path.isfile(draw / photo.target)):
                waiting.append(photo)
                continue
            outcome.skipped += 1
            if not done["faces"]:
                outcome.without_face.append(photo.name)
        shown = progress("align", len(photos), start=outcome.skipped) if show_progress else nullcontext()
        with shown as bar:
            for batch in _batches(waiting):
                for entry in _align(batch, aligner, out, draw):
                    record.add(entry)
                    outcome.count(entry)
                    if bar is not None:
                        bar.advance()
    finally:
        record.close()
    return outcome


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror or error}") from error


Read = tuple[Photo, "np.ndarray | DataError"]


def _batches(photos: Sequence[Photo]) -> Iterator[list[Read]]:
    """The photos' pixels, or why there are none, in batches for the detector; decoded while it works."""
    batch: list[Read] = []
    pixels = 0
    with closing(prefetch(_read, photos, threads=1, ahead=_AHEAD)) as images:
        for photo, image in images:
            pixels += 0 if isinstance(image, DataError) else image.size // 3
            batch.append((photo, image))
            del image  # the batch alone holds it
            if len(batch) == _BATCH or pixels >= _BATCH_PIXELS:
                yield batch
                batch, pixels = [], 0
        if batch:
            yield batch


def _read(photo: Photo) -> Read:
    try:
        return photo, photo.read()
    except DataError as error:
        return photo, error


def _align(batch: list[Read], aligner: Aligner, out: Path, draw: Path | None) -> Iterator[dict[str, Any]]:
    """Find, cut and write the faces of a batch; gives each photo's entry for the record."""
    whole = [(photo, image) for photo, image in batch if not isinstance(image, DataError)]
    faces_of = dict(zip((photo for photo, _ in whole), aligner.find(whole), strict=True))
    for photo, image in batch:
        if isinstance(image, DataError):
            yield {"photo": photo.name, "error": str(image)}
            continue
        boxes, landmarks = faces_of[photo]
        chosen = choose_faces(boxes, image.shape, aligner.faces)
        try:
            faces = [align_face(image, landmarks[i], aligner.size, origin=aligner.origin) for i in chosen]
        except DataError as error:
            yield {"photo": photo.name, "error": f"{photo.title}: {error}"}
            continue
        several = aligner.faces == "all"
        files = [photo.face(number if several else None) for number in range(1, len(faces) + 1)]
        for file, face in zip(files, faces, strict=True):
            _write(out / file, face)
        if draw is not None:
            _write(draw / photo.target, draw_faces(image, boxes, landmarks, chosen))
        entry = {"photo": photo.name, "height": image.shape[0], "width": image.shape[1]}
        yield entry | {"faces": [_face(files[k], boxes[i], landmarks[i]) for k, i in enumerate(chosen)]}


def _face(file: PurePosixPath, box: np.ndarray, landmarks: np.ndarray) -> dict[str, Any]:
    numbers = [round(float(number), 4) for number in box]
    points = [[round(float(number), 4) for number in point] for point in landmarks]
    return {
        "file": str(file),
        "box": numbers[:4],
        "score": numbers[4] if len(numbers) > 4 else None,
        "landmarks": points,
    }


def _write(path: Path, image: np.ndarray) -> None:
    _make(path.parent)
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix.lower() != ".png" else []
    _, raw = cv2.imencode(".png" if path.suffix.lower() == ".png" else ".jpg", image, quality)
    with replacing(path) as stream:
        stream.write(raw.tobytes())
