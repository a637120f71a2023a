"""An ONNX graph in 8 bits by ONNX Runtime's own quantisation: QDQ, weights per channel, activations by their range.

Weights become int8, symmetrical, with a scale for each output channel; what layers read becomes uint8 between the
least and the largest number that the calibration saw. A QuantizeLinear and a DequantizeLinear stand in front of every
operator of TYPES that is not kept, and nowhere else: behind a convolution, whose result goes on through a ReLU or
PReLU first, a pair of their own would only round twice, and OpenVINO and ONNX Runtime fuse what follows themselves.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError, ExportError
from ..lazy import LazyModule, require

onnx: Any = LazyModule("onnx")

COMPUTING = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add")
"""Operators that compute in 8 bits, and whose results are rounded where they are next read."""
PASSING = ("MaxPool", "AveragePool", "GlobalAveragePool", "Concat")
"""Operators between them that runtimes know in 8 bits."""
TYPES = (*COMPUTING, *PASSING)


def without_use(model: Any, kept: Collection[str]) -> set[str]:
    """Return the nodes that 8 bits bring nothing for, and rounding would harm.

    Those are what comes of shapes and constants alone (the boxes of a PriorBox), and the nodes of PASSING whose numbers
    reach nothing that computes in 8 bits.

    model: the float32 ModelProto. kept: names of nodes that stay in float32.
    """
    seen = {entry.name for entry in model.graph.input} - {entry.name for entry in model.graph.initializer}
    found: set[str] = set()
    for node in model.graph.node:
        if seen.isdisjoint(node.input):
            found.add(node.name)
        elif node.op_type not in ("Shape", "Size"):
            seen.update(node.output)
    kept = {*kept, *found}
    leads: set[str] = set()  # tensors that such an operator reads, or what comes of them
    for node in reversed(model.graph.node):
        on = not leads.isdisjoint(node.output)
        if node.op_type in PASSING and not on:
            found.add(node.name)
        if on or (node.op_type in COMPUTING and node.name not in kept):
            leads.update(node.input)
    return found


def to_eight_bits(source: Path, feeds: Sequence[Mapping[str, np.ndarray]], kept: Collection[str], title: str) -> Any:
    """Return the ModelProto of the file ``source`` in 8 bits, calibrated on ``feeds`` ({input: array} each).

    kept: names of nodes that stay in float32. title: what an error calls the net.
    """
    quantization = require("onnxruntime.quantization")

    class Feeds(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> Any:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory() as folder, _silence():
        target = Path(folder) / "eight.onnx"
        try:
            quantization.quantize_static(
                str(source),
                str(target),
                Feeds(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
                activation_type=quantization.QuantType.QUInt8,
                op_types_to_quantize=list(TYPES),
                nodes_to_exclude=sorted(kept),
                extra_options={"OpTypesToExcludeOutputQuantization": list(COMPUTING)},
            )
        except CaffeportError:
            raise
        except Exception as error:  # plain ValueErrors, and onnxruntime's, which have no public base
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ExportError(f"{title}: ONNX Runtime cannot quantise it: {first}") from error
        model = onnx.load(str(target))
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        known = ", ".join(COMPUTING)
        raise ExportError(f"{title}: nothing of it is computed in 8 bits ({known} are, unless kept or too wide)")
    return model


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """ONNX Runtime's own advice on the way, which is about other ways to come here, goes nowhere."""
    root, handler, disabled = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)  # else its first line would set up logging for the whole process
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        root.removeHandler(handler)
