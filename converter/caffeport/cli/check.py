"""``caffeport check NET WEIGHTS``: every blob from every backend, and from files that exist, against one another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import CaffeportError
from ..files import same_file, target_of
from ..zoo import recognise
from .arguments import finite, seed
from .command import DONE, FAILED, busy, print_table, tell
from .common import add_net, add_preprocessing, folder_line, load_net, open_folder, size_text
from .given_images import front_of, given_inputs, print_suggestion, suggested
from .preset import add_preset, known_line, note_other


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
        action="append",
        metavar="F",
        help="inputs: .npz, .npy, an image, or a folder, zip or list (.txt) of images (default random); repeated for a "
        "batch of images. They go through what --onnx says it has in front; where nothing says any preprocessing they "
        "tell which one the net likely expects",
    )
    check.add_argument(
        "--pair", action="store_true", help="the first two images of --input show one person, the others other people"
    )
    check.add_argument("--report", type=Path, metavar="F.html", help="write the proof as a page, to see and to share")
    check.add_argument("--rtol", type=finite, default=1e-4, help="relative tolerance (default 1e-4)")
    check.add_argument("--atol", type=finite, default=1e-5, help="absolute tolerance (default 1e-5)")
    check.add_argument("--seed", type=seed, default=0, help="of random inputs")
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
    add_preset(add_preprocessing(check, "that the --onnx file has in front, or for images given as --input"))
    check.add_argument("--json", action="store_true", help="print JSON")
    check.add_examples(
        (
            "caffeport check deploy.prototxt face.caffemodel",
            "caffeport check deploy.prototxt face.caffemodel --onnx face.onnx --report proof.html",
            "caffeport check deploy.prototxt face.caffemodel --input face.jpg --mean 127.5 --scale 0.0078125",
            "caffeport check deploy.prototxt face.caffemodel --pair --input ann1.jpg --input ann2.jpg --input bob.jpg",
            "caffeport check deploy.prototxt face.caffemodel --backends torch,onnx --reference blobs.npz --json",
        )
    )
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from ..parity.compare import check

    folder = open_folder(options)
    read = (options.net, options.weights, options.onnx, options.torch, options.reference, *(options.input or []))
    if options.report is not None:
        target_of(options.report)
    if options.report is not None and any(same_file(options.report, path) for path in read if path is not None):
        raise CaffeportError(f"{options.report}: is read; name another file for the report")
    known = recognise(options.weights) if options.weights is not None else None
    note_other(known, options.preset)
    front, preset_line = front_of(options)
    net = load_net(options)
    backends = options.backends
    with busy(options, "checking"):
        report = check(
            net,
            given_inputs(net, options, folder),
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
    with busy(options, "trying the usual preprocessings"):
        report.suggestion = suggested(net, options, folder)
    if options.report is not None:
        from ..page import document

        document.write(net, options.report, report)
    told = [line for line in (known_line(known), folder_line(folder), preset_line) if line]
    if options.json:
        print(report.to_json([*options.notes, *told]))
        return DONE if report.ok else FAILED
    print_table(report.table())
    for line in (
        *([report.caffe] if report.caffe else []),
        *map(str, report.files),
        f"weights: {report.weights}",
        *told,
    ):
        print(line)
    if report.suggestion is not None:
        print_suggestion(report.suggestion)
    if options.report is not None:
        tell(options, f"wrote {options.report} ({size_text(options.report.stat().st_size)})")
    print(("ok: " if report.ok else "FAILED: ") + report.summary)
    return DONE if report.ok else FAILED
