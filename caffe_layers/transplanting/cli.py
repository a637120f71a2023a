"""The command line of transplant.py."""

import argparse
import os
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from . import changes, plan, record, report
from .errors import Refused
from .layers import Layers
from .todays_libraries import stops_at
from .tree import CONFIG, Tree

if TYPE_CHECKING:
    from typing import NoReturn

DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130
SOURCE = Path(__file__).resolve().parents[1]
TESTS = SOURCE.parent / "tests" / "caffe_layers"


def main(arguments: "list[str] | None" = None, source: Path = SOURCE, tests: Path = TESTS) -> int:
    """Returns the exit code: 0 done, 2 bad usage or input. ``source`` and ``tests`` hold the layers."""
    options = parser().parse_args(arguments)
    options.left = "run it again: it goes on where it stopped" if options.revert else "the tree is as it was"
    if options.debug:
        return run(options, source, tests)
    try:
        return run(options, source, tests)
    except Refused as refusal:
        complain(str(refusal))
    except KeyboardInterrupt:
        complain(f"interrupted; {options.left}")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        complain(f"{place}{error.strerror or error}; {options.left}")
    except Exception as error:
        complain(f"unexpected {type(error).__name__}: {error}; --debug shows where")
    return BAD_INPUT


def complain(problem: str) -> None:
    line = "transplant.py: error: " + " ".join(problem.split())
    encoding = sys.stderr.encoding or "ascii"
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)


class OneLineParser(argparse.ArgumentParser):
    """Bad usage gets one line too; argparse would print the whole usage before it."""

    def error(self, message: str) -> "NoReturn":
        complain(f"{message}; see --help")
        sys.exit(BAD_INPUT)


def parser() -> argparse.ArgumentParser:
    result = OneLineParser(
        prog="transplant.py",
        description="Put the face layers (CPU and CUDA) into a Caffe tree, or take them out again.",
        epilog="What was replaced is kept in CAFFE_ROOT/.face_layers; --revert restores the tree to the byte.",
    )
    result.add_argument("root", metavar="CAFFE_ROOT", type=folder, help="the top folder of the Caffe tree")
    mode = result.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    mode.add_argument("--revert", action="store_true", help="take the layers out again")
    result.add_argument("--no-tests", action="store_true", help="without the layers' tests")
    result.add_argument(
        "--replace",
        action="append",
        default=[],
        metavar="TYPE",
        help="put in a layer in place of the tree's own of that type (repeatable; all: wherever that can be done)",
    )
    result.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="TYPE",
        help="leave out the layer of that type (repeatable), for a tree that keeps ours from serving beside its own",
    )
    result.add_argument(
        "--force", action="store_true", help="with --revert: keep files that were edited since as FILE.edited"
    )
    result.add_argument("--json", action="store_true", help="print JSON")
    result.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return result


def folder(text: str) -> Path:
    if not text:  # an unset variable in a script; Path would take it for the current folder
        raise argparse.ArgumentTypeError("expected a folder, got an empty name")
    return Path(text)


def run(options: argparse.Namespace, source: Path, tests: Path) -> int:
    if not options.root.is_dir():
        raise Refused(
            f"{options.root} is {'not a folder' if options.root.exists() else 'not there'}; expected a Caffe tree"
        )
    root = Path(os.path.realpath(str(options.root)))
    if options.force and not options.revert:
        raise Refused("--force goes with --revert only; see --help")
    if options.revert:
        if options.no_tests or options.replace or options.without:
            raise Refused("--revert takes all out; --no-tests, --replace and --without don't go with it")
        return revert(options, root)
    return transplant(options, root, Layers(source, tests))


def transplant(options: argparse.Namespace, root: Path, layers: Layers) -> int:
    earlier = record.load(root)
    tree = Tree(root, earlier.originals() if earlier else {})
    choices = plan.Choices(
        not options.no_tests,
        {*options.replace, *(earlier.replace if earlier else [])},
        {*options.without, *(earlier.without if earlier else [])},
    )
    planned = plan.make(tree, layers, choices, earlier.numbers if earlier else {})
    needed = changes.compare(root, earlier, planned)
    files = report.what_happens(root, earlier, needed)
    notes = planned.notes + [f"{path} was edited since the transplant; it is left as it is" for path in needed.left]
    if earlier is None and (root / CONFIG).exists():
        notes.append(f"the layers were put in before, and what {record.FOLDER} knew of it is gone: --revert can't help")
    if not options.dry_run and (earlier or files):
        changes.carry_out(root, earlier, planned, needed, choices)
        options.left = "the layers are in the tree"
    notes += stops_at(root) if files else []
    if not files:
        did, outcome = "nothing", "already there: nothing to do" if earlier else "nothing to do: the tree has it all"
    elif options.dry_run:
        did, outcome = "planned", "nothing was written (--dry-run)"
    else:
        did = "updated" if earlier else "transplanted"
        back = f"python {quote(sys.argv[0])} --revert {quote(str(options.root))}"
        outcome = f"done; {report.BUILD_AGAIN}. To take it all out: {back}"
    if options.json:
        report.say(report.transplant_json(root, planned, files, notes, did))
    else:
        report.say(report.transplant_text(root, planned.rows, files, notes, outcome))
    return DONE


def revert(options: argparse.Namespace, root: Path) -> int:
    earlier = record.load(root)
    if earlier is None:
        if not record.clear_unfinished(root):
            raise Refused(f"{root} has no {record.FOLDER}: there is nothing to revert")
        reverted = changes.Reverted([], [], [])
    else:
        reverted = changes.revert(root, earlier, options.force)
    report.say(report.revert_json(root, reverted) if options.json else report.revert_text(root, reverted))
    return DONE
