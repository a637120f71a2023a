"""Building an index of feature files, adding to one, and merging several: whole or not at all.

All work is done in ``<index>.part`` beside it. A build that is stopped goes on there at the file where it was; what is
finished is renamed into its place, and ``index.json`` last of all, so that a search sees the index as it was before, or
as it is now.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import NormfaceError
from ...features import Features
from ..threshold_file import today
from .choice import HNSW, IVF_PQ, Choice, choose
from .coding import code, finished, prepared
from .engine import faiss
from .joining import JOINED_FROM, check_alike, joined, remove_strays
from .manifest import Manifest, new_name
from .searching import IndexedGallery, is_index
from .shards import Shards
from .truth import Truth, tuned
from .workshop import Workshop

OWN_FACES, GIVEN = "held-out faces of its own", "probes that were given"
"""What the queries of a measurement were."""
LEAST_CANDIDATES, MOST_CANDIDATES = 16, 1024
"""Of a graph a search looks at so many candidates; of lists at one to all."""
UNMEASURED_SHARE, UNMEASURED_LISTS, UNMEASURED_CANDIDATES = 1 / 16, 16, 128
"""What a search looks at where nothing was measured: this share of the lists, at least so many, or candidates."""


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
    ``held_out`` faces of the gallery, each searched without itself and not trained on; 0 measures nothing, and a
    search then looks at a sixteenth of the lists, or at 128 candidates of a graph.

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
        truth, quantiser = prepared(work, shards, choice, queries, held_out, seed)
        done = code(work, shards, quantiser, truth, exact, progress)
        entry = replace(finished(work, shards, quantiser, exact), effort=_unmeasured(choice))
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
    check_alike(path, gallery.manifest, shards.dimension, shards.settings, str(shards.paths[0]))
    last = gallery.pieces[-1].entry
    quantiser = gallery.pieces[-1].quantiser if last.kind == IVF_PQ else None
    with Workshop(path, [shards.state(), last.folder]) as work:
        done = code(work, shards, quantiser, None, last.exact, progress)
        entry = replace(finished(work, shards, quantiser, last.exact), effort=last.effort)
        manifest = replace(gallery.manifest, pieces=[*gallery.manifest.pieces, entry])
        work.move(entry.folder, path)
        manifest.write(path)
        manifest = joined(work, path, manifest, JOINED_FROM)
    remove_strays(path, manifest)
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
            check_alike(
                galleries[0].path, first, gallery.manifest.dimension, gallery.manifest.settings, str(gallery.path)
            )
            for entry in gallery.manifest.pieces:
                renamed = replace(entry, folder=new_name())
                for source, target in ((entry.folder, renamed.folder), (entry.trained, entry.trained)):
                    if source and not (work.folder / target).exists():
                        work.copy(gallery.path / source, target)
                manifest.pieces.append(renamed)
            manifest.recall += [one for one in gallery.recall if one not in manifest.recall]
        manifest.write(work.folder)
        manifest = joined(work, work.folder, manifest, 2)
        work.clean(keep=[name for entry in manifest.pieces for name in (entry.folder, entry.trained)])
        manifest.write(work.folder)
        work.become(path)
    return Built(manifest)


def _unmeasured(choice: Choice) -> int:
    """Return the lists or candidates that a search looks at before any recall was measured."""
    if choice.kind == HNSW:
        return UNMEASURED_CANDIDATES
    return min(choice.lists, max(UNMEASURED_LISTS, round(choice.lists * UNMEASURED_SHARE)))


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


def _checked_target(path: str | Path) -> Path:
    path = Path(os.path.abspath(path))
    if not path.parent.is_dir():
        raise NormfaceError(f"{path}: the folder {path.parent} does not exist")
    if path.exists() and not is_index(path):
        raise NormfaceError(f"{path}: is there, and no index; name another folder")
    return path
