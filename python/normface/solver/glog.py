"""Lines with the beginning that Caffe's log gives them, so that scripts which read its logs read these.

glog writes ``I0210 13:39:22.381027 25210 solver.cpp:239] text``: severity, month and day, the time to microseconds, the
thread, and the place in the source that speaks. The places here are those of BVLC Caffe's solver, since scripts look
for their file names.
"""

from __future__ import annotations

import datetime
import os
import re

_PLACES = (
    (r"Iteration \d+, lr = ", "sgd_solver.cpp:112"),
    (r"Iteration \d+, Testing net ", "solver.cpp:347"),
    (r"Iteration \d+, loss = ", "solver.cpp:327"),
    (r"Iteration ", "solver.cpp:239"),
    (r"    Train net output ", "solver.cpp:258"),
    (r"    Test net output ", "solver.cpp:414"),
    (r"Test loss: ", "solver.cpp:401"),
    (r"Solving ", "solver.cpp:289"),
    (r"Learning Rate Policy: ", "solver.cpp:290"),
    (r"Restoring ", "solver.cpp:296"),
    (r"Snapshotting to HDF5 ", "solver.cpp:474"),
    (r"Snapshotting to ", "solver.cpp:464"),
    (r"Snapshotting solver state to HDF5 ", "sgd_solver.cpp:296"),
    (r"Snapshotting solver state ", "sgd_solver.cpp:284"),
    (r"Test interrupted", "solver.cpp:396"),
    (r"Optimization stopped ", "solver.cpp:311"),
    (r"Optimization Done", "solver.cpp:332"),
    (r"    \[Forward\] Layer \S+, top ", "net.cpp:593"),
    (r"    \[Forward\] ", "net.cpp:605"),
    (r"    \[Backward\] Layer \S+, bottom ", "net.cpp:620"),
    (r"    \[Backward\] ", "net.cpp:631"),
)
_ELSE = "solver.cpp:45"


def glog_line(text: str, now: datetime.datetime | None = None) -> str:
    """Return ``text`` as glog writes it; now: local time, by default that of the clock."""
    now = now or datetime.datetime.now()
    place = next((place for start, place in _PLACES if re.match(start, text)), _ELSE)
    return f"I{now:%m%d %H:%M:%S.%f} {os.getpid():5d} {place}] {text}"
