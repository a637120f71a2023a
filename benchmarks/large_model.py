"""Converting a large model to ONNX: memory against the size of its file, time against copying the file.

Claim: on VGG-16 (553 MB of weights), `caffeport convert --onnx` peaks at no more than 1.3 times the size
of the .caffemodel above a process that only imports the same modules, and takes no more than 4 times
as long as `cp` takes to copy the .caffemodel.

    python benchmarks/large_model.py [--repeats 5] [--json FILE]

The first call writes the model, with random weights, into the cache folder (see _measure.py). The
weights are in the page cache in every measured run, and both write a new file; nobody waits for the disk.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from _measure import Row, cache, median_peak, median_seconds, parser, report, run

IMPORTS = "import caffeport.cli.main, caffeport.to_onnx.export, onnx, numpy"


def vgg16() -> tuple[Path, Path]:
    """(prototxt, caffemodel), written by a process of its own: this one has to stay small."""
    folder = cache() / "vgg16"
    folder.mkdir(exist_ok=True)
    net, weights = folder / "vgg16.prototxt", folder / "vgg16.caffemodel"
    if not weights.exists():
        run([sys.executable, Path(__file__).with_name("_vgg16.py"), net, weights])
    return net, weights


def main() -> None:
    options = parser(__doc__ or "", repeats=5).parse_args()
    net, weights = vgg16()
    convert: list[str | Path] = [sys.executable, "-m", "caffeport", "convert", net, weights, "--onnx"]
    ours, copies, imports = [], [], []
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        onnx_path, copy_path = Path(folder, "vgg16.onnx"), Path(folder, "copy.caffemodel")
        for _ in range(options.repeats + 1):
            imports.append(run([sys.executable, "-c", IMPORTS]))
            ours.append(run([*convert, onnx_path]))
            onnx_path.unlink()
            # A file system that can would otherwise share the blocks instead of copying them.
            copies.append(run(["cp", "--reflink=never", weights, copy_path]))
            copy_path.unlink()
    ours, copies, imports = ours[1:], copies[1:], imports[1:]  # the first round warms the file cache
    size = weights.stat().st_size / 1e6
    base = median_peak(imports)
    rows = [
        Row("peak memory above imports / file size", "MB", median_peak(ours) - base, size, 1.3),
        Row("time / cp", "s", median_seconds(ours), median_seconds(copies), 4),
    ]
    notes = [
        f"importing alone: {median_seconds(imports):.2f} s and {base:.0f} MB",
        "spread of the times: "
        + "; ".join(
            f"{name} {min(one.seconds for one in runs):.2f} to {max(one.seconds for one in runs):.2f} s"
            for name, runs in (("caffeport", ours), ("cp", copies))
        ),
    ]
    report("VGG-16 to ONNX", "caffeport", "yardstick", rows, notes, options)


if __name__ == "__main__":
    main()
