"""Files of hundreds of thousands of the smallest parts that their format has are read, or refused, in little time."""

from __future__ import annotations

import sys

import pytest
from support.bounded_reads import Reading, readings
from support.hostile_parts import PARTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="measures memory by Linux's /proc"),
]
SECONDS, MEGABYTES = 5.0, 64
"""As in test_hostile_files.py."""
LARGE = {"files.tar", "folders.tar", "links.tar", "pax-headers.tar", "long-names.tar"}
"""Half a gigabyte of a million members; here a tenth of it, to which the bound of time is in proportion."""
READ = {"splits.txt": "has more than 300000 pairs of videos", "members.npz": "it has 1000000 members; at most 10000"}
READ |= {"members.zip": "it has more than 574132 members", "blobs.caffemodel.h5": "it holds more than 10000 blobs"}
READ |= {"values.leveldb": "has more than .* records", "short-lines.txt": "has more than 1866666 lines"}
READ |= dict.fromkeys(("tensors.safetensors", "head.safetensors"), "it has 300000 tensors; at most 20000 are read")
READ |= dict.fromkeys(("nodes.onnx", "weights.onnx"), "its graph lists more than 50000 nodes, weights and values")
READ |= dict.fromkeys(("lists-landmarks.json", "lists-calibration.json", "results.json"), "lists and objects")


@pytest.fixture(scope="module")
def read(tmp_path_factory) -> dict[str, tuple[Reading, int]]:
    folder = tmp_path_factory.mktemp("case")
    for name, (_, write, count) in PARTS.items():
        write(folder / name, count // 10 if name in LARGE else count)
    paths = [folder / name for name in PARTS]
    sizes = [sum(one.stat().st_size for one in ([path] if path.is_file() else path.iterdir())) for path in paths]
    found = readings([(reader, path) for (reader, _, _), path in zip(PARTS.values(), paths, strict=True)])
    return {name: (reading, size) for name, reading, size in zip(PARTS, found, sizes, strict=True)}


@pytest.mark.parametrize("name", PARTS)
def test_they_are_bounded(name, read):
    import re

    reading, size = read[name]
    assert reading.seconds <= SECONDS + 10 * reading.bytes_seconds, reading
    assert reading.megabytes <= MEGABYTES + 40 * size / 2**20, reading
    assert reading.error.endswith("Error") and "\n" not in reading.message and len(reading.message) < 4000
    assert re.search(READ.get(name, ""), reading.message), reading
