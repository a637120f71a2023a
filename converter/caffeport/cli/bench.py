"""``caffeport bench MODEL.onnx [NET WEIGHTS]``: the times of a model in each runtime there is."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CaffeportError
from ..json_text import to_json
from ..table import Table
from .arguments import check_readable, finite, seed
from .command import DONE, FAILED, print_table
from .common import load_keywords, parse_shapes

if TYPE_CHECKING:
    import numpy as np

    from ..parity.coarser import Coarser
    from ..runtimes.bench import Result


def add_command(commands: Any, common: Any) -> None:
    """Add the command to the subparsers of ``caffeport``."""
    command = commands.add_parser(
        "bench",
        parents=[common],
        help="time an ONNX file in each runtime that is installed, and compare their numbers",
        description="Time an ONNX file in each runtime that is installed, in turn, and compare their outputs.",
    )
    command.add_argument("model", metavar="MODEL.onnx", type=Path, help="the file")
    command.add_argument("net", metavar="NET", type=Path, nargs="?", help="the text it was made of, for PyTorch")
    command.add_argument("weights", metavar="WEIGHTS", type=Path, nargs="?", help="and its weights")
    command.add_argument(
        "--runtimes",
        type=_names,
        metavar="NAME,...",
        help="which ones, in this order (default: all that are installed)",
    )
    command.add_argument(
        "--batch", type=_batches, default=[1], metavar="N,...", help="batch sizes, such as 1,16 (default 1)"
    )
    command.add_argument(
        "--threads", type=_positive, metavar="N", help="threads of a run (default: one for every usable core)"
    )
    command.add_argument("--rounds", type=_positive, default=5, metavar="N", help="turns of each runtime (default 5)")
    command.add_argument(
        "--seconds", type=finite, default=0.5, metavar="S", help="how long a turn lasts at least (default 0.5)"
    )
    command.add_argument("--seed", type=seed, default=0, help="of the random inputs")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_examples(
        (
            "caffeport bench face.onnx",
            "caffeport bench face.onnx --batch 1,16 --threads 2",
            "caffeport bench face.onnx deploy.prototxt face.caffemodel --runtimes onnxruntime,openvino,torch --json",
            "caffeport bench detector.onnx --input-shape data=1x3x480x640",
        )
    )
    command.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    from ..parity.coarser import coarser_of
    from ..runtimes import bench as benches
    from ..runtimes.known import RUNTIMES
    from ..runtimes.model_file import ModelFile

    if options.seconds < 0:
        raise CaffeportError(f"--seconds is 0 or more, got {options.seconds:g}")
    if options.net is not None and options.weights is None:
        raise CaffeportError(f"{options.net}: needs its weights beside it: MODEL.onnx NET WEIGHTS")
    check_readable(options.net, options.weights)
    file = ModelFile(options.model)
    asked = [RUNTIMES[name] for name in options.runtimes or RUNTIMES]
    if options.net is None and options.runtimes is None:
        asked = [one for one in asked if one.name != "torch"]
    absent = [one for one in asked if one.missing]
    present = [one for one in asked if not one.missing]
    if not present:
        raise CaffeportError("no runtime is there to time: " + "; ".join(one.install for one in absent))
    coarser = coarser_of(file.model)
    plan = benches.Plan(
        file,
        benches.random_inputs(file, options.batch, parse_shapes(options.input_shape), options.seed),
        options.threads or benches.default_threads(),
        options.rounds,
        options.seconds,
        load_keywords(options) if options.net is not None else None,
        partial(_agree, coarser) if coarser is not None else None,
    )
    if list(plan.inputs) != options.batch:
        options.notes.append(f"{file.path}: takes batches of {next(iter(plan.inputs))} alone")
        if not options.quiet:
            print(f"caffeport: note: {options.notes[-1]}", file=sys.stderr)
    with _turns(options, len(present) * (1 + plan.turns)) as told:
        results = benches.bench(plan, present, told)
    best = {batch: benches.fastest(results, batch) for batch in plan.inputs}
    if options.json:
        content = {
            "model": str(file.path),
            "threads": plan.threads,
            "inputs": {
                str(batch): {name: array.shape for name, array in arrays.items()}
                for batch, arrays in plan.inputs.items()
            },
            "fastest": {str(batch): result.name if result else None for batch, result in best.items()},
            "runtimes": [asdict(result) for result in results],
            "absent": [{"name": one.name, "install": one.install} for one in absent],
            "notes": options.notes,
        }
        print(to_json(content))
    else:
        print_table(_table(results, list(plan.inputs)))
        _say(results, best, plan, coarser)
        for one in absent:
            print(f"not installed: {one.title} ({one.install})")
    if all(result.error for result in results):
        raise CaffeportError(f"{file.path}: no runtime runs it")
    return DONE if all(result.ok for result in results) else FAILED


def _table(results: list[Result], batches: list[int]) -> Table:
    headings = ["", "runtime", "version"]
    for batch in batches:
        headings += [f"batch {batch}, ms", f"10-90 %, {batch}"]
    lines = []
    for result in results:
        line = ["-" if result.error else "ok" if result.ok else "DIFFERS", result.title, result.version]
        for batch in batches:
            timing = result.times.get(batch)
            line += [f"{timing.median:.3g}", f"{timing.tenth:.3g}-{timing.nine_tenths:.3g}"] if timing else ["", ""]
        relative = "" if result.max_rel is None else f"{result.max_rel:.1e}"
        lines.append((*line, relative, result.error or result.about))
    headings += ["max rel", "note"]
    return Table(headings, lines, {*headings} - {"runtime", "version", "note"}, ("version",))


def _agree(coarser: Coarser, one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two runtimes' outputs of a file in fewer bits are near; of 8 bits and random inputs only finite."""
    from ..parity.coarser import rms_share

    return rms_share(one, other) <= (sys.float_info.max if coarser.calibrated else coarser.rms)


def _say(results: list[Result], best: dict[int, Result | None], plan: Any, coarser: Coarser | None) -> None:
    compared = [result for result in results if result.baseline]
    if compared:
        differing = [result.title for result in results if not result.ok]
        verdict = f"{', '.join(differing)} differ and cannot win" if differing else "all agree"
        if not differing and coarser is not None and coarser.calibrated:
            verdict = "8 bits hold for inputs like those of the calibration, and random ones were taken; not judged"
            verdict += " (caffeport check NET WEIGHTS --onnx FILE --input IMAGES does)"
        print(f"outputs compared with {compared[0].baseline}'s: {verdict}")
    for batch, result in best.items():
        if result is not None:
            timing = result.times[batch]
            speed = f"{timing.median:.3g} ms, {1e3 * batch / timing.median:.4g}/s"
            print(f"fastest at batch {batch}, {plan.threads} threads: {result.title}, {speed}")


@contextlib.contextmanager
def _turns(options: argparse.Namespace, total: int) -> Iterator[Callable[[str], None]]:
    """Show on a terminal which turn it is; elsewhere, and with ``--quiet``, nothing."""
    if options.quiet or not sys.stderr.isatty():
        yield lambda words: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda words: progress.update(task, description=words, advance=1)


def _names(text: str) -> list[str]:
    from ..runtimes.known import runtime

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise argparse.ArgumentTypeError("expected names of runtimes with commas between, got none")
    try:
        return [runtime(name).name for name in names]
    except CaffeportError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _batches(text: str) -> list[int]:
    return list(dict.fromkeys(_positive(part) for part in text.split(",")))


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number from 1 on, got "{text}"')
    return number
