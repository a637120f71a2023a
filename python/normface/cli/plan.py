"""normface plan --classes 1e7 --gpus 8 --memory 80: what a training of so many people takes."""

from __future__ import annotations

import argparse

from caffeport.cli.arguments import finite
from caffeport.cli.command import DONE, FAILED, print_table
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json
from caffeport.table import Table

from ..scaling import DTYPES, Plan, Setup, plan

EXAMPLES = (
    "normface plan --classes 1e7 --gpus 8 --memory 80",
    "normface plan --classes 1e7 --embedding 256 --dtype bfloat16 --sample-rate 0.1 --memory 23 --batch 128",
    "normface plan --classes 1e6 --gpus 4 --memory 24 --fused --backbone 4.4e7 --bandwidth 25 --json",
)


def add_arguments(parser: OneLineParser) -> None:
    head = parser.add_argument_group("the head")
    head.add_argument("--classes", type=count, required=True, metavar="C", help="people; 1e7 is ten million")
    head.add_argument("--embedding", type=count, default=512, metavar="D", help="numbers of a feature (default 512)")
    head.add_argument("--batch", type=count, default=256, metavar="N", help="images of a whole batch (default 256)")
    head.add_argument("--dtype", choices=[*DTYPES], default="float32", help="of the class weights (default float32)")
    head.add_argument(
        "--momentum", choices=[*DTYPES, "none"], default="float32", help="of their momentum (default float32)"
    )
    head.add_argument(
        "--sample-rate",
        dest="sampled",
        type=finite,
        default=1.0,
        metavar="R",
        help="share of the classes that a step looks at (default 1)",
    )
    parser.add_alias("--sampled", "--sample-rate")
    head.add_argument(
        "--fused", action="store_true", help="steps are made within the backward pass, without a gradient"
    )
    net = parser.add_argument_group("the net before it")
    net.add_argument("--backbone", type=count, default=0, metavar="P", help="its numbers: 4.4e7 of a ResNet-50")
    net.add_argument(
        "--activations", type=finite, default=0.0, metavar="MB", help="what it keeps of an image for the way back"
    )
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--gpus", type=count, default=1, metavar="R", help="processes, one a device (default 1)")
    machine.add_argument("--memory", type=finite, default=80.0, metavar="GB", help="of a device (default 80)")
    machine.add_argument(
        "--bandwidth", type=finite, default=100.0, metavar="GB/S", help="between devices, each way (default 100)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def count(text: str) -> int:
    """A whole number, which may be written 1e7."""
    number = finite(text)
    if number != int(number):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(number)


def run(options: argparse.Namespace) -> int:
    made = plan(
        Setup(
            classes=options.classes,
            embedding=options.embedding,
            processes=options.gpus,
            batch=options.batch,
            dtype=options.dtype,
            momentum=options.momentum,
            sampled=options.sampled,
            fused=options.fused,
            backbone=options.backbone,
            activations=round(options.activations * 1e6),
            memory=round(options.memory * 1e9),
            bandwidth=options.bandwidth * 1e9,
        )
    )
    if options.json:
        print(to_json(made.to_dict()))
    else:
        _print(made)
    return DONE if made.fits else FAILED


def _print(made: Plan) -> None:
    setup = made.setup
    lines = [(name, made.formulas[name], gigabytes(size)) for name, size in made.parts.items()]
    print_table(Table(("memory of a process", "bytes", "GB"), [*lines, ("in all", "", gigabytes(made.total))], {"GB"}))
    letters = f"D {setup.embedding}, N {setup.batch}, R {setup.processes}, q {setup.sampled:g}"
    print(f"L = {made.rows:,} rows of the class weights; {letters}")
    word = "fits" if made.fits else "does not fit"
    less = "" if made.fits else "; more --gpus, --fused, --dtype bfloat16 and --sample-rate take less of each"
    print(f"{word} into {setup.memory / 1e9:g} GB; {made.most_classes:,} classes at most do{less}")
    if setup.processes > 1:
        lines = [(name, "", f"{size / 1e6:.4g}") for name, size in made.messages.items() if size]
        lines.append(("in all", "", f"{made.sent / 1e6:.4g}"))
        print_table(Table(("sent by a process a step", "", "MB"), lines, {"MB"}))
        whole = f"{made.unsharded / 1e6:,.0f} MB and {1000 * made.unsharded / setup.bandwidth:.3g} ms"
        print(
            f"{1000 * made.seconds:.3g} ms at {setup.bandwidth / 1e9:g} GB/s; with all class weights on every device "
            f"{whole}"
        )


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.3f}"
