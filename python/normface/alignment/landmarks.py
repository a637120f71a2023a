"""Landmarks from a file, for faces that another detector or a person has found.

A text file has a line ``path x1 y1 x2 y2 x3 y3 x4 y4 x5 y5`` for each face, with spaces, tabs, commas or semicolons
between, empty lines and lines that start with "#" passed over, and perhaps a line of headings first. A JSON file
has ``{"path": landmarks}`` or ``[{"photo": "path", "landmarks": landmarks}]``, landmarks being five points, ten
numbers, or a list of those. The faces.jsonl that normface align writes is read too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..reading import parsed_json, parsing, read_text

_NAMES = ("photo", "path", "name", "file")
_WORD = re.compile(r"[^\s,;]+")


class Landmarks(Mapping[str, np.ndarray]):
    """Photo -> (n, 5, 2) float64, (x, y) of each face's five points.

    ``of(name)`` also finds a photo that the file calls by its full path, or by its bare name if only one has it.
    """

    def __init__(self, path: Path, faces: dict[str, list[np.ndarray]], digest: str) -> None:
        self.path, self.settings = path, {"landmarks": digest}
        self._faces = {_plain(name): np.stack(found) for name, found in faces.items()}
        self._bare: dict[str, list[str]] = {}
        for name in self._faces:
            self._bare.setdefault(name.rpartition("/")[2], []).append(name)

    def of(self, name: str) -> np.ndarray:
        """The faces (n, 5, 2) of a photo; n = 0 where the file has none. Raises DataError where several would fit."""
        wanted = _plain(name)
        if wanted in self._faces:
            return self._faces[wanted]
        alike = self._bare.get(wanted.rpartition("/")[2], [])
        fitting = [other for other in alike if other.endswith("/" + wanted) or wanted.endswith("/" + other)]
        if len(fitting) > 1:
            raise DataError(f"{self.path}: {name} could be {' or '.join(fitting[:2])}; give longer paths")
        return self._faces[fitting[0]] if fitting else np.empty((0, 5, 2))

    def __getitem__(self, name: str) -> np.ndarray:
        return self._faces[_plain(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._faces)

    def __len__(self) -> int:
        return len(self._faces)


def read_landmarks(path: str | Path) -> Landmarks:
    """Read a landmarks file. Raises DataError that names the file and the line or entry that does not fit."""
    path = Path(path)
    text = read_text(path)
    with parsing(path, "is no landmarks file"):
        return _read(path, text)


def _read(path: Path, text: str) -> Landmarks:
    entries = _from_json(path, text) if text.lstrip()[:1] in ("{", "[") else _from_lines(path, text)
    faces: dict[str, list[np.ndarray]] = {}
    for where, name, numbers in entries:
        faces.setdefault(name, []).extend(_points(where, numbers))
    faces = {name: found for name, found in faces.items() if found}
    if not faces:
        raise DataError(f"{path}: holds no landmarks; expected lines: path x1 y1 ... x5 y5")
    return Landmarks(path, faces, hashlib.sha256(text.encode()).hexdigest()[:16])


def _from_lines(path: Path, text: str) -> Iterator[tuple[str, str, Any]]:
    first = True
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        words = list(_WORD.finditer(line))
        numbers = [_number(word[0]) for word in words]
        if len(words) > 10 and None not in numbers[-10:]:
            yield f"{path}:{number}", line[: words[-10].start()].rstrip(" \t,;").strip('"'), numbers[-10:]
        elif not first or any(found is not None for found in numbers[1:]):
            raise DataError(f"{path}:{number}: expected a path and ten numbers x1 y1 ... x5 y5, got: {line[:80]}")
        first = False


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _from_json(path: Path, text: str) -> Iterator[tuple[str, str, Any]]:
    try:
        content = parsed_json(text)
    except ValueError as error:
        content = _json_lines(path, text, error)
    except RecursionError as error:
        raise DataError(f"{path}: is nested too deeply for landmarks") from error
    if isinstance(content, dict) and not any(isinstance(content.get(name), str) for name in _NAMES):
        for name, landmarks in content.items():
            if landmarks == []:  # a photo without a face
                continue
            yield f'{path}: "{name}"', name, landmarks
        return
    for number, entry in enumerate(content if isinstance(content, list) else [content], start=1):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict):
            raise DataError(f'{where}: expected {{"photo": "path", "landmarks": [...]}}, got {str(entry)[:60]}')
        name = next((entry[key] for key in _NAMES if isinstance(entry.get(key), str)), None)
        if name is None and number == 1 and "settings" in entry:  # the head of faces.jsonl
            continue
        faces = entry.get("faces", [entry] if "landmarks" in entry else [] if "error" in entry else None)
        if (
            name is None
            or not isinstance(faces, list)
            or not all(isinstance(f, dict) and "landmarks" in f for f in faces)
        ):
            raise DataError(f'{where}: expected "photo" and "landmarks", got {", ".join(map(str, entry))[:60]}')
        for face in faces:
            yield where, name, face["landmarks"]


def _json_lines(path: Path, text: str, error: ValueError) -> list[Any]:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        raise DataError(f"{path}: is no JSON: {error}") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except (ValueError, RecursionError) as problem:
            raise DataError(f"{path}:{number}: is no JSON: {problem}") from problem
    return entries


def _points(where: str, numbers: Any) -> Iterator[np.ndarray]:
    """The faces in five points, ten numbers, or a list of those."""
    try:
        array = np.asarray(numbers, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: landmarks are five points (x, y), got {str(numbers)[:60]}") from error
    if array.size == 0:
        return
    single = array.shape in ((10,), (5, 2))
    if not single and array.shape[1:] not in ((10,), (5, 2)):
        raise DataError(f"{where}: landmarks are five points (x, y), got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{where}: a landmark is no finite number")
    yield from array.reshape(-1, 5, 2)


def _plain(name: str) -> str:
    name = name.replace("\\", "/")
    while name.startswith("./"):
        name = name[2:]
    return name
