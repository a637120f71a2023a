"""The kind of source that a path is, and opening it."""

from __future__ import annotations

import os
from pathlib import Path

from caffeport.formats.other_files import kind_of_file, misplaced

from ...errors import DataError
from ...reading import read_file
from ..headers import read_header
from .base import Reader
from .database import DATA_FILE, DatabaseReader
from .folder import SUFFIXES, FileReader, FolderReader
from .leveldb_folder import LevelReader, is_leveldb
from .list_file import ListReader
from .lmdb_file import is_lmdb
from .parquet_file import ParquetReader
from .recordio import MAGIC, RecordReader
from .sharded import ShardedReader, find_shards
from .tar_file import TarReader
from .zip_file import ZipReader


def open_reader(
    path: str | Path,
    *,
    root: str | Path | None = None,
    color: bool = True,
    labelled: bool | None = None,
) -> Reader:
    """Open a source of images, whatever kind it is.

    path: a folder per identity; a folder of images; a list file with ``path [label]`` on each line; the folder
        of a Caffe LMDB or LevelDB (the latter takes plyvel); an InsightFace ``.rec`` (with its ``.idx``, if there is
        one) or the folder that holds it; a ``.zip`` of folders; a WebDataset ``.tar``, or a ``.parquet`` of images; the
        folder of several shards of these (``.rec``, ``.tar``, ``.parquet``) that differ in a number, or a pattern that
        names them (``train-*.tar``); or one image.
    root: the folder that a list's paths start from.
    color: False reads grey images, (H, W, 1).
    labelled: None takes labels where there are any; True refuses a source without; False takes all images below a
        folder or in a zip, wherever they lie, and no labels.

    Raises DataError, which names the path, for a source that is missing, empty, damaged or of no known kind.
    """
    path = Path(path)
    shards = find_shards(path) if root is None else []
    if not shards and not os.path.exists(path):
        raise DataError(
            f"{path}: does not exist; expected a folder, a list file, an LMDB, a .rec, .tar, .parquet or .zip"
        )
    if root is not None and (os.path.isdir(path) or path.suffix.lower() in (".zip", ".rec", ".tar", ".parquet")):
        raise DataError(f"{path}: root is for the paths in a list file, and this is none")
    by_folder = labelled is not False
    if shards:
        images: Reader = ShardedReader(path, shards, color, by_folder)
    elif os.path.isdir(path):
        images = _open_folder(path, color, by_folder)
    else:
        images = _open_file(path, root, color, by_folder)
    if labelled and images.labels is None:
        raise DataError(f"{path}: has no labels; expected a folder per identity, or a label on each line of a list")
    if not by_folder:
        images.labels, images.original_labels, images.identities = None, None, []
    return images


def _open_file(path: Path, root: str | Path | None, color: bool, by_folder: bool) -> Reader:
    """Return the kind that its first bytes or its suffix say; a list file if neither says anything."""
    start = read_file(path, start=64)
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return TarReader(path, color, by_folder)
    if start.startswith(b"PAR1") or suffix == ".parquet":
        return ParquetReader(path, color, by_folder)
    other = kind_of_file(path)
    if other is not None and other.way_out and not start.startswith(b"PK"):
        raise DataError(f"{path}: {misplaced(other, 'images')}")
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")) or suffix == ".zip":
        return ZipReader(path, color, by_folder)
    if start.startswith(MAGIC.to_bytes(4, "little")) or suffix == ".rec":
        return RecordReader(path, color)
    if is_lmdb(start) or suffix == ".mdb":
        return DatabaseReader(path, color)
    if suffix == ".idx" and os.path.exists(path.with_suffix(".rec")):
        return RecordReader(path.with_suffix(".rec"), color)
    if suffix in SUFFIXES or (read_header(start) is not None and not start.isascii()):
        return FileReader(path, color)
    return ListReader(path, root, color)


def _open_folder(path: Path, color: bool, by_folder: bool) -> Reader:
    """An LMDB, a LevelDB, the folder of a RecordIO file (InsightFace's are published so), or images."""
    if is_leveldb(path):
        return LevelReader(path, color)
    if os.path.exists(path / DATA_FILE):
        return DatabaseReader(path, color)
    packed = sorted(path.glob("*.rec"))
    if len(packed) > 1:  # beside folders, so that they are no shards
        raise DataError(f"{path}: holds {len(packed)} RecordIO files; name one of them ({packed[0].name}, …)")
    return RecordReader(packed[0], color) if packed else FolderReader(path, color, by_folder)
