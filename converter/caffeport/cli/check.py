"""``caffeport check NET WEIGHTS``: every blob from every backend, and from files that exist, against one another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import CaffeportError
from ..files import same_file, target_of
from ..zoo import recognise
from .arguments import finite
from .command import DONE, FAILED, busy, print_table, tell
from .common import add_net, add_preprocessing, load_net, read_mean, size_text
from .preset import known_line


def add_command(commands: Any, common: Any) -> None:
    """Add the command to the subparsers of ``caffeport``."""
    check = commands.add_parser("check", parents=[common], help="compare backends, and written files, blob by blob")
    add_net(check)
    check.add_argument("--onnx", type=Path, metavar="F.onnx", help="prove this ONNX file, however it was made")
    check.add_argument(
        "--torch", type=Path, metavar="F", help="prove this file of weights (.safetensors, .pth) or program (.pt2)"
    )
    check.add_argument(
        "--backends", help="of torch, onnx and caffe (default torch,onnx; torch alone where a file is proven)"
    )
    check.add_argument("--reference", type=Path, metavar="BLOBS.npz", help="blobs that Caffe recorded")
    check.add_argument(
        "--input",
        type=Path,
        metavar="F",
        help="inputs: .npz, .npy, an image, or a folder, zip or list (.txt) of images (default random)",
    )
    check.add_argument("--report", type=Path, metavar="F.html", help="write the proof as a page, to see and to share")
    check.add_argument("--rtol", type=finite, default=1e-4, help="relative tolerance (default 1e-4)")
    check.add_argument("--atol", type=finite, default=1e-5, help="absolute tolerance (default 1e-5)")
    check.add_argument("--seed", type=int, default=0, help="of random inputs")
    check.add_argument("--training", action="store_true", help="run as in the TRAIN phase (torch and caffe)")
    caffe = check.add_argument_group("your own Caffe", "for --backends torch,onnx,caffe")
    caffe.add_argument(
        "--caffe-python",
        metavar="PYTHONPATH",
        help="the folder that holds its package caffe: CAFFE_ROOT/python (default: the environment's CAFFE_PYTHON)",
    )
    caffe.add_argument(
        "--caffe-interpreter", default=sys.executable, metavar="PYTHON", help="the Python it is built for (this one)"
    )
    caffe.add_argument(
        "--caffe-timeout", type=finite, default=600.0, metavar="S", help="seconds until it is stopped (default 600)"
    )
    add_preprocessing(check, "that the --onnx file has in front, or for an image given as --input")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.add_examples(
        (
            "caffeport check deploy.prototxt face.caffemodel",
            "caffeport check deploy.prototxt face.caffemodel --onnx face.onnx --report proof.html",
            "caffeport check deploy.prototxt face.caffemodel --input face.jpg --mean 127.5 --scale 0.0078125",
            "caffeport check deploy.prototxt face.caffemodel --backends torch,onnx --reference blobs.npz --json",
        )
    )
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from ..parity.compare import check

    read = (options.net, options.weights, options.onnx, options.torch, options.reference, options.input)
    if options.report is not None:
        target_of(options.report)
    if options.report is not None and any(same_file(options.report, path) for path in read if path is not None):
        raise CaffeportError(f"{options.report}: is read; name another file for the report")
    net = load_net(options)
    mean = read_mean(options.mean)
    backends = options.backends
    front = {"mean": mean, "scale": options.scale, "rgb": options.rgb} if options.onnx is not None else {}
    with busy(options, "checking"):
        report = check(
            net,
            _inputs(net, options, mean),
            backends=None if backends is None else [name.strip() for name in backends.split(",") if name.strip()],
            reference=options.reference,
            onnx=options.onnx,
            torch=options.torch,
            rtol=options.rtol,
            atol=options.atol,
            seed=options.seed,
            caffe_python=options.caffe_python,
            caffe_interpreter=options.caffe_interpreter,
            caffe_timeout=options.caffe_timeout,
            training=options.training,
            **front,
        )
    if options.report is not None:
        from ..page import document

        document.write(net, options.report, report)
    known = known_line(recognise(options.weights)) if options.weights is not None else ""
    if options.json:
        print(report.to_json([*options.notes, *([known] if known else [])]))
        return DONE if report.ok else FAILED
    print_table(report.table())
    for line in (
        *([report.caffe] if report.caffe else []),
        *map(str, report.files),
        f"weights: {report.weights}",
        *([known] if known else []),
    ):
        print(line)
    if options.report is not None:
        tell(options, f"wrote {options.report} ({size_text(options.report.stat().st_size)})")
    print(("ok: " if report.ok else "FAILED: ") + report.summary)
    return DONE if report.ok else FAILED


def _inputs(net: Any, options: argparse.Namespace, mean: Any) -> Any:
    if options.input is None:
        return None
    if options.input.suffix.lower() in (".npz", ".npy"):
        from ..parity.inputs import load_arrays

        return {name.removeprefix("data/"): array for name, array in load_arrays(options.input).items()}
    from .image import read_images

    return read_images(net, options.input, mean, options.scale, options.rgb)
