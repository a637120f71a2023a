"""The parser that every command line of this project shares: one-line errors, no abbreviations, "did you mean"."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..errors import CaffeportError
from ..lazy import require
from .command import BAD_INPUT, DONE, complain

SHELLS = ("bash", "zsh", "tcsh")
_NUMBER = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)
_PATH_SUFFIX = re.compile(r"\.[A-Za-z]\w*$")
_KEY_VALUE = re.compile(r"\w[\w-]*=")


class OneLineParser(argparse.ArgumentParser):
    """Bad usage gets one line from the subcommand that it concerns; argparse would print the whole usage before it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **options)
        self._new_names: dict[str, str] = {}
        self._places: list[tuple[str, str, bool]] = []
        self._numbers: set[str] = set()
        self._tables: set[str] = set()
        self._files: dict[str, str] = {}

    def add_examples(self, examples: Iterable[str]) -> None:
        """Show command lines at the end of the help."""
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.epilog = "examples:\n" + "\n".join(f"  {line}" for line in examples)

    def add_alias(self, old: str, new: str) -> None:
        """Take the option's name of an earlier version, which no help shows."""
        self._new_names[old] = new

    def add_place(self, dest: str, option: str, *, metavar: str, help: str, required: bool = False) -> None:
        """Add a path that is given by place, or by the option of earlier versions, which no help shows."""
        self.add_argument(dest, nargs="?", type=Path, metavar=metavar, help=help)
        self.add_argument(option, dest=f"{dest} by name", type=Path, help=argparse.SUPPRESS)
        self._places.append((dest, metavar, required))

    def take_numbers(self, *options: str) -> None:
        """Let these options take numbers in several words too: ``--mean 104 117 123`` is ``--mean 104,117,123``."""
        self._numbers.update(options)

    def take_tables(self, *options: str) -> None:
        """Let these options take KEY=VALUE in several words: ``--opt A=1 B=2`` is ``--opt A=1 --opt B=2``."""
        self._tables.update(options)

    def take_files(self, option: str, suffix: str) -> None:
        """Let this option take files of one ending in several words: ``--x a.bin b.bin`` is ``--x a.bin --x b.bin``."""
        self._files[option] = suffix

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse as argparse does, but refuse here what is not known, since only here the subcommand is known."""
        words = self._as_of_today([str(word) for word in (sys.argv[1:] if args is None else args)])
        self._refuse_unknown(words)
        options, rest = super().parse_known_args(words, namespace)
        rest = self._fill_places(options, rest)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return options, rest

    def error(self, message: str) -> NoReturn:
        program = self.prog.removeprefix("python -m ").split()[0]
        message = re.sub(r"^argument [^:]+: (?=--)", "", message)  # it names its option itself
        complain(program, f"{message}; see {self.prog} --help")
        sys.exit(BAD_INPUT)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            near = _nearest(str(value), known)
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{near} (choose from {', '.join(known)})")

    def _as_of_today(self, words: Sequence[str]) -> list[str]:
        """The words with today's names of options, and the values of numbers and tables each in one word."""
        result: list[str] = []
        position = 0
        while position < len(words):
            name, equals, value = words[position].partition("=")
            name = self._new_names.get(name, name)
            position += 1
            if name == "--":
                return [*result, *words[position - 1 :]]
            several = not equals and (name in self._numbers or name in self._tables or name in self._files)
            if not several:
                result.append(name + equals + value)
                continue
            if name in self._numbers:
                count = _numbers_in(words[position:])
            elif name in self._tables:
                count = _pairs_in(words[position:])
            else:
                count = _files_in(words[position:], self._files[name])
            values = words[position : position + count]
            position += count
            if not values:
                result.append(name)
            elif name in self._numbers:
                result.append(f"{name}={','.join(values)}")
            else:
                result += [f"{name}={one}" for one in values]
        return result

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        has_commands = any(isinstance(action, argparse._SubParsersAction) for action in self._actions)
        for word in words:
            if word == "--" or (has_commands and not word.startswith("-")):
                return
            name = word.partition("=")[0]
            if not name.startswith("--") or " " in word or name in self._option_string_actions:
                continue  # argparse takes a word with a space as a value
            shown = [
                option
                for option, action in self._option_string_actions.items()
                if action.help is not argparse.SUPPRESS and option.startswith("--")
            ]
            self.error(f"unrecognized arguments: {name}{_nearest(name, shown)}")

    def _fill_places(self, options: argparse.Namespace, rest: list[str]) -> list[str]:
        """Give what stands by place to the places that no option names, also where options stand in between."""
        given = [getattr(options, dest) for dest, _, _ in self._places]
        values = [value for value in given if value is not None]
        if self._places:
            values += [Path(word) for word in rest if not word.startswith("-")]
            rest = [word for word in rest if word.startswith("-")]
        missing = []
        for dest, metavar, required in self._places:
            named = getattr(options, f"{dest} by name")
            delattr(options, f"{dest} by name")
            value = named if named is not None else values.pop(0) if values else None
            setattr(options, dest, value)
            if required and value is None:
                missing.append(metavar)
        if missing:
            self.error(f"the following arguments are required: {', '.join(missing)}")
        return [*map(str, values), *rest]


class Version(argparse.Action):
    """Print the version of the package whose command it is, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any, **options: Any) -> NoReturn:
        print(f"{parser.prog} {self.const}")
        sys.exit(DONE)


class Completion(argparse.Action):
    """Print the script by which a shell completes the command that ``const()`` gives the whole parser of, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, options: Any, shell: Any, *more: Any) -> NoReturn:
        try:
            shtab = require("shtab")
        except CaffeportError as error:
            parser.error(str(error))
        whole = self.const()
        _complete_paths(whole, shtab.FILE)
        print(shtab.complete(whole, shell=shell))
        sys.exit(DONE)


def add_standard(parser: argparse.ArgumentParser, version: str, whole: Callable[[], argparse.ArgumentParser]) -> None:
    """Add --version and --print-completion; ``whole()`` gives the parser with all subcommands."""
    parser.add_argument("--version", action=Version, nargs=0, const=version, help="show the version and exit")
    parser.add_argument(
        "--print-completion",
        action=Completion,
        choices=SHELLS,
        const=whole,
        metavar="SHELL",
        help="print the completion script of bash, zsh or tcsh and exit (needs shtab)",
    )


def _complete_paths(parser: argparse.ArgumentParser, files: Any) -> None:
    """Mark every path of the parser, and of those below it, as completed by the names of files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _complete_paths(below, files)
        elif action.type is Path:
            action.complete = files  # type: ignore[attr-defined]


def _nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean "x"?)``. Only words much like it count: all options of a command share their dashes."""
    candidates = {name.lstrip("-"): name for name in known}
    near = difflib.get_close_matches(word.lstrip("-").lower()[:100], candidates, n=1, cutoff=0.6)
    return f' (did you mean "{candidates[near[0]]}"?)' if near else ""


def _numbers_in(words: Sequence[str]) -> int:
    """Return how many of the first words belong to an option of numbers: the first, and those up to the last number.

    Options and paths end them, and words behind the last number are something else, a net's name perhaps.
    """
    count = 0
    for position, word in enumerate(words):
        ends = word.startswith("-") and not _NUMBER.match(word)
        if ends or (position > 0 and (os.sep in word or _PATH_SUFFIX.search(word))):
            break
        if position == 0 or _is_number(word):
            count = position + 1
    return count


def _pairs_in(words: Sequence[str]) -> int:
    """Return how many of the first words belong to an option of KEY=VALUE: the first, and all KEY=VALUE behind it."""
    count = 0
    while count < len(words) and (_KEY_VALUE.match(words[count]) or (count == 0 and not words[0].startswith("-"))):
        count += 1
    return count


def _files_in(words: Sequence[str], suffix: str) -> int:
    """Return how many of the first words belong to an option of files: the first, and all of this ending behind it."""
    count = 0
    while count < len(words) and not words[count].startswith("-") and (count == 0 or words[count].endswith(suffix)):
        count += 1
    return count


def _is_number(word: str) -> bool:
    try:
        return bool([float(part) for part in word.split(",")])
    except ValueError:
        return False
