"""normface compare A.jpg B.jpg MODEL [WEIGHTS]: one person or two."""

from __future__ import annotations

import argparse
from pathlib import Path

from caffeport.cli.arguments import finite
from caffeport.cli.command import DONE, remark
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json

from ..errors import UnknownThresholdError
from . import photo_options

EXAMPLES = (
    "normface compare a.jpg b.jpg face.onnx --preset mobilefacenet",
    "normface compare a.jpg b.jpg deploy.prototxt face.caffemodel --preset mobilefacenet --far 0.0001 --draw v.png",
    "normface compare a.png b.png face.onnx --preset normface --aligned --threshold 0.35 --json",
)


def add_arguments(parser: OneLineParser) -> None:
    parser.add_argument("a", metavar="A", type=Path, help="a photo")
    parser.add_argument("b", metavar="B", type=Path, help="another")
    photo_options.add_arguments(parser)
    group = parser.add_argument_group("the verdict")
    group.add_argument("--far", type=finite, default=1e-3, help="false accepts tolerated (default 0.001)")
    group.add_argument("--threshold", type=finite, metavar="COSINE", help="your own instead, told as given")
    group.add_argument(
        "--calibration",
        type=Path,
        metavar="F",
        help="thresholds that normface evaluate measured (F.toml, results.json; default: MODEL.toml beside the model)",
    )
    parser.add_argument("--draw", type=Path, metavar="F.png", help="both faces as the net saw them, with the verdict")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    from ..recognise import threshold_for
    from ..recognise.verdict import checked_drawing, compare, draw

    if options.draw is not None:
        checked_drawing(options.draw)
    if options.threshold is not None:  # refused before a model is read
        threshold_for(options.far, cosine=options.threshold)
    reader = photo_options.reader(options)
    threshold, unknown = None, ""
    try:
        threshold = threshold_for(
            options.far, cosine=options.threshold, calibration=options.calibration, extractor=reader.extractor
        )
    except UnknownThresholdError as error:
        unknown = str(error)
    a, b = reader.read(options.a), reader.read(options.b)
    verdict = compare(a, b, threshold, unknown)
    if options.draw is not None:
        draw(options.draw, verdict)
    if options.json:
        print(to_json(verdict.to_dict() | {"runtime": reader.extractor.runtime}))
        return DONE
    print(verdict.words)
    if verdict.threshold is None:
        print(verdict.unknown)
    remark("normface", options, f"features by {reader.extractor.runtime}")
    return DONE
