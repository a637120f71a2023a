"""How large the numbers between a graph's nodes become, measured on inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cores import usable_cores
from ..errors import CaffeportError
from ..lazy import LazyModule, require
from .half import element_types

onnx: Any = LazyModule("onnx")

Feed = Mapping[str, np.ndarray]
_FLOAT = 1


@dataclass
class Range:
    """The numbers of one tensor over all inputs: their extremes, and the mean of their squares."""

    least: float = 0.0
    most: float = 0.0
    square: float = 0.0

    @property
    def largest(self) -> float:
        """The largest magnitude; infinity where a number was not finite."""
        return max(-self.least, self.most)

    @property
    def noise(self) -> float:
        """The error of rounding to 8 bits over the whole range (0 included), in parts of the numbers' own size.

        That is the root of step² / 12, the mean square of a rounding error, over the root of the mean square.
        """
        step = (self.most - self.least) / 255
        return step / math.sqrt(12 * self.square) if 0 < self.square < math.inf else 0.0


def ranges(model: Any, feeds: Sequence[Feed]) -> dict[str, Range]:
    """Return {tensor: Range} of the graph's inputs and of every float tensor that a node makes.

    Only a tensor's extremes leave the runtime, so that memory is that of a forward pass.
    """
    measuring = onnx.ModelProto()
    measuring.CopyFrom(model)
    types = element_types(model)
    graph = measuring.graph
    tensors = [entry.name for entry in graph.input] + [name for node in model.graph.node for name in node.output]
    tensors = [name for name in tensors if types.get(name) == _FLOAT]
    del graph.output[:]
    for index, name in enumerate(tensors):
        square = f"range/{index}/square"
        graph.node.append(onnx.helper.make_node("Mul", [name, name], [square]))
        for kind, source in (("ReduceMin", name), ("ReduceMax", name), ("ReduceMean", square)):
            result = f"range/{index}/{kind}"
            graph.node.append(onnx.helper.make_node(kind, [source], [result], keepdims=0))
            graph.output.append(onnx.helper.make_tensor_value_info(result, _FLOAT, []))
    measured = {name: Range() for name in tensors}
    running = session(measuring)
    for feed in feeds:
        numbers = np.asarray(run(running, feed), np.float64).reshape(len(tensors), 3)
        numbers = np.where(np.isnan(numbers), [-np.inf, np.inf, np.inf], numbers)
        for one, (least, most, mean) in zip(measured.values(), numbers.tolist(), strict=True):
            one.least, one.most = min(one.least, least), max(one.most, most)
            one.square += mean / len(feeds)
    return measured


def session(model: Any) -> Any:
    """Open a ModelProto in ONNX Runtime on the CPU, as it is: nothing of it is rewritten or fused."""
    runtime = require("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes have no public base
        raise CaffeportError(f"ONNX Runtime cannot open the graph: {str(error).splitlines()[0]}") from error


def run(running: Any, feed: Feed) -> list[np.ndarray]:
    try:
        return running.run(None, dict(feed))
    except Exception as error:  # ONNX Runtime's own classes have no public base
        raise CaffeportError(f"ONNX Runtime: {str(error).splitlines()[0]}") from error
