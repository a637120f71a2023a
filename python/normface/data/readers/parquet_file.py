"""Images in a Parquet table, a row each, as Hugging Face's data sets have them: encoded images, labels or people.

Rows are read a group at a time, and the last few groups are kept: reading in the table's order, or in an order that
stays within some groups, reads each once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, MissingDependencyError
from ...reading import opened, parsing
from .base import Reader
from .parquet_pages import Pages

IMAGES = ("image", "jpg", "jpeg", "png", "webp", "img", "bytes", "data")
LABELS = ("label", "labels", "identity", "person", "cls", "class")
NAMES = ("name", "path", "file_name", "__key__", "key")
KEPT = 1 << 28
"""Bytes of the groups that are kept, as the file declares them; two at least."""
NO_TABLE = "is no Parquet file of images"


class ParquetReader(Reader):
    """The images of a ``.parquet``: a binary column, or one of ``bytes`` and ``path``, of one of the usual names.

    units: (G,) int64, the rows of each group. shard: as TarReader has it.
    """

    def __init__(self, path: Path, color: bool | None = True, labelled: bool = True, *, shard: bool = False) -> None:
        arrow, parquet = _pyarrow()
        with opened(path) as (stream, size), parsing(path, NO_TABLE):
            self._metadata = parquet.read_metadata(stream)
            groups = [self._metadata.row_group(number) for number in range(self._metadata.num_row_groups)]
            units = np.array([group.num_rows for group in groups], np.int64)
            if not 0 < self._metadata.num_rows <= size or units.min() < 0 or units.sum() != self._metadata.num_rows:
                raise ValueError(f"it declares {self._metadata.num_rows} rows in {size} bytes")
            self._bytes = [max(1, int(group.total_byte_size)) for group in groups]
            schema = self._metadata.schema.to_arrow_schema()
            self._column = self._image_column(path, schema, arrow)
            label = next((name for name in LABELS if name in schema.names), None) if labelled else None
            name = next((name for name in NAMES if name in schema.names), None)
            wanted = [one for one in (label, name) if one is not None]
            self._pages = Pages(stream.fileno(), size)
            for number in range(len(groups)):
                self._pages.check(stream.fileno(), size, number, wanted)
            table = parquet.read_table(path, columns=wanted)
            if wanted and table.num_rows != units.sum():
                raise ValueError(f"it declares {units.sum()} rows, and its columns have {table.num_rows}")
            names = [str(row) for row in range(int(units.sum()))]
            if name is not None and arrow.types.is_string(schema.field(name).type):
                names = [str(text) for text in table.column(name).to_pylist()]
        super().__init__(path, names, color)
        self.units: np.ndarray = units
        self._ends = np.cumsum(units)
        self.people: list[str] = []
        self._reset()
        if label is not None:
            with parsing(path, NO_TABLE):
                self._take(table.column(label), label, shard, arrow)

    def raw(self, index: int) -> bytes:
        number = int(np.searchsorted(self._ends, index, side="right"))
        with parsing(self.title(index), NO_TABLE):
            value = self._group(number)[index - int(self._ends[number] - self.units[number])].as_py()
        raw = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(raw, bytes):
            raise DataError(f"{self.title(index)}: has no image in the column {self._column}")
        return raw

    def _group(self, number: int) -> Any:
        """The images of a group, read once as long as it is among the last ones."""
        with self._lock:
            if number in self._groups:
                self._groups.move_to_end(number)
                return self._groups[number]
        _, parquet = _pyarrow()
        with opened(self.path) as (stream, size), parsing(self.path, NO_TABLE):
            self._pages.check(stream.fileno(), size, number, [self._column])
            file = parquet.ParquetFile(stream, metadata=self._metadata)
            column = file.read_row_group(number, columns=[self._column]).column(self._column)
            if len(column) != self.units[number]:
                raise ValueError(f"its group {number} has {len(column)} rows; {self.units[number]} are declared")
        with self._lock:
            self._groups[number] = column
            while len(self._groups) > 2 and sum(self._bytes[one] for one in self._groups) > KEPT:
                self._groups.popitem(last=False)
        return column

    @staticmethod
    def _image_column(path: Path, schema: Any, arrow: Any) -> str:
        for name in IMAGES:
            if name in schema.names:
                kind = schema.field(name).type
                fields = (
                    [kind.field(place).name for place in range(kind.num_fields)] if arrow.types.is_struct(kind) else []
                )
                if arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind) or "bytes" in fields:
                    return name
        known, there = ", ".join(IMAGES[:4]), ", ".join(schema.names)[:200]
        raise DataError(f"{path}: has no column of encoded images ({known} …); it has {there}")

    def _take(self, column: Any, name: str, shard: bool, arrow: Any) -> None:
        if column.null_count:
            raise DataError(f"{self.path}: {column.null_count} rows have no {name}")
        if arrow.types.is_integer(column.type):
            numbers = column.to_numpy().astype(np.int64)
            if shard:
                self.labels = numbers
            else:
                self.take_labels(numbers)
        elif arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type):
            self.people = column.to_pylist()
            if not shard:
                self.take_folders(self.people)
        else:
            raise DataError(f"{self.path}: the column {name} is {column.type}; expected whole numbers or texts")

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._groups: OrderedDict[int, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_groups")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError("Parquet needs pyarrow: pip install pyarrow, or use another form") from error
    return pyarrow, pyarrow.parquet
