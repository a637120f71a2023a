"""--threshold-out of normface evaluate: the thresholds that were measured, with the model that they hold for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffeport.cli import command

from ..errors import NormfaceError

if TYPE_CHECKING:
    import numpy as np


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold-out",
        type=Path,
        metavar="MODEL.toml",
        help="write the thresholds with the model they hold for; normface compare finds it beside the model",
    )


def check(options: argparse.Namespace, comparable: bool) -> None:
    """Before the work is done. comparable: the scores will be plain cosines, of which thresholds can be told."""
    if options.threshold_out is None:
        return
    from ..recognise import threshold_file

    threshold_file.checked_target(options.threshold_out)
    if not comparable:
        raise NormfaceError("--threshold-out: needs plain cosines; leave --pca and --metric out, --protocol plain")


def write(
    options: argparse.Namespace,
    figures: dict[str, Any],
    settings: dict[str, Any],
    measured: str,
    pairs: tuple[int, int],
    impostor_scores: np.ndarray | None = None,
) -> None:
    """Write the threshold file of the model that made the features, as their ``settings`` say.

    pairs: (genuine, impostor). Rates that these do not show (intervals.shows) are left out: they were not measured.
    impostor_scores: of listed pairs, which tell how far the rates can be trusted.
    """
    if options.threshold_out is None:
        return
    from ..evaluate.intervals import of_listed_pairs, shows
    from ..features.identity import ModelIdentity
    from ..reading import parsing
    from ..recognise import threshold_file

    source = options.features or options.model
    if settings.get("identity") is None:
        raise NormfaceError(
            f"{source}: does not say which model made the features, so that no threshold can be told for one; "
            "extract them again, or evaluate the model itself"
        )
    with parsing(source, "its settings name no model"):
        model = ModelIdentity.from_dict(settings["identity"])
        face = None if "face" not in settings else (int(settings["face"][0]), int(settings["face"][1]))
    told = {float(far): cosine for far, cosine in figures["thresholds"].items()}
    known = {far: cosine for far, cosine in told.items() if shows(far, cosine, pairs[1], impostor_scores)}
    if not known and max(told) * pairs[1] >= 1:
        raise NormfaceError("--threshold-out: too many of the impostor pairs have one and the same score")
    if not known:
        raise NormfaceError(
            f"--threshold-out: {pairs[1]} impostor pairs show no such rate; ask for higher ones (--fars)"
        )
    intervals = {}
    if impostor_scores is not None:
        accepted = {far: int((impostor_scores >= cosine).sum()) for far, cosine in known.items()}
        intervals = {far: of_listed_pairs(count, pairs[1]) for far, count in accepted.items()}
    threshold_file.write(
        options.threshold_out,
        threshold_file.Measurement(measured, model, known, face, intervals, pairs, threshold_file.today()),
    )


def tell(options: argparse.Namespace) -> None:
    if options.threshold_out:
        words = "thresholds of this model, which normface compare finds beside it"
        command.tell(options, f"wrote {options.threshold_out}: {words}")
