"""The kind of an index and its parameters, by the number of faces, their dimension and the memory there is."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from ...errors import NormfaceError, did_you_mean

IVF_PQ, HNSW = "ivf-pq", "hnsw"
KINDS = (IVF_PQ, HNSW)
MOST_HNSW = 2_000_000
"""Faces up to which a graph is chosen: two cores link some thousands a second."""
LINKS = 32
"""Neighbours of a face in the graph's upper levels; twice as many in the lowest (HNSW's M)."""
TRAINING_POINTS, LEAST_POINTS = 64, 39
"""Faces a list that its centre is found by, and the fewest that faiss calls enough."""
LEAST_CODED = 1024
"""Faces from which on codes can be learned: a byte has 256 values."""
SUB_DIMENSIONS = (4, 8, 16, 32)
"""Numbers of a feature that one byte stands for: four where there is memory for it, else more."""
_LONG = 256
"""Above this dimension eight of them."""
_ID = 8


@dataclass(frozen=True)
class Choice:
    """kind: "ivf-pq", lists of faces near a centre, each face a few bytes; or "hnsw", a graph of neighbours.

    lists: of the first kind, for so many faces. parts: its bytes a face, each for ``sub_dimension`` numbers.
    links: of the second, M. memory: bytes that a search wants in memory, as the faces are in the index.
    """

    kind: str
    lists: int
    parts: int
    sub_dimension: int
    links: int
    memory: int

    @property
    def words(self) -> str:
        """Return the kind and the parameters in words."""
        if self.kind == HNSW:
            return f"HNSW, {self.links} links a face and {2 * self.links} in the lowest level, features in float16"
        return f"IVF-PQ, {self.lists} lists, {self.parts} bytes a face of {self.sub_dimension} numbers each"


def choose(rows: int, dimension: int, *, memory: int | None = None, kind: str | None = None) -> Choice:
    """Return what suits ``rows`` faces of ``dimension`` numbers.

    memory: bytes that a search may take, by default half of this machine's. A graph (HNSW) of up to two million faces
    that fits is chosen, since it is the quickest and needs no training; else IVF-PQ of 2 sqrt(N) lists, with as many
    bytes a face as fit. kind: "ivf-pq" or "hnsw" says which.

    Raises NormfaceError for an unknown kind, and for a graph that does not fit.
    """
    if kind is not None and kind not in KINDS:
        raise NormfaceError(f'kind "{kind}" is unknown{did_you_mean(kind, KINDS)}; known: {", ".join(KINDS)}')
    limit = memory if memory is not None else machine_memory() // 2
    graph = hnsw_bytes(rows, dimension)
    if kind == HNSW and graph > limit:
        raise NormfaceError(
            f"a graph of {rows:,} faces takes {graph / 1e9:.3g} GB, and {limit / 1e9:.3g} GB are allowed (--memory); "
            f"choose --kind {IVF_PQ}"
        )
    if rows < LEAST_CODED and kind == IVF_PQ:
        raise NormfaceError(
            f"{rows} faces are too few to learn codes of; {LEAST_CODED} are the least: choose --kind {HNSW}"
        )
    if kind == HNSW or rows < LEAST_CODED or (kind is None and rows <= MOST_HNSW and graph <= limit):
        return Choice(HNSW, 0, 0, 0, LINKS, graph)
    lists = max(1, min(2 ** round(math.log2(2 * math.sqrt(rows))), rows // LEAST_POINTS))
    for sub_dimension in SUB_DIMENSIONS[dimension > _LONG :]:
        parts = math.ceil(dimension / sub_dimension)
        size = rows * (parts + _ID) + 4 * lists * parts * sub_dimension
        if size <= limit:
            break
    return Choice(IVF_PQ, lists, parts, sub_dimension, 0, size)


def hnsw_bytes(rows: int, dimension: int) -> int:
    """Return the bytes of a graph: features in float16, 2M links below, M in each level above that 1/M reach."""
    above = LINKS / (LINKS - 1)
    return round(rows * (2 * dimension + 4 * (2 * LINKS + above) + 12))


def machine_memory() -> int:
    """Return the bytes of this machine's memory; 4 GB where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 4 << 30
