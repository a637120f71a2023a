"""The answers of the backends to a Net: types that name no backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class _Names(NamedTuple):
    inputs: list[str]
    outputs: list[str]


class Exported(_Names):
    """The names of an ONNX file's inputs, in the net's order, and of its outputs, in the order they were asked for.

    ``fixed_size`` says, beside the two, why the file takes images of one size alone; it is empty where it takes others.
    ``precision`` says of a file that is not float32 what it is; else it is empty.
    """

    fixed_size: str = ""
    precision: str = ""


class Checked(Protocol):
    """A comparison of backends, blob by blob; caffeport.parity.report.Report has all of it."""

    @property
    def ok(self) -> bool: ...
    @property
    def rows(self) -> Sequence[Any]: ...
    @property
    def summary(self) -> str: ...
    def to_json(self) -> str: ...
