"""What a file is that stands where a net, weights or a model were expected, by its first bytes, and the way out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from . import wire

START = 1024
"""Bytes that tell; a tar archive says so at byte 257."""


@dataclass(frozen=True)
class Kind:
    """``name`` goes on after "is". ``way_out`` is advice that holds whatever was expected; "" where none does."""

    name: str
    way_out: str = ""


PYTORCH = Kind("a file of PyTorch (.pth)")
PICKLE = Kind("a Python pickle, as old files of PyTorch are (.pth)")
SAFETENSORS = Kind("a safetensors file")
ONNX = Kind("an ONNX model")
HDF5 = Kind("HDF5")
CAFFEMODEL = Kind("a .caffemodel (binary weights)")
_UNPACK = "unpack it, and give the file within"
_PACKED = {
    b"\x1f\x8b": "packed by gzip",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ\0": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
}
_MAGIC = {
    b"\x89HDF\r\n\x1a\n": HDF5,
    b"\x93NUMPY": Kind("an array of NumPy (.npy)"),
    b"7767517": Kind("a net of ncnn (.param)"),
    b"\xff\xd8\xff": Kind("a JPEG image"),
    b"\x89PNG\r\n": Kind("a PNG image"),
    b"%PDF": Kind("a PDF"),
    b"\xff\xfe": Kind("text in UTF-16", "save it in UTF-8"),
    b"\xfe\xff": Kind("text in UTF-16", "save it in UTF-8"),
}
_LFS = re.compile(rb"version https?://[^\n]*git-lfs[^\n]*\n")
_LFS_SIZE = re.compile(rb"\nsize (\d{1,15})\b")
_HTML = re.compile(rb"(?s)(<!--.*?-->\s*)?<(!doctype html|html|head|body|script|meta|title)\b", re.IGNORECASE)
_PROTOBUF_FIRST = {b"\x08": ONNX, b"\x0a": CAFFEMODEL, b"\x12": CAFFEMODEL, b"\xa2": CAFFEMODEL}
_ONNX_STRINGS = (0x12, 0x1A, 0x22, 0x32, 0x3A, 0x42)  # fields 2, 3, 4, 6, 7 and 8, which may follow the IR version


def kind_of(start: bytes) -> Kind | None:
    """Return what a file is that begins with these bytes, START of them or all there are; None else None."""
    if substitute := substitute_of(start):
        return substitute
    for magic, name in _PACKED.items():
        if start.startswith(magic):
            return Kind(name, _UNPACK)
    if start.startswith(b"PK\x03\x04"):
        return _zipped(start)
    if start[257:262] == b"ustar":
        return Kind(f"a tar archive{_begins_with(start[:100].partition(bytes(1))[0])}", _UNPACK)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    return _binary(start)


def substitute_of(start: bytes) -> Kind | None:
    """Return what came in place of any file at all, a pointer to it or a page about it; None for everything else."""
    if _LFS.match(start):
        size = _LFS_SIZE.search(start)
        of = f" of {size[1].decode()} bytes" if size else ""
        return Kind(f"a Git LFS pointer in place of the file{of}", "run git lfs pull, or download the file itself")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _HTML.match(text) or (text.startswith(b"<?xml") and b"<html" in text.lower()):
        return Kind("an HTML page, saved in place of the download", "fetch the file itself (on GitHub: Raw)")
    if text.startswith(b"<?xml"):
        return Kind("XML, perhaps a server's message in place of the download", "fetch the file again")
    return None


def kind_of_file(path: str | Path) -> Kind | None:
    """Do as kind_of does with a file; None for what cannot be read."""
    return kind_of(_start_of(path))


def substitute_of_file(path: str | Path) -> Kind | None:
    """Do as substitute_of does with a file; None for what cannot be read."""
    return substitute_of(_start_of(path))


def _start_of(path: str | Path) -> bytes:
    try:
        if not Path(path).is_file():
            return b""
        with open(path, "rb") as stream:
            return stream.read(START)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return b""


def misplaced(kind: Kind, expected: str) -> str:
    """Return what goes on after "PATH: ": what it is, and the way out, or else what was expected."""
    return f"is {kind.name}; {kind.way_out or f'expected {expected}'}"


def _zipped(start: bytes) -> Kind:
    """A zip by the name of its first entry: torch's and NumPy's files are zips too."""
    length = int.from_bytes(start[26:28], "little")
    name = start[30 : 30 + length]
    if name.endswith((b"/data.pkl", b"/byteorder", b"/.format_version", b"/version")):
        return PYTORCH
    if name.endswith(b".npy"):
        return Kind("an archive of NumPy (.npz)")
    return Kind(f"a zip archive{_begins_with(name)}", _UNPACK)


def _begins_with(name: bytes) -> str:
    shown = name[:60].decode("utf-8", "replace")
    return f' (it begins with "{shown}")' if name and b"PaxHeader" not in name else ""


def _binary(start: bytes) -> Kind | None:
    """A format that has no magic number, by the form of its first fields."""
    if start[4:8] == b"TFL3":
        return Kind("a model of TensorFlow Lite")
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    if start[8:10] in (b'{"', b"{}") and 2 <= int.from_bytes(start[:8], "little") < 1 << 30:
        return SAFETENSORS
    kind = _PROTOBUF_FIRST.get(start[:1])
    if kind is ONNX:
        return ONNX if len(start) > 2 and start[1] < 32 and start[2] in _ONNX_STRINGS else None
    if kind is CAFFEMODEL and b"\0" in start:
        try:
            first = next(wire.fields(start, 0, 1 << 40))
        except (wire.WireError, IndexError, StopIteration):
            return None
        return CAFFEMODEL if first[0] in (1, 2, 100) and first[1] == wire.LENGTH else None
    return None
