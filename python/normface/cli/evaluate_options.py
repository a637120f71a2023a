"""The options of normface evaluate that its protocols share, and what they mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from caffeport.cli.parser import OneLineParser

from ..errors import DataError, NormfaceError
from . import model_options, threshold_option

METRICS = ("cosine", "euclid", "normalized-euclid")
PROTOCOLS_OWN = "the protocol's"  # the mirror merge, unless said
PROTOCOLS = ("plain", "normface", "sphereface", "insightface")


def add_fold_options(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default=default, help="whose way of measuring (default %(default)s)"
    )
    parser.add_argument("--fars", "--far", metavar="F[,F]", help="false accept rates (default 0.1,0.01,0.001)")
    add_score_options(parser)


def add_score_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pca", metavar="KEEP", help="principal components: 0.995 of the variance, or 128 of them")
    parser.add_argument("--metric", choices=METRICS, help="replaces the protocol's")


def add_source(parser: OneLineParser, images: bool) -> None:
    group = parser.add_argument_group("features", "from a file, or by a model")
    group.add_argument("--features", type=Path, metavar="F.npz", help="as normface extract writes them")
    if images:
        group.add_argument("--images", type=Path, metavar="IMAGES", help="a folder, zip, …; for figures too")
    model_options.add_model(parser)
    parser.set_defaults(mirror=PROTOCOLS_OWN, threshold_out=None)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write figures and results.json there")
    for option, text in (("--quiet", "no notes, no progress"), ("--debug", "show the traceback of an error")):
        parser.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=text)


def fold_protocol(options: argparse.Namespace) -> Any:
    from ..evaluate.protocols import protocol_named

    return protocol_named(options.protocol).with_options(pca=kept_components(options.pca), metric=options.metric)


def kept_components(text: str | None) -> float | int | None:
    from ..evaluate.pca import checked_keep

    if text is None:
        return None
    try:
        keep: float | int = float(text) if "." in text or "e" in text.lower() else int(text)
    except ValueError:
        raise NormfaceError(f'--pca "{text}": expected a share of the variance (0.995) or a number (128)') from None
    return checked_keep(keep)


def rates(text: str | None, option: str, default: tuple[float, ...] = (1e-1, 1e-2, 1e-3)) -> tuple[float, ...]:
    if text is None:
        return default
    try:
        fars = tuple(float(part) for part in text.split(","))
    except ValueError:
        fars = ()
    if not fars or not all(0 < far <= 1 for far in fars):
        raise NormfaceError(f'{option} "{text}": expected shares above 0 up to 1 with commas between: 0.01,0.001')
    return fars


def refuse_both(options: argparse.Namespace) -> None:
    if options.model is not None:
        raise NormfaceError("give --features or a model, not both")


def check_output(options: argparse.Namespace, comparable: bool = False) -> None:
    """Before the work is done: that figures can be drawn, and that the folder is there.

    comparable: the scores will be cosines of features as they are extracted, of which a threshold can be told.
    """
    threshold_option.check(options, comparable)
    if options.out is None:
        return
    from ..evaluate.figures import figure

    figure(1, 1)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{options.out}: cannot be made: {error.strerror or error}") from error
