"""Lists of pairs of images in the forms that people have them: LFW's, ``a b 1`` lines, CSV; told apart by themselves.

- LFW's: ``name i j`` and ``name i name j``, with ``folds n`` or ``n`` in the first line, or a CSV of the same.
- Labelled: two images' names and whether they are one person's, with blanks, tabs, commas or semicolons between, the
  label last or first: 1 and 0 (or -1), true and false, same and different, and so on. A header may name the columns.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import ProtocolError
from ..reading import printable, read_text
from . import lfw
from .names import Image, ImageRows
from .textfile import whole_number

TRUTHS = {
    **dict.fromkeys(("1", "1.0", "true", "t", "yes", "same", "genuine", "match", "positive"), True),
    **dict.fromkeys(("0", "0.0", "-1", "-1.0", "false", "f", "no", "different", "diff"), False),
    **dict.fromkeys(("impostor", "imposter", "mismatch", "negative"), False),
}
"""{word, in small letters: whether both images are of one person}."""
LEFT = {*("left", "a", "first", "image1", "img1", "file1", "path1", "filename1", "name1", "image_1", "img_1", "file_1")}
RIGHT = {
    *("right", "b", "second", "image2", "img2", "file2", "path2", "filename2", "name2"),
    "image_2",
    "img_2",
    "file_2",
}
SAME = {*("same", "label", "is_same", "issame", "match", "genuine", "target", "y", "truth", "same_person", "class")}
FOLD = {"fold", "split"}
NAMED = 3
"""Bad lines that a message shows."""
_SHOWN = "LFW's lines (name i j, or name i name j), or two images and 1 or 0, with blanks, tabs or commas between"

Row = tuple["Image | str", "Image | str", bool, "int | None"]
"""Both images, whether they are one person's, and the fold."""


@dataclass(frozen=True)
class ListedPairs:
    """P pairs: their images, as the list names them, whether each is one person's, its line, and its fold, if told."""

    left: list[Image | str]
    right: list[Image | str]
    same: np.ndarray
    lines: np.ndarray
    fold: np.ndarray | None
    source: str

    def __len__(self) -> int:
        return len(self.same)

    def rows_of(self, names: Sequence[str]) -> np.ndarray:
        """(2P,): the left and then the right images' places in ``names``; ProtocolError that lists missing ones."""
        wanted = [*self.left, *self.right]
        rows = ImageRows(names)
        if wanted and isinstance(wanted[0], tuple):
            return rows.find([image for image in wanted if isinstance(image, tuple)], self.source)
        return rows.find_files([image for image in wanted if isinstance(image, str)], self.source)


def read_pair_list(path: str | Path) -> ListedPairs:
    """Read a list of pairs of any of these forms. Raises ProtocolError that names the file and the bad lines."""
    path = Path(path)
    lines = [(number, line) for number, line in enumerate(read_text(path, error=ProtocolError).splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise ProtocolError(f"{path}: is empty; expected a list of pairs: {_SHOWN}")
    split = _splitting(lines[0][1] if len(lines) == 1 else lines[1][1])
    first = split(lines[0][1])
    numbers = [whole_number(field) for field in first]
    if None not in numbers and len(first) == 2:
        return _of_lfw(path)
    if (None not in numbers and len(first) == 1) or any(word.lower().startswith("imagenum") for word in first):
        return _read(path, lines[1:], split, _lfw_row)
    columns = _columns(first)
    if columns is not None:
        return _read(path, lines[1:], split, columns)
    return _read(path, lines, split, _reader_of(path, *lines[0], split))


def _of_lfw(path: Path) -> ListedPairs:
    """View 2's list, whose first line says how many folds of how many pairs follow."""
    pairs = lfw.read_pairs(path)
    lines = np.arange(2, 2 + len(pairs.same))
    return ListedPairs([*pairs.left], [*pairs.right], pairs.same, lines, pairs.fold, str(path))


def _splitting(line: str) -> Callable[[str], list[str]]:
    """Return what parts a line, of which this one shows the way; a field may stand in double quotes."""
    delimiter = next((one for one in ("\t", ",", ";") if one in line), None)
    if delimiter is None:
        return str.split

    def split(text: str) -> list[str]:
        try:
            cells = next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:  # a cell of more than its limit
            return [text]
        fields = [cell.strip() for cell in cells]
        while fields and not fields[-1]:
            fields.pop()
        return fields

    return split


def _columns(header: list[str]) -> Callable[[list[str]], Row] | None:
    """Return the reader of rows whose columns this header names; None where it is no header."""
    words = [word.lower().strip() for word in header]
    places = [next((i for i, word in enumerate(words) if word in known), None) for known in (LEFT, RIGHT, SAME, FOLD)]
    left, right, same, fold = places
    if left is None or right is None or same is None:
        return None

    def read(fields: list[str]) -> Row:
        if len(fields) <= max(left, right, same):
            raise ValueError(f"expected {len(header)} columns as the header has")
        number = whole_number(fields[fold]) if fold is not None and fold < len(fields) else None
        return fields[left], fields[right], _truth(fields[same]), number

    return read


def _reader_of(path: Path, number: int, line: str, split: Callable[[str], list[str]]) -> Callable[[list[str]], Row]:
    """Return the reader of all rows, as the first one shows the form."""
    fields = split(line)
    for read in (_lfw_row, _label_last, _label_first):
        try:
            read(fields)
        except ValueError:
            continue
        return read
    spaces = "; names with blanks need tabs or commas between" if split is str.split and len(fields) > 3 else ""
    raise ProtocolError(f'{path}:{number}: expected {_SHOWN}, got "{printable(line.strip())}"{spaces}')


def _lfw_row(fields: list[str]) -> Row:
    numbers = [whole_number(field) for field in (fields[1::2] if len(fields) == 4 else fields[1:])]
    if len(fields) not in (3, 4) or None in numbers:
        raise ValueError('expected "name i j" or "name i name j"')
    one, other = ((fields[0], numbers[0] or 0), (fields[2 * (len(fields) == 4)], numbers[1] or 0))
    return one, other, fields[0] == fields[2] if len(fields) == 4 else True, None


def _label_last(fields: list[str]) -> Row:
    if len(fields) != 3:
        raise ValueError("expected two images and 1 or 0")
    return fields[0], fields[1], _truth(fields[2]), None


def _label_first(fields: list[str]) -> Row:
    if len(fields) != 3:
        raise ValueError("expected 1 or 0 and two images")
    return fields[1], fields[2], _truth(fields[0]), None


def _truth(word: str) -> bool:
    if word.lower() not in TRUTHS:
        raise ValueError("expected 1 or 0 as the label, or such words as same and different")
    return TRUTHS[word.lower()]


def _read(
    path: Path,
    lines: list[tuple[int, str]],
    split: Callable[[str], list[str]],
    read: Callable[[list[str]], Row],
) -> ListedPairs:
    rows: list[Row] = []
    bad: list[str] = []
    numbers = []
    for number, line in lines:
        try:
            row = read(split(line))
        except ValueError as error:
            bad.append(f'line {number}: {error}, got "{printable(line.strip())}"')
            continue
        if not all(row[:2]):
            bad.append(f"line {number}: has an empty name")
            continue
        rows.append(row)
        numbers.append(number)
    if bad:
        more = f", and {len(bad) - NAMED} more such lines" if len(bad) > NAMED else ""
        raise ProtocolError(f"{path}: {'; '.join(bad[:NAMED])}{more}")
    if not rows:
        raise ProtocolError(f"{path}: has no pairs behind its first line; expected {_SHOWN}")
    folds = [fold for *_, fold in rows]
    known = np.array([fold or 0 for fold in folds]) if None not in folds and len(set(folds)) > 1 else None
    left, right, same, _ = zip(*rows, strict=True)
    return ListedPairs([*left], [*right], np.array(same, bool), np.array(numbers), known, str(path))


def people_of(pairs: ListedPairs, rows: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """(N,): whose each image is, 0 to C-1, of the images 0 to N-1 that ``rows`` (2P,) are places among.

    Images that the list calls one person's are, by a pair or, as LFW's does, by name; and so are those that have one
    label, where labels (N,) are known and go with the list.
    Raises ProtocolError that names the line of a pair of different people whom other lines make one.
    """
    left, right = rows.reshape(2, -1)
    images = int(rows.max()) + 1 if labels is None else len(labels)
    parents = np.arange(images)

    def root(image: int) -> int:
        while parents[image] != image:
            parents[image] = parents[parents[image]]
            image = int(parents[image])
        return image

    for one, other in zip(left[pairs.same].tolist(), right[pairs.same].tolist(), strict=True):
        parents[root(one)] = root(other)
    named: dict[str, int] = {}
    for row, listed_image in zip(rows.tolist(), [*pairs.left, *pairs.right], strict=True):
        if not isinstance(listed_image, str):
            parents[root(row)] = root(named.setdefault(listed_image[0], row))
    listed = np.array([root(image) for image in range(images)])
    _check(pairs, listed, left, right)
    if labels is not None:
        first: dict[int, int] = {}
        for image, label in enumerate(np.asarray(labels).tolist()):
            parents[root(image)] = root(first.setdefault(label, image))
        joined = np.array([root(image) for image in range(images)])
        if not (joined[left] == joined[right])[~pairs.same].any():  # else the folders are no people
            listed = joined
    return np.unique(listed, return_inverse=True)[1].reshape(-1)


def _check(pairs: ListedPairs, people: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    wrong = np.flatnonzero((people[left] == people[right]) & ~pairs.same)
    if len(wrong):
        first = int(wrong[0])
        raise ProtocolError(
            f"{pairs.source}:{pairs.lines[first]}: calls {_shown(pairs.left[first])} and {_shown(pairs.right[first])} "
            f"different people, whom other lines make one ({len(wrong)} such lines)"
        )


def _shown(image: Image | str) -> str:
    return printable(image if isinstance(image, str) else f"{image[0]}_{image[1]:04d}")


def with_folds(pairs: ListedPairs, folds: int = 10) -> ListedPairs:
    """The same in folds: its own, else each kind of pair dealt out in turn, in as many folds as there are pairs for.

    Raises ProtocolError where there are fewer than two pairs of a kind.
    """
    if pairs.fold is not None:
        return pairs
    counts = int(pairs.same.sum()), int((~pairs.same).sum())
    if min(counts) < 2:
        raise ProtocolError(
            f"{pairs.source}: has {counts[0]} pairs of one person and {counts[1]} of two; two of either are the least"
        )
    fold = np.empty(len(pairs), np.int64)
    for kind in (True, False):
        places = np.flatnonzero(pairs.same == kind)
        fold[places] = np.arange(len(places)) % min(folds, *counts) + 1
    return replace(pairs, fold=fold)
