"""The command ``caffeport``: show, convert and check Caffe models."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import CaffeportError, shape_text
from ..json_text import to_json
from ..version import __version__
from .arguments import add_debug, check_model, finite, mean_or_file
from .command import DONE, FAILED, print_table, run, tell
from .parser import OneLineParser, add_standard

PROGRAM = "caffeport"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code: 0 done, 1 a check failed, 2 bad usage or input."""
    return run(PROGRAM, parser().parse_args(arguments))


def parser() -> OneLineParser:
    """The parser of the whole command."""
    main_parser = OneLineParser(
        prog=PROGRAM, description="Convert Caffe models to PyTorch and ONNX, and prove the conversion blob by blob."
    )
    add_standard(main_parser, __version__, parser)
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
    common.add_argument("--allow-unknown-fields", action="store_true", help="ignore fields that nothing knows")
    common.add_argument(
        "--allow-missing-weights",
        action="store_true",
        default=None,
        help="leave layers without weights to their fillers",
    )
    common.add_argument("--bn", choices=("variance", "inverse_std"), help="what a 4-blob BN layer stores last")
    add_debug(common)
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")

    show = commands.add_parser("show", parents=[common], help="list layers, shapes, parameters, multiply-adds")
    show.add_argument("net", metavar="NET", type=Path, help="the net's text (.prototxt)")
    show.add_argument("weights", metavar="WEIGHTS", type=Path, nargs="?", help="its weights (.caffemodel)")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.add_examples(
        (
            "caffeport show deploy.prototxt",
            "caffeport show deploy.prototxt face.caffemodel --json",
            "caffeport show train_val.prototxt --phase train --input-shape data=64x3x224x224",
        )
    )
    show.set_defaults(run=_show)

    convert = commands.add_parser("convert", parents=[common], help="write ONNX files and files for torch")
    convert.add_argument("net", metavar="NET", type=Path, help="the net's text (.prototxt)")
    convert.add_argument("weights", metavar="WEIGHTS", type=Path, help="its weights (.caffemodel)")
    convert.add_argument("--onnx", type=Path, metavar="F.onnx", help="the ONNX file to write")
    convert.add_argument(
        "--torch", type=Path, metavar="F.safetensors", help="weights (.safetensors, .pth), or a program (.pt2)"
    )
    convert.add_argument(
        "--python", type=Path, metavar="F.py", help="PyTorch source; its weights go into --torch, or F.safetensors"
    )
    convert.add_argument("--opset", type=int, default=17, help="ONNX opset, 13 to 21 (default 17)")
    convert.add_argument("--output", action="append", metavar="BLOB", help="export up to this blob (repeatable)")
    convert.add_argument("--fold", action=argparse.BooleanOptionalAction, default=True, help="fold BatchNorm and Scale")
    convert.add_argument(
        "--dynamic-batch", action=argparse.BooleanOptionalAction, default=True, help="leave the batch size free"
    )
    convert.add_argument(
        "--external-data", action=argparse.BooleanOptionalAction, default=None, help="weights in a file of their own"
    )
    _add_preprocessing(convert)
    convert.add_argument("--json", action="store_true", help="print JSON")
    convert.add_examples(
        (
            "caffeport convert deploy.prototxt face.caffemodel --onnx face.onnx",
            "caffeport convert deploy.prototxt face.caffemodel --onnx face.onnx --mean 127.5 --scale 0.0078125 --rgb",
            "caffeport convert deploy.prototxt face.caffemodel --torch face.safetensors --output fc5",
        )
    )
    convert.set_defaults(run=_convert)

    check = commands.add_parser("check", parents=[common], help="compare backends blob by blob")
    check.add_argument("net", metavar="NET", type=Path, help="the net's text (.prototxt)")
    check.add_argument("weights", metavar="WEIGHTS", type=Path, nargs="?", help="its weights (.caffemodel)")
    check.add_argument("--backends", default="torch,onnx", help="of torch, onnx and caffe (default torch,onnx)")
    check.add_argument("--reference", type=Path, metavar="BLOBS.npz", help="blobs that Caffe recorded")
    check.add_argument("--input", type=Path, metavar="F", help="inputs: .npz, .npy or a picture (default random)")
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
    _add_preprocessing(check, " (for a picture given as --input)")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.add_examples(
        (
            "caffeport check deploy.prototxt face.caffemodel",
            "caffeport check deploy.prototxt face.caffemodel --input face.jpg --mean 127.5 --scale 0.0078125",
            "caffeport check deploy.prototxt face.caffemodel --backends torch,onnx --reference blobs.npz --json",
        )
    )
    check.set_defaults(run=_check)
    return main_parser


def _add_preprocessing(command: OneLineParser, where: str = " into the model") -> None:
    group = command.add_argument_group("preprocessing", f"put{where}: (x - mean) * scale")
    group.add_argument(
        "--mean", type=mean_or_file, metavar="M[,M,M]", help="one number, one a channel (BGR), or a .binaryproto/.npy"
    )
    command.take_numbers("--mean")
    group.add_argument("--scale", type=finite, metavar="S", help="factor after the mean")
    group.add_argument("--rgb", action="store_true", help="the input is RGB; reverse its channels to Caffe's BGR")


def _load(options: argparse.Namespace) -> Any:
    from ..graph.build import load

    check_model(options.net, options.weights)
    return load(
        options.net,
        options.weights,
        phase=options.phase,
        stages=options.stage,
        input_shapes=dict(_input_shape(text) for text in options.input_shape),
        allow_unknown_fields=options.allow_unknown_fields,
        allow_missing_weights=options.allow_missing_weights,
        bn=options.bn,
    )


def _input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not name or not shape:
        raise CaffeportError(f'--input-shape expects BLOB=NxCxHxW, got "{text}"')
    return name, shape


def _mean(value: list[float] | Path | None) -> Any:
    """The numbers of --mean, or those of the file that it names."""
    if not isinstance(value, Path):
        return value
    from ..formats.caffemodel import read_binaryproto
    from ..parity.compare import load_arrays

    if value.suffix == ".binaryproto":
        return read_binaryproto(str(value))
    return next(iter(load_arrays(str(value)).values()))


def _show(options: argparse.Namespace) -> int:
    net = _load(options)
    rows: list[dict[str, Any]] = []
    seen: set[int] = set()
    for layer in net.layers:
        own = [param for param in layer.params if id(param) not in seen]
        seen.update(id(param) for param in own)
        bottoms, tops = ([value.shape for value in values] for values in (layer.inputs, layer.outputs))
        rows.append(
            {
                "name": layer.name,
                "type": layer.type,
                "bottoms": layer.bottoms,
                "tops": layer.tops,
                "top_shapes": tops,
                "blobs": [spec.shape for spec in layer.specs],
                "parameters": sum(math.prod(param.shape) for param in own),
                "multiply_adds": layer.op.multiply_adds(bottoms, tops) if bottoms else 0,
            }
        )
    totals = {key: sum(row[key] for row in rows) for key in ("parameters", "multiply_adds")}
    if options.json:
        shapes = {name: net.blob_shapes[name] for name in [*net.inputs, *net.outputs]}
        content: dict[str, Any] = {"name": net.name, "weights": net.weights_source, "inputs": net.inputs}
        content |= {"outputs": net.outputs, "shapes": shapes, "layers": rows}
        print(to_json(content | totals))
        return DONE
    lines = [
        (
            row["name"],
            row["type"],
            ", ".join(row["bottoms"]),
            ", ".join(f"{t} {shape_text(s)}" for t, s in zip(row["tops"], row["top_shapes"], strict=True)),
            ", ".join(map(shape_text, row["blobs"])),
            f"{row['parameters']:,}" if row["parameters"] else "",
            f"{row['multiply_adds']:,}" if row["multiply_adds"] else "",
        )
        for row in rows
    ]
    headings = ("layer", "type", "bottoms", "tops", "blobs", "parameters", "multiply-adds")
    print_table(headings, lines, whole={"parameters", "multiply-adds"})
    print(f"{net.name or '(no name)'}: {len(rows)} layers, {totals['parameters']:,} parameters, ", end="")
    print(
        f"{totals['multiply_adds']:,} multiply-adds; inputs {', '.join(net.inputs)}; outputs {', '.join(net.outputs)}"
    )
    print(f"weights: {net.weights_source}")
    return DONE


def _convert(options: argparse.Namespace) -> int:
    from .conversion import check_targets, convert

    sources = [options.net, options.weights, *([options.mean] if isinstance(options.mean, Path) else [])]
    check_targets(sources, options.onnx, options.torch, options.external_data, options.python)
    net = _load(options)
    written, inputs, outputs = convert(
        net,
        options.onnx,
        options.torch,
        opset=options.opset,
        dynamic_batch=options.dynamic_batch,
        fold=options.fold,
        outputs=options.output,
        mean=_mean(options.mean),
        scale=options.scale,
        rgb=options.rgb,
        external_data=options.external_data,
        python=options.python,
    )
    if options.json:
        sizes = {str(path): path.stat().st_size for path in written}
        weights = net.weights_source
        print(to_json({"net": net.name, "weights": weights, "inputs": inputs, "outputs": outputs, "files": sizes}))
        return DONE
    for path in written:
        tell(options, f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    tell(options, f"weights: {net.weights_source}")
    proof = f"to prove it: caffeport check {options.net} {options.weights}"
    tell(options, f"inputs {', '.join(inputs)}; outputs {', '.join(outputs)}; {proof}")
    return DONE


def _check(options: argparse.Namespace) -> int:
    from ..parity.compare import check

    net = _load(options)
    report = check(
        net,
        _check_input(net, options),
        backends=[name.strip() for name in options.backends.split(",") if name.strip()],
        reference=options.reference,
        rtol=options.rtol,
        atol=options.atol,
        seed=options.seed,
        caffe_python=options.caffe_python,
        caffe_interpreter=options.caffe_interpreter,
        caffe_timeout=options.caffe_timeout,
        training=options.training,
    )
    if options.json:
        print(report.to_json())
        return DONE if report.ok else FAILED
    lines = [
        (
            "ok" if row.ok and row.errors else "DIFFERS" if not row.ok else "-",
            row.layer,
            row.type,
            row.blob + (f" ({row.note})" if row.note else ""),
            shape_text(row.shape),
            "=".join([row.baseline, *row.errors]),
            f"{row.max_abs:.2e}" if row.errors else "",
            f"{row.max_rel:.2e}" if row.errors else "",
        )
        for row in [*report.rows, *report.exported]
    ]
    headings = ("", "layer", "type", "blob", "shape", "compared", "max abs", "max rel")
    print_table(headings, lines, whole={"", "shape", "max abs", "max rel"})
    if report.caffe:
        print(report.caffe)
    print(f"weights: {report.weights}")
    print(("ok: " if report.ok else "FAILED: ") + report.summary)
    return DONE if report.ok else FAILED


def _check_input(net: Any, options: argparse.Namespace) -> Any:
    if options.input is None:
        return None
    if options.input.suffix.lower() in (".npz", ".npy"):
        from ..parity.compare import load_arrays

        return {name.removeprefix("data/"): array for name, array in load_arrays(options.input).items()}
    from .picture import read_picture

    return read_picture(net, options.input, _mean(options.mean), options.scale, options.rgb)


if __name__ == "__main__":
    sys.exit(main())
