"""Arrays on a shelf keep their numbers, and take memory while they are read alone."""

from __future__ import annotations

import io
import os
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
FILES = Path("/proc/self/fd")


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


def test_a_file_is_taken_again_when_its_array_is_gone(monkeypatch):
    files = []
    make = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: files.append(1) or make())
    one = Shelf()
    first, second = (one.put(np.full(LEAST, number, np.float32)) for number in (1, 2))
    assert len(files) == 2
    del first
    third = one.put(np.full(LEAST // 2, 3, np.float32))  # smaller than what the file had
    assert len(files) == 2
    fourth = one.put(np.full(LEAST, 4, np.float32))
    assert len(files) == 3
    del third
    fifth = one.put(np.full(2 * LEAST, 5, np.float32))
    assert len(files) == 3
    one.rest()
    for number, array in ((2, second), (4, fourth), (5, fifth)):
        assert (array == number).all()
    shapes = [array.shape for array in (second, fourth, fifth)]
    assert shapes == [(LEAST,), (LEAST,), (2 * LEAST,)]


def test_few_files_wait_to_be_taken_again():
    one = Shelf()
    before = len(list(FILES.iterdir())) if FILES.exists() else 0
    arrays = [one.put(np.ones(LEAST, np.uint8)) for _ in range(9)]
    del arrays
    assert len(one._spare) == 2
    if FILES.exists():
        assert len(list(FILES.iterdir())) == before + 2
    spare, array = one._spare[0], one.put(np.ones(LEAST, np.uint8))
    del one
    assert spare.closed and array.all()
    del array
    if FILES.exists():
        assert len(list(FILES.iterdir())) == before


def test_a_view_of_what_lies_there_stays_there():
    one = Shelf()
    array = one.put(np.zeros((3, LEAST), np.float32))
    for view in (array, array[1:], array[::-1], array.reshape(-1)):
        assert one.put(view) is view
    elsewhere = np.zeros((3, LEAST), np.float32)
    assert one.put(elsewhere) is not elsewhere


def test_a_file_is_not_taken_while_a_tensor_reads_a_part_of_it():
    torch = pytest.importorskip("torch")
    one = Shelf()
    tensor = torch.from_numpy(one.put(np.arange(2 * LEAST, dtype=np.float32)))
    part = tensor[LEAST:]
    del tensor
    later = one.put(np.zeros(2 * LEAST, np.float32))
    assert torch.equal(part, torch.arange(LEAST, 2 * LEAST, dtype=torch.float32)) and not later.any()


def test_where_a_file_that_is_taken_again_fails_the_array_stays_in_memory():
    one = Shelf()

    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    one._spare.append(Full())
    large = np.full(LEAST, 2, np.float32)
    assert one.put(large) is large and not one._spare
    assert one.put(large) is not large


def test_room_is_in_a_file_to_spare(monkeypatch):
    one, shape = Shelf(), (LEAST // 8, 4)
    first = one.room(shape)
    assert first.shape == shape and first.dtype == np.float32
    assert one.put(first) is not first  # there was no file yet; now there is one that nobody reads
    room = one.room(shape)
    assert one.put(room) is room
    room[:] = 7
    one.rest()
    assert (room == 7).all()
    larger = one.room((LEAST, 4))
    assert larger.shape == (LEAST, 4) and one.put(larger) is not larger
    del room
    full = os.statvfs_result((4096, 4096, 1000, 100, 100, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _: full)
    room = one.room(shape)
    assert one.put(room) is not room


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
    puts, rooms = [], []
    put, room = Shelf.put, Shelf.room

    def seen(self, shape):
        array = room(self, shape)
        rooms.append(self._has(array))
        return array

    monkeypatch.setattr(Shelf, "room", seen)
    monkeypatch.setattr(Shelf, "put", lambda self, array: puts.append(array.shape) or put(self, array))
    monkeypatch.setattr(parts, "SMALL", 100)
    monkeypatch.setattr(shelf, "LEAST", 1)
    report = caffeport.check(net, onnx=tmp_path / "net.onnx", backends=["torch", "onnx"])
    assert report.ok and puts and set(rooms) == {True, False}
    assert [(row.blob, row.errors.keys()) for row in report.rows] == [
        (row.blob, row.errors.keys()) for row in plain.rows
    ]
    monkeypatch.setattr(shelf, "LEAST", 1 << 40)
    in_memory = caffeport.check(net, onnx=tmp_path / "net.onnx", backends=["torch", "onnx"])
    assert in_memory.rows == report.rows and in_memory.exported == report.exported
