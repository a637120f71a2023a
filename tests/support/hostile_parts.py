"""Files of a million of the smallest parts that their format has: {name: (reader, how it is written)}.

They are written part by part, as the formats say, since their own writers take minutes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

from caffeport.formats import wire

from support.bvlc_solvers import write_leveldb
from support.data_writers import image_record, record, tagged
from support.hostile_archives import END, header, padded, pax
from support.hostile_archives import record as pax_record

Write = Callable[[Path, int], None]


def write_tar(kind: bytes, name: str = "{}.jpg") -> Write:
    """Empty members of a type, each a block of 512 bytes."""

    def write(path: Path, count: int) -> None:
        with open(path, "wb") as stream:
            for start in range(0, count, 1000):
                stream.write(b"".join(header(name.format(number), 0, kind) for number in range(start, start + 1000)))
            stream.write(END)

    return write


def write_extended_tar(path: Path, count: int) -> None:
    """Members with a PAX header before each."""
    one = pax(pax_record(b"a", b"b"))[: -len(END)]
    with open(path, "wb") as stream:
        for _ in range(count // 1000):
            stream.write(one * 1000)
        stream.write(END)


def write_long_names(path: Path, count: int) -> None:
    """GNU's headers for a long name, before one member."""
    one = header("x", 2, b"L") + padded(b"a")
    path.write_bytes(one * count + header("b") + END)


def write_zip(name: str) -> Write:
    """Empty members, in a zip with its end in 64 bits, as more than 65,535 need."""

    def write(path: Path, count: int) -> None:
        names = [name.format(number).encode() for number in range(count)]
        locals_, table, at = [], [], 0
        for one in names:
            locals_.append(struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, len(one), 0) + one)
            entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, len(one), *[0] * 5, at)
            table.append(entry + one)
            at += len(locals_[-1])
        size = sum(map(len, table))
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)
        end += struct.pack("<4sLQL", b"PK\6\7", 0, at + size, 1)
        end += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[65535] * 2, *[2**32 - 1] * 2, 0)
        path.write_bytes(b"".join([*locals_, *table, end]))

    return write


def write_repeated(part: bytes, before: bytes = b"", after: bytes = b"") -> Write:
    def write(path: Path, count: int) -> None:
        path.write_bytes(before + part * count + after)

    return write


def write_lmdb(path: Path, count: int) -> None:
    """Empty values."""
    import lmdb

    with lmdb.open(str(path), map_size=1 << 30) as environment, environment.begin(write=True) as transaction:
        transaction.cursor().putmulti([(b"%08d" % number, b"") for number in range(count)], append=True)


def write_leveldb_of_nothing(path: Path, count: int) -> None:
    write_leveldb(path, {b"%08d" % number: b"" for number in range(count)})


def write_hdf5(path: Path, count: int) -> None:
    """Empty data sets, as a net's blobs."""
    import h5py

    with h5py.File(path, "w", libver="latest") as file:
        for number in range(count):
            file.create_dataset(f"data/{number}/0", (0,), "f4")


def write_parquet(columns: int, rows: int) -> Write:
    """Row groups of ``rows`` rows and more columns than images and labels."""

    def write(path: Path, count: int) -> None:
        import pyarrow
        import pyarrow.parquet

        table = {"image": [b""] * count, "label": [1] * count}
        table |= {f"column{number}": [0] * count for number in range(columns)}
        pyarrow.parquet.write_table(
            pyarrow.table(table), path, row_group_size=rows, write_statistics=False, use_dictionary=False
        )

    return write


def write_onnx(field: int) -> Write:
    """A model whose graph has empty messages in ``field``: 1 is a node, 5 a weight."""

    def write(path: Path, count: int) -> None:
        import onnx

        value = onnx.helper.make_tensor_value_info("x", 1, [1])
        graph = onnx.helper.make_graph([], "graph", [value], [value])
        model = onnx.helper.make_model(graph)
        model.ClearField("graph")
        graph_raw = graph.SerializeToString() + wire.delimited(field, b"") * count
        path.write_bytes(model.SerializeToString() + wire.delimited(7, graph_raw))

    return write


def write_safetensors(path: Path, count: int) -> None:
    """Empty tensors."""
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    raw = json.dumps({f"t{number}": entry for number in range(count)}).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)


def write_landmarks(path: Path, count: int) -> None:
    """Photos without a face."""
    path.write_text(json.dumps({str(number): [] for number in range(count)}))


MILLION = 1_000_000
PARTS: dict[str, tuple[str, Write, int]] = {
    "files.tar": ("images", write_tar(b"0"), MILLION),
    "folders.tar": ("images", write_tar(b"5"), MILLION),
    "links.tar": ("images", write_tar(b"2"), MILLION),
    "pax-headers.tar": ("images", write_extended_tar, 300_000),
    "long-names.tar": ("images", write_long_names, 300_000),
    "members.zip": ("images", write_zip("{}.jpg"), MILLION),
    "deep-names.zip": ("images", write_zip("a/" * 1000 + "{}.jpg"), 20_000),
    "members.npz": ("features", write_zip("{}.npy"), MILLION),
    "members.pth": ("torch", write_zip("a/data/{}"), MILLION),
    "row-groups.parquet": ("images", write_parquet(0, 1), 100_000),
    "columns.parquet": ("images", write_parquet(30_000, 1), 1),
    "no-images.rec": ("images", write_repeated(record(image_record(0, 1, b""))), MILLION),
    "no-headers.rec": ("images", write_repeated(record(b"")), MILLION),
    "values.lmdb": ("images", write_lmdb, MILLION),
    "values.leveldb": ("images", write_leveldb_of_nothing, MILLION),
    "blobs.caffemodel.h5": ("weights", write_hdf5, 100_000),
    "layers.caffemodel": ("weights", write_repeated(wire.delimited(100, b"")), MILLION),
    "fields.solverstate": ("solverstate", write_repeated(tagged(1, 5)), MILLION),
    "messages.prototxt": ("net", write_repeated(b"layer { } "), MILLION),
    "nodes.onnx": ("onnx", write_onnx(1), MILLION),
    "weights.onnx": ("onnx", write_onnx(5), MILLION),
    "tensors.safetensors": ("torch", write_safetensors, 300_000),
    "head.safetensors": ("head", write_safetensors, 300_000),
    "blank-lines.txt": ("list", write_repeated(b"\n"), 16 * MILLION),
    "short-lines.txt": ("list", write_repeated(b"a\n"), 5 * MILLION),
    "broken-line.txt": ("list", write_repeated(b"1.png 1\n", after=b"x\n"), 2 * MILLION),
    "blank-pairs.txt": ("pairs", write_repeated(b"\n"), 16 * MILLION),
    "splits.txt": ("splits", write_repeated(b"1, 1, a/1, b/1, 0\n"), MILLION),
    "empty-landmarks.json": ("landmarks", write_landmarks, MILLION),
    "lists-landmarks.json": ("landmarks", write_repeated(b"[],", b"[", b"[]]"), 5 * MILLION),
    "lists-calibration.json": ("calibration", write_repeated(b"[],", b"[", b"[]]"), 5 * MILLION),
    "results.json": ("results", write_repeated(b"[],", b'{"a": [', b"[]]}"), 5 * MILLION),
}
