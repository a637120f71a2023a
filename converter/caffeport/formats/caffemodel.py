"""Reading and writing Caffe's binary weights (``.caffemodel``), memory-mapped and streamed.

Only names, types and blobs are taken from the binary: forks reuse the numbers of every other field
for different messages. Field numbers are those of caffe.proto (BVLC/caffe and NVIDIA/caffe).
"""

from __future__ import annotations

import math
import mmap
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import CaffemodelError, shape_text
from ..files import replacing, write_numbers
from . import wire
from .byte_names import from_bytes, to_bytes
from .hdf5 import read_hdf5
from .other_files import CAFFEMODEL, PICKLE, PYTORCH, SAFETENSORS, START, kind_of, misplaced
from .stored import Blob, Caffemodel, Run, StoredLayer

# BlobProto
_LEGACY = (1, 2, 3, 4)  # num, channels, height, width
_DATA, _DIFF, _SHAPE, _DOUBLE, _DOUBLE_DIFF, _RAW_TYPE, _RAW = 5, 6, 7, 8, 9, 10, 12
_NUMBERS = {_DATA: "<f4", _DIFF: "<f4", _DOUBLE: "<f8", _DOUBLE_DIFF: "<f8"}
_RAW_DTYPES = {0: "<f8", 1: "<f4", 2: "<f2"}
# NetParameter; LayerParameter; V1LayerParameter; V0LayerParameter
_NET_NAME, _NET_LAYERS_V1, _NET_LAYER = 1, 2, 100
_LAYER_NAME, _LAYER_TYPE, _LAYER_BOTTOM, _LAYER_TOP, _LAYER_BLOBS = 1, 2, 3, 4, 7
_V1_V0, _V1_NAME, _V1_TYPE, _V1_BLOBS = 1, 4, 5, 6
_V0_NAME, _V0_TYPE, _V0_BLOBS = 1, 2, 50

_PYTORCH = (PYTORCH, PICKLE, SAFETENSORS)
_FROM_PYTORCH = (
    "expected binary weights of Caffe (.caffemodel). A state_dict with this net's names becomes one by "
    'caffeport.load(NET).with_weights(state_dict).save("F.caffemodel")'
)
MAX_AXES = 32  # Caffe's own limit (kMaxBlobAxes)


def read(path: str | Path) -> Caffemodel:
    """Open a weights file; blobs stay on disk until their ``array()`` is asked for.

    Raises CaffemodelError for a file that is truncated, corrupt, or something else altogether.
    """
    path = Path(path)
    data = mapped(path)
    if data[:6] == b"\x89HDF\r\n":
        stored = read_hdf5(path)
        stored.data = data
        return stored
    try:
        return _Reader(str(path), wire.Walk(data)).model()
    except CaffemodelError:
        # Only now: the first bytes of a good file may all be printable (a tag, a length, a name).
        kind = kind_of(data[:START])
        if kind in _PYTORCH:
            raise CaffemodelError(f"{path}: is {kind.name}; {_FROM_PYTORCH}") from None
        if kind is not None and kind is not CAFFEMODEL:
            raise CaffemodelError(f"{path}: {misplaced(kind, 'binary weights of Caffe (.caffemodel)')}") from None
        if _is_text(data[:1024]):
            problem = "is text; expected binary weights (.caffemodel). Are NET and WEIGHTS swapped? Weights as text "
            problem += "become binary by: caffeport upgrade OLD NEW.caffemodel"
            raise CaffemodelError(f"{path}: {problem}") from None
        raise


def mapped(path: Path) -> mmap.mmap:
    """Return the file's bytes, which stay on disk."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise CaffemodelError(f"{path}: is a folder, device or pipe; expected a file")
        if not status.st_size:
            raise CaffemodelError(f"{path}: is empty")
        with open(path, "rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CaffemodelError(f"{path}: {error.strerror or error}") from error


def _is_text(start: bytes) -> bool:
    return all(byte in b"\t\n\r\f" or byte >= 32 for byte in start)


class _Reader:
    def __init__(self, path: str, walk: wire.Walk) -> None:
        self.path, self.walk, self.data = path, walk, walk.data

    def _wrong(self, problem: str) -> CaffemodelError:
        return CaffemodelError(f"{self.path}: {problem}")

    def model(self) -> Caffemodel:
        model = Caffemodel(self.path, "", [], self.data)
        place = "the net"
        try:
            for number, kind, a, b in self.walk.fields(0, len(self.data)):
                if kind == wire.LENGTH and number == _NET_NAME:
                    model.name = self._string(a, b)
                elif kind == wire.LENGTH and number in (_NET_LAYER, _NET_LAYERS_V1):
                    place = f"layer {len(model.layers) + 1}"
                    read_layer = self._layer if number == _NET_LAYER else self._layer_v1
                    model.layers.append(read_layer(a, b))
                    place = f'the field after layer "{model.layers[-1].name}"'
                elif number == _NET_NAME or number in (_NET_LAYER, _NET_LAYERS_V1):
                    raise wire.WireError(f"field {number} has wire type {kind}")
        except wire.WireError as error:
            if not model.layers:
                raise self._wrong(f"is not a caffemodel, or is truncated in its first layer ({error})") from error
            raise self._wrong(
                f"is truncated or corrupt in {place}: {error}; the file has {len(self.data)} bytes. Download it again"
            ) from error
        if not model.layers:
            raise self._wrong("holds no layers; expected a .caffemodel")
        return model

    def _string(self, start: int, end: int) -> str:
        return from_bytes(bytes(self.data[start:end]))

    def _layer(self, start: int, end: int) -> StoredLayer:
        layer = StoredLayer("", "", [])
        spans = []
        for number, kind, a, b in self.walk.fields(start, end):
            if kind != wire.LENGTH:
                continue
            if number == _LAYER_NAME:
                layer.name = self._string(a, b)
            elif number == _LAYER_TYPE:
                layer.type = self._string(a, b)
            elif number == _LAYER_BLOBS:
                spans.append((a, b))
        layer.blobs = self._blobs(layer.name, spans)
        return layer

    def _layer_v1(self, start: int, end: int) -> StoredLayer:
        from .upgrade import V0_TYPES, V1_TYPES_BY_NUMBER

        layer = StoredLayer("", "", [])
        spans = []
        for number, kind, a, b in self.walk.fields(start, end):
            if kind == wire.VARINT and number == _V1_TYPE:
                layer.type = V1_TYPES_BY_NUMBER.get(a, "")
            elif kind == wire.LENGTH and number == _V1_NAME:
                layer.name = self._string(a, b)
            elif kind == wire.LENGTH and number == _V1_BLOBS:
                spans.append((a, b))
            elif kind == wire.LENGTH and number == _V1_V0:
                for inner, inner_kind, c, d in self.walk.fields(a, b):
                    if inner_kind == wire.LENGTH and inner == _V0_NAME:
                        layer.name = self._string(c, d)
                    elif inner_kind == wire.LENGTH and inner == _V0_TYPE:
                        layer.type = V0_TYPES.get(self._string(c, d), "")
                    elif inner_kind == wire.LENGTH and inner == _V0_BLOBS:
                        spans.append((c, d))
        layer.blobs = self._blobs(layer.name, spans)
        return layer

    def _blobs(self, layer: str, spans: list[tuple[int, int]]) -> list[Blob]:
        return [self.blob(f'blob {i} of layer "{layer}"', a, b) for i, (a, b) in enumerate(spans)]

    def blob(self, title: str, start: int, end: int) -> Blob:
        legacy: dict[int, int] = {}
        dims: list[int] | None = None
        runs: dict[int, list[Run]] = {}
        raw_type, raw = 1, (0, 0)
        for number, kind, a, b in _blob_fields(self.walk, start, end, runs):
            if number in _LEGACY and kind == wire.VARINT:
                legacy[number] = wire.signed(a)
            elif number == _SHAPE and kind == wire.LENGTH:
                dims = dims or []
                self._read_dims(title, dims, a, b)
            elif number == _RAW_TYPE and kind == wire.VARINT:
                raw_type = a
            elif number == _RAW and kind == wire.LENGTH:
                raw = (a, b)
        # double_data wins over data, as in Blob::FromProto.
        stored = runs.get(_DOUBLE) or runs.get(_DATA) or []
        if raw[1] > raw[0] and not stored:
            if raw_type not in _RAW_DTYPES:
                raise self._wrong(f"{title} has raw data of the unknown type {raw_type}; known are double, float, half")
            dtype = _RAW_DTYPES[raw_type]
            size = np.dtype(dtype).itemsize
            if (raw[1] - raw[0]) % size:
                raise self._wrong(f"{title} is corrupt: its raw data ends inside a number")
            stored = [Run(raw[0], (raw[1] - raw[0]) // size, dtype, size)]
        count = sum(run.count for run in stored)
        is_legacy = dims is None and bool(legacy)
        if is_legacy:
            # proto3-minded writers leave zero fields out; Caffe's own writes all four.
            shape = tuple(legacy.get(number, 1) for number in _LEGACY)
        elif dims is None:
            shape = () if count == 1 else (count,)  # Caffe writes no shape for a 0-D blob
        else:
            shape = tuple(dims)
        if any(dim < 0 for dim in shape):
            raise self._wrong(f"{title} is corrupt: its shape is {shape_text(shape)}")
        if math.prod(shape) != count:
            raise self._wrong(
                f"{title} declares the shape {shape_text(shape)} ({math.prod(shape)} numbers) but holds {count}"
            )
        return Blob(shape, is_legacy, self.data, stored)

    def _read_dims(self, title: str, dims: list[int], start: int, end: int) -> None:
        """Append a BlobShape's sizes to ``dims``; a shape may come in several messages, as protobuf merges them."""
        for number, kind, a, b in self.walk.fields(start, end):
            if number == 1 and kind == wire.VARINT:
                dims.append(wire.signed(a))
            elif number == 1 and kind == wire.LENGTH:
                while a < b and len(dims) <= MAX_AXES:
                    value, a = wire.read_varint(self.data, a, b)
                    dims.append(wire.signed(value))
            if len(dims) > MAX_AXES:
                shown = shape_text(dims[:MAX_AXES])
                raise self._wrong(
                    f"{title} is corrupt: its shape is {shown}x..., more than the {MAX_AXES} axes of Caffe"
                )


def _blob_fields(
    walk: wire.Walk, start: int, end: int, runs: dict[int, list[Run]]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield the fields of a BlobProto, with its numbers gathered into ``runs`` instead of yielded one by one."""
    position = start
    while position < end:
        stopped_at = end
        for number, kind, a, b in walk.fields(position, end):
            if number not in _NUMBERS or kind == wire.VARINT:
                yield number, kind, a, b
                continue
            dtype = _NUMBERS[number]
            size = int(dtype[-1])
            if (b - a) % size:
                raise wire.WireError(f"packed numbers end inside a number at byte {b}")
            if kind == wire.LENGTH:
                if b > a:
                    runs.setdefault(number, []).append(Run(a, (b - a) // size, dtype, size))
            elif b - a == size:
                count = wire.unpacked(walk.data, number << 3 | kind, a - 1, end, size + 1)
                runs.setdefault(number, []).append(Run(a, count, dtype, size + 1))
                stopped_at = a - 1 + count * (size + 1)
                break
        position = stopped_at


def read_binaryproto(path: str | Path) -> np.ndarray:
    """Return the one blob of a ``.binaryproto`` (a mean image, an infogain matrix), in its shape."""
    data = mapped(Path(path))
    reader = _Reader(str(path), wire.Walk(data))
    try:
        blob = reader.blob("the blob", 0, len(data))
    except wire.WireError as error:
        kind = kind_of(data[:START])
        if kind is not None:
            raise CaffemodelError(f"{path}: {misplaced(kind, 'a .binaryproto')}") from error
        raise CaffemodelError(f"{path}: is not a binaryproto, or is truncated ({error})") from error
    if not math.prod(blob.shape):
        raise CaffemodelError(f"{path}: holds no numbers; expected a binaryproto")
    return blob.array()


def read_blob(walk: wire.Walk, start: int, end: int, path: str, title: str) -> Blob:
    """Return the BlobProto between ``start`` and ``end``; ``path`` and ``title`` name it in errors."""
    return _Reader(path, walk).blob(title, start, end)


def write(
    path: str | Path, name: str, layers: Iterable[tuple[str, str, Sequence[str], Sequence[str], Sequence[np.ndarray]]]
) -> None:
    """Write (name, type, bottoms, tops, arrays) layers as a V2 caffemodel, one blob in memory at a time."""
    with replacing(path) as stream:
        stream.write(wire.delimited(_NET_NAME, to_bytes(name)))
        for layer_name, layer_type, bottoms, tops, arrays in layers:
            start = wire.delimited(_LAYER_NAME, to_bytes(layer_name))
            if layer_type:  # HDF5 weights tell none
                start += wire.delimited(_LAYER_TYPE, to_bytes(layer_type))
            start += b"".join(wire.delimited(_LAYER_BOTTOM, to_bytes(bottom)) for bottom in bottoms)
            start += b"".join(wire.delimited(_LAYER_TOP, to_bytes(top)) for top in tops)
            heads = [blob_header(array.shape) for array in arrays]
            blobs = [
                wire.header(_LAYER_BLOBS, len(head) + array.size * 4) + head
                for head, array in zip(heads, arrays, strict=True)
            ]
            length = len(start) + sum(len(blob) + array.size * 4 for blob, array in zip(blobs, arrays, strict=True))
            stream.write(wire.header(_NET_LAYER, length) + start)
            for blob, array in zip(blobs, arrays, strict=True):
                stream.write(blob)
                write_numbers(stream, array)


def blob_header(shape: Sequence[int]) -> bytes:
    """Return a BlobProto up to its numbers (files.write_numbers), which end it."""
    dims = b"".join(wire.varint(dim) for dim in shape)
    shape_field = wire.delimited(_SHAPE, wire.delimited(1, dims)) if dims else b""
    return shape_field + wire.header(_DATA, 4 * math.prod(shape))
