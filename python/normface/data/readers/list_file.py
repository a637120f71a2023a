"""Caffe's list files: an image's path and its label on each line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...reading import MAX_IMAGE, printable, read_file
from .base import Reader
from .folder import SUFFIXES

MAX_PATH, MAX_NAME = 4096, 255
"""Bytes that Linux takes; what is longer is no path on any system."""
_FREE_LINES, _LINE_BYTES = 200_000, 6
"""Lines that are read, and one for 6 bytes: a path has a suffix, so that "1.jpg" and its line's end are the least."""
_DIGITS = 18
_LABEL = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18})([eE][+-]?\d{1,2})?")


class ListReader(Reader):
    """The images that a list names, in its order: ``path label`` on each line, or just ``path`` on all.

    The label follows the last blank, so that paths may hold blanks. With ``root`` paths are appended to it, as
    Caffe does with its root_folder; else those that are not absolute are looked up beside the list, or, if the
    first is not there, from the working directory.
    """

    def __init__(self, path: Path, root: str | Path | None = None, color: bool | None = True) -> None:
        names, labels = read_list(path)
        super().__init__(path, names, color)
        self._given = root is not None
        self.root = str(root) if root is not None else _root(path, names[0])
        if root is not None and not os.path.isdir(root):
            raise DataError(f"{root}: is no folder; expected the root of the paths in {path}")
        if labels is not None:
            self.take_labels(labels)

    def title(self, index: int) -> str:
        return self._file(index)

    def raw(self, index: int) -> bytes:
        return read_file(self._file(index), MAX_IMAGE)

    def _file(self, index: int) -> str:
        name = self.names[index]
        return os.path.join(self.root, name.lstrip("/") if self._given else name)


def read_list(path: Path) -> tuple[list[str], np.ndarray | None]:
    """(paths, labels int64 or None) of a list file. Raises DataError that names the line."""
    numbers, lines = list_lines(path)
    names: list[str] = []
    labels: list[int] = []
    for number, line in zip(numbers, lines, strict=True):
        head, _, last = line.replace("\t", " ").rpartition(" ")
        if labels or not names:  # the first line settles whether there are labels
            if head and _is_label(last):
                names.append(line[: len(head)].rstrip())
                labels.append(int(last))
                continue
            if labels:
                raise DataError(
                    f'{path}:{number}: expected "path label" as on the lines before, got "{printable(line)}"'
                )
        if head and _is_label(last):
            raise DataError(f'{path}:{number}: has a label ("{last}"), but the lines before have none')
        if _suffix(head) in SUFFIXES and _suffix(line) not in SUFFIXES:
            raise DataError(f'{path}:{number}: has the label "{printable(last)}"; expected a whole number')
        names.append(line)
    for number, name in zip(numbers, names, strict=True):
        if len(name) > MAX_NAME and (len(name) > MAX_PATH or max(map(len, name.split("/"))) > MAX_NAME):
            raise DataError(f'{path}:{number}: is no image\'s path ({len(name)} characters): "{printable(name)}"')
    return names, np.array(labels, np.int64) if labels else None


def _is_label(text: str) -> bool:
    if len(text) <= _DIGITS and text.isdigit() and text.isascii():  # in a fifth of the expression's time
        return True
    return _LABEL.fullmatch(text) is not None


def read_label_rows(path: Path) -> tuple[list[str], np.ndarray]:
    """(paths, labels) of a list file: int64 (N,) of one label a line, 0 where there are none, or float64 (N, L).

    Lines have several labels where what stands before the last one ends in no image's suffix, and does so without the
    numbers at its end. Raises DataError that names the line.
    """
    numbers, lines = list_lines(path)
    count = _labels_at_the_end(lines[0])
    if count < 2:
        names, labels = read_list(path)
        return names, np.zeros(len(names), np.int64) if labels is None else labels
    names, rows = [], []
    for number, line in zip(numbers, lines, strict=True):
        *head, last = line.rsplit(None, count)
        fields = [*head[1:], last]
        if len(fields) != count or not all(_NUMBER.fullmatch(field) for field in fields):
            raise DataError(
                f'{path}:{number}: expected a path and {count} labels as on the first line, got "{printable(line)}"'
            )
        names.append(head[0])
        rows.append([float(field) for field in fields])
    return names, np.array(rows, np.float64)


def _labels_at_the_end(line: str) -> int:
    """The numbers that end a line of a list, if they are needed to find a path that ends in an image's suffix."""
    count, rest = 0, line
    while _suffix(rest) not in SUFFIXES:
        rest, _, last = rest.replace("\t", " ").rstrip().rpartition(" ")
        if not rest or not _NUMBER.fullmatch(last):
            return 0
        count += 1
        rest = rest.rstrip()
    return count


def list_lines(path: Path) -> tuple[Sequence[int], list[str]]:
    """(numbers, texts) of the lines that are not blank. Raises DataError for a file that is no text."""
    if b"\0" in read_file(path, start=65536):
        raise DataError(
            f"{path}: is no text, and no format known here; expected a folder, a list file, an LMDB, a .rec or a .zip"
        )
    raw = read_file(path)
    most = _FREE_LINES + len(raw) // _LINE_BYTES
    if raw.count(b"\n") > most:
        raise DataError(f"{path}: has more than {most} lines, many of which are too short for an image's path")
    lines = [line.strip("\r\t ") for line in os.fsdecode(raw).removeprefix("\ufeff").split("\n")]
    numbers: Sequence[int] = range(1, len(lines) + 1)
    if not all(lines):
        numbers = [number for number, line in enumerate(lines, 1) if line]
        lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"{path}: is empty; expected an image's path and its label on each line")
    return numbers, lines


def _root(path: Path, first: str) -> str:
    if os.path.isabs(first):
        return ""
    beside = path.parent
    return "" if not os.path.exists(beside / first) and os.path.exists(first) else str(beside)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
