"""faces.jsonl: what a run of align found in every photo; the next run goes on from it.

The first line holds the settings, each further one a photo: ``{"photo", "height", "width", "faces": [{"file",
"box", "score", "landmarks"}]}``, or ``{"photo", "error"}``. ``faces`` has the chosen ones only. Lines are appended
as photos are done, the newest about a photo counts, and a last line that an interrupted run has left unfinished is
dropped by the next one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from caffeport.files import replacing
from caffeport.json_text import to_json

from ..errors import DataError
from ..reading import read_file

NAME = "faces.jsonl"


class Record:
    """The record in an output folder; ``done(photo)`` and ``add(entry)``."""

    def __init__(self, folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
        self.path = folder / NAME
        self._folder = folder
        lines = [] if overwrite else self._read(settings)
        self._entries = {entry["photo"]: entry for entry in lines}
        with replacing(self.path) as stream:
            for entry in [{"settings": settings}, *self._entries.values()]:
                stream.write(_line(entry))
        self._stream = open(self.path, "ab")  # noqa: SIM115 - closed by close()

    def done(self, photo: str) -> dict[str, Any] | None:
        """The entry of a photo that an earlier run has dealt with and whose faces are all still there."""
        entry = self._entries.get(photo)
        if entry is None or "error" in entry:
            return None
        return entry if all(os.path.isfile(self._folder / face["file"]) for face in entry["faces"]) else None

    def add(self, entry: dict[str, Any]) -> None:
        self._entries[entry["photo"]] = entry
        self._stream.write(_line(entry))
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()

    def _read(self, settings: dict[str, Any]) -> list[dict[str, Any]]:
        if not os.path.exists(self.path):
            return []
        lines = read_file(self.path).split(b"\n")
        try:
            head, *entries = [json.loads(line) for line in lines[:-1]]  # what follows the last line's end is unfinished
            old = head["settings"]
            if not all(_is_entry(entry) for entry in entries):
                raise ValueError("a line is no photo's entry")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            problem = f"is no record of normface align ({error}); --overwrite starts it anew"
            raise DataError(f"{self.path}: {problem}") from error
        if old != settings:
            changed = [name for name in settings if not isinstance(old, dict) or old.get(name) != settings[name]]
            raise DataError(
                f"{self.path}: the faces there were made with other settings ({', '.join(changed)}); "
                "name another folder, or --overwrite to make them all anew"
            )
        return entries


def _is_entry(entry: Any) -> bool:
    faces = entry.get("faces", []) if isinstance(entry, dict) and isinstance(entry.get("photo"), str) else None
    if not isinstance(faces, list) or ("faces" not in entry and "error" not in entry):
        return False
    return all(isinstance(face, dict) and isinstance(face.get("file"), str) for face in faces)


def _line(entry: dict[str, Any]) -> bytes:
    return to_json(entry, indent=None).encode() + b"\n"
