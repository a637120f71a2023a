"""Images in folders: one folder an identity, or a folder of images without labels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import DataError, NormfaceWarning
from ...reading import MAX_IMAGE, read_file
from .base import Reader

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm", ".pbm", ".pnm"}
)
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})


class TreeReader(Reader):
    """The images among files in folders. Names are paths, sorted by their bytes, folder by folder.

    Where all images lie in folders, each folder is an identity; images in folders of a folder (a person's
    videos) belong to the outermost, and folders that all images share (``images/``) do not count. A folder with
    images right in it and none in folders has no labels. Hidden files and folders are passed over.
    """

    def __init__(self, path: Path, files: Iterable[str], color: bool | None, labelled: bool) -> None:
        names, strays = split_images(files)
        chosen, identities, outside = assign(names, labelled)
        super().__init__(path, chosen, color)
        self.strays = (*outside, *strays)
        tell_strays(path, outside, strays)
        if identities:
            self.take_folders(identities)


class FolderReader(TreeReader):
    """The images below a folder."""

    def __init__(self, path: Path, color: bool | None = True, labelled: bool = True) -> None:
        super().__init__(path, _walk(path), color, labelled)
        self._start = os.path.join(path, "")  # with the slash at its end

    def title(self, index: int) -> str:
        return self._start + self.names[index]

    def raw(self, index: int) -> bytes:
        return read_file(self._start + self.names[index], MAX_IMAGE)


class FileReader(Reader):
    """A single image file."""

    def __init__(self, path: Path, color: bool | None = True) -> None:
        super().__init__(path, [path.name], color)

    def title(self, index: int) -> str:
        return str(self.path)

    def raw(self, index: int) -> bytes:
        return read_file(self.path, MAX_IMAGE)


def split_images(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """(images by their suffix, other files), both sorted by the bytes of their path's parts; hidden ones left out."""
    images, strays = [], []
    for name in names:
        if name.startswith(".") or "/." in name or ("__MACOSX" in name and "__MACOSX" in name.split("/")):
            continue
        if os.path.splitext(name)[1].lower() in SUFFIXES:
            images.append(name)
        elif name.rpartition("/")[2].lower() not in _SYSTEM_FILES:
            strays.append(name)
    return sorted(images, key=_parts), sorted(strays, key=_parts)


def assign(names: Sequence[str], labelled: bool) -> tuple[list[str], list[str], list[str]]:
    """(images, the identity of each or [], images outside of the identities' folders) of sorted ``names``.

    Without ``labelled`` every image is taken, and none has an identity.
    """
    depths = [name.count("/") for name in names]
    alike = os.path.commonprefix(names).count("/")  # noqa: RUF071 - whole folders, by the slashes
    shared = max(min([alike, *(depth - 1 for depth in depths)]), 0)  # folders that do not tell people apart
    inside = [depth > shared for depth in depths]
    if not labelled or not any(inside):
        return list(names), [], []
    chosen = [name for name, is_inside in zip(names, inside, strict=True) if is_inside]
    identities = [name.split("/", shared + 1)[shared] for name in chosen]
    return chosen, identities, [name for name, is_inside in zip(names, inside, strict=True) if not is_inside]


def tell_strays(path: Path, outside: Sequence[str], strays: Sequence[str]) -> None:
    if outside:
        problem = f"images lie outside of the identities' folders and are left out (first: {outside[0]})"
        warnings.warn(f"{path}: {len(outside)} {problem}", NormfaceWarning, stacklevel=7)
    if strays:
        problem = f"files are no images by their names and are left out (first: {strays[0]})"
        warnings.warn(f"{path}: {len(strays)} {problem}", NormfaceWarning, stacklevel=7)


def _parts(name: str) -> bytes:
    """Return what sorts as the list of the name's parts does: a folder before another whose name goes on."""
    return os.fsencode(name).replace(b"/", b"\0")


def _walk(root: Path) -> Iterator[str]:
    """Every file below ``root``, as a relative path; links are followed, and a folder within itself is met once."""
    waiting, seen = [""], set()
    while waiting:
        folder = waiting.pop()
        where = os.path.join(root, folder)
        try:
            status = os.stat(where)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(where) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir():
                        if not entry.name.startswith("."):
                            waiting.append(name)
                    elif entry.is_file():
                        yield name
        except OSError as error:
            raise DataError(f"{where}: cannot be listed: {error.strerror or error}") from error
