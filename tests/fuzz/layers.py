"""Nets of the grammar, computed by torch and by ONNX Runtime, which share no code: every blob is to be equal."""

from __future__ import annotations

import random
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import caffeport

from .nets import Drawn, draw
from .runner import Outcome, repeat, silent
from .targets import OWN


def fuzz_layers(
    seed: int, count: int | None = None, seconds: float | None = None, kinds: Sequence[str] = ()
) -> Outcome:
    """Draw ``count`` nets, or as many as ``seconds`` allow; the n-th follows from the seed and n."""
    with tempfile.TemporaryDirectory() as folder:

        def one(number: int) -> tuple[Callable[[], str], bytes]:
            drawn = draw(random.Random(f"layers {seed} {number}"), kinds)
            return lambda: compare(drawn, Path(folder)), drawn.text.encode()

        with silent():
            return repeat(one, count, seconds)


def compare(drawn: Drawn, folder: Path) -> str:
    """Return "" where all blobs agree, or the name of the package's own error. Raises AssertionError where not."""
    path = folder / "net.prototxt"
    path.write_text(drawn.text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = caffeport.check(caffeport.load(path), backends=("torch", "onnx"))
    except OWN as error:
        return type(error).__name__
    if not report.ok:
        row = next(row for row in report.rows if not row.ok)
        raise AssertionError(f"{' '.join(drawn.kinds)}: torch and ONNX Runtime differ in blob {row.blob} ({row.type})")
    return ""
