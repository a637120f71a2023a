"""``caffeport show NET``: layers, shapes, parameters and multiply-adds, as a table or a drawing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import CaffeportError
from ..files import replacing, same_file, target_of
from ..graph.layer_table import layer_facts, layer_table, total
from ..json_text import to_json
from ..zoo import recognise
from .command import DONE, print_table, tell
from .common import add_net, folder_content, folder_line, load_net, open_folder, size_text
from .preset import known_line


def add_command(commands: Any, common: Any) -> None:
    """Add the command to the subparsers of ``caffeport``."""
    show = commands.add_parser("show", parents=[common], help="list layers, shapes, parameters, multiply-adds")
    add_net(show)
    show.add_argument("--json", action="store_true", help="print JSON")
    show.add_argument(
        "--html", type=Path, metavar="F.html", help="write the net as a page: a graph to walk through, and its costs"
    )
    show.add_argument("--svg", type=Path, metavar="F.svg", help="write the graph as a drawing (needs mini-racer)")
    show.add_argument(
        "--stub", action="store_true", help="print the beginning of a file for --layers: the types that nothing knows"
    )
    show.add_examples(
        (
            "caffeport show deploy.prototxt",
            "caffeport show deploy.prototxt face.caffemodel --json",
            "caffeport show deploy.prototxt face.caffemodel --html face.html",
            "caffeport show tuned",
            "caffeport show train_val.prototxt --phase train --input-shape data=64x3x224x224",
        )
    )
    show.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> int:
    folder = open_folder(options)
    if options.stub:
        return _stub(options)
    targets = [path for path in (options.html, options.svg) if path is not None]
    for target in targets:
        target_of(target)
        if any(same_file(target, source) for source in (options.net, options.weights) if source is not None):
            raise CaffeportError(f"{target}: is read; name another file to write")
    net = load_net(options)
    if targets:
        return _draw(options, net, targets)
    known = recognise(options.weights) if options.weights is not None else None
    rows = layer_facts(net.layers)
    if options.json:
        shapes = {name: net.blob_shapes[name] for name in [*net.inputs, *net.outputs]}
        content: dict[str, Any] = {"name": net.name, "weights": net.weights_source, "inputs": net.inputs}
        content |= {"known": None if known is None else known.name}
        content |= {"outputs": net.outputs, "shapes": shapes, "layers": rows}
        totals = {key: total(rows, key) for key in ("parameters", "multiply_adds")}
        print(to_json(content | folder_content(folder) | totals | {"notes": options.notes}))
        return DONE
    print_table(layer_table(rows))
    print(f"{net.name or '(no name)'}: {net.cost_line}")
    print(f"weights: {net.weights_source}")
    for line in (known_line(known), folder_line(folder)):
        if line:
            print(line)
    return DONE


def _draw(options: argparse.Namespace, net: Any, targets: list[Path]) -> int:
    from ..page import document, drawing

    if options.svg is not None:
        text = drawing.svg(net)
        with replacing(options.svg) as stream:
            stream.write(text.encode("utf-8", "backslashreplace"))
    if options.html is not None:
        document.write(net, options.html)
    if options.json:
        print(to_json({"files": {str(path): path.stat().st_size for path in targets}, "notes": options.notes}))
        return DONE
    for path in targets:
        tell(options, f"wrote {path} ({size_text(path.stat().st_size)})")
    return DONE


def _stub(options: argparse.Namespace) -> int:
    from ..formats import prototxt
    from ..formats.upgrade import upgrade
    from ..graph.stub import stub_of_text
    from ..operators.custom import custom_operators

    print(stub_of_text(upgrade(prototxt.load(options.net)), custom_operators(options.layers)), end="")
    return DONE
