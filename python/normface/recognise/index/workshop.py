"""The folder ``<index>.part``, in which an index is made by one run at a time, and where a stopped one goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from caffeport.files import replacing

from ...errors import DataError
from ...features.part import locked

NOTE, LOCK = "note.json", "lock"
FORMAT = "normface index part 1"


class Workshop:
    """With ``with``: the folder, with what an earlier run of the same work (``key``) has finished, else empty.

    What fails leaves the finished parts for the next run; ``become`` or success takes all away.
    """

    def __init__(self, index: Path, key: Any) -> None:
        self.folder = index.with_name(index.name + ".part")
        self._key = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Workshop:
        note = {"format": FORMAT, "key": self._key}
        try:
            made = not self.folder.exists()
            self.folder.mkdir(exist_ok=True)
            if not made and os.listdir(self.folder) and self._noted().get("format") != FORMAT:
                raise DataError(f"{self.folder}: is no unfinished index; move it away")
            self._lock = open(self.folder / LOCK, "ab")
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written: {error.strerror or error}") from error
        if not locked(self._lock):
            self._lock.close()
            raise DataError(f"{self.folder}: another run is writing there; wait for it, or choose another folder")
        self.clean(keep=() if self._noted() != note else None)
        with replacing(self.folder / NOTE) as stream:
            stream.write(json.dumps(note).encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def making(self, name: str) -> Iterator[Path]:
        """A folder to fill, which has its name only when it is whole."""
        folder = self.folder / f"{name}.tmp"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
            yield folder
            folder.rename(self.folder / name)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written: {error.strerror or error}") from error

    def copy(self, source: Path, name: str) -> None:
        """Take over a folder of another index: its files are linked where the disk can, as nobody changes them."""
        with self.making(name) as folder:
            for file in sorted(source.iterdir()):
                try:
                    os.link(file, folder / file.name)
                except OSError:  # another disk
                    shutil.copyfile(file, folder / file.name)

    def move(self, name: str, index: Path) -> None:
        """Move a finished folder into an index."""
        (self.folder / name).rename(index / name)

    def clean(self, keep: Collection[str] | None) -> None:
        """Remove what is begun and not finished, and all that is finished but ``keep`` (None: keep that)."""
        for path in self.folder.iterdir():
            if path.is_dir() and (path.name.endswith(".tmp") or (keep is not None and path.name not in keep)):
                shutil.rmtree(path)

    def become(self, index: Path) -> None:
        """Let the folder be the index."""
        for name in (NOTE, LOCK):
            (self.folder / name).unlink(missing_ok=True)
        try:
            self.folder.rename(index)
        except OSError as error:
            raise DataError(f"{index}: cannot be written: {error.strerror or error}") from error

    def _noted(self) -> dict[str, Any]:
        try:
            note = json.loads((self.folder / NOTE).read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return note if isinstance(note, dict) else {}
