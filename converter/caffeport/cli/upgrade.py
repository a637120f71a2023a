"""``caffeport upgrade OLD NEW``: old nets, solvers and weights in today's form."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_debug
from .command import DONE, tell
from .common import size_text


def add_command(commands: Any) -> None:
    """Add the command to the subparsers of ``caffeport``."""
    upgrade = commands.add_parser(
        "upgrade",
        help="write old nets and weights in today's form",
        description="Write an old net, solver or weights file in today's form. NEW's ending says which: .caffemodel "
        "for binary weights, .h5 for HDF5 weights, any other for what OLD is.",
    )
    upgrade.add_argument(
        "old", metavar="OLD", type=Path, help="a net or solver (text), or weights (binary, text or HDF5)"
    )
    upgrade.add_argument("new", metavar="NEW", type=Path, help="the file to write; OLD stays as it is")
    add_debug(upgrade)
    upgrade.add_examples(
        (
            "caffeport upgrade v1_train_val.prototxt train_val.prototxt",
            "caffeport upgrade v1.caffemodel today.caffemodel",
            "caffeport upgrade face.caffemodel.h5 face.caffemodel",
        )
    )
    upgrade.set_defaults(run=_upgrade)


def _upgrade(options: argparse.Namespace) -> int:
    from ..to_caffe.old_files import upgrade_file

    result = upgrade_file(options.old, options.new)
    size = size_text(options.new.stat().st_size)
    layers = f", {result.layers} layers" if result.layers else ""
    tell(options, f"wrote {options.new} ({size}): {result.new} from {result.old}{layers}")
    return DONE
