"""Old files in today's form: nets and solvers as text, weights as text, in binary and in HDF5.

The rules are those of Caffe's ``upgrade_net_proto_text`` and ``upgrade_net_proto_binary``; what needs no upgrade is
written as it is.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CaffemodelError, CaffeportError, CaffeportWarning, PrototxtError, name_list
from ..files import replacing, replacing_path, same_file
from ..formats import binary, caffemodel, prototxt, wire
from ..formats.byte_names import from_bytes, to_bytes
from ..formats.hdf5 import write_hdf5
from ..formats.prototxt import Message, Scalar
from ..formats.upgrade import V1_TYPES_BY_NUMBER, upgrade, upgrade_solver
from ..operators import registry

TEXT, BINARY, HDF5 = "text", "binary weights", "HDF5 weights"
_ENDINGS = {".caffemodel": BINARY, ".h5": HDF5, ".hdf5": HDF5}
_RUN = re.compile(rb"\bdata\s*:\s*[-+.\w]+(?:[\s,;]+data\s*:\s*[-+.\w]+){15,}")
"""Numbers of a blob in a text, which come by the million."""
_LARGEST_TEXT = 1 << 30


@dataclass(frozen=True)
class Upgraded:
    """What an upgrade did: the form of the old file and of the new one, and how many layers it has (0 in a solver)."""

    old: str
    new: str
    layers: int


def upgrade_file(old: Path, new: Path) -> Upgraded:
    """Write ``old`` as ``new`` in today's form, whole or not at all. The ending of ``new`` says what to write:
    ``.caffemodel`` binary weights, ``.h5`` and ``.hdf5`` HDF5 weights, any other what ``old`` is, text or binary.

    Raises CaffeportError for a file that is none of these, for weights of a text that has none, and for weights
    that are to become text.
    """
    if same_file(old, new):
        raise CaffeportError(f"{new}: would overwrite what is upgraded; choose another name")
    form = _form(old)
    wanted = _ENDINGS.get(new.suffix.lower(), BINARY if form == HDF5 else form)
    if form != TEXT and new.suffix.lower() in (".prototxt", ".pbtxt", ".txt"):
        raise CaffeportError(f"{new}: {old} holds {form}, which become .caffemodel or .h5, not text")
    if wanted == TEXT:
        return Upgraded("text", "text", _text(old, new))
    if form == TEXT:
        with replacing_path(new) as temporary:
            binary_file = temporary if wanted == BINARY else temporary.with_name(temporary.name + ".caffemodel")
            try:
                layers = _text_weights(old, binary_file)
                if wanted == HDF5:
                    _to_hdf5(binary_file, temporary, old)
            finally:
                if binary_file != temporary:
                    binary_file.unlink(missing_ok=True)
        return Upgraded("text weights", wanted, layers)
    if wanted == HDF5:
        with replacing_path(new) as temporary:
            return Upgraded(form, wanted, _to_hdf5(old, temporary, old))
    return Upgraded(form, wanted, _from_hdf5(old, new) if form == HDF5 else _binary(old, new))


def _form(path: Path) -> str:
    start = bytes(caffemodel.mapped(path)[:4096])
    if start.startswith(b"\x89HDF\r\n"):
        return HDF5
    return BINARY if any(byte < 9 for byte in start) else TEXT


# Text


def _text(old: Path, new: Path) -> int:
    message = prototxt.load(old)
    is_solver = not (message.has("layer") or message.has("layers"))
    before = str(message)
    message = upgrade_solver(message) if is_solver else upgrade(message, registry())
    if str(message) == before:
        _tell_current(old)
    with replacing(new) as stream:
        stream.write(to_bytes(str(message)))
    return len(message.messages("layer"))


def _tell_current(old: Path) -> None:
    warnings.warn(f"{old}: is in today's form already", CaffeportWarning, stacklevel=4)


def _text_weights(old: Path, new: Path) -> int:
    """Write the weights that a net's text holds, with the net's other fields, as binary."""
    arrays: list[np.ndarray] = []
    message = upgrade(_parse_weights(old, arrays), registry())
    if not any(layer.messages("blobs") for layer in message.messages("layer")):
        raise PrototxtError(f"{old}: holds no weights (no layer has blobs); a net's text becomes text: NEW.prototxt")
    marks = {_mark(index): index for index in range(len(arrays))}
    for layer in message.messages("layer"):
        for blob in layer.messages("blobs"):
            for entry in blob.named("data"):
                if isinstance(entry.value, Scalar) and entry.value.text in marks:
                    entry.value = Scalar(str(marks[entry.value.text]), binary.NUMBERS)
    left_out: set[str] = set()
    encoded = binary.encode(message, "NetParameter", left_out, arrays)
    _tell_left_out(old, left_out)
    _write_checked(encoded, b"", old, new)
    return len(message.messages("layer"))


def _mark(index: int) -> str:
    return f"the numbers of array {index}"


def _parse_weights(path: Path, arrays: list[np.ndarray]) -> Message:
    """The text as a tree in which each long run of numbers is one field that names its array."""
    if path.stat().st_size > _LARGEST_TEXT:
        raise PrototxtError(f"{path}: more than {_LARGEST_TEXT >> 20} MiB is too large for a text")

    def take(run: re.Match[bytes]) -> bytes:
        words = re.findall(rb"data\s*:\s*([-+.\w]+)", run.group())
        try:
            arrays.append(np.array([word.rstrip(b"fF") if b"n" not in word.lower() else word for word in words], float))
        except ValueError:
            return run.group()  # the parser says where it is wrong
        return f'data: "{_mark(len(arrays) - 1)}"'.encode() + b"\n" * run.group().count(b"\n")

    return prototxt.parse(from_bytes(_RUN.sub(take, path.read_bytes()).removeprefix(b"\xef\xbb\xbf")), str(path))


# Binary


def _binary(old: Path, new: Path) -> int:
    data = caffemodel.mapped(old)
    caffemodel.read(old)  # which says where a damaged file goes wrong
    unknown: set[str] = set()
    try:
        message = binary.decode(wire.Walk(data), 0, len(data), "NetParameter", unknown)
    except wire.WireError as error:
        raise CaffemodelError(f"{old}: is truncated or corrupt: {error}") from error
    message.source = str(old)
    _drop_unknown_types(message)
    before = binary.encode(message, "NetParameter", set())
    is_old = message.has("layers") or message.has("input")
    message = upgrade(message)
    left_out: set[str] = set()
    encoded = binary.encode(message, "NetParameter", left_out)
    if not is_old and encoded.pieces == before.pieces:
        _tell_current(old)
    _tell_left_out(old, left_out | unknown)
    _write_checked(encoded, data, old, new)
    return len(message.messages("layer"))


def _drop_unknown_types(net: Message) -> None:
    """Take a fork's V1 types out, which are numbers that only the fork can name; weights do without."""
    for layer in net.messages("layers"):
        number = layer.text("type")
        if number and not layer.has("layer") and int(number) not in V1_TYPES_BY_NUMBER:
            layer.remove("type")
            warnings.warn(
                f'{net.source}: layer "{layer.text("name")}" has the type {number} of a fork, which is left out',
                CaffeportWarning,
                stacklevel=5,
            )


def _tell_left_out(old: Path, names: set[str]) -> None:
    if names:
        warnings.warn(
            f"{old}: left out {name_list(sorted(names))}, which caffe.proto has no number for; weights do without",
            CaffeportWarning,
            stacklevel=4,
        )


def _write_checked(encoded: binary.Encoded, source: wire.Buffer, old: Path, new: Path) -> None:
    """Write the bytes and read them again, so that a blob whose numbers do not fill its shape is refused."""
    with replacing_path(new) as temporary:
        with open(temporary, "wb") as stream:
            encoded.write(stream, source)
        try:
            caffemodel.read(temporary)
        except CaffemodelError as error:
            raise CaffemodelError(str(error).replace(str(temporary), str(old))) from error


# HDF5


def _from_hdf5(old: Path, new: Path) -> int:
    layers = caffemodel.read(old).layers
    caffemodel.write(new, "", ((layer.name, "", (), (), [blob.array() for blob in layer.blobs]) for layer in layers))
    return len(layers)


def _to_hdf5(old: Path, new: Path, named: Path) -> int:
    model = caffemodel.read(old)
    for layer in model.layers:
        if layer.blobs and ("/" in layer.name or layer.name in ("", ".", "..")):
            raise CaffeportError(
                f'{named}: layer "{layer.name}" cannot stand in HDF5 weights, where Caffe takes a slash for a folder; '
                "keep them as .caffemodel"
            )
    write_hdf5(new, [(name, layers[-1].type, layers[-1].blobs) for name, layers in model.by_name().items()])
    return len(model.layers)
