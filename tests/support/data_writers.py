"""Small data sets of every format that normface.data reads, written by other means than the code under test.

LMDBs come from the lmdb package, Datums and RecordIO from their formats' descriptions, images from OpenCV.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import lmdb
import numpy as np


def random_image(seed: int, height: int = 12, width: int = 10, channels: int = 3) -> np.ndarray:
    """Return random pixels, uint8 (H, W, channels) in BGR."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def encoded(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    """PNG by default, which keeps every pixel."""
    done, raw = cv2.imencode(suffix, pixels)
    assert done
    return raw.tobytes()


def write_images(folder: Path, names: Sequence[str], **size: int) -> list[np.ndarray]:
    """Images of those names, which are numbered from 0 (the seed); returns their pixels."""
    pixels = [random_image(seed, **size) for seed in range(len(names))]
    for name, array in zip(names, pixels, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(array))
    return pixels


def tagged(number: int, value: int) -> bytes:
    """A varint field of a protobuf message, spelt out: tag, then seven bits a byte, the lowest first."""
    out = bytearray()
    for rest in (number << 3, value & (2**64 - 1)):
        while True:
            rest, low = rest >> 7, rest & 127
            out.append(low | (128 if rest else 0))
            if not rest:
                break
    return bytes(out)


def datum(planes: np.ndarray | bytes, label: int, encoded: bool = False) -> bytes:
    """A Datum of uint8 or float32 planes (C, H, W), or of an encoded image's bytes."""
    out = b""
    if isinstance(planes, np.ndarray):
        out += b"".join(tagged(number, side) for number, side in enumerate(planes.shape, 1))
    if isinstance(planes, bytes) or planes.dtype == np.uint8:
        data = planes if isinstance(planes, bytes) else planes.tobytes()
        length = tagged(0, len(data))[1:]
        out += bytes([4 << 3 | 2]) + length + data
    else:
        out += b"".join(bytes([6 << 3 | 5]) + struct.pack("<f", value) for value in planes.ravel())
    return out + tagged(5, label) + (tagged(7, 1) if encoded else b"")


def write_lmdb(folder: Path, values: Mapping[bytes, bytes] | Sequence[bytes]) -> Path:
    """An LMDB; values without keys are numbered 00000000, 00000001 …"""
    if not isinstance(values, Mapping):
        values = {b"%08d" % number: value for number, value in enumerate(values)}
    with lmdb.open(str(folder), map_size=1 << 28) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return folder


def image_record(label: float | Sequence[float], number: int, raw: bytes) -> bytes:
    """IRHeader (flag, label, id, id2) and the image; several labels follow the header, their count is the flag."""
    if isinstance(label, (int, float)):
        return struct.pack("<IfQQ", 0, label, number, 0) + raw
    return struct.pack("<IfQQ", len(label), 0.0, number, 0) + np.array(label, "<f4").tobytes() + raw


def record(payload: bytes) -> bytes:
    """One RecordIO record, split at every aligned magic word as dmlc-core's writer does."""
    magic = struct.pack("<I", 0xCED7230A)
    cuts = [at for at in range(0, len(payload) - 3, 4) if payload[at : at + 4] == magic]
    parts, start = [], 0
    for cut in cuts:
        parts.append(payload[start:cut])
        start = cut + 4
    parts.append(payload[start:])
    kinds = [0] if len(parts) == 1 else [1] + [2] * (len(parts) - 2) + [3]
    return b"".join(
        magic + struct.pack("<I", kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def write_recordio(path: Path, payloads: Sequence[bytes], index: bool = True) -> Path:
    """A .rec of the payloads, and its .idx with the keys 0, 1, 2 …"""
    offsets, raw = [], b""
    for payload in payloads:
        offsets.append(len(raw))
        raw += record(payload)
    path.write_bytes(raw)
    if index:
        path.with_suffix(".idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets)))
    return path
