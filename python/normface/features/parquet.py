"""Features as a Parquet table: name, label and identity where known, and feature, a list of D float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from caffeport.files import replacing
from caffeport.json_text import to_json

from ..errors import DataError, MissingDependencyError
from ..reading import opened, parsing
from .feature_set import Features

ROWS = 1 << 16
"""Rows of a group."""
NO_TABLE = "is no Parquet file"


def save(path: Path, features: Features) -> None:
    arrow, parquet = pyarrow()
    try:
        columns = {"name": arrow.array(features.names, arrow.string())}
    except UnicodeEncodeError as error:  # a file name in another encoding
        raise DataError(f"{path}: Parquet takes names in UTF-8 only, not {error.object!r}; write .npz") from error
    if features.labels is not None:
        columns["label"] = arrow.array(features.labels, arrow.int64())
        if features.identities is not None:
            people = arrow.array(features.identities, arrow.string())
            columns["identity"] = people.take(arrow.array(features.labels))
    rows = np.ascontiguousarray(features.features, np.float32)
    columns["feature"] = arrow.FixedSizeListArray.from_arrays(arrow.array(rows.reshape(-1)), rows.shape[1])
    table = arrow.table(columns).replace_schema_metadata({"settings": to_json(features.settings, indent=None)})
    with replacing(path) as stream:
        parquet.write_table(table, stream, row_group_size=ROWS)


def load(path: Path) -> dict[str, Any]:
    """The arrays that an .npz would hold. Raises DataError, naming the file, for another table or damage."""
    arrow, parquet = pyarrow()
    count(path)
    with parsing(path, NO_TABLE):
        table = parquet.read_table(path)
    if not {"name", "feature"} <= set(table.column_names):
        raise DataError(f"{path}: needs the columns name and feature, has {', '.join(table.column_names)}")
    stored: dict[str, Any] = {
        "features": _matrix(path, table.column("feature"), arrow),
        "names": _names(path, table, arrow),
    }
    if "label" in table.column_names:
        stored["labels"] = _without_nulls(path, table, "label").to_numpy()
        if "identity" in table.column_names and len(table):
            people = dict(zip(stored["labels"].tolist(), table.column("identity").to_pylist(), strict=True))
            stored["labels"] = np.searchsorted(sorted(people), stored["labels"])
            stored["identities"] = np.array([str(people[label]) for label in sorted(people)], np.str_)
    settings = (table.schema.metadata or {}).get(b"settings")
    if settings:
        stored["settings"] = settings.decode("utf-8", "replace")
    return stored


def count(path: Path) -> int:
    """Return the table's rows as its end declares them. Raises DataError, naming the file, where that cannot be."""
    _, parquet = pyarrow()
    with opened(path) as (stream, size), parsing(path, NO_TABLE):
        rows = int(parquet.read_metadata(stream).num_rows)
        if not 0 <= rows <= size:  # a name each
            raise ValueError(f"it declares {rows} rows in {size} bytes")
        return rows


def pyarrow() -> tuple[Any, Any]:
    """(pyarrow, pyarrow.parquet), or advice how to get them."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError("Parquet needs pyarrow: pip install pyarrow, or use .npz") from error
    return pyarrow, pyarrow.parquet


def _matrix(path: Path, column: Any, arrow: Any) -> np.ndarray:
    """(N, D) of a column of lists, which other programs may write with a length each."""
    kind = column.type
    lists = arrow.types.is_fixed_size_list(kind) or arrow.types.is_list(kind) or arrow.types.is_large_list(kind)
    if not lists or not arrow.types.is_floating(kind.value_type):
        raise DataError(f"{path}: the column feature is {kind}; expected lists of floating point numbers")
    array = column.combine_chunks()
    numbers = array.flatten()
    width = len(numbers) // len(array) if len(array) else 0
    lengths = arrow.compute.list_value_length(array)
    if array.null_count or numbers.null_count or not arrow.compute.all(arrow.compute.equal(lengths, width)).as_py():
        raise DataError(f"{path}: the features are not of one length, or some are missing")
    return numbers.to_numpy(zero_copy_only=False).reshape(len(array), width)


def _names(path: Path, table: Any, arrow: Any) -> np.ndarray:
    column = _without_nulls(path, table, "name")
    if not (arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type)):
        raise DataError(f"{path}: the column name is {column.type}; expected texts")
    return np.array(column.to_pylist(), np.str_)


def _without_nulls(path: Path, table: Any, name: str) -> Any:
    column = table.column(name)
    if column.null_count:
        raise DataError(f"{path}: the column {name} has {column.null_count} rows without a value")
    return column
