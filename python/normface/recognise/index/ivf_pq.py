"""IVF-PQ: each face in the list of its nearest centre, as a byte for every few numbers of what it differs by.

The codes stay on the disk, mapped into memory: ``lists.bin`` has for each list its codes and behind them the numbers
of its faces (int64), as faiss's OnDiskInvertedLists has them. faiss's own files are not read: their reader believes
what a file declares, and here every size is checked against the file's.

Jégou, Douze and Schmid 2011, "Product quantization for nearest neighbor search".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .arrays import read_array, write_array
from .choice import Choice
from .engine import faiss

CODES = 256
"""Values of a byte."""
_ID = 8


class Quantiser:
    """What faces are coded by. centres: (L, E) float32; codebooks: (M, 256, E / M) float32, where E is D or up to 31
    more, which are zeros in every face."""

    def __init__(self, centres: np.ndarray, codebooks: np.ndarray) -> None:
        self.centres = np.ascontiguousarray(centres, np.float32)
        self.codebooks = np.ascontiguousarray(codebooks, np.float32)
        self.lists, self.width = self.centres.shape
        self.parts = len(self.codebooks)

    @classmethod
    def train(cls, sample: np.ndarray, choice: Choice, seed: int) -> Quantiser:
        """Find centres and codebooks for unit rows (N, D)."""
        index = _empty(choice.lists, choice.parts, choice.parts * choice.sub_dimension)
        for clustering in (index.cp, index.pq.cp):
            clustering.seed = seed
            clustering.min_points_per_centroid = 1  # a small sample is the user's own choice, told by its recall
        index.train(_padded(sample, index.d))
        centres = index.quantizer.reconstruct_n(0, choice.lists)
        return cls(centres, faiss().vector_to_array(index.pq.centroids).reshape(choice.parts, CODES, -1))

    @classmethod
    def read(cls, folder: Path) -> Quantiser:
        """Raises DataError, naming the file, where the arrays are damaged or do not fit together."""
        codebooks = read_array(folder / "codebooks.npy", np.float32, (None, CODES, None))
        width = codebooks.shape[0] * codebooks.shape[2]
        centres = read_array(folder / "centres.npy", np.float32, (None, width))
        if not centres.size or not np.isfinite(centres).all() or not np.isfinite(codebooks).all():
            raise DataError(f"{folder}: its centres are no numbers, or none")
        return cls(centres, codebooks)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_array(folder / "centres.npy", np.float32, self.centres.shape, [self.centres])
        write_array(folder / "codebooks.npy", np.float32, self.codebooks.shape, [self.codebooks])

    @property
    def digest(self) -> str:
        """Return what tells it from others, by value: pieces that share it can be joined."""
        return hashlib.sha256(self.centres.tobytes() + self.codebooks.tobytes()).hexdigest()[:16]

    def index(self) -> Any:
        """Return a faiss index without faces."""
        module = faiss()
        index = _empty(self.lists, self.parts, self.width)
        index.quantizer.add(self.centres)
        module.copy_array_to_vector(self.codebooks.reshape(-1), index.pq.centroids)
        index.is_trained = True
        return index

    def encode(self, index: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the list (N,) and the code (N, M) of unit rows (N, D), by an index of ``index``."""
        module = faiss()
        rows = _padded(rows, self.width)
        lists = np.ascontiguousarray(index.quantizer.search(rows, 1)[1][:, 0])
        codes = np.empty((len(rows), self.parts), np.uint8)
        index.encode_vectors(len(rows), *map(module.swig_ptr, (rows, lists, codes)))
        return lists, codes


class InvertedLists:
    """The lists of a piece, mapped into memory. Raises DataError where the files do not fit together.

    sizes: (L,) int64, faces of each list; of ``rows`` faces in all.
    """

    def __init__(self, folder: Path, lists: int, parts: int, rows: int) -> None:
        self.path = folder / "lists.bin"
        self.sizes = np.array(read_array(folder / "sizes.npy", np.int64, (lists,)))
        if self.sizes.min() < 0 or self.sizes.max() > rows or self.sizes.sum() != rows:
            raise DataError(f"{folder / 'sizes.npy'}: its lists hold not the {rows} faces that the index has")
        self.parts = parts
        self.starts = np.concatenate([[0], np.cumsum(self.sizes) * (parts + _ID)])
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror or error}") from error
        if size != self.starts[-1]:
            raise DataError(f"{self.path}: has {size} bytes; expected {self.starts[-1]} (cut short? build it again)")
        self.bytes = np.memmap(self.path, np.uint8, "r")

    def codes(self, number: int) -> np.ndarray:
        start = int(self.starts[number])
        return self.bytes[start : start + int(self.sizes[number]) * self.parts]

    def ids(self, number: int) -> np.ndarray:
        end = int(self.starts[number + 1])
        return self.bytes[end - int(self.sizes[number]) * _ID : end].view(np.int64)


class Lists:
    """Searches the lists of a piece; the effort is how many of them, nprobe."""

    def __init__(self, folder: Path, quantiser: Quantiser, rows: int) -> None:
        stored = InvertedLists(folder, quantiser.lists, quantiser.parts, rows)
        self._index, self._width = quantiser.index(), quantiser.width
        self._lists = _mapped(stored)
        self._index.replace_invlists(self._lists, False)
        self._index.ntotal = rows
        self.most_effort = quantiser.lists

    def search(self, probes: np.ndarray, count: int, effort: int) -> tuple[np.ndarray, np.ndarray]:
        self._index.nprobe = effort
        scores, rows = self._index.search(_padded(probes, self._width), count)
        return scores, rows


def write_lists(folder: Path, quantiser: Quantiser, lists: np.ndarray, codes: np.ndarray) -> None:
    """Write faces 0 to N-1, of these lists (N,) and codes (N, M)."""
    order = np.argsort(lists, kind="stable")
    sizes = np.bincount(lists, minlength=quantiser.lists)
    ends = np.cumsum(sizes)
    parts = (
        part
        for start, end in zip(ends - sizes, ends, strict=True)
        for part in (codes[order[start:end]].reshape(-1), order[start:end].astype(np.int64).view(np.uint8))
    )
    _write(folder, sizes, parts)


def join_lists(folder: Path, pieces: Sequence[InvertedLists]) -> None:
    """Write the lists of all pieces, whose faces are numbered on; codes are copied as they are."""
    firsts = np.cumsum([0, *(int(piece.sizes.sum()) for piece in pieces)])

    def parts() -> Iterator[np.ndarray]:
        for number in range(len(pieces[0].sizes)):
            yield from (piece.codes(number) for piece in pieces)
            for piece, first in zip(pieces, firsts, strict=False):
                yield (piece.ids(number) + first).view(np.uint8)

    _write(folder, np.sum([piece.sizes for piece in pieces], axis=0), parts())


def _write(folder: Path, sizes: np.ndarray, parts: Iterator[np.ndarray]) -> None:
    path = folder / "lists.bin"
    try:
        with open(path, "wb", buffering=1 << 20) as stream:
            stream.writelines(part.tobytes() for part in parts)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    write_array(folder / "sizes.npy", np.int64, sizes.shape, [sizes])


def _mapped(stored: InvertedLists) -> Any:
    module = faiss()
    lists = module.OnDiskInvertedLists()
    lists.nlist, lists.code_size, lists.read_only = len(stored.sizes), stored.parts, True
    lists.filename, lists.totsize = str(stored.path), int(stored.starts[-1])
    lists.lists.resize(len(stored.sizes))
    sizes = stored.sizes.astype(np.uint64)  # a pointer keeps no array alive
    lists.set_all_lists_sizes(module.swig_ptr(sizes))
    lists.do_mmap()
    return lists


def _empty(lists: int, parts: int, width: int) -> Any:
    module = faiss()
    quantizer = module.IndexFlatIP(width)
    return module.IndexIVFPQ(quantizer, width, lists, parts, 8, module.METRIC_INNER_PRODUCT)


def _padded(rows: np.ndarray, width: int) -> np.ndarray:
    missing = width - rows.shape[1]
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, missing))) if missing else rows, np.float32)
