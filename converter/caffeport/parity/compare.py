"""The proof of a conversion: every blob, from every backend, against Caffe's own or one another."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError, NetError, did_you_mean, shape_text
from ..graph.layer import Value
from ..graph.net import Net
from ..graph.walk import inference_values
from ..memory import check_room, large_blocks_given_back
from ..operators.base import Phase, Role
from ..shelf import Shelf
from ..to_caffe.process import CaffeRun, forward, wanted_caffe
from ..to_onnx.axes import Axes
from . import provenance, written_onnx, written_torch
from .backends import exportable, onnx_blobs, run_onnx, shapes_of, spoiled, torch_blobs
from .coarser import Coarser
from .inputs import fed_inputs, reference_blobs
from .parts import are_large
from .provenance import FileFacts
from .report import Blobs, Report, Row, compared, empty_row, judge
from .streamed import Streamed

BACKENDS = ("torch", "onnx")
CAFFE = "caffe"
KNOWN = (*BACKENDS, CAFFE)
REFERENCE = "reference"


def check(
    net: Net,
    inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray] | np.ndarray | None = None,
    *,
    backends: Sequence[str] | None = None,
    reference: str | Path | Mapping[str, np.ndarray] | None = None,
    onnx: str | Path | None = None,
    torch: str | Path | None = None,
    mean: Any = None,
    scale: float | None = None,
    rgb: bool = False,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    seed: int = 0,
    caffe_python: str | Path | None = None,
    caffe_interpreter: str | Path = sys.executable,
    caffe_timeout: float = 600.0,
    training: bool = False,
) -> Report:
    """Run the net in every backend and compare every blob.

    inputs: {blob: array}, or arrays in ``net.inputs`` order; by default those of ``reference``, else
        random ones (seeded). Any batch size that the net allows.
    backends: of "torch", "onnx" (ONNX Runtime) and "caffe" (your own, in a process of its own); by default the first
        two, or one of them to compare written files with.
    reference: Caffe's recorded blobs, ``{blob: array}`` or an .npz of them (a "data/" prefix is dropped).
    onnx: an ONNX file of this net that exists, however it was made: with preprocessing, folded, in half precision,
        rewritten by another tool. It runs as it is, and every tensor in it that has a blob's name is compared.
    torch: a file of weights (.safetensors, .pth) or a program (.pt2) of this net that exists.
    mean, scale, rgb: the preprocessing that the ONNX file is to have in front; by default what its metadata says.
    rtol, atol: a number passes if |a - b| <= atol + rtol * max(|b|, rms(b)), b being the reference's
        blob where it has one, else that of real Caffe, else the first backend's; equal infinities and NaNs pass.
    caffe_python: what PYTHONPATH needs for ``import caffe``: the folder python/ of a built Caffe (several folders
        are joined as in PYTHONPATH); by default the environment's CAFFE_PYTHON.
    caffe_interpreter: the Python that this pycaffe is built for, with numpy and protobuf installed.
    caffe_timeout: seconds after which a Caffe that has not ended is stopped.
    training: run as in the TRAIN phase, in torch and Caffe; for a net loaded with phase="train". Blobs that
        depend on random numbers (Dropout) are not compared.

    Without ``training`` the net runs as in the TEST phase. Raises CaffeportError for unknown backends, unfitting
    inputs, a Caffe that cannot be started or refuses the net, and where no blob is in two of the backends.
    """
    if backends is None:
        backends = BACKENDS if onnx is None and torch is None else _baseline()
    backends = [backends] if isinstance(backends, str) else list(dict.fromkeys(backends))
    if not (rtol >= 0 and atol >= 0):
        raise CaffeportError(f"rtol and atol are 0 or more, got {rtol} and {atol}")
    if seed < 0:
        raise CaffeportError(f"seed is 0 or more, got {seed}")
    written = (onnx is not None) + (torch is not None)
    _refuse_senseless(net, backends, training, written)
    pycaffe = wanted_caffe(CAFFE in backends, caffe_python, caffe_interpreter, caffe_timeout)
    recorded = reference_blobs(net, reference)
    if len(backends) + (recorded is not None) + written < 2:
        raise CaffeportError("check compares two things at least: give two backends, or one and a reference")
    fed = fed_inputs(net, inputs, recorded, seed)
    shapes = shapes_of(net, fed)
    _check_room(net, shapes, len(backends) + written)
    onnx_file = None if onnx is None else written_onnx.read(net, onnx, mean, scale, rgb)
    written_onnx.refuse_random(onnx_file, given=inputs is not None or recorded is not None)
    sources: dict[str, Blobs] = {REFERENCE: recorded} if recorded is not None else {}
    ends: list[Value] = []
    with contextlib.ExitStack() as stack:
        shelf = None
        if are_large(4 * math.prod(shape) for shape in shapes.values()):
            stack.enter_context(large_blocks_given_back())
            shelf = Shelf()
        ran = stack.enter_context(forward(net, fed, pycaffe, training=training)) if pycaffe else None
        if ran:
            sources[CAFFE] = ran.blobs
        if "torch" in backends:
            keys = [value.key for value in net.values if value.layer.op.role is not Role.DATA]
            sources["torch"] = Streamed(keys, torch_blobs(net, fed, training, shelf))
        if "onnx" in backends:
            wanted = exportable(net)
            sources["onnx"] = Streamed([value.key for value in wanted], onnx_blobs(net, fed, wanted, False, shelf))
            ends = [value for value in inference_values(net)[0] if value in wanted]
        looser: dict[str, Coarser] = {}
        if onnx_file is not None:
            name = onnx_file.path.name
            sources[name] = onnx_file.run(fed, {value.key: shape for value, shape in shapes.items()}, shelf)
            if onnx_file.coarser is not None:
                looser[name] = onnx_file.coarser
        if torch is not None:
            sources[Path(torch).name] = written_torch.run(net, torch, fed)
        rows, held = _rows(net, sources, ends, (rtol, atol), looser, training, shelf)
        if onnx_file is not None and onnx_file.coarser is not None:
            _judge(rows, onnx_file, onnx_file.coarser, net, fed, (rtol, atol))
        exported = run_onnx(net, fed, ends, fold=True)
        folded = [
            _folded_row(value, held[value], exported[value.key], rtol, atol) for value in net.values if value in ends
        ]
    return Report(
        rows,
        folded + _other_weights(ran),
        rtol,
        atol,
        ran.about if ran else "",
        net.weights_source,
        net.has_random_weights,
        _files(net, reference, onnx_file, torch),
        "given" if inputs is not None else "those of the reference" if recorded is not None else "random",
        seed,
        provenance.now(),
        provenance.versions(),
        looser,
    )


def _refuse_senseless(net: Net, backends: Sequence[str], training: bool, written: int) -> None:
    """Raise CaffeportError for what no run could answer."""
    for name in backends:
        if name not in KNOWN:
            raise CaffeportError(f'unknown backend "{name}"{did_you_mean(name, KNOWN)}; known: {", ".join(KNOWN)}')
    if training and net.phase is not Phase.TRAIN:
        raise CaffeportError('training needs the train net: load it with phase="train" (--phase train)')
    if training and "onnx" in backends:
        raise CaffeportError("ONNX has no training pass; compare torch and caffe (--backends torch,caffe)")
    if training and written:
        raise CaffeportError("written files are for the TEST phase; check them without training (--training)")
    if all(value.layer.op.role is Role.DATA for value in net.values):
        raise CaffeportError(f"net {net.name!r} has nothing to compare: its layers make no blob from its inputs")


def _rows(
    net: Net,
    sources: Mapping[str, Blobs],
    ends: Sequence[Value],
    tolerance: tuple[float, float],
    looser: Mapping[str, Coarser],
    training: bool,
    shelf: Shelf | None,
) -> tuple[list[Row], dict[Value, dict[str, np.ndarray]]]:
    """Compare every Value of the sources, each as soon as all have made it.

    Return the rows, and {Value: {source: array}} of the ends; all other arrays are gone.
    """
    random = spoiled(net, lambda layer: layer.op.random) if training else set()
    axes = _open_axes(net) if looser else {}
    rows, held = [], {}
    for value in net.values:
        if value.layer.op.role is Role.DATA:
            continue
        arrays = {name: blobs[value.key] for name, blobs in sources.items() if value.key in blobs}
        random_one = value in random
        rows.append(
            empty_row(value, "random while training")
            if random_one
            else compared(value, arrays, *tolerance, looser, axes.get(value, ()))
        )
        if value in ends:
            held[value] = arrays
        if shelf is not None:
            shelf.rest()
        del arrays  # or they would be there still while the next are made
    _refuse_nothing_compared(rows, training)
    return rows, held


def _open_axes(net: Net) -> dict[Value, frozenset[int]]:
    """The axes of each Value whose length the numbers decide; none where the net's shapes do not allow another."""
    try:
        axes = Axes(net, net.layers, net.input_values, batch=False, size=False)
    except NetError:
        return {}
    return {value: axes.of(value) for value in net.values}


def _judge(
    rows: Sequence[Row],
    file: written_onnx.WrittenOnnx,
    format: Coarser,
    net: Net,
    fed: Blobs,
    tolerance: tuple[float, float],
) -> None:
    """Decide on the rows of a coarser file, unless some have other shapes than the Net's, which is told already."""
    name = file.path.name
    if all(name in row.rms for row in rows if name in row.errors):
        judge(rows, name, format, file.owns(net, fed, tolerance))


def _folded_row(value: Value, arrays: Mapping[str, np.ndarray], exported: np.ndarray, rtol: float, atol: float) -> Row:
    """Compare an output of the file as it is exported, folded, with what the others have of it."""
    others = {name: array for name, array in arrays.items() if name != "onnx"} or arrays
    row = compared(value, {**others, "onnx, folded": exported}, rtol, atol)
    row.note = row.note or "exported file"
    return row


def _baseline() -> Sequence[str]:
    """The backend that written files are compared with: torch, or ONNX Runtime on a fresh export where torch is not."""
    return ("torch",) if importlib.util.find_spec("torch") else ("onnx",)


def _files(
    net: Net, reference: Any, onnx_file: written_onnx.WrittenOnnx | None, torch: str | Path | None
) -> list[FileFacts]:
    """The facts of every file that the result depends on."""
    sources = [("net", net.message.source), ("weights", net.weights_path), ("reference", reference)]
    named = [(role, path) for role, path in sources if isinstance(path, (str, Path)) and Path(path).is_file()]
    files = [provenance.facts(role, path) for role, path in named]
    if onnx_file is not None:
        files.append(provenance.facts("onnx", onnx_file.path, written_onnx.told(onnx_file)))
        data = onnx_file.path.with_name(onnx_file.path.name + ".data")
        files += [provenance.facts("onnx's weights", data)] if data.is_file() else []
    return files if torch is None else [*files, provenance.facts("torch", torch)]


def _refuse_nothing_compared(rows: list[Row], training: bool) -> None:
    """Raise CaffeportError where no blob was in two of the backends: that would prove nothing."""
    if any(row.errors for row in rows):
        return
    titles = list(dict.fromkeys(f'layer "{row.layer}" ({row.type}): {row.note}' for row in rows))
    more = f" and {len(titles) - 3} more" if len(titles) > 3 else ""
    backends = "torch,caffe" if training else "torch,onnx,caffe"
    raise CaffeportError(
        f"nothing could be compared: {'; '.join(titles[:3])}{more}; give the blobs that Caffe recorded (--reference, "
        f"reference=), or your own Caffe (--backends {backends})"
    )


def _check_room(net: Net, shapes: Mapping[Value, tuple[int, ...]], backends: int) -> None:
    """Refuse what does not fit into memory: every backend holds the weights and the blobs that are still read.

    One of them runs a layer meanwhile, for which it may bring what the layer reads and makes into another order.
    """
    numbers = {value: math.prod(shapes[value]) for value in net.values}
    largest = max(net.values, key=lambda value: numbers[value])
    last = {value: place for place, layer in enumerate(net.layers) for value in layer.inputs}
    live = most = 0
    for place, layer in enumerate(net.layers):
        live += sum(numbers[value] for value in layer.outputs)
        most = max(most, live)
        gone = {value for value in (*layer.inputs, *layer.outputs) if last.get(value, -1) <= place}
        live -= sum(numbers[value] for value in gone)
    weights = sum(math.prod(param.shape) for param in net.params)
    what = f'comparing net {net.name!r}, whose largest blob is "{largest.name}" ({shape_text(shapes[largest])}),'
    check_room(4 * (backends * (most + weights) + 2 * numbers[largest]), what)


def _other_weights(ran: CaffeRun | None) -> list[Row]:
    """A row for each layer whose weights Caffe reads otherwise from the .caffemodel that caffeport writes."""
    rows: dict[str, Row] = {}
    for layer, index in ran.unlike if ran else []:
        row = Row(
            f"weights of {layer.name}", layer.name, layer.type, layer.specs[index].shape, CAFFE,
            {"caffemodel": (np.inf, np.inf)}, np.inf, np.inf, False, "the .caffemodel that caffeport writes",
        )  # fmt: skip
        rows.setdefault(layer.name, row)
    return list(rows.values())
