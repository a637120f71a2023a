"""The lines and branches of a reader's own modules that its inputs reach, by coverage.py.

``python -m fuzz.covered TARGET SEED SECONDS`` prints a line of JSON. It is a process of its own, since what is counted
has to be imported after counting begins; inputs take some ten times as long.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FORMATS, READERS = "converter/caffeport/formats", "python/normface/data/readers"
MODULES: dict[str, tuple[str, ...]] = {
    "prototxt": (f"{FORMATS}/prototxt.py", f"{FORMATS}/plain_text.py", f"{FORMATS}/escapes.py"),
    "net": ("converter/caffeport/graph/connect.py", f"{FORMATS}/schema.py", f"{FORMATS}/upgrade.py"),
    "caffemodel": (f"{FORMATS}/caffemodel.py", f"{FORMATS}/wire.py", f"{FORMATS}/stored.py"),
    "weights": ("converter/caffeport/graph/weights.py",),
    "hdf5-weights": (f"{FORMATS}/hdf5.py",),
    "mean": (f"{FORMATS}/caffemodel.py",),
    "onnx": ("converter/caffeport/parity/written_onnx.py",),
    "safetensors": ("converter/caffeport/parity/written_torch.py",),
    "pth": ("converter/caffeport/parity/written_torch.py",),
    "image": ("python/normface/data/headers.py", "python/normface/data/decoding.py"),
    "lmdb": (f"{READERS}/lmdb_file.py", f"{READERS}/datum.py", f"{READERS}/database.py"),
    "recordio": (f"{READERS}/recordio.py",),
    "zip": (f"{READERS}/zip_file.py",),
    "list": (f"{READERS}/list_file.py",),
    "bin": ("python/normface/evaluate/plain_pickle.py", "python/normface/evaluate/bin_sets.py"),
    "features": ("python/normface/features/features.py",),
    "mat": ("python/normface/evaluate/matfile.py", "python/normface/evaluate/blufr_config.py"),
    "pairs": ("python/normface/evaluate/lfw.py",),
    "splits": ("python/normface/evaluate/ytf.py",),
    "landmarks": ("python/normface/alignment/landmarks.py",),
    "calibration": ("python/normface/recognise/threshold_file.py",),
    "results": ("experiments/gallery.py",),
    "solverstate": ("python/normface/solver/state.py", "python/normface/solver/content.py"),
    "config": ("python/normface/finetune/config_file.py",),
    "tar": (f"{READERS}/tar_file.py", f"{READERS}/tar_members.py"),
    "parquet": (f"{READERS}/parquet_file.py", f"{READERS}/parquet_pages.py", f"{READERS}/thrift_compact.py"),
    "index": ("python/normface/recognise/index/manifest.py", "python/normface/recognise/index/hnsw.py"),
    "checkpoint": ("python/normface/parallel/checkpoint.py", "python/normface/parallel/picking.py"),
    "extract": ("python/normface/features/session.py",),
    "extract-caffe": ("python/normface/features/session.py",),
    "head": (),
}
"""Where each target's reader is; what writes, or serves other commands, is in some of these files, too."""


def main() -> None:
    """Run one target under coverage.py."""
    import coverage

    name, seed, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    counted = coverage.Coverage(branch=True, data_file=None, include=[str(ROOT / path) for path in MODULES[name]])
    counted.start()
    from fuzz.runner import fuzz
    from fuzz.targets import targets

    outcome = fuzz(targets()[name], seed, seconds=seconds)
    counted.stop()
    report = {"executions": outcome.executions, "seconds": outcome.seconds, "errors": outcome.errors}
    report |= {"findings": {where: (raised, raw.hex()) for where, (raised, raw) in outcome.findings.items()}}
    print(json.dumps(report | {"covered": _share(counted) if MODULES[name] else None}))


def _share(counted: Any) -> float:
    """Return the share of lines and branches together, as coverage.py has it."""
    with open(os.devnull, "w") as nowhere:
        return counted.report(file=nowhere) / 100


if __name__ == "__main__":
    main()
