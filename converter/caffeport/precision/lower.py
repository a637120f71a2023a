"""A Net as an ONNX file in half precision or in 8 bits: exported in float32, measured, converted, proven to be finite.

Layers whose numbers the smaller type cannot hold stay in float32 by themselves, which the result says by name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError, ExportError, did_you_mean, name_list
from ..files import replacing, target_of
from ..graph.file_facts import CALIBRATION_KEY, KEPT_KEY, PRECISION_KEY
from ..graph.layer import Value
from ..graph.net import Net
from ..graph.preprocessing import Preprocessing
from ..graph.results import Exported
from ..graph.walk import inference_values, wanted_values
from ..json_text import to_json
from ..lazy import LazyModule
from ..to_onnx.export import PROTOBUF_LIMIT
from ..to_onnx.export import export as export_float
from ..to_onnx.names import onnx_names
from .calibration import Feeds, Images, feeds_of, net_inputs
from .eight_bits import COMPUTING, to_eight_bits, without_use
from .half import LARGEST, SMALLEST, to_half
from .layers import LayerNodes
from .ranges import Range, ranges, run, session

onnx: Any = LazyModule("onnx")

PRECISIONS = ("float32", "float16", "int8")
ROOM = 2.0
"""Numbers that came within this factor of float16's largest stay in float32: other inputs may go further."""
NOISE = 0.06
"""The largest rounding error of what a layer reads in 8 bits, in parts of its numbers: of a range that a few numbers
stretch, the others keep few steps, and the layer stays in float32. It is a choice, on which no proof rests: a range of
0.06 * 255 * sqrt(12) = 53 times the numbers' root mean square leaves 255 / 53 = 5 steps to numbers of that size."""
COMPARED = 8
"""Inputs on which the outputs of the two files are compared."""
CHECKED = 4
"""Inputs of ``caffeport convert --int8 --check``."""


def export(
    net: Net,
    path: str | Path,
    *,
    precision: str,
    calibrate: str | Path | Images | Mapping[str, np.ndarray] | None = None,
    keep: Sequence[str] = (),
    external_data: bool | None = None,
    **options: Any,
) -> Exported:
    """Write the net as Net.to_onnx does, whose options these are, in ``precision``: "float16" or "int8".

    Inputs and outputs of the file are float32, and so is the preprocessing in front. The result's ``precision`` is a
    sentence on what stayed in float32, and how far the outputs are from float32's.

    calibrate: what activations are measured on, see caffeport.precision.calibration; int8 needs it, and float16 does
        with random inputs.

    Raises ExportError where nothing finite is left, or nothing to do, and CaffeportError for unfitting options.
    """
    if precision not in PRECISIONS[1:]:
        known = ", ".join(PRECISIONS)
        raise CaffeportError(f'precision "{precision}" is unknown{did_you_mean(precision, PRECISIONS)}; known: {known}')
    if external_data:
        raise CaffeportError(f"{precision}: the weights stay in the file itself; leave external data out")
    if precision == "int8" and calibrate is None:
        raise CaffeportError("int8 takes images like those that the model is for (calibrate=, --calibrate IMAGES)")
    if sum(4 * param.data.size for param in net.params) > PROTOBUF_LIMIT:
        raise ExportError(f"net {net.name!r}: {precision} is for nets of up to 2 GB of weights")
    path = Path(path)
    target_of(path)
    keep = [keep] if isinstance(keep, str) else list(dict.fromkeys(keep))
    if precision == "int8" and options.get("target", "any") == "any":
        options["target"] = "openvino"  # PReLU as one operator, which there is no more than the end of its convolution
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float32.onnx"
        exported = export_float(net, source, external_data=False, **options)
        model = onnx.load(str(source))
        front = _front(net, options)
        inputs = _inputs(net, exported.inputs)
        fixed = any(_first(entry) > 0 for entry in model.graph.input)
        feeds = feeds_of(calibrate, net, inputs, front, fixed, options.get("rgb", False))
        nodes = LayerNodes(net, model)
        kept = nodes.front | nodes.of(keep)
        measured = ranges(model, feeds)
        if precision == "float16":
            forced = _beyond_half(model, measured) - kept
            kept |= nodes.whole(forced)
            lower = onnx.ModelProto()
            lower.CopyFrom(model)
            to_half(lower, kept)
        else:
            kept |= nodes.deciding
            forced = _too_coarse(model, measured) - kept
            kept |= forced
            kept |= without_use(model, kept)
            lower = to_eight_bits(source, feeds, kept, f"net {net.name!r}")
    unlike = _compared(model, lower, feeds, f"net {net.name!r}")
    by_itself = nodes.layers_of(forced)
    deciding = nodes.layers_of(nodes.deciding) if precision == "int8" else []
    said = {PRECISION_KEY: precision}
    stay = sorted({*nodes.layers_of(kept)}, key=[layer.name for layer in net.layers].index)
    said |= {KEPT_KEY: to_json(stay, indent=None)} if stay else {}
    if calibrate is not None:
        said[CALIBRATION_KEY] = to_json({"inputs": len(feeds), "sha256": feeds.sha256()}, indent=None)
    _finish(lower, model, said, f"net {net.name!r}")
    with replacing(path) as stream:
        stream.write(lower.SerializeToString(deterministic=True))
    exported.precision = _sentence(precision, keep, by_itself, deciding, unlike, feeds)
    return exported


def check_inputs(net: Net, names: Sequence[str], calibrate: Any, **options: Any) -> dict[str, np.ndarray]:
    """Return some of the calibration's inputs as the net itself takes them, for a check of the file.

    names: the file's inputs. options: mean, scale, rgb and outputs that it was exported with.
    """
    front, inputs = _front(net, options), _inputs(net, names)
    fixed = options.get("dynamic_batch") is False
    feeds = feeds_of(calibrate, net, inputs, front, fixed, options.get("rgb", False))
    return net_inputs(feeds, inputs, net, front, 1 if fixed else CHECKED)


def _front(net: Net, options: Mapping[str, Any]) -> Preprocessing | None:
    """Return what the export put in front of the net."""
    outputs = options.get("outputs")
    wanted = wanted_values(net, outputs) if outputs is not None else inference_values(net)[0]
    return Preprocessing.of(net, wanted, options.get("mean"), options.get("scale"), options.get("rgb", False))


def _inputs(net: Net, names: Sequence[str]) -> dict[str, Value]:
    known = {name: value for value, name in onnx_names(net).items()}
    return {name: known[name] for name in names}


def _first(entry: Any) -> int:
    """Return the fixed batch of an input; 0 for one that is free."""
    dims = entry.type.tensor_type.shape.dim
    return int(dims[0].dim_value) if dims else 1


def _beyond_half(model: Any, measured: Mapping[str, Range]) -> set[str]:
    """Return the nodes that read or make numbers which float16 does not hold."""
    wide = {name for name, one in measured.items() if not one.largest * ROOM < LARGEST}
    for entry in model.graph.initializer:
        if entry.data_type == onnx.TensorProto.FLOAT:
            array = np.abs(onnx.numpy_helper.to_array(entry))
            single = array.size == 1 and 0 < float(array.max()) < SMALLEST  # an epsilon would become 0
            if array.size and (not array.max() <= LARGEST or single):
                wide.add(entry.name)
    return {node.name for node in model.graph.node if not wide.isdisjoint([*node.input, *node.output])}


def _too_coarse(model: Any, measured: Mapping[str, Range]) -> set[str]:
    """Return the nodes that compute on what 8 bits round too coarsely."""
    coarse = {name for name, one in measured.items() if one.noise > NOISE or not np.isfinite(one.largest)}
    return {node.name for node in model.graph.node if node.op_type in COMPUTING and not coarse.isdisjoint(node.input)}


def _compared(model: Any, lower: Any, feeds: Feeds, title: str) -> dict[str, float]:
    """Return {output: the root mean square of what changed, in parts of the float32 numbers'}.

    Raises ExportError for a number that is no longer finite.
    """
    names = [entry.name for entry in model.graph.output]
    errors, squares = np.zeros(len(names)), np.zeros(len(names))
    before, after = session(model), session(lower)
    for feed in feeds[:COMPARED]:
        for index, (a, b) in enumerate(zip(run(before, feed), run(after, feed), strict=True)):
            if a.shape != b.shape:  # of detections, whose number changed: nothing is as it was
                errors[index] += float(np.sum(a[np.isfinite(a)].astype(np.float64) ** 2))
                squares[index] += float(np.sum(a[np.isfinite(a)].astype(np.float64) ** 2))
                continue
            finite = np.isfinite(a)
            if not np.isfinite(b[finite]).all():
                raise ExportError(
                    f'{title}: output "{names[index]}" overflows in the smaller type; keep layers in float32 (keep=, '
                    "--keep)"
                )
            errors[index] += float(np.sum((a[finite].astype(np.float64) - b[finite]) ** 2))
            squares[index] += float(np.sum(a[finite].astype(np.float64) ** 2))
    shares = np.sqrt(errors / np.where(squares > 0, squares, 1))
    return dict(zip(names, shares.tolist(), strict=True))


def _finish(lower: Any, model: Any, said: Mapping[str, str], title: str) -> None:
    """Give the graph the names and notes of the float32 file, and its own; run onnx's checker."""
    lower.producer_name, lower.producer_version = model.producer_name, model.producer_version
    lower.graph.name, lower.graph.doc_string, lower.doc_string = model.graph.name, "", ""
    own = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(lower, own | dict(said))
    needed = onnx.helper.find_min_ir_version_for(list(lower.opset_import))
    lower.ir_version = max(model.ir_version, needed)
    try:
        onnx.checker.check_model(lower, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = str(error).strip().splitlines()[0]
        raise ExportError(f"{title}: the converted graph does not pass onnx's checker: {first}") from error


def _sentence(
    precision: str,
    keep: Sequence[str],
    by_itself: Sequence[str],
    deciding: Sequence[str],
    unlike: Mapping[str, float],
    feeds: Feeds,
) -> str:
    changes = ", ".join(f"{name} {100 * share:.2g} %" for name, share in list(unlike.items())[:4])
    more = f" and {len(unlike) - 4} more" if len(unlike) > 4 else ""
    parts = [f"{precision} ({feeds.what}); rms change of the outputs: {changes}{more}"]
    if keep:
        parts.append(f"float32 as told: {name_list(keep, 8)}")
    if by_itself:
        why = f"numbers near or beyond {LARGEST:.0f}" if precision == "float16" else "a range too wide for 8 bits"
        parts.append(f"float32 too, for {why}: {name_list(by_itself, 8)}")
    if deciding:
        parts.append(f"float32 too, for boxes that 8 bits would move: {name_list(deciding, 8)}")
    return "; ".join(parts)
