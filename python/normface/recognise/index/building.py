"""Building an index of feature files, adding to one, and merging several: whole or not at all.

All work is done in ``<index>.part`` beside it. A build that is stopped goes on there at the file where it was; what is
finished is renamed into its place, and ``index.json`` last of all, so that a search sees the index as it was before, or
as it is now.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, NormfaceError
from ...features import Features
from ...progress import progress as progress_bar
from ..gallery import other_settings
from ..threshold_file import today
from .arrays import blocks
from .choice import HNSW, IVF_PQ, TRAINING_POINTS, Choice, choose
from .engine import faiss, units
from .hnsw import write_graph
from .ivf_pq import InvertedLists, Quantiser, join_lists, write_lists
from .manifest import Manifest, PieceEntry
from .searching import IndexedGallery, is_index
from .shards import Shards
from .stored import Stored, join_stored, write_stored
from .truth import Truth, tuned
from .workshop import Workshop

BLOCK = 1 << 16
"""Faces that are coded at once."""
JOINED_FROM = 8
"""Pieces from which on those of one quantiser are joined, so that a search does not ask ever more of them."""
OWN_FACES, GIVEN = "held-out faces of its own", "probes that were given"
"""What the queries of a measurement were."""
LEAST_CANDIDATES, MOST_CANDIDATES = 16, 1024
"""Of a graph a search looks at so many candidates; of lists at one to all."""


@dataclass(frozen=True)
class Built:
    """An index as it was built, added to or merged. continued_from: files that an earlier, stopped run had done."""

    manifest: Manifest
    choice: Choice | None = None
    continued_from: int = 0


def build_index(
    path: str | Path, features: Sequence[str | Path], *, kind: str | None = None, memory: int | None = None,
    exact: bool = True, recall: float = 0.95, queries: Features | None = None, held_out: int = 1000, seed: int = 0,
    progress: bool = False,
) -> Built:  # fmt: skip
    """Build an index of features files (.npz, .parquet, or folders of them) in the folder ``path``, which is new.

    kind, memory: as ``choose`` takes them. exact: keep the features in float16 (two bytes a number on the disk), by
    which candidates are scored; without, IVF-PQ tells what its codes say. recall: the share of queries whose nearest
    face is to be found, by which the effort of a search is chosen: features of one's own (``queries``), or
    ``held_out`` faces of the gallery, each searched without itself and not trained on; 0 measures nothing.

    A stopped build goes on with the same call. Raises DataError, naming the file, for what is missing or damaged,
    NormfaceError where there is an index already.
    """
    path = _checked_target(path)
    if is_index(path) or path.exists():
        raise NormfaceError(f"{path}: is there already; add to it (--add), or name another folder")
    if not 0 < recall <= 1 or held_out < 0:
        raise NormfaceError(f"recall {recall} and {held_out} held-out faces: expected up to 1, and 0 or more")
    faiss()
    shards = Shards(features)
    choice = choose(shards.rows, shards.dimension, memory=memory, kind=kind)
    if choice.kind == HNSW and not exact:
        raise NormfaceError(f"a graph walks over the features themselves; choose --kind {IVF_PQ}, or keep them")
    asked = None if queries is None else hashlib.sha256(queries.features.tobytes()).hexdigest()
    key = [shards.state(), vars(choice), exact, seed, held_out, asked]
    with Workshop(path, key) as work:
        truth, quantiser = _prepared(work, shards, choice, queries, held_out, seed)
        done = _code(work, shards, quantiser, truth, exact, progress)
        entry = _finished(work, shards, quantiser, exact)
        manifest = Manifest(shards.dimension, [entry], [], shards.settings)
        manifest.write(work.folder)
        if truth is not None:
            _measure(work.folder, manifest, truth, recall, OWN_FACES if queries is None else GIVEN)
        work.clean(keep=(entry.folder, entry.trained))
        work.become(path)
    return Built(manifest, choice, done)


def add_to_index(path: str | Path, features: Sequence[str | Path], *, progress: bool = False) -> Built:
    """Add features files to an index: they are coded as its faces are, in a piece of their own; nothing is trained.

    Recall stays what it was measured to be. Raises as build_index does, and DataError where the features are of another
    dimension or were made in another way than the index's.
    """
    path = _checked_target(path)
    gallery = IndexedGallery(path)
    shards = Shards(features)
    _check_alike(path, gallery.manifest, shards.dimension, shards.settings, str(shards.paths[0]))
    last = gallery.pieces[-1].entry
    quantiser = gallery.pieces[-1].quantiser if last.kind == IVF_PQ else None
    with Workshop(path, [shards.state(), last.folder]) as work:
        done = _code(work, shards, quantiser, None, last.exact, progress)
        entry = replace(_finished(work, shards, quantiser, last.exact), effort=last.effort)
        manifest = replace(gallery.manifest, pieces=[*gallery.manifest.pieces, entry])
        work.move(entry.folder, path)
        manifest.write(path)
        manifest = _joined(work, path, manifest, JOINED_FROM)
    _remove_strays(path, manifest)
    return Built(manifest, None, done)


def merge_indexes(path: str | Path, indexes: Sequence[str | Path]) -> Built:
    """Put the faces of several indexes into one, in the new folder ``path``; nothing is coded or trained anew.

    Pieces that were coded by the same quantiser become one, others stay side by side. Raises DataError where features
    are of different dimensions or were made in different ways.
    """
    path = _checked_target(path)
    if path.exists():
        raise NormfaceError(f"{path}: is there already; name another folder")
    if len(indexes) < 2:
        raise NormfaceError("merging takes two indexes or more")
    galleries = [IndexedGallery(one) for one in indexes]
    first = galleries[0].manifest
    manifest = Manifest(first.dimension, [], [], first.settings)
    with Workshop(path, [secrets.token_hex(8)]) as work:
        for gallery in galleries:
            _check_alike(
                galleries[0].path, first, gallery.manifest.dimension, gallery.manifest.settings, str(gallery.path)
            )
            for entry in gallery.manifest.pieces:
                renamed = replace(entry, folder=_new_name())
                for source, target in ((entry.folder, renamed.folder), (entry.trained, entry.trained)):
                    if source and not (work.folder / target).exists():
                        work.copy(gallery.path / source, target)
                manifest.pieces.append(renamed)
            manifest.recall += [one for one in gallery.recall if one not in manifest.recall]
        manifest.write(work.folder)
        manifest = _joined(work, work.folder, manifest, 2)
        work.clean(keep=[name for entry in manifest.pieces for name in (entry.folder, entry.trained)])
        manifest.write(work.folder)
        work.become(path)
    return Built(manifest)


def _prepared(
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


def _code(
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


def _finished(work: Workshop, shards: Shards, quantiser: Quantiser | None, exact: bool) -> PieceEntry:
    """Make one piece of the coded files."""
    name = _new_name()
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


def _measure(folder: Path, manifest: Manifest, truth: Truth, target: float, held_out: str) -> None:
    """Choose the effort by the recall wanted, and note both in the manifest and its file."""
    gallery = IndexedGallery(folder)
    (piece,) = gallery.pieces
    kind = piece.entry.kind
    most = piece.most_effort if kind == IVF_PQ else min(piece.most_effort, MOST_CANDIDATES)

    def search(probes: np.ndarray, count: int, effort: int) -> tuple[np.ndarray, np.ndarray]:
        return gallery.search(probes, count, {kind: effort})

    effort, recall = tuned(
        truth, search, target, least=1 if kind == IVF_PQ else LEAST_CANDIDATES, most=most, faces=len(gallery),
        held_out=held_out, date=today(),
    )  # fmt: skip
    manifest.pieces[:] = [replace(piece.entry, effort=effort)]
    manifest.recall[:] = [recall]
    manifest.write(folder)


def _joined(work: Workshop, path: Path, manifest: Manifest, least: int) -> Manifest:
    """Join the pieces of each quantiser where there are ``least`` or more; the old ones are left where they are.

    Of many, one that is larger than all others together stays as it is: adding a little never copies everything.
    """
    gallery = IndexedGallery(path)
    groups: dict[tuple[str, bool], list[Any]] = {}
    for piece in gallery.pieces:
        if piece.entry.kind == IVF_PQ:
            groups.setdefault((piece.entry.trained, piece.entry.exact), []).append(piece)
    entries = list(manifest.pieces)
    for pieces in groups.values():
        if len(pieces) < least:
            continue
        if least > 2:
            total = sum(piece.rows for piece in pieces)
            pieces = [piece for piece in pieces if 2 * piece.rows <= total]
        name = _new_name()
        with work.making(name) as folder:
            labelled = join_stored(folder, pieces, manifest.dimension)
            join_lists(folder, [piece.stored_lists for piece in pieces])
        if work.folder != path:
            work.move(name, path)
        first = pieces[0].entry
        rows, effort = sum(piece.rows for piece in pieces), max(piece.entry.effort for piece in pieces)
        joined = replace(first, folder=name, rows=rows, effort=effort, labelled=labelled)
        gone = {piece.entry.folder for piece in pieces}
        entries = [joined if one == first else one for one in entries if one == first or one.folder not in gone]
    if entries == manifest.pieces:
        return manifest
    manifest = replace(manifest, pieces=entries)
    manifest.write(path)
    return manifest


def _remove_strays(path: Path, manifest: Manifest) -> None:
    """Remove pieces that were joined, or that a stopped run left; a search that has them open keeps what it mapped."""
    kept = {piece.folder for piece in manifest.pieces}
    for folder in path.glob("piece-*"):
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _check_alike(path: Path, manifest: Manifest, dimension: int, settings: dict[str, Any], title: str) -> None:
    if dimension != manifest.dimension:
        raise DataError(f"{title}: its features have {dimension} numbers, those of {path} {manifest.dimension}")
    differences = other_settings(manifest.settings, settings, title)
    if differences:
        raise DataError(f"{title}: its features were made differently than those of {path}: {differences}")


def _checked_target(path: str | Path) -> Path:
    path = Path(os.path.abspath(path))
    if not path.parent.is_dir():
        raise NormfaceError(f"{path}: the folder {path.parent} does not exist")
    if path.exists() and not is_index(path):
        raise NormfaceError(f"{path}: is there, and no index; name another folder")
    return path


def _new_name() -> str:
    return f"piece-{secrets.token_hex(8)}"


def _shard(number: int) -> str:
    return f"shard-{number:06d}"
