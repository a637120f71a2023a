"""The command ``caffeport``: show, convert, check, time and upgrade Caffe models, and list published ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..version import __version__
from . import bench, check, convert, show, upgrade, zoo
from .command import run
from .common import common_options
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
    common = common_options()
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (show, convert, check, bench):
        command.add_command(commands, common)
    upgrade.add_command(commands)
    zoo.add_command(commands)
    return main_parser


if __name__ == "__main__":
    sys.exit(main())
