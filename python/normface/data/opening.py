"""Which kind of source a path is, and opening it."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import DataError
from ..reading import read_file
from .databases import DATA_FILE, DatabasePictures, refuse_leveldb
from .folders import SUFFIXES, FolderPictures, OnePicture
from .headers import read_header
from .lists import ListPictures
from .lmdb_file import is_lmdb
from .pictures import Pictures
from .recordio import MAGIC, RecordPictures
from .zips import ZipPictures


def open_pictures(
    path: str | Path,
    root: str | Path | None = None,
    color: bool = True,
    labelled: bool | None = None,
) -> Pictures:
    """Open a source of pictures, whatever kind it is.

    path: a folder per identity; a folder of pictures; a list file with ``path [label]`` on each line; the folder
        of a Caffe LMDB; an InsightFace ``.rec`` (with its ``.idx``, if there is one) or the folder that holds it;
        a ``.zip`` of folders; or one picture.
    root: the folder that a list's paths start from.
    color: False reads grey pictures, (H, W, 1).
    labelled: None takes labels where there are any; True refuses a source without; False takes all pictures below a
        folder or in a zip, wherever they lie, and no labels.

    Raises DataError, which names the path, for a source that is missing, empty, damaged or of no known kind.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise DataError(f"{path}: does not exist; expected a folder, a list file, an LMDB, a .rec or a .zip")
    if root is not None and (os.path.isdir(path) or path.suffix.lower() in (".zip", ".rec")):
        raise DataError(f"{path}: root is for the paths in a list file, and this is none")
    by_folder = labelled is not False
    pictures = _open_folder(path, color, by_folder) if os.path.isdir(path) else _open_file(path, root, color, by_folder)
    if labelled and pictures.labels is None:
        raise DataError(f"{path}: has no labels; expected a folder per identity, or a label on each line of a list")
    if not by_folder:
        pictures.labels, pictures.original_labels, pictures.identities = None, None, []
    return pictures


def _open_file(path: Path, root: str | Path | None, color: bool, by_folder: bool) -> Pictures:
    """What its first bytes or its suffix say it is; a list file if neither says anything."""
    start = read_file(path, start=64)
    suffix = path.suffix.lower()
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")) or suffix == ".zip":
        return ZipPictures(path, color, by_folder)
    if start.startswith(MAGIC.to_bytes(4, "little")) or suffix == ".rec":
        return RecordPictures(path, color)
    if is_lmdb(start) or suffix == ".mdb":
        return DatabasePictures(path, color)
    if suffix == ".idx" and os.path.exists(path.with_suffix(".rec")):
        return RecordPictures(path.with_suffix(".rec"), color)
    if suffix in SUFFIXES or (read_header(start) is not None and not start.isascii()):
        return OnePicture(path, color)
    return ListPictures(path, root, color)


def _open_folder(path: Path, color: bool, by_folder: bool) -> Pictures:
    """An LMDB, the folder of a RecordIO file (InsightFace's are published so), or pictures."""
    refuse_leveldb(path)
    if os.path.exists(path / DATA_FILE):
        return DatabasePictures(path, color)
    packed = sorted(path.glob("*.rec"))
    if len(packed) > 1:
        raise DataError(f"{path}: holds {len(packed)} RecordIO files; name one of them ({packed[0].name}, …)")
    return RecordPictures(packed[0], color) if packed else FolderPictures(path, color, by_folder)
