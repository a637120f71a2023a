"""Where the pages of a Parquet table lie and what they declare, against pyarrow, which wrote it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from normface.data import open_reader
from normface.data.readers.parquet_pages import Pages, unpacked_size
from normface.data.readers.thrift_compact import read_struct
from normface.errors import DataError
from support.data_writers import encoded, random_image

arrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")


@pytest.mark.slow
@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("packing", ["none", "snappy", "gzip", "zstd"])
def test_the_sizes_are_those_that_were_written(packing, version, dictionary, tmp_path):
    random_ = random.Random(0)
    images = [{"bytes": random_.randbytes(50), "path": f"{number}.png"} for number in range(300)]
    table = arrow.table({"image": images, "label": list(range(300)), "other": [[1.5] * 3] * 300})
    path = tmp_path / "a.parquet"
    parquet.write_table(
        table, path, compression=packing, data_page_version=version, use_dictionary=dictionary, row_group_size=100,
        data_page_size=1000, write_page_index=True,
    )  # fmt: skip
    written = parquet.read_metadata(path)
    handle, size = os.open(path, os.O_RDONLY), path.stat().st_size
    try:
        pages = Pages(handle, size)
        for group in range(3):
            pages.check(handle, size, group, ["image", "label", "other"])
            for number in range(written.num_columns):
                column = written.row_group(group).column(number)
                start = min(place for place in (column.data_page_offset, column.dictionary_page_offset) if place)
                end = start + column.total_compressed_size
                headers = column.total_uncompressed_size - unpacked_size(handle, start, end)  # which it counts, too
                count = sum(1 for _ in page_starts(handle, start, end))
                assert 10 * count <= headers <= 100 * count
    finally:
        os.close(handle)


def page_starts(handle: int, start: int, end: int):
    while start < end:
        header, length = read_struct(os.pread(handle, 1 << 16, start))
        yield start
        start += length + header[3]
    assert start == end


def test_damaged_statistics_end_no_process(tmp_path):
    """What pyarrow has in Python for a column ends the process there: an exception in C++ that nothing takes."""
    image = encoded(random_image(0))
    parquet.write_table(arrow.table({"image": [image] * 3, "label": [0, 1, 1]}), tmp_path / "a.parquet")
    raw = (tmp_path / "a.parquet").read_bytes()
    outcomes = set()
    for place in range(len(raw) - 700, len(raw)):
        for change in (1, 16):
            damaged = bytearray(raw)
            damaged[place] = (damaged[place] + change) % 256
            (tmp_path / "b.parquet").write_bytes(damaged)
            outcomes.add(_outcome(tmp_path / "b.parquet"))
    assert outcomes == {"", "DataError"}


def _outcome(path: Path) -> str:
    try:
        open_reader(path).raw(0)
    except DataError as error:
        return type(error).__name__
    return ""
