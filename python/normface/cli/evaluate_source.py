"""Where normface evaluate takes its features from: a file, or images by a model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from caffeport.cli.command import remark

from ..errors import NormfaceError
from . import model_options
from .evaluate_options import PROTOCOLS_OWN, refuse_both

if TYPE_CHECKING:
    from ..features import Features


def asked_features(options: argparse.Namespace, mirror: str, needed: Any) -> Features:
    """Return those of --features, or by the model of those --images that ``needed(names) -> rows`` says."""
    import numpy as np

    from ..evaluate.source import Chosen
    from ..features import load_features

    if options.features is not None:
        refuse_both(options)
        return load_features(options.features)
    images = asked_images(options)
    if options.model is None or images is None:
        raise NormfaceError(
            "give --features F.npz (of normface extract), or a model (MODEL.onnx, or NET WEIGHTS) with --images"
        )
    return extracted_features(options, Chosen(images, np.unique(needed(images.names))), mirror)


def extracted_features(options: argparse.Namespace, images: Any, mirror: str) -> Features:
    from ..features import Features

    if options.model is None:
        raise NormfaceError("give --features F.npz (of normface extract), or a model (MODEL.onnx, or NET WEIGHTS)")
    options.mirror = mirror if options.mirror == PROTOCOLS_OWN else options.mirror
    extractor = model_options.extractor(options)
    rows = extractor.features(images, progress=True)
    if not options.json:
        remark("normface", options, f"features by {extractor.runtime}")
    settings = dict(extractor.settings)
    if len(extractor.image_sizes) == 1:
        settings["face"] = list(*extractor.image_sizes)
    if options.threshold_out is not None and extractor.identity is not None:
        settings["identity"] = extractor.identity.to_dict()
    return Features(rows, list(images.names), settings=settings)


def asked_images(options: argparse.Namespace) -> Any:
    from ..data import open_reader

    images = getattr(options, "images", None)
    return None if images is None else open_reader(images)
