"""The options by which several commands name a model and what its pictures need."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import NormfaceError
from ..preprocessing import FITS, PRESETS


def add_preprocessing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("preprocessing", "(x - mean) * scale; flags replace what the preset says")
    group.add_argument("--preset", choices=sorted(PRESETS), help="of a published net")
    group.add_argument("--mean", metavar="M[,M,M]", help="one number, or one a channel in the net's order")
    group.add_argument("--scale", type=float, metavar="S", help="factor after the mean")
    group.add_argument("--rgb", action=argparse.BooleanOptionalAction, default=None, help="the net takes RGB, not BGR")
    group.add_argument("--fit", choices=FITS, help="a picture of another size: refuse, pad with black, resize")
    group.add_argument("--size", metavar="HxW", help="where the model takes pictures of any size")


def preprocessing_options(options: argparse.Namespace) -> dict[str, Any]:
    """The keywords of Extractor."""
    return {
        "preset": options.preset,
        "mean": _numbers(options.mean),
        "scale": options.scale,
        "rgb": options.rgb,
        "fit": options.fit,
        "size": size(options.size),
    }


def add_model(parser: argparse.ArgumentParser, *, positional: bool) -> None:
    """MODEL [WEIGHTS], or --model and --weights, and how to run it."""
    model = "an .onnx file, or a prototxt (with its weights)"
    if positional:
        parser.add_argument("model", metavar="MODEL", type=Path, help=model)
        parser.add_argument("weights", metavar="WEIGHTS", type=Path, nargs="?", help="its .caffemodel")
    else:
        parser.add_argument("--model", type=Path, metavar="MODEL", help=model)
        parser.add_argument("--weights", type=Path, metavar="WEIGHTS", help="its .caffemodel")
    parser.add_argument("--output", metavar="BLOB", help="the feature, where it is not the model's only output")
    parser.add_argument(
        "--mirror",
        choices=("none", "sum", "max", "concat"),
        default="none" if positional else "sum",
        help="merge the features of the face and of its mirror image (default %(default)s)",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="pictures of a run (default 4; 64 on cuda)")
    parser.add_argument("--threads", type=int, metavar="N", help="runs at the same time (default: one a core)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where it runs (default cpu)")
    add_preprocessing(parser)


def extractor(options: argparse.Namespace) -> Any:
    """The normface.features.Extractor that these options name."""
    from ..features import Extractor

    return Extractor(
        options.model,
        options.weights,
        mirror=options.mirror,
        output=options.output,
        batch_size=options.batch_size,
        threads=options.threads,
        device=options.device,
        **preprocessing_options(options),
    )


def size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise NormfaceError(f'size "{text}": expected HxW, such as 112x96') from None
    if height < 1 or width < 1:
        raise NormfaceError(f'size "{text}": expected HxW, both 1 or more')
    return height, width


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise NormfaceError(f'--mean "{text}": expected a number, or numbers with commas between') from None
