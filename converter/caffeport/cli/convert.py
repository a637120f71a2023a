"""``caffeport convert NET WEIGHTS``: ONNX files, files for torch, PyTorch source, and their proof in one go."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from .. import zoo
from ..errors import CaffeportError
from ..json_text import to_json
from ..operators.onnx_target import TARGETS
from ..zoo import recognise
from .arguments import check_readable
from .command import DONE, FAILED, busy, tell
from .common import (
    add_net,
    add_preprocessing,
    folder_content,
    folder_line,
    load_net,
    open_folder,
    read_mean,
    size_text,
    words_of,
)
from .preset import add_preset, apply_preset, known_line, note_other


def add_command(commands: Any, common: Any) -> None:
    """Add the command to the subparsers of ``caffeport``."""
    convert = commands.add_parser("convert", parents=[common], help="write ONNX files and files for torch")
    add_net(convert)
    convert.add_argument("--onnx", type=Path, metavar="F.onnx", help="the ONNX file to write")
    convert.add_argument(
        "--torch", type=Path, metavar="F.safetensors", help="weights (.safetensors, .pth), or a program (.pt2)"
    )
    convert.add_argument(
        "--python", type=Path, metavar="F.py", help="PyTorch source; its weights go into --torch, or F.safetensors"
    )
    convert.add_argument("--check", action="store_true", help="prove the written --onnx and --torch files at once")
    convert.add_argument("--opset", type=int, default=17, help="ONNX opset, 13 to 21 (default 17)")
    convert.add_argument("--output", action="append", metavar="BLOB", help="export up to this blob (repeatable)")
    convert.add_argument(
        "--for",
        dest="target",
        choices=TARGETS,
        default="any",
        help="the runtime whose fastest forms the ONNX file takes (default any; the numbers are the same)",
    )
    convert.add_argument("--fold", action=argparse.BooleanOptionalAction, default=True, help="fold BatchNorm and Scale")
    convert.add_argument(
        "--dynamic-batch", action=argparse.BooleanOptionalAction, default=True, help="leave the batch size free"
    )
    convert.add_argument(
        "--external-data", action=argparse.BooleanOptionalAction, default=None, help="weights in a file of their own"
    )
    add_preset(add_preprocessing(convert, "put into the model"))
    fewer = convert.add_argument_group("fewer bits", "of the --onnx file; its inputs and outputs stay float32")
    fewer.add_argument("--fp16", action="store_true", help="half precision: half the size")
    fewer.add_argument("--int8", action="store_true", help="8 bits, with --calibrate: a third of the size, faster")
    fewer.add_argument(
        "--calibrate",
        type=Path,
        metavar="IMAGES",
        help="a folder, zip or list of images like those that the model is for, or an .npz of its inputs",
    )
    fewer.add_argument(
        "--keep", action="append", default=[], metavar="LAYER", help="a layer that stays in float32 (repeatable)"
    )
    convert.add_argument("--json", action="store_true", help="print JSON")
    convert.add_examples(
        (
            "caffeport convert deploy.prototxt face.caffemodel --onnx face.onnx --check",
            "caffeport convert deploy.prototxt face.caffemodel --onnx face.onnx --mean 127.5 --scale 0.0078125 --rgb",
            "caffeport convert deploy.prototxt face.caffemodel --onnx face.onnx --preset center-face",
            "caffeport convert deploy.prototxt face.caffemodel --torch face.safetensors --output fc5",
            "caffeport convert deploy.prototxt face.caffemodel --python face.py",
            "caffeport convert deploy.prototxt face.caffemodel --onnx half.onnx --preset center-face --fp16",
            "caffeport convert deploy.prototxt face.caffemodel --onnx small.onnx --preset center-face --int8 "
            "--calibrate faces/",
            "caffeport convert tuned --onnx face.onnx",
        )
    )
    convert.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    from .conversion import check_targets, convert

    folder = open_folder(options)
    if options.weights is None:
        if options.net.is_dir():
            raise CaffeportError(
                f"{options.net}: is a folder without a config.json, so no model of normface finetune; give NET WEIGHTS"
            )
        check_readable(options.net)
        raise CaffeportError("the following arguments are required: WEIGHTS; see caffeport convert --help")
    if options.check and options.onnx is None and options.torch is None:
        raise CaffeportError("--check proves the files of --onnx and --torch; name one of them")
    precision = _precision(options)
    rgb = options.rgb
    preset_line = apply_preset(options)
    sources = [options.net, options.weights, *([options.mean] if isinstance(options.mean, Path) else [])]
    sources += [options.calibrate] if options.calibrate is not None else []
    check_targets(sources, options.onnx, options.torch, options.external_data, options.python)
    net = load_net(options)
    mean = read_mean(options.mean)
    known = recognise(options.weights)
    note_other(known, options.preset)
    lower = _lower(options, precision, rgb, known)
    with busy(options, "converting"):
        written, exported = convert(
            net,
            options.onnx,
            options.torch,
            opset=options.opset,
            dynamic_batch=options.dynamic_batch,
            fold=options.fold,
            outputs=options.output,
            mean=mean,
            scale=options.scale,
            rgb=options.rgb,
            external_data=options.external_data,
            target=options.target,
            python=options.python,
            **lower,
        )
    report = _prove(options, net, mean, exported, lower) if options.check else None
    ok = report is None or report.ok
    if options.json:
        sizes = {str(path): path.stat().st_size for path in written}
        content = {"net": net.name, "weights": net.weights_source, "inputs": exported.inputs}
        content |= {"outputs": exported.outputs, "fixed_size": exported.fixed_size or None, "files": sizes}
        content |= {"precision": precision, "precision_note": exported.precision or None}
        content |= {"preset": options.preset, "known": None if known is None else known.name}
        content |= {} if report is None else {"ok": report.ok, "check": report.summary}
        print(to_json(content | folder_content(folder) | {"notes": options.notes}))
        return DONE if ok else FAILED
    for path in written:
        tell(options, f"wrote {path} ({size_text(path.stat().st_size)})")
    tell(options, f"weights: {net.weights_source}")
    for line in (known_line(known), folder_line(folder), preset_line):
        if line:
            tell(options, line)
    if exported.precision:
        tell(options, exported.precision)
    if exported.fixed_size:
        tell(options, exported.fixed_size)
    names = f"inputs {', '.join(exported.inputs)}; outputs {', '.join(exported.outputs)}"
    tell(options, names if report is not None else f"{names}; {_proof(options)}")
    if report is not None:
        print(("ok: " if report.ok else "FAILED: ") + report.summary)
    return DONE if ok else FAILED


def _precision(options: argparse.Namespace) -> str:
    """The number format of the ONNX file. Raises CaffeportError for options that do not go together."""
    if options.fp16 and options.int8:
        raise CaffeportError("--fp16 and --int8 are two number formats; name one, and convert again for the other")
    if not (options.fp16 or options.int8):
        if options.calibrate is not None or options.keep:
            option = "--keep" if options.calibrate is None else "--calibrate"
            raise CaffeportError(f"{option} is for --fp16 and --int8; add one of them")
        return "float32"
    option = "--fp16" if options.fp16 else "--int8"
    if options.onnx is None:
        raise CaffeportError(f"{option} is the number format of an ONNX file; name it (--onnx F.onnx)")
    if options.int8 and options.calibrate is None:
        raise CaffeportError(
            "--int8 measures on images like those that the model is for; name them (--calibrate IMAGES)"
        )
    if options.external_data:
        raise CaffeportError(f"{option}: the weights stay in the file itself; leave --external-data out")
    if options.calibrate is not None and not options.calibrate.exists():
        raise CaffeportError(f"{options.calibrate}: No such file or directory")
    return "float16" if options.fp16 else "int8"


def _lower(options: argparse.Namespace, precision: str, rgb: bool, known: Any) -> dict[str, Any]:
    """The keywords of Net.to_onnx for fewer bits; images come as the file takes them."""
    if precision == "float32":
        return {}
    calibrate = options.calibrate
    if calibrate is not None:
        from ..precision.calibration import Images

        preset = zoo.preset(options.preset) if options.preset is not None else getattr(known, "preset", None)
        calibrate = Images(calibrate, rgb or (preset is not None and preset.rgb))
    return {"precision": precision, "calibrate": calibrate, "keep": options.keep}


def _prove(options: argparse.Namespace, net: Any, mean: Any, exported: Any, lower: dict[str, Any]) -> Any:
    """The check of the files that were written, with the preprocessing that they were to get."""
    from ..parity.compare import check

    with busy(options, "checking what was written"):
        front = {"mean": mean, "scale": options.scale, "rgb": options.rgb} if options.onnx is not None else {}
        inputs = None
        if lower.get("calibrate") is not None:
            from ..precision.lower import check_inputs

            written = {"outputs": options.output, "dynamic_batch": options.dynamic_batch, **front}
            inputs = check_inputs(net, exported.inputs, lower["calibrate"], **written)
        return check(net, inputs, onnx=options.onnx, torch=_checkable(options), **front)


def _checkable(options: argparse.Namespace) -> Path | None:
    """The --torch file, if it is one of Caffe's weights by their names and without preprocessing of its own."""
    torch: Path | None = options.torch
    if torch is None or (options.python is not None and torch.suffix.lower() == ".safetensors"):
        return None
    front = options.mean is not None or options.scale is not None or options.rgb
    return None if torch.suffix == ".pt2" and (front or options.output) else torch


def _proof(options: argparse.Namespace) -> str:
    """The line that proves what was written, with every option that it takes."""
    files = [f"--onnx {options.onnx}"] if options.onnx is not None else []
    torch = _checkable(options)
    files += [f"--torch {torch}"] if torch is not None else []
    files += [f"--input {shlex.quote(str(options.calibrate))}"] if options.int8 else []
    return f"to prove it: caffeport check {' '.join([*words_of(options), *files])}"
