"""Finding a protocol's images among the names of a features file.

Protocols say "person, number" or "Aaron_Eckhart_0001.jpg"; features come as "Aaron_Eckhart/Aaron_Eckhart_0001.jpg",
with or without folders, in other formats, with more or fewer zeros, or as "Aaron_Eckhart/1.png".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import ProtocolError

Image = tuple[str, int]
"""A person's name as in file names, and the number of the image."""

_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
_NUMBERED = re.compile(r"^(?:(.*)[_\- ])?0*(\d{1,9})$")
NAMED = 5  # missing images that a message lists


def image_of(name: str) -> Image:
    """("Aaron_Eckhart", 1) of "…/Aaron_Eckhart_0001.jpg"; the folder is the person where the file is only a number."""
    match = _NUMBERED.match(_stem(name))
    if match is None:
        raise ProtocolError(f'"{name}" ends in no image number; expected a name such as Aaron_Eckhart_0001.jpg')
    folders = name.replace("\\", "/").split("/")[:-1]
    person = match[1] if match[1] is not None else (folders[-1] if folders else "")
    return person, int(match[2])


class ImageRows:
    """Images to rows of a features file."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._by_name: dict[str, list[int]] = {}
        self._by_stem: dict[str, list[int]] = {}
        self._by_end: dict[str, list[int]] = {}
        self._by_file: dict[Image, list[int]] = {}
        self._by_folder: dict[Image, list[int]] = {}
        for row, name in enumerate(names):
            self._by_name.setdefault(name, []).append(row)
            self._by_stem.setdefault(_stem(name), []).append(row)
            self._by_end.setdefault(_end(name), []).append(row)
            try:
                person, number = image_of(name)
            except ProtocolError:
                continue  # no image of LFW's, though it may be one that a list names outright
            self._by_file.setdefault((person, number), []).append(row)
            folders = name.replace("\\", "/").split("/")[:-1]
            if folders:
                self._by_folder.setdefault((folders[-1], number), []).append(row)

    def find(self, images: Iterable[Image], wanted_by: str) -> np.ndarray:
        """Rows, in the images' order. Raises ProtocolError that names what is missing or there twice."""
        return self._found(
            ((f"{person}_{number:04d}", self._rows_of((person, number))) for person, number in images), wanted_by
        )

    def find_files(self, files: Iterable[str], wanted_by: str) -> np.ndarray:
        """Find by file names: the very name, else what of its path is below the images' folder, else its folder and
        name without suffix, else its name alone without suffix, else person and number."""
        return self._found(((file, self._rows_of_file(file)) for file in files), wanted_by)

    def _rows_of(self, image: Image) -> list[int]:
        return self._by_file.get(image) or self._by_folder.get(image) or []

    def _rows_of_file(self, file: str) -> list[int]:
        parts = file.replace("\\", "/").split("/")
        for start in range(len(parts)):
            rows = self._by_name.get("/".join(parts[start:]))
            if rows:
                return rows
        rows = (len(parts) > 1 and self._by_end.get(_end(file))) or self._by_stem.get(_stem(file))
        if rows:
            return rows
        try:
            return self._rows_of(image_of(file))
        except ProtocolError:
            return []

    def _found(self, wanted: Iterable[tuple[str, list[int]]], wanted_by: str) -> np.ndarray:
        chosen: list[int] = []
        absent: list[str] = []
        for name, rows in wanted:
            if len(rows) > 1:
                first, second = self._names[rows[0]], self._names[rows[1]]
                raise ProtocolError(f'{wanted_by}: {name} is there twice, as "{first}" and "{second}"; keep one')
            chosen += rows
            if not rows:
                absent.append(name)
        if absent:
            absent = sorted(set(absent))
            more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
            example = f'; the features have names such as "{self._names[0]}"' if len(self._names) else ""
            raise ProtocolError(f"{wanted_by}: no features of {', '.join(absent[:NAMED])}{more}{example}")
        return np.array(chosen, np.intp)


def _end(name: str) -> str:
    """The last folder and the name without its suffix."""
    folders = name.replace("\\", "/").split("/")[:-1]
    return f"{folders[-1] if folders else ''}/{_stem(name)}"


def _stem(name: str) -> str:
    return _SUFFIX.sub("", name.replace("\\", "/").split("/")[-1])
