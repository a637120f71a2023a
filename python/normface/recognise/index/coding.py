"""Feature files coded into a piece of an index, file by file, so that a stopped build goes on where it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from ...errors import DataError
from ...features import Features
from ...progress import progress as progress_bar
from .arrays import blocks
from .choice import HNSW, IVF_PQ, TRAINING_POINTS, Choice
from .engine import units
from .hnsw import write_graph
from .ivf_pq import InvertedLists, Quantiser, join_lists, write_lists
from .manifest import PieceEntry, new_name
from .shards import Shards
from .stored import Stored, join_stored, write_stored
from .truth import Truth
from .workshop import Workshop

BLOCK = 1 << 16
"""Faces that are coded at once."""


def prepared(
    work: Workshop, shards: Shards, choice: Choice, queries: Features | None, held_out: int, seed: int
) -> tuple[Truth | None, Quantiser | None]:
    """The queries and the quantiser, drawn and trained anew or as an earlier run left them."""
    points = choice.lists * TRAINING_POINTS if choice.kind == IVF_PQ else 0
    if choice.kind == IVF_PQ:
        points = max(points, 256 * TRAINING_POINTS)
    own = min(held_out, shards.rows // 4) if queries is None else 0
    (asked, numbers), (sample, _) = shards.samples([own, points], seed)
    truth = None
    if queries is not None:
        if queries.features.shape[1] != shards.dimension:
            raise DataError(f"the queries have {queries.features.shape[1]} numbers, the gallery {shards.dimension}")
        truth = Truth(units(queries.features), np.full(len(queries), -1))
    elif own:
        truth = Truth(asked, numbers)
    if choice.kind != IVF_PQ:
        return truth, None
    known = next(work.folder.glob("trained-*/codebooks.npy"), None)
    if known is not None:
        return truth, Quantiser.read(known.parent)
    quantiser = Quantiser.train(sample, choice, seed)
    with work.making(f"trained-{quantiser.digest}") as folder:
        quantiser.write(folder)
    return truth, quantiser


def code(
    work: Workshop, shards: Shards, quantiser: Quantiser | None, truth: Truth | None, exact: bool, progress: bool
) -> int:
    """Code every file into a folder of its own, and look for the queries' nearest; returns how many were done."""
    index = None if quantiser is None else quantiser.index()
    first = done = 0
    before = sum(count for number, count in enumerate(shards.counts) if (work.folder / _shard(number)).is_dir())
    with progress_bar("faces", shards.rows, before) if progress else nullcontext() as bar:
        for number, count in enumerate(shards.counts):
            folder = work.folder / _shard(number)
            if folder.is_dir():
                done += 1
            else:
                _code_one(work, shards.read(number), number, first, quantiser, index, truth, exact)
                if bar is not None:
                    bar.advance(count)
            if truth is not None:
                truth.merge(folder)
            first += count
    return done


def _code_one(
    work: Workshop, known: Features, number: int, first: int, quantiser: Quantiser | None, index: Any,
    truth: Truth | None, exact: bool,
) -> None:  # fmt: skip
    with work.making(_shard(number)) as folder:
        (folder / "labelled").write_bytes(b"1" * write_stored(folder, known, exact=exact))
        if quantiser is not None:
            coded = [quantiser.encode(index, units(block)) for block in blocks(known.features, BLOCK)]
            lists, codes = (np.concatenate(part) for part in zip(*coded, strict=True))
            write_lists(folder, quantiser, lists, codes)
        if truth is not None:
            own = Truth(truth.queries, truth.own)
            own.add(known.features, first)
            own.write(folder)


def finished(work: Workshop, shards: Shards, quantiser: Quantiser | None, exact: bool) -> PieceEntry:
    """Make one piece of the coded files."""
    name = new_name()
    folders = [work.folder / _shard(number) for number in range(len(shards))]
    parts = [
        Stored(folder, count, shards.dimension, labelled=bool((folder / "labelled").stat().st_size), exact=exact)
        for folder, count in zip(folders, shards.counts, strict=True)
    ]
    entry = 0
    with work.making(name) as folder:
        labelled = join_stored(folder, parts, shards.dimension)
        if quantiser is not None:
            lists = [InvertedLists(part.folder, quantiser.lists, quantiser.parts, part.rows) for part in parts]
            join_lists(folder, lists)
        else:
            whole = Stored(folder, shards.rows, shards.dimension, labelled=labelled, exact=True)
            assert whole.features is not None
            entry = write_graph(folder, shards.dimension, _rows_of(whole.features))
    kind, trained = (HNSW, "") if quantiser is None else (IVF_PQ, f"trained-{quantiser.digest}")
    return PieceEntry(name, kind, shards.rows, 1, trained, entry, labelled, exact)


def _rows_of(features: np.ndarray) -> Iterator[np.ndarray]:
    for block in blocks(features, BLOCK):
        yield np.asarray(block, np.float32)


def _shard(number: int) -> str:
    return f"shard-{number:06d}"
