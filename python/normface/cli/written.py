"""What a command would write, beside what it reads: one file cannot be both."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from caffeport.files import same_file

from ..errors import NormfaceError

WRITTEN = ("out", "draw", "log", "threshold_out", "augment_preview", "find_lr_figure")
"""The options whose value is a file or folder to write."""


def refuse_overwriting(options: argparse.Namespace) -> None:
    """Raise NormfaceError where an option names a file to write that another one reads, through links too."""
    values = vars(options)
    outputs = {name: values[name] for name in WRITTEN if isinstance(values.get(name), (str, Path))}
    for name, output in outputs.items():
        for source in _files(value for other, value in values.items() if other not in WRITTEN):
            if same_file(output, source):
                option = f"--{name.replace('_', '-')}"
                raise NormfaceError(f"{option} {output}: is {source}, which is read; choose another name to write")


def _files(values: Iterator[Any]) -> Iterator[str]:
    """Yield the files among options' values; several stand in a list, or between commas."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _files(iter(value))
        elif isinstance(value, Path):
            yield from _files(iter([str(value)]))
        elif isinstance(value, str):
            yield from (name for name in {value, *value.split(",")} if name and os.path.isfile(name))
