"""normface search PHOTO... MODEL [WEIGHTS] --gallery features.npz: whose faces are nearest."""

from __future__ import annotations

import argparse
from pathlib import Path

from caffeport.cli.command import DONE, print_table, remark
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json
from caffeport.table import Table

from . import photo_options

EXAMPLES = (
    "normface search who.jpg face.onnx --preset mobilefacenet --gallery gallery.npz",
    "normface search who.jpg deploy.prototxt face.caffemodel --preset mobilefacenet --gallery gallery.npz --top 3",
    "normface search a.png b.png face.onnx --preset normface --aligned --gallery gallery.npz --json",
)


def add_arguments(parser: OneLineParser) -> None:
    parser.add_argument("photos", metavar="PHOTO", nargs="+", type=Path, help="photos with the face to look for")
    parser.add_argument(
        "--gallery",
        required=True,
        type=Path,
        metavar="F.npz",
        help="features of the known faces (normface extract), or an index of them",
    )
    photo_options.add_arguments(parser)
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many of the nearest (default 5)")
    parser.add_argument(
        "--faiss", action=argparse.BooleanOptionalAction, default=None, help="search with faiss (default: if installed)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    import numpy as np

    from ..errors import NormfaceError
    from ..recognise import IndexedGallery, open_gallery

    if options.top < 1:
        raise NormfaceError(f"--top {options.top}: expected 1 or more")
    gallery = open_gallery(options.gallery, use_faiss=options.faiss)
    if options.model is None:
        options.photos, options.model, options.weights = photo_options.without_model(options.photos)
    reader = photo_options.reader(options)
    gallery.expects(reader.settings, str(options.gallery), reader.extractor.weight_digests)
    faces = [reader.read(path) for path in options.photos]
    nearest_of = gallery.nearest(np.stack([face.feature for face in faces]), options.top)
    if options.json:
        recall = {"recall": [vars(one) for one in gallery.recall]} if isinstance(gallery, IndexedGallery) else {}
        content = [
            {"photo": face.path, "nearest": [vars(match) for match in matches]} | recall
            for face, matches in zip(faces, nearest_of, strict=True)
        ]
        print(to_json(content))
        return DONE
    lines = [
        (face.path, str(place), match.name, match.identity or "", f"{match.score:.3f}")
        for face, matches in zip(faces, nearest_of, strict=True)
        for place, match in enumerate(matches, 1)
    ]
    print_table(Table(("photo", "place", "face", "person", "cosine"), lines, {"place", "cosine"}))
    remark("normface", options, f"features by {reader.extractor.runtime}")
    if isinstance(gallery, IndexedGallery):
        remark("normface", options, gallery.words)
    return DONE
