"""WebDataset's shards: a tar of samples, each some files in a row that share a name up to its first dot.

``0001/000000.jpg`` and ``0001/000000.cls`` are one sample: an image, and its label, a whole number or a person's name.
Samples without ``.cls`` belong to the person whose folder they lie in, as in a zip. Images are read where they lie.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import DataError
from ...mapped_file import MappedFile
from ...reading import MAX_IMAGE, opened, parsing, printable
from .base import Reader
from .folder import SUFFIXES, assign, tell_strays
from .tar_members import Member, members

LABEL = ".cls"
_MOST_LABEL = 1024


class TarReader(Reader):
    """The images of a ``.tar``, in its order. Names are the members'.

    shard: it is one of several, whose labels are numbered together: then ``labels`` are the numbers that it stores, or
    ``people`` has the name of each image's person, and no stray file is told.
    """

    def __init__(self, path: Path, color: bool | None = True, labelled: bool = True, *, shard: bool = False) -> None:
        numbers, places, stored, strays = _scan(path)
        names = list(numbers)
        outside: list[str] = []
        self.people: list[str] = []
        if not stored:
            names, self.people, outside = assign(names, labelled)
        super().__init__(path, names, color)
        self._file = MappedFile(path)
        self._places = places[[numbers[name] for name in names]]
        self.strays = (*outside, *strays)
        if stored and labelled:
            self._take(stored, shard)
        elif self.people and not shard:
            self.take_folders(self.people)
        if not shard:
            tell_strays(path, outside, strays)

    def raw(self, index: int) -> bytes:
        start, size = self._places[index].tolist()
        return self._file.copy(start, size, self.title, index).tobytes()

    def _take(self, stored: dict[str, str], shard: bool) -> None:
        missing = [name for name in self.names if name not in stored]
        if missing:
            raise DataError(f"{self.path}: {missing[0]} has no {LABEL}, as {next(iter(stored))} has")
        texts = [stored[name] for name in self.names]
        if not all(text.isdecimal() and text.isascii() and len(text) < 19 for text in texts):
            self.people = texts
            if not shard:
                self.take_folders(texts)
            return
        numbers = np.array(texts, np.int64)
        if shard:
            self.labels = numbers
        else:
            self.take_labels(numbers)


@dataclass
class _Sample:
    """The files of one sample as they come: its image, its label, and what else there is."""

    key: str = ""
    image: str = ""
    label: str = ""
    others: list[str] = field(default_factory=list)


def _scan(path: Path) -> tuple[dict[str, int], np.ndarray, dict[str, str], list[str]]:
    """({image: its number}, starts and sizes int64 (N, 2), {image: its label's text}, files of samples without images).

    By the headers alone.
    """
    numbers: dict[str, int] = {}
    places = array("q")  # not a tuple for each, which Python's collector would walk through again and again
    stored: dict[str, str] = {}
    strays: list[str] = []
    sample = _Sample()
    with opened(path) as (stream, size), parsing(path, "is no tar file, or is damaged"):
        for name, start, length, regular, sparse in members(stream, size):
            if sparse or length > MAX_IMAGE or start + length > size:
                _refuse(path, Member(name, start, length, regular, sparse), size)
            key, suffix = _parted(name)
            if key != sample.key:
                strays += [] if sample.image else sample.others
                sample = _Sample(key)
            if not regular or _hidden(name):
                continue
            if suffix in SUFFIXES and not sample.image:
                if name in numbers:
                    raise DataError(f"{path}: holds {printable(name)} twice")
                sample.image = name
                numbers[name] = len(numbers)
                places.append(start)
                places.append(length)
            elif suffix == LABEL and not sample.label and length <= _MOST_LABEL:
                raw = os.pread(stream.fileno(), length, start)
                sample.label = raw.decode("utf-8", "replace").strip()
            else:
                sample.others.append(name)
            if sample.image and sample.label:
                stored[sample.image] = sample.label
        strays += [] if sample.image else sample.others
    return numbers, np.array(places, np.int64).reshape(-1, 2), stored, strays


def _refuse(path: Path, member: Member, size: int) -> None:
    """Raise DataError for a file that leaves the tar of ``size`` bytes, is too large, or has holes; others pass."""
    if not member.regular:
        return
    name = printable(member.name)
    if not member.sparse and member.start + member.size > size:
        raise DataError(f"{path}: is cut short in {name}; fetch or make it again")
    raise DataError(f"{path}: {name} has holes, or more than the {MAX_IMAGE} bytes that are read of a file")


def _parted(name: str) -> tuple[str, str]:
    """(the sample's name, the rest from the first dot on)"""
    folder, _, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return f"{folder}/{stem}", (dot + suffix).lower()


def _hidden(name: str) -> bool:
    if not name.startswith(".") and "/." not in name:
        return False
    return any(part.startswith(".") and part != "." for part in name.split("/"))
