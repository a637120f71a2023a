"""Rows that a run writes as it goes: exact numbers, the rows of an earlier part, kills and full disks."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from normface.errors import TrainingError
from normface.row_log import RowLog, read_rows

COLUMNS = ("step", "loss", "note")
ROWS = [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": 1e-320, "note": 'a "b", c'}]


def test_csv_gives_numbers_back_exactly(tmp_path):
    log = RowLog(tmp_path / "log.csv", COLUMNS, ROWS[:1])
    log.write(ROWS[1])
    raw = (tmp_path / "log.csv").read_bytes()  # before it is closed: a kill would leave this
    assert raw.startswith(b"step,loss,note\n1,0.30000000000000004,\n2,")
    with open(tmp_path / "log.csv", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert (float(first["loss"]), first["note"]) == (0.1 + 0.2, "")
    assert (float(second["loss"]), second["note"]) == (1e-320, 'a "b", c')
    assert read_rows(tmp_path / "log.csv") == [first, second]
    log.close()


def test_json_lines(tmp_path):
    log = RowLog(tmp_path / "log.jsonl", COLUMNS, ROWS[:1])
    log.write(ROWS[1])
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == ROWS
    log.close()
    with open(tmp_path / "log.jsonl", "a") as stream:
        stream.write('{"step": 3, "lo')  # a kill
    assert read_rows(tmp_path / "log.jsonl") == ROWS


def test_written_anew_with_the_rows_that_count(tmp_path):
    for rows in (ROWS, ROWS[:1]):
        RowLog(tmp_path / "log.csv", COLUMNS, rows).close()
    assert [row["step"] for row in read_rows(tmp_path / "log.csv")] == ["1"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(tmp_path):
    """One line that names the file, where the solver's log once ended in a traceback."""
    log = RowLog(tmp_path / "log.csv", COLUMNS)
    log.close()
    log._stream = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0)
    with pytest.raises(TrainingError, match=r"log\.csv: cannot be written: No space left on device"):
        log.write(ROWS[0])
    log.close()


def test_what_is_no_log(tmp_path):
    with pytest.raises(TrainingError, match=r"log\.txt: expected a log that ends in \.csv or \.jsonl"):
        RowLog(tmp_path / "log.txt", COLUMNS)
    (tmp_path / "log.jsonl").write_text("{never}\n")
    with pytest.raises(TrainingError, match=r"log\.jsonl: is no log of a run \(name another file\): "):
        read_rows(tmp_path / "log.jsonl")
