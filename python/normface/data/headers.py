"""The facts in an image's headers: its format, its size, and whether the file was cut short.

Read before any decoder runs, because decoders allocate what a header declares (a file of a kilobyte can
declare gigabytes), and because OpenCV fills the missing half of a JPEG with grey and says nothing. Where a header can
say its size in two ways, a decoder might take the other one: the larger counts, or the file is refused.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

_JPEG_SIZES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_JPEG_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD8)})  # no marker, and those without a length: TEM, RST0 to RST7
_SEGMENT, _SIDES = struct.Struct(">BBH").unpack_from, struct.Struct(">HH").unpack_from
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # what ends a scan: neither a stuffed 0xff nor a restart
_BETWEEN = rb"\s(?:\s|#[^\r\n]*[\r\n])*"  # a comment right after a number may or may not end it
_PNM = re.compile(rb"P([1-6])" + _BETWEEN + rb"(\d{1,9})" + _BETWEEN + rb"(\d{1,9})\s")
_PNG_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_TIFF_NUMBERS = {3: "H", 4: "I"}  # a SHORT or a LONG, as the format has it
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 256, 257, 322, 323

_CUT = "is cut short"


@dataclass(frozen=True)
class Header:
    """``width`` and ``height`` are 0 where the header does not say; ``problem`` is "" for a file that looks whole."""

    format: str
    width: int
    height: int
    problem: str = ""


def read_header(raw: bytes) -> Header | None:
    """The header of a JPEG, PNG, BMP, WebP, GIF, TIFF or PNM; None for anything else that OpenCV might decode."""
    if raw[4:8] == b"ftyp":  # which AVIF goes by, whatever comes before
        return None
    for magic, reader in _READERS:
        if raw.startswith(magic):
            try:
                return reader(raw)
            except (struct.error, IndexError):  # it ends within its header
                return Header("image", 0, 0, _CUT)
    return None


def _jpeg(raw: bytes) -> Header:
    """Segments one after another; scans are searched for the marker that ends them."""
    position, width, height, last = 2, 0, 0, len(raw) - 4
    while position <= last:
        mark, marker, length = _SEGMENT(raw, position)
        if mark != 0xFF:  # rubbish between segments, which decoders pass over as well
            position = raw.find(b"\xff", position)
            if position < 0:
                break
        elif marker == 0xFF:
            position += 1
        elif marker == _JPEG_END:
            return Header("JPEG", width, height)
        elif marker in _JPEG_ALONE:
            position += 2
        else:
            if marker in _JPEG_SIZES:
                sides = _SIDES(raw, position + 5)
                height, width = max(height, sides[0]), max(width, sides[1])
            position += 2 + length if length > 2 else 4
            if marker == _JPEG_SCAN:
                start_code = _MARKER.search(raw, position)
                position = start_code.start() if start_code else len(raw)
    whole = raw[position : position + 2] == b"\xff\xd9"
    return Header("JPEG", width, height, "" if whole else _CUT)


def _png(raw: bytes) -> Header:
    width, height = struct.unpack_from(">II", raw, 16)
    if raw[12:16] != b"IHDR":
        return Header("PNG", width, height, "is damaged (it does not start with its size)")
    position = 8
    while position + 12 <= len(raw):
        length, kind = struct.unpack_from(">I4s", raw, position)
        end = position + 8 + length
        if kind in _PNG_CRITICAL and end + 4 <= len(raw):
            if zlib.crc32(raw[position + 4 : end]) != struct.unpack_from(">I", raw, end)[0]:
                return Header("PNG", width, height, f"is damaged (wrong checksum of its {kind.decode()} at byte {end})")
            if kind == b"IEND":
                return Header("PNG", width, height)
        position = end + 4
    return Header("PNG", width, height, _CUT)


def _bmp(raw: bytes) -> Header:
    old = struct.unpack_from("<I", raw, 14)[0] == 12
    width, height = struct.unpack_from("<HH" if old else "<ii", raw, 18)
    return Header("BMP", abs(width), abs(height))


def _gif(raw: bytes) -> Header:
    return Header("GIF", *struct.unpack_from("<HH", raw, 6))


def _webp(raw: bytes) -> Header | None:
    size, form, chunk = struct.unpack_from("<I4s4s", raw, 4)
    if form != b"WEBP":
        return None
    if chunk == b"VP8X":
        width = int.from_bytes(raw[24:27], "little") + 1
        height = int.from_bytes(raw[27:30], "little") + 1
    elif chunk == b"VP8L":
        bits = struct.unpack_from("<I", raw, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", raw, 26))
    return Header("WebP", width, height, "" if len(raw) >= size + 8 else _CUT)


def _tiff(raw: bytes) -> Header:
    """Read the first directory, which is what OpenCV decodes."""
    order = "<" if raw.startswith(b"II") else ">"
    directory = struct.unpack_from(order + "I", raw, 4)[0]
    sides: dict[int, int] = {}
    for entry in range(struct.unpack_from(order + "H", raw, directory)[0]):
        tag, kind, count = struct.unpack_from(order + "HHI", raw, directory + 2 + 12 * entry)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT):
            if tag in sides or kind not in _TIFF_NUMBERS or count != 1:
                return Header("TIFF", 0, 0, f"is damaged (its size, tag {tag}, is no SHORT or LONG, or is there twice)")
            sides[tag] = struct.unpack_from(order + _TIFF_NUMBERS[kind], raw, directory + 10 + 12 * entry)[0]
    if _TIFF_WIDTH not in sides or _TIFF_HEIGHT not in sides:
        return Header("TIFF", 0, 0, "is damaged (it does not say its size)")
    # A tile is decoded whole, even where it is larger than the image.
    width = max(sides[_TIFF_WIDTH], sides.get(_TIFF_TILE_WIDTH, 0))
    return Header("TIFF", width, max(sides[_TIFF_HEIGHT], sides.get(_TIFF_TILE_HEIGHT, 0)))


def _pnm(raw: bytes) -> Header | None:
    match = _PNM.match(raw)
    return Header("PNM", int(match[2]), int(match[3])) if match else None


_READERS: tuple[tuple[bytes, Callable[[bytes], Header | None]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"BM", _bmp),
    (b"RIFF", _webp),
    (b"GIF8", _gif),
    (b"II*\x00", _tiff),
    (b"MM\x00*", _tiff),
    (b"P", _pnm),
)
