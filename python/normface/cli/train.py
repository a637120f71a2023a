"""``normface train``: a Caffe solver as it stands, from its nets' data layers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from caffeport.cli.arguments import add_layers, check_device, check_readable
from caffeport.cli.command import FAILED, complain
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json

AUTO = "auto"
EXAMPLES = (
    "normface train --solver solver.prototxt",
    "normface train --solver solver.prototxt --weights start.caffemodel --device cuda --log train.csv",
    "normface train --solver solver.prototxt --snapshot snapshots/face_iter_10000.solverstate",
)


def add_arguments(parser: OneLineParser) -> None:
    parser.add_argument("--solver", type=Path, required=True, metavar="SOLVER", help="the solver's text (.prototxt)")
    parser.add_argument("--net", type=Path, metavar="NET", help="train this net, not the one the solver names")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", metavar="W[,W]", help="start from these .caffemodel files")
    start.add_argument(
        "--snapshot", metavar="S", help="go on from this .solverstate[.h5], or from the latest of this snapshot_prefix"
    )
    parser.add_argument(
        "--device",
        default=AUTO,
        metavar="DEVICE",
        help="auto (default): what solver_mode and device_id say, the CPU where there is no GPU; or cpu, cuda, cuda:N",
    )
    parser.add_argument("--precision", choices=("32", "bf16"), default="32", help="bf16: mixed precision (default 32)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="a row an iteration: .csv or .jsonl")
    parser.add_argument("--bn", choices=("variance", "inverse_std"), help="what a 4-blob BN layer stores last")
    parser.add_argument(
        "--exact-gradients", action="store_true", help="true derivatives where a fork computes something else"
    )
    parser.add_argument(
        "--allow-unknown-fields",
        action="store_true",
        help="ignore fields that nothing knows, and tell which",
    )
    add_layers(parser)
    parser.add_argument("--json", action="store_true", help="print how it ended as JSON; Caffe's lines go to stderr")


def run(options: argparse.Namespace) -> int:
    check_readable(options.solver, options.net)  # before torch is imported, which takes seconds
    if options.device != AUTO:
        check_device(options.device, AUTO)
    from ..errors import DivergedError
    from ..solver import Solver
    from ..solver.glog import glog_line
    from ..solver.training import Training

    def say(line: str) -> None:
        if options.quiet:
            return
        print(glog_line(line), file=sys.stderr if options.json else sys.stdout, flush=True)

    solver = Solver(
        options.solver,
        options.net,
        options.weights if options.snapshot is None else (),
        options.device,
        precision=options.precision,
        sources=True,
        exact_gradients=options.exact_gradients,
        bn=options.bn,
        allow_unknown_fields=options.allow_unknown_fields,
        custom_layers=options.layers,
    )
    training = Training(solver, say, options.log)
    for note in () if options.quiet else solver.notes:
        print(f"normface: note: {note}", file=sys.stderr)
    if options.snapshot is not None:
        training.restore(options.snapshot)
    try:
        outcome = training.run()
    except DivergedError as error:
        complain("normface", str(error))
        return FAILED
    if options.json:
        print(
            to_json(
                {
                    "iteration": outcome.iteration,
                    "loss": outcome.loss,
                    "stopped": outcome.stopped,
                    "seconds": round(outcome.seconds, 3),
                    "snapshot": outcome.snapshot and str(outcome.snapshot),
                    "tests": outcome.tests,
                },
                indent=None,
            )
        )
    return outcome.code
