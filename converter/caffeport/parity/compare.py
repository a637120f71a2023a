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

from ..errors import CaffeportError, did_you_mean, shape_text
from ..graph.net import Net
from ..graph.walk import inference_values
from ..memory import check_room
from ..operators.base import Phase, Role
from ..to_caffe.process import CaffeRun, forward, wanted_caffe
from . import provenance, written_onnx, written_torch
from .backends import exportable, run_onnx, run_torch, spoiled
from .coarser import Coarser
from .inputs import fed_inputs, reference_blobs
from .provenance import FileFacts
from .report import Blobs, Report, Row, compared, empty_row

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
    written = (onnx is not None) + (torch is not None)
    _refuse_senseless(net, backends, training, written)
    pycaffe = wanted_caffe(CAFFE in backends, caffe_python, caffe_interpreter, caffe_timeout)
    recorded = reference_blobs(net, reference)
    if len(backends) + (recorded is not None) + written < 2:
        raise CaffeportError("check compares two things at least: give two backends, or one and a reference")
    fed = fed_inputs(net, inputs, recorded, seed)
    _check_room(net, fed, len(backends) + written)
    onnx_file = None if onnx is None else written_onnx.read(net, onnx, mean, scale, rgb)
    written_onnx.refuse_random(onnx_file, given=inputs is not None or recorded is not None)
    sources: dict[str, Blobs] = {REFERENCE: recorded} if recorded is not None else {}
    exported: Blobs = {}
    with contextlib.ExitStack() as stack:
        ran = stack.enter_context(forward(net, fed, pycaffe, training=training)) if pycaffe else None
        if ran:
            sources[CAFFE] = ran.blobs
        if "torch" in backends:
            sources["torch"] = run_torch(net, fed, training)
        if "onnx" in backends:
            wanted = exportable(net)
            sources["onnx"] = run_onnx(net, fed, wanted, fold=False)
            ends = inference_values(net)[0]
            exported = run_onnx(net, fed, [value for value in ends if value in wanted], fold=True)
        looser: dict[str, Coarser] = {}
        if onnx_file is not None:
            name = onnx_file.path.name
            sources[name] = onnx_file.run(fed)
            if onnx_file.coarser is not None:
                looser[name] = onnx_file.coarser
        if torch is not None:
            sources[Path(torch).name] = written_torch.run(net, torch, fed)
        rows, folded = _rows(net, sources, exported, (rtol, atol), looser, training)
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
    exported: Blobs,
    tolerance: tuple[float, float],
    looser: Mapping[str, Coarser],
    training: bool,
) -> tuple[list[Row], list[Row]]:
    """Compare every Value of the sources, then the outputs of the file as it is exported, folded."""
    random = spoiled(net, lambda layer: layer.op.random) if training else set()
    rows = [
        empty_row(value, "random while training") if value in random else compared(value, sources, *tolerance, looser)
        for value in net.values
        if value.layer.op.role is not Role.DATA
    ]
    _refuse_nothing_compared(rows, training)
    folded = []
    for value in net.values:
        if value.key in exported:
            others = {k: blobs for k, blobs in sources.items() if k != "onnx"} or {"onnx": sources["onnx"]}
            row = compared(value, {**others, "onnx, folded": exported}, *tolerance)
            row.note = row.note or "exported file"
            folded.append(row)
    return rows, folded


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


def _check_room(net: Net, fed: Blobs, backends: int) -> None:
    """Refuse what does not fit into memory: every backend holds the weights and all blobs, the comparison two blobs."""
    shapes = net.infer({value: fed[value.name].shape for value in net.input_values})
    largest = max(net.values, key=lambda value: math.prod(shapes[value]))
    numbers = sum(map(math.prod, shapes.values())) + sum(math.prod(param.shape) for param in net.params)
    what = f'comparing net {net.name!r}, whose largest blob is "{largest.name}" ({shape_text(shapes[largest])}),'
    check_room(4 * backends * numbers + 16 * math.prod(shapes[largest]), what)


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
