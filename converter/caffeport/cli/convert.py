"""``caffeport convert NET WEIGHTS``: ONNX files, files for torch, PyTorch source, and their proof in one go."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import CaffeportError
from ..json_text import to_json
from ..zoo import recognise
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
    convert.add_argument("--fold", action=argparse.BooleanOptionalAction, default=True, help="fold BatchNorm and Scale")
    convert.add_argument(
        "--dynamic-batch", action=argparse.BooleanOptionalAction, default=True, help="leave the batch size free"
    )
    convert.add_argument(
        "--external-data", action=argparse.BooleanOptionalAction, default=None, help="weights in a file of their own"
    )
    add_preset(add_preprocessing(convert, "put into the model"))
    convert.add_argument("--json", action="store_true", help="print JSON")
    convert.add_examples(
        (
            "caffeport convert deploy.prototxt face.caffemodel --onnx face.onnx --check",
            "caffeport convert deploy.prototxt face.caffemodel --onnx face.onnx --mean 127.5 --scale 0.0078125 --rgb",
            "caffeport convert deploy.prototxt face.caffemodel --onnx face.onnx --preset center-face",
            "caffeport convert deploy.prototxt face.caffemodel --torch face.safetensors --output fc5",
            "caffeport convert deploy.prototxt face.caffemodel --python face.py",
            "caffeport convert tuned --onnx face.onnx",
        )
    )
    convert.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    from .conversion import check_targets, convert

    folder = open_folder(options)
    if options.weights is None:
        raise CaffeportError("the following arguments are required: WEIGHTS; see caffeport convert --help")
    if options.check and options.onnx is None and options.torch is None:
        raise CaffeportError("--check proves the files of --onnx and --torch; name one of them")
    preset_line = apply_preset(options)
    sources = [options.net, options.weights, *([options.mean] if isinstance(options.mean, Path) else [])]
    check_targets(sources, options.onnx, options.torch, options.external_data, options.python)
    net = load_net(options)
    mean = read_mean(options.mean)
    known = recognise(options.weights)
    note_other(known, options.preset)
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
            python=options.python,
        )
    report = _prove(options, net, mean) if options.check else None
    ok = report is None or report.ok
    if options.json:
        sizes = {str(path): path.stat().st_size for path in written}
        content = {"net": net.name, "weights": net.weights_source, "inputs": exported.inputs}
        content |= {"outputs": exported.outputs, "fixed_size": exported.fixed_size or None, "files": sizes}
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
    if exported.fixed_size:
        tell(options, exported.fixed_size)
    names = f"inputs {', '.join(exported.inputs)}; outputs {', '.join(exported.outputs)}"
    tell(options, names if report is not None else f"{names}; {_proof(options)}")
    if report is not None:
        print(("ok: " if report.ok else "FAILED: ") + report.summary)
    return DONE if ok else FAILED


def _prove(options: argparse.Namespace, net: Any, mean: Any) -> Any:
    """The check of the files that were written, with the preprocessing that they were to get."""
    from ..parity.compare import check

    with busy(options, "checking what was written"):
        front = {"mean": mean, "scale": options.scale, "rgb": options.rgb} if options.onnx is not None else {}
        return check(net, onnx=options.onnx, torch=_checkable(options), **front)


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
    return f"to prove it: caffeport check {' '.join([*words_of(options), *files])}"
