"""Writes a plan into a tree, and takes it back."""

import os
from pathlib import Path
from typing import NamedTuple

from .errors import Refused
from .plan import Choices, Plan
from .record import (
    BEING_MADE,
    FOLDER,
    ORIGINALS,
    RECORD,
    TEMPORARY,
    Entry,
    Record,
    clear_unfinished,
    digest,
    discard,
    mode_of,
    remove_folder,
    state_of,
    write,
)


class Changes(NamedTuple):
    """What a run will do to the tree's files."""

    writes: "dict[str, bytes]"
    restores: "list[str]"
    """Files of an earlier transplant that are no longer wanted: as they were before, or gone."""
    left: "list[str]"
    """Files that the user has edited since, and that would become what they were made into already."""


def compare(root: Path, record: "Record | None", plan: Plan) -> Changes:
    """Raises Refused, naming them, where files would be overwritten that were edited since the transplant."""
    old = record or Record(root)
    changes = Changes({}, [], [])
    edited: list[str] = []
    for path, content in plan.files.items():
        state, wanted = state_of(root / path), digest(content)
        entry = old.entries.get(path)
        if state == wanted:
            continue
        if entry and not old.is_ours(path):
            (changes.left if entry.after == [wanted] else edited).append(path)
        else:
            changes.writes[path] = content
    for path, entry in old.entries.items():
        if path not in plan.files and old.state(path) != entry.before:
            (changes.restores if old.is_ours(path) else edited).append(path)
    if edited:
        raise Refused(
            f"edited since the transplant: {listed(root, edited)}; undo the edits (originals are in {root / FOLDER}),"
            " or take the layers out with --revert --force, which keeps the edited files beside, and put them in again"
        )
    check_links(root, [*changes.writes, *changes.restores])
    return changes


def listed(root: Path, paths: "list[str]") -> str:
    shown = [str(root / path) for path in paths[:5]]
    return ", ".join(shown) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def check_links(root: Path, paths: "list[str]") -> None:
    """Raises Refused where a symbolic link would be replaced, or followed out of the tree."""
    for path in paths:
        target = root / path
        folder = target.parent
        if target.is_symlink():
            raise Refused(
                f"{target} is a symbolic link; put the file itself there, as only files of the tree are changed"
            )
        while not folder.exists():
            folder = folder.parent
        if Path(os.path.realpath(str(folder))) != Path(os.path.realpath(str(root))) / folder.relative_to(root):
            raise Refused(f"{folder} leads out of its place by a symbolic link; put the folder itself there")


def check_writable(root: Path, paths: "list[str]") -> None:
    folders = {root}
    for path in paths:
        folder = (root / path).parent
        while not folder.exists():
            folder = folder.parent
        folders.add(folder)
    for folder in sorted(folders):
        if not os.access(str(folder), os.W_OK | os.X_OK):
            raise Refused(f"{folder} may not be written to; run this as its owner")


def missing_folders(root: Path, paths: "list[str]") -> "list[str]":
    """Outer ones first."""
    found = {parent for path in paths for parent in Path(path).parents if not (root / parent).exists()}
    return sorted(folder.as_posix() for folder in found)


def carry_out(root: Path, old: "Record | None", plan: Plan, changes: Changes, choices: Choices) -> None:
    """Writes the files. On an error they are put back; after a kill the next run or revert goes on."""
    check_writable(root, [*changes.writes, *changes.restores])
    clear_unfinished(root)
    final = Record(root)
    final.numbers = plan.numbers
    final.replace, final.without = sorted(choices.replace), sorted(choices.without)
    made = missing_folders(root, list(changes.writes))
    final.folders = [*(old.folders if old else []), *made]
    for path, content in plan.files.items():
        entry = old.entries.get(path) if old else None
        before = (entry.before, entry.mode) if entry else (state_of(root / path), mode_of(root / path))
        final.entries[path] = Entry(path, before[0], [digest(content)], before[1])
    if old and not changes.writes and not changes.restores and old.to_json() == final.to_json():
        _drop_originals(root, final)
        return

    on_the_way = final.copy()
    on_the_way.finished = False
    for path, entry in (old.entries if old else {}).items():
        new = final.entries.get(path)
        after = [*new.after, *(state for state in entry.after if state not in new.after)] if new else entry.after
        on_the_way.entries[path] = entry._replace(after=after)
    for path in on_the_way.entries:
        discard((root / path).with_name(Path(path).name + TEMPORARY))
    undo: list[tuple[str, bytes | None, int | None]] = []
    try:
        _keep_originals(root, old, on_the_way)
        for folder in made:
            (root / folder).mkdir()
        for path in [*changes.writes, *changes.restores]:
            target = root / path
            present, mode = target.read_bytes() if target.exists() else None, mode_of(target)
            undo.append((path, present, mode))
            if path in changes.writes:
                write(target, changes.writes[path], mode)
            else:
                _put(target, on_the_way.original(path), on_the_way.entries[path].mode)
        write(root / FOLDER / RECORD, final.to_json(), None)
    except BaseException as error:
        _undo(root, old, undo, made, error)
        raise
    _drop_originals(root, final)


def _keep_originals(root: Path, old: "Record | None", record: Record) -> None:
    """The files that will be replaced, and then the record: complete on the disk before the first change."""
    folder = root / (FOLDER if old else BEING_MADE)
    (folder / ORIGINALS).mkdir(parents=True, exist_ok=True)
    for path, entry in record.entries.items():
        if entry.before is not None and not (old and path in old.entries):
            copy = folder / ORIGINALS / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            write(copy, (root / path).read_bytes(), entry.mode)
    write(folder / RECORD, record.to_json(), None)
    if not old:
        os.rename(str(folder), str(root / FOLDER))


def _drop_originals(root: Path, record: Record) -> None:
    """Those that the record does not need any more."""
    kept = root / FOLDER / ORIGINALS
    for folder, _, names in os.walk(str(kept), topdown=False):
        for name in names:
            path = Path(folder) / name
            if path.relative_to(kept).as_posix() not in record.entries:
                discard(path)
        if not os.listdir(folder) and folder != str(kept):
            os.rmdir(folder)


def _put(target: Path, content: "bytes | None", mode: "int | None") -> None:
    if content is None:
        discard(target)
    else:
        write(target, content, mode)


def _undo(
    root: Path,
    old: "Record | None",
    done: "list[tuple[str, bytes | None, int | None]]",
    made: "list[str]",
    cause: BaseException,
) -> None:
    try:
        for path, content, mode in reversed(done):
            if state_of(root / path) != (None if content is None else digest(content)):
                _put(root / path, content, mode)
        _remove_empty(root, made)
        if old:
            write(root / FOLDER / RECORD, old.to_json(), None)
        elif (root / FOLDER).exists():
            remove_folder(root)
        else:
            clear_unfinished(root)
    except OSError as error:
        raise Refused(
            f"{cause}, and then, putting the files back, {error}; free what is in the way and run --revert"
        ) from error


def _remove_empty(root: Path, folders: "list[str]") -> "list[str]":
    """The folders that are left, since something else is in them."""
    left = []
    for folder in reversed(folders):
        try:
            (root / folder).rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            left.append(folder)
    return left


class Reverted(NamedTuple):
    restored: "list[str]"
    removed: "list[str]"
    notes: "list[str]"


def revert(root: Path, record: Record, force: bool) -> Reverted:
    """Raises Refused, naming them, for files that were edited since, unless by ``force`` they are kept beside."""
    edited = [path for path in record.entries if not record.is_ours(path)]
    if edited and not force:
        raise Refused(
            f"edited since the transplant: {listed(root, edited)}; undo the edits, or use --revert --force, which keeps"
            " each edited file beside as FILE.edited"
        )
    back = [path for path, entry in record.entries.items() if record.state(path) != entry.before]
    check_links(root, [path for path in back if path not in edited])
    check_writable(root, back)
    contents = {path: record.original(path) for path in back}
    result = Reverted([], [], [])
    for path in edited:
        target = root / path
        if os.path.lexists(str(target)):
            kept = _free_name(target)
            os.rename(str(target), str(kept))
            result.notes.append(f"your edited {path} is {kept.name} now")
        else:
            result.notes.append(f"{path}, which was gone, is there again")
    for path, entry in record.entries.items():
        target = root / path
        discard(target.with_name(target.name + TEMPORARY))
        if path in back:
            _put(target, contents[path], entry.mode)
            (result.removed if contents[path] is None else result.restored).append(path)
        elif entry.mode is not None and mode_of(target) != entry.mode:
            os.chmod(str(target), entry.mode)
    for folder in _remove_empty(root, record.folders):
        result.notes.append(f"the folder {folder} stays: something else is in it")
    remove_folder(root)
    return result


def _free_name(path: Path) -> Path:
    kept = path.with_name(path.name + ".edited")
    count = 1
    while os.path.lexists(str(kept)):
        count += 1
        kept = path.with_name(f"{path.name}.edited{count}")
    return kept
