"""``caffeport zoo [NAME]``: published Caffe models, where they are and what their pixels go through."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from .. import zoo
from ..json_text import to_json
from ..table import Table
from ..zoo import Model
from .arguments import add_debug
from .command import DONE, print_table
from .common import size_text
from .preset import zoo_name

HEADINGS = ("name", "what it is", "preprocessing", "licence")


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of ``caffeport``."""
    command = commands.add_parser(
        "zoo",
        help="list published Caffe models, or all that is known of one",
        description="List published Caffe models: where they are, their licences and preprocessing, what was measured.",
    )
    command.add_argument(
        "name",
        nargs="?",
        type=zoo_name,
        choices=[model.name for model in zoo.MODELS],
        metavar="NAME",
        help="a model of the list",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    add_debug(command)
    command.add_examples(("caffeport zoo", "caffeport zoo mobilefacenet", "caffeport zoo mtcnn-pnet --json"))
    command.set_defaults(run=_zoo)


def _zoo(options: argparse.Namespace) -> int:
    models = zoo.MODELS if options.name is None else (zoo.named(options.name),)
    if options.json:
        print(to_json([asdict(model) for model in models] if options.name is None else asdict(models[0])))
    elif options.name is None:
        lines = [(model.name, model.title, model.recipe(), model.licence) for model in models]
        print_table(Table(HEADINGS, lines, set(), ("licence",)))
    else:
        _tell_all(models[0])
    return DONE


def _tell_all(model: Model) -> None:
    """Print all that is known of one model, a line each."""
    lines = {
        "what it is": f"{model.title} ({model.task})",
        "repository": model.repository or "not known",
        "branch": model.branch,
        "net": model.net or "none there",
        "weights": model.weights,
        "licence": model.licence,
        "preprocessing": model.recipe(),
        "says so": "" if model.preset is None else model.preset.source,
        "outputs": ", ".join(model.outputs),
        "file": "" if model.file is None else f"{size_text(model.file.bytes)}, SHA-256 {model.file.sha256}",
        "measured here": model.proof(),
        "note": model.note,
    }
    print(model.name)
    for name, text in lines.items():
        if text:
            print(f"  {name + ':':<15} {text}")
    if model.preset is not None:
        print(f"  {'convert:':<15} caffeport convert NET WEIGHTS --onnx F.onnx --preset {model.name}")
