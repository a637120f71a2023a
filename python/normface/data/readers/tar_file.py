"""WebDataset's shards: a tar of samples, each some files in a row that share a name up to its first dot.

``0001/000000.jpg`` and ``0001/000000.cls`` are one sample: an image, and its label, a whole number or a person's name.
Samples without ``.cls`` belong to the person whose folder they lie in, as in a zip. Images are read where they lie.
"""

from __future__ import annotations

import os
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
        members, stored, strays = _scan(path)
        names = list(members)
        outside: list[str] = []
        self.people: list[str] = []
        if not stored:
            names, self.people, outside = assign(names, labelled)
        super().__init__(path, names, color)
        self._file = MappedFile(path)
        self._places = np.array([members[name] for name in names], np.int64)
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


def _scan(path: Path) -> tuple[dict[str, tuple[int, int]], dict[str, str], list[str]]:
    """({image: (start, size)}, {image: its label's text}, files of samples without an image), by the headers alone."""
    places: dict[str, tuple[int, int]] = {}
    stored: dict[str, str] = {}
    strays: list[str] = []
    sample = _Sample()
    with opened(path) as (stream, size), parsing(path, "is no tar file, or is damaged"):
        for member in members(stream, size):
            _check(path, member, size)
            key, suffix = _parted(member.name)
            if key != sample.key:
                strays += [] if sample.image else sample.others
                sample = _Sample(key)
            if not member.regular or _hidden(member.name):
                continue
            if suffix in SUFFIXES and not sample.image:
                if member.name in places:
                    raise DataError(f"{path}: holds {printable(member.name)} twice")
                sample.image = member.name
                places[member.name] = (member.start, member.size)
            elif suffix == LABEL and not sample.label and member.size <= _MOST_LABEL:
                raw = os.pread(stream.fileno(), member.size, member.start)
                sample.label = raw.decode("utf-8", "replace").strip()
            else:
                sample.others.append(member.name)
            if sample.image and sample.label:
                stored[sample.image] = sample.label
        strays += [] if sample.image else sample.others
    return places, stored, strays


def _check(path: Path, member: Member, size: int) -> None:
    start, end = member.start, member.start + member.size
    if not 0 <= start <= end or (member.regular and not member.sparse and end > size):
        raise DataError(f"{path}: is cut short in {printable(member.name)}; fetch or make it again")
    if member.regular and (member.sparse or member.size > MAX_IMAGE):
        name = printable(member.name)
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
