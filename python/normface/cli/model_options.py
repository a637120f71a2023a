"""The options by which several commands name a model and what its images need."""

from __future__ import annotations

import argparse
from typing import Any

from caffeport.cli.arguments import add_layers, check_model, finite, mean, size
from caffeport.cli.parser import OneLineParser

from ..inference.choice import DEVICES, RUNTIMES
from ..preprocessing import FITS, PRESETS


def add_preprocessing(parser: OneLineParser) -> None:
    group = parser.add_argument_group("preprocessing", "(x - mean) * scale; flags replace what the preset says")
    group.add_argument("--preset", choices=sorted(PRESETS), help="of a published net")
    group.add_argument("--mean", type=mean, metavar="M[,M,M]", help="one number, or one a channel in the net's order")
    group.add_argument("--scale", type=finite, metavar="S", help="factor after the mean")
    group.add_argument("--rgb", action=argparse.BooleanOptionalAction, default=None, help="the net takes RGB, not BGR")
    group.add_argument("--fit", choices=FITS, help="an image of another size: refuse, pad with black, resize")
    group.add_argument("--size", type=size, metavar="HxW", help="where the model takes images of any size")
    parser.take_numbers("--mean")


def preprocessing_options(options: argparse.Namespace) -> dict[str, Any]:
    """The keywords of Extractor."""
    return {
        "preset": options.preset,
        "mean": options.mean,
        "scale": options.scale,
        "rgb": options.rgb,
        "fit": options.fit,
        "size": options.size,
    }


def add_model(parser: OneLineParser, *, required: bool = False) -> None:
    """MODEL [WEIGHTS] by place (earlier versions: --model, --weights), and how to run it.

    required: the command is about the features as the model gives them, and merges no mirror images unless told to.
    """
    model = "an .onnx file, the folder of a finetuned model, or a net's text (.prototxt) with its weights"
    parser.add_place("model", "--model", metavar="MODEL", help=model, required=required)
    parser.add_place("weights", "--weights", metavar="WEIGHTS", help="its .caffemodel")
    parser.add_argument("--output", metavar="BLOB", help="the feature, where it is not the model's only output")
    parser.add_argument(
        "--mirror",
        choices=("none", "sum", "max", "concat"),
        default="none" if required else "sum",
        help="merge the features of the face and of its mirror image (default %(default)s)",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="images of a run (default 4; 64 on cuda)")
    parser.add_argument("--threads", type=int, metavar="N", help="runs at the same time (default: one a core)")
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="cpu or cuda (default: cuda where it is there)"
    )
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="what runs the model (default auto: the fastest that is installed; it is told)",
    )
    add_layers(parser)
    add_preprocessing(parser)


def extractor(options: argparse.Namespace) -> Any:
    """The normface.features.Extractor that these options name."""
    check_model(options.model, options.weights)
    from ..features import Extractor

    return Extractor(
        options.model,
        options.weights,
        mirror=options.mirror,
        output=options.output,
        batch_size=options.batch_size,
        threads=options.threads,
        device=options.device,
        runtime=options.runtime,
        custom_layers=options.layers,
        **preprocessing_options(options),
    )
