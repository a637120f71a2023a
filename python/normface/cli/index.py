"""normface index FEATURES... --out DIR: a gallery too large for an exact search."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from caffeport.cli.arguments import finite
from caffeport.cli.command import DONE, remark, tell
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json

EXAMPLES = (
    "normface index gallery.npz --out faces.index",
    "normface index shards/ --out faces.index --memory 8 --recall 0.98 --queries probes.npz",
    "normface index new.npz --out faces.index --add",
)
_BUILDING = ("kind", "memory", "recall", "queries", "held_out", "exact")
"""The options of a build alone; their defaults are build_index's."""


def add_arguments(parser: OneLineParser) -> None:
    parser.add_argument(
        "features",
        metavar="FEATURES",
        nargs="+",
        type=Path,
        help="features files of normface extract (.npz, .parquet), or folders of them; with --merge indexes",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the index, a folder")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--add", action="store_true", help="add the features to the index in --out")
    what.add_argument("--merge", action="store_true", help="put several indexes into a new one")
    group = parser.add_argument_group("building")
    group.add_argument(
        "--kind", choices=("ivf-pq", "hnsw"), help="lists of codes, or a graph (default: by size and memory)"
    )
    group.add_argument(
        "--memory", type=finite, metavar="GB", help="what a search may take (default: half of this machine's)"
    )
    group.add_argument(
        "--exact",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep the features too, in float16 on the disk, to score candidates by (default: kept)",
    )
    group.add_argument(
        "--recall", type=finite, metavar="SHARE", help="queries whose nearest face is to be found (default 0.95)"
    )
    group.add_argument("--queries", type=Path, metavar="F.npz", help="features to measure the recall with")
    group.add_argument(
        "--held-out", type=int, metavar="N", help="faces of the gallery to measure it with instead (default 1000)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    from ..errors import NormfaceError
    from ..recognise.index import add_to_index, build_index, merge_indexes

    given = {name: getattr(options, name) for name in _BUILDING if getattr(options, name) is not None}
    if given and (options.add or options.merge):
        name = next(iter(given)).replace("_", "-")
        raise NormfaceError(f"--{name}: is for building an index; --add and --merge leave it as it was built")
    if options.add:
        built = add_to_index(options.out, options.features, progress=True)
    elif options.merge:
        built = merge_indexes(options.out, options.features)
    else:
        built = build_index(options.out, options.features, progress=True, **_building(given))
    _report(options, built)
    return DONE


def _building(given: dict[str, Any]) -> dict[str, Any]:
    from ..errors import NormfaceError
    from ..features import load_features

    if "memory" in given:
        if given["memory"] <= 0:
            raise NormfaceError(f"--memory {given['memory']:g}: expected more than 0 GB")
        given["memory"] = round(given["memory"] * 1e9)
    if "queries" in given:
        given["queries"] = load_features(given["queries"])
    return given


def _report(options: argparse.Namespace, built: Any) -> None:
    manifest = built.manifest
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    if options.json:
        content = {
            "index": str(options.out),
            "faces": manifest.rows,
            "dimension": manifest.dimension,
            "bytes": size,
            "pieces": [vars(piece) for piece in manifest.pieces],
            "choice": None if built.choice is None else vars(built.choice),
            "recall": [vars(one) for one in manifest.recall],
            "continued_from": built.continued_from,
        }
        print(to_json(content))
        return
    again = f", continued from file {built.continued_from}" if built.continued_from else ""
    pieces = "" if len(manifest.pieces) == 1 else f" in {len(manifest.pieces)} pieces"
    faces = f"{manifest.rows:,} faces of {manifest.dimension} numbers{pieces}"
    tell(options, f"wrote {options.out}: {faces}, {size / 1e6:.4g} MB{again}")
    if built.choice is not None:
        effort = manifest.pieces[0].effort
        tell(
            options,
            f"{built.choice.words}; a search looks at {effort} {'lists' if built.choice.lists else 'candidates'}",
        )
    for one in manifest.recall:
        tell(options, f"{one.words}; {one.milliseconds:.3g} ms a query")
    if built.choice is not None and not manifest.recall:
        remark("normface", options, "the recall was not measured (--held-out, --queries)")
