"""Texts and JSON made to hang their reader: {name: (reader, content, what the message says)}."""

from __future__ import annotations

import json

LONG_NUMBER = "9" * 5000
TEXTS: dict[str, tuple[str, bytes, str]] = {
    "pairs-first-line": ("pairs", f"{LONG_NUMBER} 300".encode(), ":1: expected"),
    "pairs-number": ("pairs", f"1 1\na 1 {LONG_NUMBER}\na 1 b 2\n".encode(), ":2: expected"),
    "pairs-not-text": ("pairs", b"\xff\xfe" + bytes(100), "is no text file"),
    "splits-number": (
        "splits",
        f"{LONG_NUMBER}, 1, a/1, b/1, 0\n{LONG_NUMBER}, 1, a/1, b/1, 0\n".encode(),
        ":2: expected",
    ),
    "splits-escape": ("splits", b"1, \x1b[2J\n2, 3\n", r":1: expected .*\\x1b\[2J"),
    "list-long-name": ("list", b"a" * 6000, ":1: is no image's path .6000 characters"),
    "list-long-part": ("list", b"a.png\nb/" + b"a" * 700 + b"/c.png\n", ":2: is no image's path"),
    "list-no-text": ("list", b"a\0b", "is no text"),
    "landmarks-number": ("landmarks", f'{{"a.jpg": [{LONG_NUMBER}]}}'.encode(), "is no"),
    "landmarks-deep": ("landmarks", b"[" * 1_000_000, "is no|nested"),
    "landmarks-lone-half": ("landmarks", rb'[{"photo": "\ud800", "landmarks": [1]}]', "landmarks are five points"),
    "results-empty": ("results", b"{}", "is not what an experiment writes"),
    "results-list": ("results", b"[1, 2]", "is not what an experiment writes"),
    "results-number": ("results", f'{{"seed": {LONG_NUMBER}}}'.encode(), "cannot be read"),
    "results-deep": ("results", b'{"a":' * 100_000, "cannot be read"),
    "calibration-deep": ("calibration", b"[" * 100_000, "is no calibration file"),
    "calibration-number": (
        "calibration",
        f'{{"thresholds": {{"0.1": {"9" * 400}}}}}'.encode(),
        "is no calibration file",
    ),
    "calibration-not-text": ("calibration", b"\xff\xfe{}", "is no"),
}


def results(**changes: object) -> bytes:
    """A results.json that is whole but for ``changes``."""
    whole = {"experiment": "case", "title": "t", "command": "c", "claim": "c", "finding": "f", "measured": {}}
    whole |= {"figures": [], "timings": {"seconds": 1.0}, "seed": 0, "full": False, "holds": True}
    return json.dumps(whole | changes).encode()


TEXTS |= {
    "results-seconds": ("results", results(timings={"seconds": 10**400}), "is not what an experiment writes"),
    "results-lone-half": ("results", results(title="\ud800"), "is not what an experiment writes"),
    "results-other-name": (
        "results",
        results(experiment="\x1b[2J" + "x" * 5000),
        r"is of the experiment '\\x1b\[2Jx{60}",
    ),
}
for _key in json.loads(results()):
    if _key != "holds":
        TEXTS[f"results-without-{_key}"] = (
            "results",
            json.dumps({k: v for k, v in json.loads(results()).items() if k != _key}).encode(),
            rf"is not what an experiment writes \({_key}\)",
        )
