"""normface evaluate lfw | blufr | ytf | bin | pairs"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffeport.cli.arguments import finite
from caffeport.cli.command import DONE, print_table, tell
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json
from caffeport.table import Table

from ..errors import NormfaceWarning
from . import pairs_command, threshold_option
from .evaluate_options import (
    add_fold_options,
    add_score_options,
    add_source,
    check_output,
    fold_protocol,
    kept_components,
    rates,
    refuse_both,
)
from .evaluate_source import asked_features, asked_images, extracted_features

if TYPE_CHECKING:
    from ..evaluate import FoldResult


EXAMPLES = (
    "normface evaluate lfw --features lfw.npz --pairs pairs.txt",
    "normface evaluate blufr --features lfw.npz --config blufr_lfw_config.mat --out blufr",
    "normface evaluate bin face.onnx --preset mobilefacenet --set agedb_30.bin --json",
    "normface evaluate pairs face.onnx --preset mobilefacenet --pairs mine.csv --images photos/ --out mine",
)
_EXAMPLES = {
    "lfw": (
        EXAMPLES[0],
        "normface evaluate lfw face.onnx --preset mobilefacenet --images lfw.zip --pairs pairs.txt --out lfw",
        "normface evaluate lfw --features lfw.npz --pairs pairs.txt --protocol insightface --json",
    ),
    "blufr": (
        EXAMPLES[1],
        "normface evaluate blufr --features lfw.npz --config blufr_lfw_config.mat --threshold-out face.toml",
        "normface evaluate blufr deploy.prototxt face.caffemodel --preset normface --images lfw.zip "
        "--config blufr_lfw_config.mat",
    ),
    "ytf": (
        "normface evaluate ytf --features ytf.npz --splits splits.txt",
        "normface evaluate ytf --features ytf.npz --splits splits.txt --method histogram --centre",
        "normface evaluate ytf face.onnx --preset mobilefacenet --images frames.zip --splits splits.txt --json",
    ),
    "pairs": (
        EXAMPLES[3],
        "normface evaluate pairs face.onnx --preset mobilefacenet --images faces/ --fars 0.01,0.0001 --json",
        "normface evaluate pairs --features faces.npz --pairs mine.txt",
    ),
    "bin": (
        EXAMPLES[2],
        "normface evaluate bin deploy.prototxt face.caffemodel --preset sphereface --fit resize --set lfw.bin",
        "normface evaluate bin face.onnx --preset mobilefacenet --set cfp_fp.bin --out cfp --threshold-out face.toml "
        "--protocol plain",
    ),
}


def add_arguments(parser: OneLineParser) -> None:
    protocols = parser.add_subparsers(required=True, metavar="PROTOCOL")

    def protocol(name: str, text: str, run: Any) -> OneLineParser:
        added = protocols.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.add_examples(_EXAMPLES[name])
        added.set_defaults(protocol_run=run)
        return added

    lfw = protocol("lfw", "LFW's 6000 pairs in ten folds", _lfw)
    lfw.add_argument("--pairs", required=True, type=Path, metavar="pairs.txt", help="view 2's list of pairs")
    threshold_option.add(lfw)
    add_fold_options(lfw, "plain")
    blufr = protocol("blufr", "all pairs of LFW, and open-set identification, in ten trials", _blufr)
    blufr.add_argument(
        "--config", required=True, type=Path, metavar="blufr_lfw_config.mat", help="the benchmark's protocol file"
    )
    threshold_option.add(blufr)
    blufr.add_argument("--fars", "--far", metavar="F[,F]", help="of the verification rates (default 0.01,0.001,0.0001)")
    blufr.add_argument("--dir-fars", metavar="F[,F]", help="of the identification rates (default 0.1,0.01,0.001)")
    blufr.add_argument("--rank", type=int, default=1, metavar="N", help="of the identification rates (default 1)")
    add_score_options(blufr)
    ytf = protocol("ytf", "YouTube Faces' pairs of videos in ten folds", _ytf)
    ytf.add_argument("--splits", required=True, type=Path, metavar="splits.txt", help="the list of pairs of videos")
    ytf.add_argument(
        "--method",
        choices=("mean", "histogram"),
        default="mean",
        help="mean cosine of the frames (default), or their histogram in an SVM",
    )
    ytf.add_argument("--centre", action="store_true", help="subtract the mean of the other folds' videos first")
    ytf.add_argument("--svm-cost", type=finite, default=1.0, metavar="C", help="of the histogram method (default 1)")
    sets = protocol("bin", "InsightFace's .bin sets (lfw, cfp_fp, agedb_30, …) in ten folds", _bin)
    sets.add_argument("--set", required=True, type=Path, metavar="SET.bin", help="the set")
    threshold_option.add(sets)
    add_fold_options(sets, "insightface")
    pairs = pairs_command.add(protocol("pairs", "your own pairs: a list, or all pairs of a folder of people", _pairs))
    threshold_option.add(pairs)
    add_fold_options(pairs, "plain")
    for added, images in ((pairs, True), (lfw, True), (blufr, True), (ytf, True), (sets, False)):
        add_source(added, images)


def run(options: argparse.Namespace) -> int:
    return options.protocol_run(options)


def _lfw(options: argparse.Namespace) -> int:
    from ..evaluate.lfw import evaluate_lfw, read_pairs, rows_of
    from ..evaluate.source import mirror_note

    pairs = read_pairs(options.pairs)
    protocol = fold_protocol(options)
    fars = rates(options.fars, "--fars")
    check_output(options, protocol.name == "plain")
    features = asked_features(options, protocol.mirror, lambda names: rows_of(pairs, names))
    note = mirror_note(features.settings, protocol.mirror, protocol.name)
    if note:
        warnings.warn(NormfaceWarning(note), stacklevel=1)
    result = evaluate_lfw(features.features, features.names, pairs, protocol, fars=fars)
    return _tell_folds(options, result, "LFW", settings=features.settings)


def _bin(options: argparse.Namespace) -> int:
    from ..evaluate.bin_sets import evaluate_bin, read_bin

    held = read_bin(options.set)
    protocol = fold_protocol(options)
    fars = rates(options.fars, "--fars")
    check_output(options, protocol.name == "plain")
    if options.features is not None:
        from ..features import load_features

        refuse_both(options)
        features = load_features(options.features)
    else:
        features = extracted_features(options, held, protocol.mirror)
    result = evaluate_bin(features.features, held.same, protocol, fars=fars, names=held.names)
    return _tell_folds(options, result, options.set.name, held, features.settings)


def _pairs(options: argparse.Namespace) -> int:
    from ..evaluate.pairs import pairs_figures, pairs_rows

    protocol = fold_protocol(options)
    fars = rates(options.fars, "--fars")
    check_output(options, protocol.name == "plain")
    images = asked_images(options)
    result, settings = pairs_command.measured(
        options, protocol, fars, images, lambda needed: asked_features(options, protocol.mirror, needed)
    )
    figures = pairs_figures(result, comparable=protocol.name == "plain")
    title = (options.pairs or options.images or options.features).name
    counts = figures["genuine_pairs"], figures["impostor_pairs"]
    listed = result.scores[~result.same] if result.folds is not None else None  # of all pairs none are independent
    threshold_option.write(options, figures, settings, f"{title} ({len(result.same)} pairs)", counts, listed)
    if options.out:
        from ..evaluate.source import finder

        _write_json(options.out / "results.json", figures)
        pairs_command.save_figures(options.out, result, title, None if images is None else finder(images))
    if options.json:
        print(to_json(figures))
        return DONE
    headings = ("", "value", "95 % of draws of people", "threshold")
    kinds = f"{counts[0]:,} genuine and {counts[1]:,} impostor pairs"
    print(f"{title}, {result.title}: {kinds} of {result.people:,} people")
    print_table(Table(headings, pairs_rows(result), set(headings[1:])))
    _tell_files(options)
    return DONE


def _ytf(options: argparse.Namespace) -> int:
    from ..evaluate.ytf import checked_cost, evaluate_ytf, frames_of, read_splits
    from ..progress import progress

    splits = read_splits(options.splits)
    cost = checked_cost(options.svm_cost)
    check_output(options)
    features = asked_features(options, "none", lambda names: frames_of(splits, names))
    folds = len(set(splits.fold.tolist()))
    with progress("folds", folds) as bar:
        result = evaluate_ytf(
            features.features,
            features.names,
            splits,
            options.method,
            centre=options.centre,
            cost=cost,
            told=bar.advance,
        )
    return _tell_folds(options, result, "YTF")


def _blufr(options: argparse.Namespace) -> int:
    from ..evaluate.blufr import (
        DRAWN_DIR_FARS,
        DRAWN_FARS,
        IDENTIFICATION_FARS,
        VERIFICATION_FARS,
        checked_rank,
        evaluate_blufr,
        rows_of,
    )
    from ..evaluate.blufr_config import read_config
    from ..evaluate.report import blufr_figures, blufr_rows
    from ..progress import progress

    config = read_config(options.config)
    fars = rates(options.fars, "--fars", VERIFICATION_FARS)
    dir_fars = rates(options.dir_fars, "--dir-fars", IDENTIFICATION_FARS)
    pca, rank = kept_components(options.pca), checked_rank(options.rank)
    comparable = pca is None and options.metric in (None, "cosine")
    check_output(options, comparable)
    features = asked_features(options, "sum", lambda names: rows_of(config, names))
    drawn = (DRAWN_FARS, DRAWN_DIR_FARS) if options.out else ((), ())
    with progress("trials", len(config.trials)) as bar:
        result = evaluate_blufr(
            features.features,
            features.names,
            config,
            fars=sorted({*fars, *drawn[0]}),
            identification_fars=sorted({*dir_fars, *drawn[1]}),
            rank=rank,
            pca=pca,
            metric=options.metric or "cosine",
            told=bar.advance,
        )
    whole, result = result, result.at(fars, dir_fars)
    figures = blufr_figures(result, comparable=comparable)
    pairs = int(result.genuine_pairs.min()), int(result.impostor_pairs.min())
    threshold_option.write(options, figures, features.settings, f"BLUFR ({len(config.trials)} trials)", pairs)
    if options.out:
        from ..evaluate.figures import save_blufr_rates

        _write_json(options.out / "results.json", figures)
        save_blufr_rates(options.out / "roc.png", whole, "BLUFR")
    if options.json:
        print(to_json(figures))
        return DONE
    print_table(Table(["", "mean - std", "mean", "std"], blufr_rows(result), {"mean - std", "mean", "std"}))
    print(
        f"{len(config.trials)} trials, {int(result.genuine_pairs.mean())} genuine and "
        f"{int(result.impostor_pairs.mean())} impostor pairs each; %, sample standard deviation"
    )
    _tell_files(options)
    return DONE


def _tell_folds(
    options: argparse.Namespace,
    result: FoldResult,
    title: str,
    images: Any = None,
    settings: dict[str, Any] | None = None,
) -> int:
    from ..evaluate.report import fold_figures, fold_lines

    figures = fold_figures(result, comparable=result.protocol == "plain")
    measured = f"{title} ({len(result.same)} pairs)"
    pairs = int(result.same.sum()), int((~result.same).sum())
    threshold_option.write(options, figures, settings or {}, measured, pairs, result.scores[~result.same])
    if options.out:
        from ..evaluate.figures import save_fold_figures
        from ..evaluate.source import finder

        _write_json(options.out / "results.json", figures)
        images = asked_images(options) if images is None else images
        save_fold_figures(options.out, result, title, None if images is None else finder(images))
    if options.json:
        print(to_json(figures))
        return DONE
    print(f"{title}, protocol {result.protocol}: {len(result.same)} pairs in {len(result.accuracies)} folds")
    lines = fold_lines(result)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:<{width}}  {value}")
    _tell_files(options)
    return DONE


def _write_json(path: Path, content: dict[str, Any]) -> None:
    from caffeport.files import replacing

    with replacing(path) as stream:
        stream.write((to_json(content) + "\n").encode())


def _tell_files(options: argparse.Namespace) -> None:
    if options.out:
        tell(options, f"wrote {options.out}: results.json and figures")
    threshold_option.tell(options)
