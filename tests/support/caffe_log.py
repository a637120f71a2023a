"""A reader of Caffe's training logs, as the scripts that people plot them with read them.

It asks of a log what BVLC's tools/extra/parse_log.py does: a time at the beginning of every line that counts, the word
"Solving" once before, "Iteration N" in the lines that begin one, "Train net output #k: name = value" and the like
after it. What it does not understand it refuses, where those scripts would go on with wrong columns.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field

_PREFIX = re.compile(r"[IWEF](\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6}) +(\d+) ([a-z_]+\.cpp):(\d+)\] (.*)")
_NUMBER = r"([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))"


@dataclass
class LoggedRun:
    """By iteration: the loss, the rate, the outputs by name, and the seconds since "Solving" of its last line."""

    losses: dict[int, float] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    train: dict[int, dict[str, float]] = field(default_factory=dict)
    test: dict[int, dict[str, float]] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    done: bool = False


def read_log(text: str, year: int) -> LoggedRun:
    """Raises ValueError with the line for one without a time, or of an output before any iteration."""
    run, started, iteration = LoggedRun(), None, None
    for line in text.splitlines():
        match = _PREFIX.fullmatch(line)
        if match is None:
            raise ValueError(f"no line of glog's: {line!r}")
        month, day, hour, minute, second, micro = map(int, match.groups()[:6])
        time, words = datetime.datetime(year, month, day, hour, minute, second, micro), match[10]
        if "Solving" in words:
            started = time
        if started is None:
            continue
        found = re.search(r"Iteration (\d+)", words)
        if found:
            iteration = int(found[1])
            run.seconds[iteration] = (time - started).total_seconds()
        rate = re.search(rf"lr = {_NUMBER}$", words)
        loss = re.search(rf"Iteration \d+.*, loss = {_NUMBER}$", words)
        output = re.match(rf"    (Train|Test) net output #(\d+): (\S+) = {_NUMBER}( \(\* \S+ = \S+ loss\))?$", words)
        if (rate or loss or output) and iteration is None:
            raise ValueError(f"a number before any iteration: {line!r}")
        if rate and iteration is not None:
            run.rates[iteration] = float(rate[1])
        if loss and iteration is not None:
            run.losses[iteration] = float(loss[1])
        if output and iteration is not None:
            rows = (run.train if output[1] == "Train" else run.test).setdefault(iteration, {})
            rows[output[3]] = float(output[4])
        run.done |= words == "Optimization Done."
    return run
