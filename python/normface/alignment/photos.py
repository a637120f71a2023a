"""The photos that normface align is given, and the names of what it makes of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ..data import Reader, open_reader
from ..errors import DataError

FORMATS = ("jpg", "png")
_LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})


@dataclass(frozen=True)
class Photo:
    """One photo: where it is read, and its name below the output folder, with the suffix that its faces get."""

    source: Reader
    index: int
    name: str
    target: PurePosixPath

    def read(self) -> np.ndarray:
        """(H, W, 3) BGR. Raises DataError that names it."""
        return self.source.read(self.index)

    @property
    def title(self) -> str:
        return self.source.title(self.index)

    def face(self, number: int | None) -> PurePosixPath:
        """The file of its one face (None), or of its number-th of several, from 1."""
        return self.target if number is None else self.target.with_stem(f"{self.target.stem}_face{number}")


def find_photos(inputs: Sequence[str | Path], root: str | Path | None = None, suffix: str | None = None) -> list[Photo]:
    """The photos of files, folders, zips and lists; a folder's structure goes on below the output folder.

    Of several folders each keeps its own name as well. suffix: "jpg" or "png"; None: JPEG of JPEG, PNG of the rest.

    Raises DataError for an input that is missing or empty, or where two photos would have one output file.
    """
    if suffix not in (None, *FORMATS):
        raise DataError(f'format "{suffix}" is unknown; known: {", ".join(FORMATS)}')
    sources = [(Path(path), open_reader(path, root=root, labelled=False)) for path in inputs]
    several = sum(len(source) > 1 for _, source in sources) > 1
    photos: list[Photo] = []
    taken: dict[str, Photo] = {}
    for path, source in sources:
        inside = several and os.path.isdir(path)
        for index, name in enumerate(source.names):
            parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..")]
            place = PurePosixPath(path.resolve().name if inside else "", *parts)
            ending = f".{suffix}" if suffix else (place.suffix if place.suffix.lower() in _LOSSY else ".png")
            photo = Photo(source, index, str(place), place.with_suffix(ending))
            other = taken.get(str(photo.target).casefold())
            if other is not None and other.name != photo.name:  # a.bmp beside a.png: keep the whole name
                photo = Photo(source, index, str(place), place.with_name(place.name + ending))
                other = taken.get(str(photo.target).casefold())
            if other is not None:
                raise DataError(
                    f"{photo.title} and {other.title} would both become {photo.target}; align them into two folders"
                )
            taken[str(photo.target).casefold()] = photo
            photos.append(photo)
    return photos


def refuse_own_input(photos: Sequence[Photo], inputs: Sequence[str | Path], folder: Path) -> None:
    """Raises DataError if what is written below ``folder`` would lie among the photos, or replace one of them."""
    target = folder.resolve()
    for path in map(Path, inputs):
        source = path.resolve()
        if os.path.isdir(source) and (target == source or source in target.parents):
            raise DataError(f"{folder}: lies inside of the photos' folder {path}; name one outside of it")
    originals = {Path(photo.title).resolve() for photo in photos}
    for photo in photos:
        if (target / photo.target).resolve() in originals:
            raise DataError(f"{folder / photo.target}: is a photo itself; name another output folder")
