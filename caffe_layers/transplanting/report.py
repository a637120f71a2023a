"""What a run says: as text, or as JSON."""

import json
import sys
from pathlib import Path
from typing import Any

from .changes import Changes, Reverted
from .plan import Plan, Row
from .record import Record

BUILD_AGAIN = (
    "build the tree anew: with make, `make clean` first (libcaffe.a would keep old objects); with CMake, run `cmake`"
    " again, which looks for the files anew"
)
ADDED, CHANGED, RENEWED, REMOVED, RESTORED = "added", "changed", "renewed", "removed", "restored"


def say(text: str) -> None:
    """On any terminal: what it can't show is shown as an escape."""
    if sys.stdout is not None:
        encoding = sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def what_happens(root: Path, record: "Record | None", changes: Changes) -> "dict[str, list[str]]":
    """The paths that each of the words above goes for."""
    entries = record.entries if record else {}
    result: dict[str, list[str]] = {word: [] for word in (ADDED, CHANGED, RENEWED, REMOVED, RESTORED)}
    for path in sorted(changes.writes):
        if path in entries:
            result[RENEWED].append(path)
        else:
            result[CHANGED if (root / path).exists() else ADDED].append(path)
    for path in sorted(changes.restores):
        result[REMOVED if entries[path].before is None else RESTORED].append(path)
    return {word: paths for word, paths in result.items() if paths}


def transplant_text(
    root: Path, rows: "list[Row]", files: "dict[str, list[str]]", notes: "list[str]", outcome: str
) -> str:
    lines = [f"Caffe tree: {root}", "", *table(rows)]
    for word, paths in files.items():
        lines += ["", f"{len(paths)} {'file' if len(paths) == 1 else 'files'} {word}:"]
        lines += [f"  {path}" for path in paths]
    if notes:
        lines += ["", "Notes:", *(f"  {note}" for note in notes)]
    return "\n".join([*lines, "", outcome])


def table(rows: "list[Row]") -> "list[str]":
    cells = [("layer", "what happens", "field", "number")]
    for row in rows:
        names = ", ".join(place.name for place in row.fields)
        numbers = ", ".join(str(place.number) for place in row.fields)
        cells.append((row.type, row.action, names, numbers))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return ["  ".join(line[column].ljust(widths[column]) for column in range(4)).rstrip() for line in cells]


def transplant_json(root: Path, plan: Plan, files: "dict[str, list[str]]", notes: "list[str]", did: str) -> str:
    layers = [
        {"type": row.type, "action": row.action, "fields": [dict(place._asdict()) for place in row.fields]}
        for row in plan.rows
    ]
    return _json({"root": str(root), "did": did, "layers": layers, "files": files, "notes": notes})


def revert_text(root: Path, reverted: Reverted) -> str:
    lines = [
        f"{root}: {len(reverted.restored)} files restored, {len(reverted.removed)} removed; it is as it was before"
    ]
    lines += [f"  {note}" for note in reverted.notes]
    if reverted.restored or reverted.removed:
        lines.append(BUILD_AGAIN[0].upper() + BUILD_AGAIN[1:])
    return "\n".join(lines)


def revert_json(root: Path, reverted: Reverted) -> str:
    files = {RESTORED: sorted(reverted.restored), REMOVED: sorted(reverted.removed)}
    return _json({"root": str(root), "did": "reverted", "files": files, "notes": reverted.notes})


def _json(content: "dict[str, Any]") -> str:
    return json.dumps(content, indent=2)
