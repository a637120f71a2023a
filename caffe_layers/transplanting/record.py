"""CAFFE_ROOT/.face_layers: what a transplant did, and the files that it replaced."""

import hashlib
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any, NamedTuple

from .errors import Refused

FOLDER = ".face_layers"
BEING_MADE = ".face_layers.tmp"
"""A folder that is not complete yet, or not any more."""
RECORD = "record.json"
ORIGINALS = "originals"
TEMPORARY = ".face_layers_tmp"
"""Behind the name of a file while it is written."""
FORMAT = 1
ABOUT = "What normface's transplant.py did in this tree. Keep this folder: --revert needs it."


class Entry(NamedTuple):
    """A file that the transplant made or changed."""

    path: str
    before: "str | None"
    after: "list[str | None]"
    """What it became; while a transplant is under way also what it had become earlier."""
    mode: "int | None"
    """Its permissions before."""


class Record:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: dict[str, Entry] = {}
        self.folders: list[str] = []
        """Those that the transplant made."""
        self.numbers: dict[str, int] = {}
        self.replace: list[str] = []
        self.without: list[str] = []
        self.finished = True

    def state(self, path: str) -> "str | None":
        return state_of(self.root / path)

    def is_ours(self, path: str) -> bool:
        """The file is as it was before or as the transplant left it: nothing of the user's is in it."""
        entry = self.entries[path]
        return self.state(path) in [entry.before, *entry.after]

    def original(self, path: str) -> "bytes | None":
        """The content before the transplant."""
        entry = self.entries[path]
        if entry.before is None:
            return None
        file = self.root / FOLDER / ORIGINALS / path
        if not is_file(file) or digest(file.read_bytes()) != entry.before:
            raise Refused(
                f"{file}: the copy of {path} is missing or damaged; bring {FOLDER} back, or take {path} from git"
            )
        return file.read_bytes()

    def originals(self) -> "dict[str, bytes | None]":
        return {path: self.original(path) for path in self.entries}

    def to_json(self) -> bytes:
        content = {
            "about": ABOUT,
            "format": FORMAT,
            "finished": self.finished,
            "replace": self.replace,
            "without": self.without,
            "numbers": self.numbers,
            "folders": self.folders,
            "files": [dict(entry._asdict()) for entry in self.entries.values()],
        }
        return (json.dumps(content, indent=1) + "\n").encode()

    def copy(self) -> "Record":
        other = Record(self.root)
        other.entries, other.numbers = dict(self.entries), dict(self.numbers)
        other.folders, other.finished = list(self.folders), self.finished
        other.replace, other.without = list(self.replace), list(self.without)
        return other


def load(root: Path) -> "Record | None":
    folder = root / FOLDER
    if not os.path.lexists(str(folder)):
        return None
    if folder.is_symlink() or not is_file(folder / RECORD):
        raise Refused(f"{folder} has no {RECORD}: it is not transplant.py's or is damaged; move it away")
    try:
        content = json.loads((folder / RECORD).read_bytes().decode())
        if content["format"] != FORMAT:
            raise Refused(f"{folder / RECORD} has the format {content['format']}; use the transplant.py that wrote it")
        return _from_json(root, content)
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{folder / RECORD} is damaged ({error}); take the tree's files from git") from None


def _from_json(root: Path, content: "dict[str, Any]") -> Record:
    record = Record(root)
    record.finished = bool(content["finished"])
    record.replace = [str(type_) for type_ in content["replace"]]
    record.without = [str(type_) for type_ in content.get("without", [])]
    record.numbers = {str(name): int(number) for name, number in content["numbers"].items()}
    record.folders = [_inside(path) for path in content["folders"]]
    for row in content["files"]:
        mode = None if row["mode"] is None else int(row["mode"])
        record.entries[_inside(row["path"])] = Entry(row["path"], row["before"], list(row["after"]), mode)
    return record


def _inside(path: str) -> str:
    """``path``, if it leads to a place in the tree."""
    parts = path.split("/")
    if path.startswith("/") or re.search(r"[\\:\0]", path) or {"", ".", "..", FOLDER} & set(parts):
        raise ValueError(f"unexpected path {path!r}")
    return path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_file(path: Path) -> bool:
    """It is a plain file, not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(str(path)).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def state_of(path: Path) -> "str | None":
    """The SHA-256 of a file's content, None where there is nothing; other words where there is no plain file."""
    if is_file(path):
        return digest(path.read_bytes())
    if path.is_symlink():
        return "symbolic link"
    return "no file" if path.exists() else None


def mode_of(path: Path) -> "int | None":
    return stat.S_IMODE(os.lstat(str(path)).st_mode) if is_file(path) else None


def write(path: Path, content: bytes, mode: "int | None") -> None:
    """Beside its target, and renamed when it is complete on the disk."""
    beside = path.with_name(path.name + TEMPORARY)
    discard(beside)
    try:
        with open(str(beside), "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(str(beside), mode)
        os.replace(str(beside), str(path))
    except BaseException:
        discard(beside)
        raise


def discard(path: Path) -> None:
    """A file or a link of that name, if there is one."""
    if os.path.lexists(str(path)):
        os.unlink(str(path))


def remove_folder(root: Path) -> None:
    """.face_layers, in one step as others see it."""
    clear_unfinished(root)
    os.rename(str(root / FOLDER), str(root / BEING_MADE))
    clear_unfinished(root)


def clear_unfinished(root: Path) -> bool:
    """The rest of a run that ended before it changed the tree, or after."""
    folder = root / BEING_MADE
    if not os.path.lexists(str(folder)):
        return False
    if folder.is_symlink() or not folder.is_dir():
        raise Refused(f"{folder} is in the way; move it away")
    shutil.rmtree(str(folder))
    return True
