"""Readers of shards and of folders: WebDataset's tars, Parquet tables, indexes of faces, checkpoints of many classes.

A folder's files are mutated as one input, with a mark between them, so that a change may meet any of them.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from support import data_writers

MARK = b"\n--- the next file ---\n"
Row = tuple[str, str, Callable[[Path], object], Callable[[], list[bytes]]]


@cache
def _template(make: Callable[[Path], Path]) -> tuple[tempfile.TemporaryDirectory[str], Path, tuple[Path, ...]]:
    """Return (what removes it at the end, the folder that ``make`` makes, its files)."""
    kept = tempfile.TemporaryDirectory()
    folder = make(Path(kept.name))
    return kept, folder, tuple(path for path in sorted(folder.rglob("*")) if path.is_file())


def _joined(make: Callable[[Path], Path]) -> list[bytes]:
    _, _, files = _template(make)
    return [MARK.join([path.read_bytes() for path in files])]


def _spread(make: Callable[[Path], Path], path: Path) -> Path:
    """Write an input's parts into the folder's files, and return the folder."""
    _, folder, files = _template(make)
    parts = path.read_bytes().split(MARK)
    for number, file in enumerate(files):
        file.write_bytes(parts[number] if number < len(parts) else b"")
    return folder


def _index(folder: Path) -> Path:
    from normface.features import Features, save_features
    from normface.recognise import build_index

    rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    known = Features(rows, [f"face {row}" for row in range(40)])
    known.labels, known.identities = np.arange(40) // 4, [f"person {number}" for number in range(10)]
    save_features(folder / "g.npz", known)
    build_index(folder / "index", [folder / "g.npz"], kind="hnsw", held_out=10)
    return folder / "index"


def _search(path: Path) -> None:
    from normface.recognise import IndexedGallery

    gallery = IndexedGallery(_spread(_index, path))
    gallery.nearest(np.random.default_rng(0).normal(size=(3, gallery.manifest.dimension)), 2)


CLASSES = [f"person {number}" for number in range(5)]


def _modules() -> tuple[dict, list]:
    import torch
    from normface import parallel

    modules = {"net": torch.nn.Linear(3, 3), "head": parallel.make("curricularface", len(CLASSES), 3)}
    optimizer = torch.optim.SGD([one for module in modules.values() for one in module.parameters()], 0.1, momentum=0.9)
    return modules, [optimizer]


def _checkpoint(folder: Path) -> Path:
    from normface import parallel

    return parallel.save(folder, 7, *_modules(), classes=CLASSES, notes={"epoch": 1})


def _resume(path: Path) -> None:
    """Load with the classes in their order, and in another, which reads row by row."""
    from normface import parallel

    folder = _spread(_checkpoint, path)
    parallel.load(folder, *_modules(), classes=CLASSES)
    parallel.load(folder, *_modules(), classes=CLASSES[::-1])


def _tars() -> list[bytes]:
    image = data_writers.encoded(data_writers.random_image(0, 4, 3))
    files = []
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
            for name, raw in (
                ("a/1.png", image),
                ("a/1.cls", b"3"),
                ("b" * 120 + "/é.png", image),
                ("b" * 120 + "/é.cls", b"4"),
                ("b/2.txt", b"x"),
            ):
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(raw), 1.5
                archive.addfile(member, io.BytesIO(raw))
        files.append(stream.getvalue().rstrip(b"\0") + bytes(1536))
    return files


def _tables() -> list[bytes]:
    import pyarrow
    import pyarrow.parquet

    image = data_writers.encoded(data_writers.random_image(0, 4, 3))
    files = []
    for packing, dictionary in (("none", True), ("zstd", False)):
        stream = io.BytesIO()
        columns = {"image": [{"bytes": image, "path": "a.png"}] * 3, "label": [0, 1, 1], "name": ["a", "b", "c"]}
        pyarrow.parquet.write_table(
            pyarrow.table(columns), stream, compression=packing, use_dictionary=dictionary, row_group_size=2
        )
        files.append(stream.getvalue())
    return files


def rows(images: Callable[[Path], None]) -> list[Row]:
    """Return (name, suffix, read, whole files) of each; ``images`` reads the first images of a source."""
    return [
        ("tar", ".tar", images, _tars),
        ("parquet", ".parquet", images, _tables),
        ("index", ".index", _search, lambda: _joined(_index)),
        ("checkpoint", ".checkpoint", _resume, lambda: _joined(_checkpoint)),
    ]
