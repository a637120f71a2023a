"""The command ``normface``: every subcommand is a module of normface.cli, imported when it is named."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from caffeport.cli.arguments import add_debug
from caffeport.cli.command import BAD_INPUT, complain, run
from caffeport.cli.parser import OneLineParser, add_standard

from .. import progress
from ..version import __version__
from .written import refuse_overwriting

PROGRAM = "normface"

COMMANDS = {
    "train": "run a Caffe solver in PyTorch, as it stands",
    "finetune": "finetune a Caffe model with a face loss, and export it",
    "align": "find faces in photos and align them by five landmarks",
    "extract": "features of images, by a Caffe or ONNX model",
    "evaluate": "verification protocols: lfw, blufr, ytf, bin",
    "compare": "whether two photos show one person",
    "search": "the faces of a gallery that are nearest to a photo's",
    "index": "a gallery of millions as an index, added to and merged",
    "plan": "memory and messages of a training of millions of people",
}
"""Name -> help. The module of that name has ``add_arguments(parser)``, ``run(options) -> exit code`` and EXAMPLES."""
MOVED = {"experiment": "the experiments are run by python -m experiments NAME, from a clone of the repository"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code: 0 done, 1 a check failed, 2 bad usage or input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    named = next((word for word in words if not word.startswith("-")), "")
    if named in MOVED:
        complain(PROGRAM, MOVED[named])
        return BAD_INPUT
    options = parser([named]).parse_args(words)
    progress.silence(options.quiet)
    command = options.run

    def checked(chosen: argparse.Namespace) -> int:
        refuse_overwriting(chosen)
        return int(command(chosen))

    options.run = checked
    return run(PROGRAM, options)


def parser(filled: Sequence[str] = tuple(COMMANDS)) -> OneLineParser:
    """The parser; only the subcommands in ``filled`` have arguments, so that the others' libraries stay unloaded."""
    main_parser = OneLineParser(
        prog=PROGRAM,
        description="Finetune face models with normalised losses, and measure them.",
    )
    add_standard(main_parser, __version__, parser)
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name in filled:
            module = importlib.import_module(f".{name}", __package__)
            module.add_arguments(command)
            command.add_examples(module.EXAMPLES)
            add_debug(command)
            command.set_defaults(run=module.run)
    return main_parser


if __name__ == "__main__":
    sys.exit(main())
