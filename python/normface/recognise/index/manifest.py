"""``index.json``: what an index is made of, and how well it was measured to find what an exact search finds."""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from caffeport.files import replacing
from caffeport.json_text import to_json

from ...errors import DataError
from ...reading import parsing, read_json
from .choice import HNSW, IVF_PQ, KINDS

NAME = "index.json"
FORMAT = "normface index 1"
NO_INDEX = "is no index of normface index"
_MAX_BYTES = 16 << 20
_FOLDER = re.compile(r"(piece|trained)-[0-9a-f]{16}")
_MOST = 1 << 40


@dataclass(frozen=True)
class PieceEntry:
    """A piece's folder, its faces, and how it is searched. trained: the folder of what its codes mean (IVF-PQ).

    effort: the lists or candidates that a search looks at. entry: where one starts (HNSW). labelled, exact: whether
    it has people, and features to score candidates by.
    """

    folder: str
    kind: str
    rows: int
    effort: int
    trained: str = ""
    entry: int = 0
    labelled: bool = False
    exact: bool = True


@dataclass(frozen=True)
class Recall:
    """How often the answer was that of an exact search, measured when the index was built.

    at_1: the share of ``queries`` whose nearest face is found first. at_10: of their ten nearest, the share that is
    among the ten found. faces: those that were searched. held_out: what the queries were. milliseconds: of a query.
    """

    at_1: float
    at_10: float
    queries: int
    faces: int
    date: str
    held_out: str
    milliseconds: float

    @property
    def words(self) -> str:
        """Return the measurement in words."""
        return (
            f"nearest face found for {100 * self.at_1:.4g} % of {self.queries:,} queries ({self.held_out}) among "
            f"{self.faces:,} faces, measured {self.date} against exact search"
        )


@dataclass
class Manifest:
    """dimension: numbers of a feature. settings: how the features were made."""

    dimension: int
    pieces: list[PieceEntry] = field(default_factory=list)
    recall: list[Recall] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)

    def write(self, folder: Path) -> None:
        """Replace the file whole: before, a search sees the earlier pieces, and then all."""
        content = {"format": FORMAT, "faces": self.rows, **asdict(self)}
        with replacing(folder / NAME) as stream:
            stream.write(to_json(content).encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises DataError, naming the file, for anything that ``write`` does not write."""
        path = folder / NAME
        content = read_json(path, NO_INDEX, _MAX_BYTES)
        with parsing(path, NO_INDEX):
            if content["format"] != FORMAT:
                raise ValueError(f'its format is {content["format"]!r}; expected "{FORMAT}"'[:200])
            pieces = [_piece(one) for one in content["pieces"]]
            recall = [_recall(one) for one in content["recall"]]
            settings = content["settings"]
            if not pieces or not isinstance(settings, dict):
                raise ValueError("it has no pieces, or no settings")
            return cls(_count(content["dimension"], 1 << 20), pieces, recall, settings)


def _piece(content: Any) -> PieceEntry:
    piece = PieceEntry(**content)
    folders = [piece.folder] + [piece.trained] * (piece.kind == IVF_PQ)
    if piece.kind not in KINDS or not all(isinstance(one, str) and _FOLDER.fullmatch(one) for one in folders):
        raise ValueError("a piece of it is of no known kind, or lies elsewhere")
    _count(piece.rows), _count(piece.effort), _count(piece.entry + 1)
    if (
        not isinstance(piece.labelled, bool)
        or not isinstance(piece.exact, bool)
        or (piece.kind == HNSW and not piece.exact)
    ):
        raise ValueError("a piece of it has no features")
    return piece


def _recall(content: Any) -> Recall:
    recall = Recall(**content)
    numbers = (recall.at_1, recall.at_10, recall.milliseconds)
    if not all(isinstance(one, int | float) and 0 <= one < 1e9 for one in numbers):
        raise ValueError("its recall is no number")
    if not isinstance(recall.date, str) or not isinstance(recall.held_out, str):
        raise ValueError("its recall has no date")
    _count(recall.queries), _count(recall.faces)
    return recall


def _count(number: Any, most: int = _MOST) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
        raise DataError(f"{NAME}: holds {str(number)[:40]} where a count is expected")
    return number


def new_name() -> str:
    """Return the name of a folder for a piece, which no other has."""
    return f"piece-{secrets.token_hex(8)}"
