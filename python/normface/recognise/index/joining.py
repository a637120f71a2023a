"""Pieces of an index put together: those of one quantiser, once there are many or where indexes are merged."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import DataError
from ..gallery import other_settings
from .choice import IVF_PQ
from .ivf_pq import join_lists
from .manifest import Manifest, new_name
from .searching import IndexedGallery
from .stored import join_stored
from .workshop import Workshop

JOINED_FROM = 8
"""Pieces from which on those of one quantiser are joined, so that a search does not ask ever more of them."""


def joined(work: Workshop, path: Path, manifest: Manifest, least: int) -> Manifest:
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
        name = new_name()
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


def remove_strays(path: Path, manifest: Manifest) -> None:
    """Remove pieces that were joined, or that a stopped run left; a search that has them open keeps what it mapped."""
    kept = {piece.folder for piece in manifest.pieces}
    for folder in path.glob("piece-*"):
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def check_alike(path: Path, manifest: Manifest, dimension: int, settings: dict[str, Any], title: str) -> None:
    if dimension != manifest.dimension:
        raise DataError(f"{title}: its features have {dimension} numbers, those of {path} {manifest.dimension}")
    differences = other_settings(manifest.settings, settings, title)
    if differences:
        raise DataError(f"{title}: its features were made differently than those of {path}: {differences}")
