"""HNSW: a graph in levels, in which a search walks from neighbour to neighbour. It is read into memory whole.

``levels.npy`` (N,) uint8 says how many levels a face is in, ``neighbours.npy`` its neighbours level by level, 2M in the
lowest and M in each above, -1 where there are fewer; the features are the piece's own, in float16. Before faiss walks
there every link is checked: it would follow whatever a file says.

Malkov and Yashunin 2018, "Efficient and robust approximate nearest neighbor search using HNSW graphs".
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .arrays import PIECE, read_array, write_array
from .choice import LINKS
from .engine import faiss

CONSTRUCTION = 100
"""Candidates that are looked at for a new face's links (efConstruction)."""
_LEVELS = 32
_AT_ONCE = 1 << 20


class Graph:
    """Searches a graph; the effort is how many candidates are kept on the way, efSearch."""

    def __init__(self, folder: Path, features: np.ndarray, entry: int) -> None:
        count, dimension = features.shape
        levels = np.array(read_array(folder / "levels.npy", np.uint8, (count,)))
        if levels.min() < 1 or levels.max() > _LEVELS:
            raise DataError(f"{folder / 'levels.npy'}: has levels that are none")
        offsets = np.concatenate([[0], np.cumsum(_links(levels.astype(np.int64)))])
        neighbours = read_array(folder / "neighbours.npy", np.int32, (int(offsets[-1]),))
        _check(folder, levels, offsets, neighbours)
        if not 0 <= entry < count or levels[entry] != levels.max():
            raise DataError(f"{folder}: its search starts at face {entry}, which is not in the highest level")
        module = faiss()
        index = self._index = _empty(dimension)
        storage = module.downcast_index(index.storage)
        module.copy_array_to_vector(np.ascontiguousarray(features).view(np.uint8).reshape(-1), storage.codes)
        module.copy_array_to_vector(neighbours, index.hnsw.neighbors)
        module.copy_array_to_vector(offsets.astype(np.uint64), index.hnsw.offsets)
        module.copy_array_to_vector(levels.astype(np.int32), index.hnsw.levels)
        index.hnsw.entry_point, index.hnsw.max_level = entry, int(levels.max()) - 1
        storage.ntotal = index.ntotal = count
        self.most_effort = count

    def search(self, probes: np.ndarray, count: int, effort: int) -> tuple[np.ndarray, np.ndarray]:
        self._index.hnsw.efSearch = max(effort, count)
        scores, rows = self._index.search(probes, count)
        return scores, rows


def write_graph(folder: Path, dimension: int, blocks: Iterable[np.ndarray]) -> int:
    """Link unit rows, which come in blocks (n, D), and write the graph; returns where a search starts."""
    module = faiss()
    index = _empty(dimension)
    index.hnsw.efConstruction = CONSTRUCTION
    for rows in blocks:
        index.add(np.ascontiguousarray(rows, np.float32))
    levels = module.vector_to_array(index.hnsw.levels)
    table = index.hnsw.neighbors
    neighbours = module.rev_swig_ptr(table.data(), table.size())
    write_array(folder / "levels.npy", np.uint8, levels.shape, [levels])
    write_array(folder / "neighbours.npy", np.int32, neighbours.shape, [neighbours])
    return int(index.hnsw.entry_point)


def _links(levels: np.ndarray) -> np.ndarray:
    return LINKS * (levels + 1)


def _check(folder: Path, levels: np.ndarray, offsets: np.ndarray, neighbours: np.ndarray) -> None:
    """Raise DataError where a link leads out of the graph, or to a face that is not in the link's level."""
    count = len(levels)
    damage = DataError(f"{folder / 'neighbours.npy'}: has links to faces that are not there")
    for start in range(0, len(neighbours), _AT_ONCE):
        block = neighbours[start : start + _AT_ONCE]
        if block.min(initial=-1) < -1 or block.max(initial=-1) >= count:
            raise damage
    for level in range(1, int(levels.max())):
        for part in np.array_split(np.flatnonzero(levels > level), 1 + count // PIECE):
            links = neighbours[offsets[part, None] + LINKS * (level + 1) + np.arange(LINKS)]
            if (levels[links[links >= 0]] <= level).any():
                raise damage


def _empty(dimension: int) -> Any:
    module = faiss()
    index = module.IndexHNSWSQ(dimension, module.ScalarQuantizer.QT_fp16, LINKS, module.METRIC_INNER_PRODUCT)
    index.is_trained = module.downcast_index(index.storage).is_trained = True  # float16 has nothing to learn
    return index
