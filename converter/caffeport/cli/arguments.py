"""The arguments that mean the same in every command, read by one function each: numbers, means, sizes, devices."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from ..errors import CaffeportError
from ..formats.other_files import CAFFEMODEL, HDF5, kind_of_file

MEAN_FILES = (".binaryproto", ".npy", ".npz")
_WEIGHTS = (".caffemodel", ".h5", ".hdf5")


def add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no notes, no progress, no word on files written")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_layers(parser: argparse.ArgumentParser) -> None:
    """Add --layers: files with operators of the user's own."""
    parser.add_argument(
        "--layers",
        action="append",
        type=Path,
        default=[],
        metavar="MY.py",
        help="a Python file with operators of your own (repeatable); it is run",
    )


def finite(text: str) -> float:
    """A number; neither NaN nor infinite."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid float value: {text!r}") from None
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {text!r}")
    return number


def seed(text: str) -> int:
    """A whole number of 0 or more, of which random numbers follow."""
    try:
        number = int(text)
    except ValueError:  # also one of more digits than Python reads
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f'expected a whole number of 0 or more, got "{text[:40]}"')
    return number


def mean(text: str) -> list[float]:
    """``127.5`` or ``104,117,123`` as numbers."""
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(
            f'--mean "{text}": expected a number, or numbers with commas between, all of them finite'
        )
    return numbers


def mean_or_file(text: str) -> list[float] | Path:
    """Numbers as ``mean`` takes them, or the path of a .binaryproto, .npy or .npz."""
    if text.endswith(MEAN_FILES):
        return Path(text)
    try:
        return mean(text)
    except argparse.ArgumentTypeError:
        words = text.replace(",", " ")
        raise argparse.ArgumentTypeError(
            f"--mean expects numbers or a .binaryproto/.npy file, got {words}; the numbers have to be finite"
        ) from None


def size(text: str) -> tuple[int, int]:
    """``112x96`` as (112, 96), height first."""
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f'--size "{text}": expected HxW, such as 112x96')
    height, width = int(match[1]), int(match[2])
    if height < 1 or width < 1:
        raise argparse.ArgumentTypeError(f'--size "{text}": expected HxW, both 1 or more')
    return height, width


def device(text: str) -> str:
    """``cpu``, ``cuda``, or ``cuda:1`` for the second one."""
    try:
        check_device(text)
    except CaffeportError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def check_device(text: str, more: str = "") -> None:
    """Raise CaffeportError for what is no device's name; whether there is such a device takes torch to know.

    more: what the option takes besides, which the message lists first.
    """
    if not re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d+)?", text, re.ASCII):
        raise CaffeportError(f'device "{text}" cannot be used; expected {more and more + ", "}cpu, cuda or cuda:N')


def check_model(net: str | Path | None, weights: str | Path | None) -> None:
    """Raise CaffeportError where NET and WEIGHTS stand in each other's place, as what is in the files tells."""
    if net is None or weights is None or _is_binary(net) is not True or _is_binary(weights) is not False:
        return
    if kind_of_file(net) in (None, CAFFEMODEL, HDF5) and kind_of_file(weights) is None:
        raise CaffeportError(
            f"{net}: is a binary file; expected the text of a net: NET and WEIGHTS have changed places, "
            f"so give {weights} {net}"
        )


def _is_binary(path: str | Path) -> bool | None:
    """Return whether a file begins with bytes that no text has; None of what cannot be read."""
    try:
        with open(path, "rb") as stream:
            return any(byte < 9 for byte in stream.read(4096))
    except OSError:
        return None


def check_readable(*paths: Path | None) -> None:
    """Raise CaffeportError for a file that cannot be opened; None is no file."""
    for path in paths:
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            raise CaffeportError(f"{path}: {error.strerror or error}") from error


def is_weights(path: Path) -> bool:
    """Return whether a path has the ending of a file of weights."""
    return str(path).lower().endswith(_WEIGHTS)
