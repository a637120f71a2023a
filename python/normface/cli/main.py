"""The command ``normface``: every subcommand is a module of normface.cli, imported when it is named."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from caffeport.cli.command import OneLineParser, Version, run

from ..version import __version__

PROGRAM = "normface"

COMMANDS = {
    "train": "run a Caffe solver in PyTorch, as it stands",
    "finetune": "finetune a Caffe model with a face loss, and export it",
    "align": "find faces in photos and align them by five landmarks",
    "extract": "features of pictures, by a Caffe or ONNX model",
    "evaluate": "verification protocols: lfw, blufr, ytf, bin",
    "compare": "whether two photos show one person",
    "search": "the faces of a gallery that are nearest to a photo's",
}
"""Name -> help. The module of that name has ``add_arguments(parser)`` and ``run(options) -> exit code``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code: 0 done, 1 a check failed, 2 bad usage or input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run(PROGRAM, parser(words[0] if words else None).parse_args(words))


def parser(named: str | None = None) -> OneLineParser:
    """The parser; only the subcommand ``named`` has its arguments, so that the others' libraries stay unloaded."""
    main_parser = OneLineParser(
        prog=PROGRAM,
        description="Finetune face models with normalised losses, and measure them.",
    )
    main_parser.add_argument("--version", action=Version, nargs=0, const=__version__, help="show the version and exit")
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == named:
            module = importlib.import_module(f".{name}", __package__)
            module.add_arguments(command)
            command.add_argument("--debug", action="store_true", help="show the traceback of an error")
            command.set_defaults(run=module.run)
    return main_parser


if __name__ == "__main__":
    sys.exit(main())
