"""What the subcommands of ``caffeport`` share: how a net is given and loaded, preprocessing, sizes of files."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import CaffeportError
from ..model_folder import NAME as CONFIG
from ..model_folder import ModelFolder
from ..model_folder import read as read_folder
from .arguments import add_debug, add_layers, check_model, finite, mean_or_file
from .parser import OneLineParser


def common_options() -> OneLineParser:
    """The options of every subcommand that loads a net, for ``parents=``."""
    common = OneLineParser(add_help=False)
    common.add_argument(
        "--phase", choices=("test", "train"), default="test", help="which layers to keep (default test)"
    )
    common.add_argument(
        "--stage", action="append", default=[], metavar="NAME", help="a stage for include/exclude rules"
    )
    common.add_argument(
        "--input-shape",
        action="append",
        default=[],
        metavar="BLOB=NxCxHxW",
        help="the shape of an input; replaces the declared one",
    )
    add_layers(common)
    common.add_argument(
        "--allow-unknown-fields", action="store_true", help="ignore fields that nothing knows, and tell which"
    )
    common.add_argument(
        "--allow-missing-weights",
        action="store_true",
        default=None,
        help="leave layers without weights to their fillers",
    )
    common.add_argument(
        "--layer-option",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a setting that no text tells, such as rpn_post_nms_top_n=1000 of a Python ProposalLayer",
    )
    common.add_argument("--bn", choices=("variance", "inverse_std"), help="what a 4-blob BN layer stores last")
    common.add_argument(
        "--prior-boxes",
        choices=("ssd", "textboxes", "faceboxes"),
        help="whose default boxes PriorBox layers make; by default those that the net's convolutions are for",
    )
    add_debug(common)
    return common


def add_net(command: OneLineParser) -> None:
    """Add the net's text and its weights, by place."""
    text = "the net's text (.prototxt), or the folder of a model that normface finetune wrote"
    command.add_argument("net", metavar="NET", type=Path, help=text)
    command.add_place("weights", "--weights", metavar="WEIGHTS", help="its weights (.caffemodel)")


def open_folder(options: argparse.Namespace) -> ModelFolder | None:
    """Put the files of a model's folder, where NET is one, into NET and WEIGHTS; return what the folder says."""
    if not (options.net / CONFIG).is_file():
        return None  # a folder without one is told with what is in it
    folder = read_folder(options.net)
    if options.weights is not None:
        raise CaffeportError(f"{options.net}: is a folder with a model's weights; leave {options.weights} out")
    options.net, options.weights = folder.net, folder.weights
    return folder


def folder_line(folder: ModelFolder | None) -> str:
    """Return one line on what a folder's model takes and gives; "" for None."""
    if folder is None:
        return ""
    return f"its images: {folder.recipe()} ({folder.onnx.with_name(CONFIG)}); its embedding: {folder.embedding}"


def folder_content(folder: ModelFolder | None) -> dict[str, Any]:
    """Return the same for JSON, under the key "folder"; nothing for None."""
    if folder is None:
        return {}
    preset = folder.preset
    images = {"mean": preset.mean, "scale": preset.scale, "rgb": preset.rgb, "size": preset.size}
    return {"folder": {"embedding": folder.embedding, "preprocessing": images}}


def add_preprocessing(command: OneLineParser, where: str) -> Any:
    """Add --mean, --scale and --rgb; returns their group."""
    group = command.add_argument_group("preprocessing", f"{where}: (x - mean) * scale")
    group.add_argument(
        "--mean", type=mean_or_file, metavar="M[,M,M]", help="one number, one a channel (BGR), or a .binaryproto/.npy"
    )
    command.take_numbers("--mean")
    group.add_argument("--scale", type=finite, metavar="S", help="factor after the mean")
    group.add_argument("--rgb", action="store_true", help="the input is RGB; reverse its channels to Caffe's BGR")
    return group


def load_net(options: argparse.Namespace) -> Any:
    """The net that the options name."""
    from ..graph.build import load

    check_model(options.net, options.weights)
    return load(**load_keywords(options))


def load_keywords(options: argparse.Namespace) -> dict[str, Any]:
    """The keywords of caffeport.load that the options stand for; all have a form in JSON, with paths as text."""
    return {
        "prototxt_path": str(options.net),
        "weights": None if options.weights is None else str(options.weights),
        "phase": options.phase,
        "stages": options.stage,
        "custom_layers": [str(path) for path in options.layers],
        "input_shapes": parse_shapes(options.input_shape),
        "allow_unknown_fields": options.allow_unknown_fields,
        "allow_missing_weights": options.allow_missing_weights,
        "bn": options.bn,
        "prior_boxes": options.prior_boxes,
        "layer_options": dict(_layer_option(text) for text in options.layer_option),
    }


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """{blob: shape} of the values of --input-shape."""
    return dict(_input_shape(text) for text in texts)


def words_of(options: argparse.Namespace) -> list[str]:
    """The words that give another subcommand the same net and preprocessing, each ready for a shell."""
    words = [options.net, *([options.weights] if options.weights else [])]
    if options.phase != "test":
        words += ["--phase", options.phase]
    for name in ("stage", "input_shape", "layer_option"):
        words += [word for value in getattr(options, name) for word in (f"--{name.replace('_', '-')}", value)]
    for name in ("allow_unknown_fields", "allow_missing_weights", "rgb"):
        words += [f"--{name.replace('_', '-')}"] if getattr(options, name, False) else []
    words += [word for path in options.layers for word in ("--layers", path)]
    for name in ("bn", "prior_boxes", "scale", "mean"):
        value = getattr(options, name, None)
        if value is not None:
            value = ",".join(f"{number:.17g}" for number in value) if isinstance(value, list) else value
            words.append(f"--{name.replace('_', '-')}={value}")
    return [shlex.quote(str(word)) for word in words]


def read_mean(value: list[float] | Path | None) -> Any:
    """The numbers of --mean, or those of the file that it names."""
    if not isinstance(value, Path):
        return value
    from ..formats.caffemodel import read_binaryproto
    from ..parity.inputs import load_arrays

    if value.suffix == ".binaryproto":
        return read_binaryproto(str(value))
    return next(iter(load_arrays(str(value)).values()))


def size_text(count: int) -> str:
    """The size of a file as people read it."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not name or not shape:
        raise CaffeportError(f'--input-shape expects BLOB=NxCxHxW, got "{text}"')
    return name, shape


def _layer_option(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise CaffeportError(f'--layer-option expects NAME=NUMBER, got "{text}"')
    return name, value
