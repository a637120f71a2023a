"""normface extract MODEL [WEIGHTS] --data IMAGES --out F.npz"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from caffeport.cli.command import DONE, tell
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json

from .. import progress
from ..errors import NormfaceError
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
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="F.npz",
        help="the file to write, or F.parquet; by torchrun F-RANK-of-SIZE.npz",
    )
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
    from ..features.share import Share, place_of

    place = place_of()
    options.out = checked_target(place.file(options.out))
    if place.size > 1:
        _share_machine(options, place)
    extractor = model_options.extractor(options)
    images: Any = open_reader(options.data, root=options.root, color=extractor.color)
    if place.size > 1:
        part = place.part(len(images))
        if not part:
            raise NormfaceError(f"{options.data}: holds {len(images)} images for {place.size} processes; start fewer")
        images = Share(images, part)
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


def _share_machine(options: argparse.Namespace, place: Any) -> None:
    """Give this process its part of the machine's cores and the GPU of its number, and let the first one speak."""
    from caffeport.cores import usable_cores

    if options.threads is None:
        options.threads = max(1, usable_cores() // place.local_size)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if options.device != "cpu" and (visible is None or "," in visible):
        devices = [str(place.local_rank)] if visible is None else visible.split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[place.local_rank % len(devices)]
    progress.silence(options.quiet or place.rank > 0)
