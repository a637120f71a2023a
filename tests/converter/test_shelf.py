"""Arrays on a shelf keep their numbers, and take memory while they are read alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import caffeport
import numpy as np
import pytest
from caffeport import shelf
from caffeport.parity import parts
from caffeport.shelf import LEAST, Shelf
from support import nets

STATM = Path("/proc/self/statm")


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(STATM.read_text().split()[1]) * 4096


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_the_numbers_stay(dtype):
    numbers = (np.arange(LEAST) % 2000).astype(dtype).reshape(2, -1)
    one = Shelf()
    array = one.put(numbers)
    assert array is not numbers and array.dtype == dtype
    one.rest()
    np.testing.assert_array_equal(array, numbers)
    array[1, 5] = 7  # it can be written to, as a layer in place would
    one.rest()
    assert array[1, 5] == 7


def test_an_array_that_is_not_contiguous_keeps_its_order():
    numbers = np.arange(2 * LEAST, dtype=np.float32).reshape(-1, 2)[:, 0]
    np.testing.assert_array_equal(Shelf().put(numbers), numbers)


@pytest.mark.skipif(not STATM.exists(), reason="tells a process's memory by Linux's /proc")
def test_memory_is_taken_while_it_is_read():
    one, size = Shelf(), 1 << 26
    array = one.put(np.ones(size // 4, np.float32))
    before = resident()
    assert array.sum() == size // 4
    assert resident() - before > size // 2
    one.rest()
    assert resident() - before < size // 2


def test_a_small_array_and_one_that_no_disk_takes_stay_what_they_are(monkeypatch):
    small, large = np.zeros(3), np.zeros(LEAST)
    assert Shelf().put(small) is small

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    assert Shelf().put(large) is large


def test_a_check_with_a_shelf_finds_the_same(tmp_path, monkeypatch):
    text = nets.inputs(data=(2, 3, 12, 10)) + nets.conv("data", "a", 4) + nets.layer("ReLU", "a", "a", name="relu")
    text += nets.layer("Slice", "a", "b c", "slice_param { axis: 1 slice_point: 1 }") + nets.conv("c", "d", 5)
    net = nets.load(tmp_path, text + nets.layer("Concat", "b d", "e", "concat_param { axis: 1 }"))
    net.to_onnx(tmp_path / "net.onnx")
    plain = caffeport.check(net, onnx=tmp_path / "net.onnx", backends=["torch", "onnx"])
    puts = []
    put = Shelf.put
    monkeypatch.setattr(Shelf, "put", lambda self, array: puts.append(array.shape) or put(self, array))
    monkeypatch.setattr(parts, "SMALL", 100)
    monkeypatch.setattr(shelf, "LEAST", 1)
    report = caffeport.check(net, onnx=tmp_path / "net.onnx", backends=["torch", "onnx"])
    assert report.ok and puts
    assert [(row.blob, row.errors.keys()) for row in report.rows] == [
        (row.blob, row.errors.keys()) for row in plain.rows
    ]
