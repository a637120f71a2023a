"""normface extract MODEL [WEIGHTS] --data IMAGES --out F.npz"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from caffeport.cli.command import DONE, tell
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json

from . import model_options

EXAMPLES = (
    "normface extract face.onnx --preset mobilefacenet --data faces/ --out faces.npz",
    "normface extract deploy.prototxt face.caffemodel --preset center-face --mirror sum --data lfw.zip --out lfw.npz",
    "normface extract face.onnx --mean 127.5 --scale 0.0078125 --data list.txt --root photos --out faces.parquet",
)


def add_arguments(parser: OneLineParser) -> None:
    model_options.add_model(parser, required=True)
    parser.add_argument(
        "--data", required=True, type=Path, metavar="IMAGES", help="a folder, list file, zip, LMDB or .rec"
    )
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="what the paths of a list file are relative to")
    parser.add_argument("--out", required=True, type=Path, metavar="F.npz", help="the file to write, or F.parquet")
    parser.add_argument(
        "--on-bad-image",
        choices=("stop", "skip"),
        default="stop",
        help="at one that cannot be read (default stop)",
    )
    parser.add_alias("--on-bad-picture", "--on-bad-image")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    from ..data import open_reader
    from ..features.features import checked_target
    from ..features.job import extract_to

    checked_target(options.out)
    extractor = model_options.extractor(options)
    images = open_reader(options.data, root=options.root, color=extractor.color)
    outcome = extract_to(options.out, extractor, images, bad=options.on_bad_image)
    rows, width = outcome.features.features.shape
    if options.json:
        skipped = [{"picture": name, "why": why} for name, why in outcome.skipped]
        content = {"file": str(options.out), "pictures": rows, "dimension": width, "skipped": skipped}
        print(to_json(content | {"continued_from": outcome.continued_from, "runtime": extractor.runtime}))
        return DONE
    for _, why in outcome.skipped:
        print(f"normface: skipped {why}", file=sys.stderr)
    again = f", continued from {outcome.continued_from}" if outcome.continued_from else ""
    tell(options, f"wrote {options.out}: {rows} features of {width} numbers{again}; by {extractor.runtime}")
    return DONE
