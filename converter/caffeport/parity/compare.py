"""The proof of a conversion: every blob, from every backend, against Caffe's own or one another."""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..cores import usable_cores
from ..errors import CaffeportError, did_you_mean, shape_text
from ..graph.module_names import state_names
from ..graph.net import Layer, Net, Value
from ..graph.walk import inference_values, read_inputs
from ..json_text import to_json
from ..lazy import require
from ..memory import check_room
from ..operators.base import Phase, Role
from ..to_caffe.process import CaffeRun, forward, wanted_caffe

BACKENDS = ("torch", "onnx")
CAFFE = "caffe"
KNOWN = (*BACKENDS, CAFFE)
REFERENCE = "reference"

Blobs = Mapping[str, np.ndarray]


@dataclass
class Row:
    """One blob. ``errors`` holds (max abs, max rel) of every source against ``baseline``.

    max rel is the largest |a - b| / max(|b|, rms(b)): rounding errors of a sum grow with the numbers
    that were summed, so a blob's root mean square stands in where an element happens to be near zero.
    """

    blob: str
    layer: str
    type: str
    shape: tuple[int, ...]
    baseline: str = ""
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    max_abs: float = 0.0
    max_rel: float = 0.0
    ok: bool = True
    note: str = ""


@dataclass
class Report:
    """``rows``: a row for each blob, in the order of the layers; ``exported``: for each output of the
    ONNX file as it is exported by default (folded), where ONNX was checked, and for weights that Caffe reads
    otherwise from caffeport's .caffemodel; ``caffe``: what real Caffe ran, if it was asked; ``weights``: where the
    weights came from, in words, and ``random_weights`` whether fillers made up any of them."""

    rows: list[Row]
    exported: list[Row]
    rtol: float
    atol: float
    caffe: str = ""
    weights: str = ""
    random_weights: bool = False

    @property
    def ok(self) -> bool:
        return self.first_difference is None

    @property
    def first_difference(self) -> Row | None:
        """The first row that breaches the tolerance, in the order of the layers."""
        return next((row for row in [*self.rows, *self.exported] if not row.ok), None)

    @property
    def summary(self) -> str:
        bad = self.first_difference
        if bad is not None:
            return (
                f'layer "{bad.layer}" ({bad.type}) is the first that differs: blob "{bad.blob}", '
                f"max abs {bad.max_abs:.3g}, max rel {bad.max_rel:.3g}{f' ({bad.note})' if bad.note else ''}"
            )
        compared = [row for row in self.rows if row.errors]
        worst = max((row.max_rel for row in compared), default=0.0)
        tolerance = f"rtol {self.rtol:g} + atol {self.atol:g}"
        text = f"{len(compared)} of {len(self.rows)} blobs compared, all within {tolerance}; worst max rel {worst:.3g}"
        return f"{text}; with random weights ({self.weights})" if self.random_weights else text

    def to_json(self, notes: Sequence[str] | None = None) -> str:
        """The report as JSON text; with ``notes`` under that name, where some are given."""
        content = {"ok": self.ok, "summary": self.summary, "weights": self.weights, "rtol": self.rtol}
        content |= {"atol": self.atol, "caffe": self.caffe}
        rows = {"rows": [asdict(row) for row in self.rows], "exported": [asdict(row) for row in self.exported]}
        return to_json(content | rows | ({} if notes is None else {"notes": notes}))

    def __str__(self) -> str:
        lines = [
            f"{'ok' if row.ok else 'DIFFERS':8}{row.layer:24} {row.type:20} {row.blob:24} {shape_text(row.shape):18} "
            f"{row.max_abs:9.2e} {row.max_rel:9.2e}"
            for row in [*self.rows, *self.exported]
        ]
        about = [self.caffe] if self.caffe else []
        return "\n".join([*lines, *about, f"weights: {self.weights}", self.summary])


def check(
    net: Net,
    inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray] | np.ndarray | None = None,
    *,
    backends: Sequence[str] = BACKENDS,
    reference: str | Path | Mapping[str, np.ndarray] | None = None,
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
    backends: of "torch", "onnx" (ONNX Runtime) and "caffe" (your own, in a process of its own).
    reference: Caffe's recorded blobs, ``{blob: array}`` or an .npz of them (a "data/" prefix is dropped).
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
    backends = [backends] if isinstance(backends, str) else list(dict.fromkeys(backends))
    if not (rtol >= 0 and atol >= 0):
        raise CaffeportError(f"rtol and atol are 0 or more, got {rtol} and {atol}")
    for name in backends:
        if name not in KNOWN:
            raise CaffeportError(f'unknown backend "{name}"{did_you_mean(name, KNOWN)}; known: {", ".join(KNOWN)}')
    if training and net.phase is not Phase.TRAIN:
        raise CaffeportError('training needs the train net: load it with phase="train" (--phase train)')
    if training and "onnx" in backends:
        raise CaffeportError("ONNX has no training pass; compare torch and caffe (--backends torch,caffe)")
    pycaffe = wanted_caffe(CAFFE in backends, caffe_python, caffe_interpreter, caffe_timeout)
    if all(value.layer.op.role is Role.DATA for value in net.values):
        raise CaffeportError(f"net {net.name!r} has nothing to compare: its layers make no blob from its inputs")
    recorded = _reference(net, reference)
    if len(backends) + (recorded is not None) < 2:
        raise CaffeportError("check compares two things at least: give two backends, or one and a reference")
    fed = _inputs(net, inputs, recorded, seed)
    _check_room(net, fed, len(backends))
    sources: dict[str, Blobs] = {REFERENCE: recorded} if recorded is not None else {}
    exported: Blobs = {}
    with contextlib.ExitStack() as stack:
        ran = stack.enter_context(forward(net, fed, pycaffe, training=training)) if pycaffe else None
        if ran:
            sources[CAFFE] = ran.blobs
        if "torch" in backends:
            sources["torch"] = run_torch(net, fed, training)
        if "onnx" in backends:
            wanted = _exportable(net)
            sources["onnx"] = run_onnx(net, fed, wanted, fold=False)
            ends = inference_values(net)[0]
            exported = run_onnx(net, fed, [value for value in ends if value in wanted], fold=True)
        random = _spoiled(net, lambda layer: layer.op.random) if training else set()
        rows = [
            _row(value, "random while training") if value in random else _compare(value, sources, rtol, atol)
            for value in net.values
            if value.layer.op.role is not Role.DATA
        ]
        _refuse_nothing_compared(rows, training)
        folded = []
        for value in net.values:
            if value.key in exported:
                others = {k: blobs for k, blobs in sources.items() if k != "onnx"} or {"onnx": sources["onnx"]}
                row = _compare(value, {**others, "onnx, folded": exported}, rtol, atol)
                row.note = row.note or "exported file"
                folded.append(row)
    about = ran.about if ran else ""
    return Report(rows, folded + _other_weights(ran), rtol, atol, about, net.weights_source, net.has_random_weights)


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


def run_torch(net: Net, inputs: Blobs, training: bool = False) -> Blobs:
    """{value key: array} of a forward pass of the torch module, in eval mode or in training mode."""
    torch = require("torch")
    module: Any = net.to_torch().train(training)
    running = ""

    def follow(title: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            nonlocal running
            running = title

        return note

    for layer, name in state_names(net.layers).items():
        module.get_submodule(module.layer_paths[name]).register_forward_pre_hook(follow(layer.title))
    try:
        with torch.no_grad():
            tensors = module.blobs(*(torch.from_numpy(inputs[name]) for name in net.inputs))
    except CaffeportError:  # which names the layer itself
        raise
    except (RuntimeError, IndexError) as error:  # torch's, of a label beyond the classes, say
        raise CaffeportError(f"{running}: torch: {str(error).splitlines()[0]}") from error
    return {key: tensor.numpy() for key, tensor in tensors.items()}


def run_onnx(net: Net, inputs: Blobs, wanted: list[Value], fold: bool) -> Blobs:
    """{value key: array} of these Values from ONNX Runtime, on the CPU."""
    from ..to_onnx.export import trace, write

    if not wanted:
        return {}
    runtime = require("onnxruntime")
    graph = trace(net, 17, True, fold, wanted)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = usable_cores()  # by itself it counts the machine's
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write(graph, path)
        try:
            session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            arrays = session.run(None, {port.name: inputs[port.blob] for port in graph.inputs})
        except Exception as error:  # ONNX Runtime's own classes have no public base
            raise CaffeportError(f"ONNX Runtime: {str(error).splitlines()[0]}") from error
    return {value.key: array for value, array in zip(wanted, arrays, strict=True)}


def _exportable(net: Net) -> list[Value]:
    """Values that depend on no layer without an ONNX form (losses, metrics, margins)."""
    spoiled = _spoiled(net, lambda layer: not layer.op.has_onnx())
    return [value for value in net.values if value.layer.op.role is not Role.DATA and value not in spoiled]


def _spoiled(net: Net, by: Callable[[Layer], bool]) -> set[Value]:
    """Values that depend on a layer of that kind."""
    spoiled: set[Value] = set()
    for layer in net.layers:
        if by(layer) or spoiled.intersection(layer.inputs):
            spoiled.update(layer.outputs)
    return spoiled


def _row(value: Value, note: str = "") -> Row:
    return Row(value.key, value.layer.name, value.layer.type, value.shape, note=note)


def _compare(value: Value, sources: Mapping[str, Blobs], rtol: float, atol: float) -> Row:
    row = _row(value)
    held = {name: blobs[value.key] for name, blobs in sources.items() if value.key in blobs}
    if len(held) < 2:
        row.note = f"{', '.join(held) or 'nobody'} only"
        return row
    row.baseline, *others = held
    expected = np.asarray(held[row.baseline], np.float64)
    row.shape = expected.shape
    for name in others:
        array = np.asarray(held[name], np.float64)
        if array.shape != expected.shape:
            row.ok, row.max_abs, row.max_rel = False, np.inf, np.inf
            row.note = f"{name} has {shape_text(array.shape)}, {row.baseline} {shape_text(expected.shape)}"
            row.errors[name] = (np.inf, np.inf)
            continue
        largest, relative, ok = difference(array, expected, rtol, atol)
        row.errors[name] = (largest, relative)
        row.ok &= ok
        row.max_abs, row.max_rel = max(row.max_abs, largest), max(row.max_rel, relative)
    return row


def difference(actual: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> tuple[float, float, bool]:
    """(max abs, max rel, within tolerance?) of two arrays of one shape; see Row and check."""
    if not expected.size:
        return 0.0, 0.0, True
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    finite = np.isfinite(expected)
    # float32's largest numbers stand for "no pixel" in pooling; their square would drown the rest.
    usual = finite & (np.abs(expected) < 1e30)
    rms = float(np.sqrt(np.mean(expected[usual] ** 2))) if usual.any() else 0.0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        apart = np.where(same, 0.0, np.abs(actual - expected))
        apart = np.where(np.isnan(apart), np.inf, apart)
        scale = np.where(finite, np.maximum(np.abs(expected), rms), 1.0)
        relative = np.where(apart == 0, 0.0, apart / scale)
    return float(apart.max()), float(relative.max()), bool((apart <= atol + rtol * scale).all())


def _reference(net: Net, reference: str | Path | Mapping[str, np.ndarray] | None) -> Blobs | None:
    if reference is None:
        return None
    title = "the reference"
    if isinstance(reference, (str, Path)):
        title = str(reference)
        reference = load_arrays(reference)
    blobs = {name.removeprefix("data/"): np.asarray(array) for name, array in reference.items()}
    known = {name: array for name, array in blobs.items() if name in net.blobs}
    if not any(net.blobs[name].layer.op.role is not Role.DATA for name in known):
        raise CaffeportError(f"{title} holds no blob of this net: it has {', '.join(list(blobs)[:5]) or 'nothing'}")
    return known


def load_arrays(path: str | Path) -> Blobs:
    """The arrays of an .npz or .npy ("" is the name of a lone array); nothing in it is executed."""
    try:
        with open(path, "rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            return {name: loaded[name] for name in loaded.files if _numeric(path, loaded, name)}
    except OSError as error:
        raise CaffeportError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile, zlib and NumPy each have their own for a broken file
        # NumPy's advice for a file with objects in it is to unpickle them, which would run its code.
        raise CaffeportError(f"{path}: is broken, or no .npz or .npy of plain numbers") from error


def _numeric(path: str | Path, loaded: Any, name: str) -> bool:
    return loaded[name].dtype.kind in "fiub"


def _inputs(net: Net, inputs: Any, recorded: Blobs | None, seed: int) -> Blobs:
    """An array for every input of the net; random numbers serve where no layer's result depends on it."""
    read = read_inputs(net, [value for value in net.values if value.layer.op.role is not Role.DATA])
    names = [value.name for value in read]
    if inputs is None and recorded is not None:
        inputs = {value.name: _recorded_input(net, value, recorded) for value in read}
    elif inputs is None:
        inputs = net.sample_inputs(seed)
    if isinstance(inputs, np.ndarray) or hasattr(inputs, "detach"):
        inputs = [inputs]
    if not isinstance(inputs, Mapping):
        expected = net.inputs if len(inputs) == len(net.inputs) else names
        if len(inputs) != len(expected):
            raise CaffeportError(f"expected {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
        inputs = dict(zip(expected, inputs, strict=True))
    if "" in inputs and len(inputs) == len(names) == 1:
        inputs = {names[0]: inputs[""]}
    fed = {}
    for value in net.input_values:
        if value.name in inputs:
            given = inputs[value.name]
        elif value in read:
            raise CaffeportError(f'no input for "{value.name}"; the net\'s inputs are {", ".join(names)}')
        else:
            given = np.random.default_rng(seed).standard_normal(value.shape)
        given = given.detach().cpu().numpy() if hasattr(given, "detach") else given
        array = np.array(given, np.float32, order="C")
        if array.ndim != len(value.shape):
            raise CaffeportError(f'input "{value.name}" is {shape_text(value.shape)}, got {shape_text(array.shape)}')
        fed[value.name] = array
    net.infer({value: fed[value.name].shape for value in net.input_values})
    return fed


def _recorded_input(net: Net, value: Value, recorded: Blobs) -> np.ndarray:
    if value.name not in recorded:
        raise CaffeportError(f'the reference lacks the input "{value.name}"; give the inputs it was made with')
    last = net.blobs[value.name]
    if last is not value:
        raise CaffeportError(
            f'the reference\'s "{value.name}" is what {last.layer.title} left there, working in place, not the input; '
            "give the inputs it was made with (inputs=, --input)"
        )
    return recorded[value.name]
