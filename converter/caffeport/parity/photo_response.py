"""How a net takes photos that reach it in some way: by BatchNorm's statistics, its answers, its embeddings.

A BatchNorm keeps the mean and variance of what came to it in training, so that its output is of mean 0 and variance 1
in every channel, if photos like those come to it as they came then. How far it is from that is measured here in the
layers next to the image, where the way of the pixels shows most, as the Kullback-Leibler divergence of a normal
distribution from the standard one: (v + m^2 - 1 - log v) / 2 with the photos' mean m and variance v.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.layer import Layer, Value
from ..graph.net import Net
from ..graph.walk import inference_values, needed_layers
from ..lazy import require
from ..operators.normalization import BatchNorm

FIRST_LAYERS = 4
"""BatchNorm layers that are asked: deeper ones follow what is in the photos more than how their pixels came."""
_LIVE = 10
"""A channel's variance has to be that many times BatchNorm's epsilon: a dead one says the same of all photos."""
_LEAST_VARIANCE = 1e-4
CLASSES_FROM = 5
"""Classes from which an answer's entropy says something: of two, an answer that is in doubt looks like a guess."""
EMBEDDING_FROM = 32
"""Numbers of an output that is taken for an embedding; landmarks and boxes are fewer, or come with other outputs."""


@dataclass(frozen=True)
class Response:
    """What the net made of photos; None for what it has no layers for.

    divergence: from the statistics of training, 0 for none; the mean over channels and layers.
    answers: probabilities (N, K) of a classifier. embeddings: unit rows (N, D).
    """

    divergence: float | None
    answers: np.ndarray | None
    embeddings: np.ndarray | None


class PhotoResponse:
    """A net, made ready to be asked. Needs torch."""

    def __init__(self, net: Net, pair: bool = False) -> None:
        """pair: ask for embeddings too, where the net's one output is one."""
        ends = inference_values(net)[0]
        self._answers, self._embedding = _answers(ends), _embedding(ends) if pair else None
        self._asked = [value for value in (self._answers, self._embedding) if value is not None]
        needed = set(needed_layers(net, ends))
        self._norms = [layer for layer in net.layers if layer in needed and _live_channels(layer).any()][:FIRST_LAYERS]
        self._net = net
        self._module: Any = None

    @property
    def batch_norms(self) -> list[str]:
        """The names of the BatchNorm layers that are asked."""
        return [layer.name for layer in self._norms]

    @property
    def has_answers(self) -> bool:
        return self._answers is not None

    @property
    def has_embedding(self) -> bool:
        return self._embedding is not None

    def ask(self, name: str, images: np.ndarray) -> Response:
        """Return what the net makes of its input ``name`` being images (N, C, H, W)."""
        torch = require("torch")
        if self._module is None:
            outputs = [value.name for value in self._asked or inference_values(self._net)[0]]
            self._module = self._net.to_torch(outputs=outputs).eval()
        divergences: list[float] = []
        hooks = []
        for layer in self._norms:
            module = self._module.get_submodule(self._module.layer_paths[layer.name])
            is_last = layer is self._norms[-1] and not self._asked
            hooks.append(module.register_forward_hook(_measuring(layer, divergences, is_last)))
        tensors = [torch.from_numpy(images) if one == name else None for one in self._net.inputs]
        try:
            with torch.no_grad():
                made = self._module(*tensors)
        except _EnoughError:
            made = {}
        finally:
            for hook in hooks:
                hook.remove()
        blobs = {self._asked[0].name: made} if torch.is_tensor(made) else made
        divergence = float(np.mean(divergences)) if divergences else None
        return Response(divergence, self._rows(self._answers, blobs), _unit(self._rows(self._embedding, blobs)))

    def _rows(self, value: Value | None, blobs: Any) -> np.ndarray | None:
        if value is None:
            return None
        array = np.asarray(blobs[value.name].numpy(), np.float64)
        return array.reshape(len(array), -1)


class _EnoughError(Exception):
    """Nothing behind this layer is asked for."""


def _measuring(layer: Layer, divergences: list[float], is_last: bool) -> Any:
    live = _live_channels(layer)

    def note(_module: Any, _inputs: Any, output: Any) -> None:
        array = output.numpy()
        axes = (0, *range(2, array.ndim))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = array.mean(axes, dtype=np.float64)[live]
            variance = np.maximum(array.var(axes, dtype=np.float64)[live], _LEAST_VARIANCE)
            divergence = np.mean(variance + mean * mean - 1 - np.log(variance)) / 2
        divergences.append(float(divergence) if np.isfinite(divergence) else np.inf)
        if is_last:
            raise _EnoughError

    return note


def _live_channels(layer: Layer) -> np.ndarray:
    """Return which channels of a BatchNorm have statistics of training, bool (C,); none of any other layer."""
    none = np.zeros(1, bool)
    if not isinstance(layer.op, BatchNorm) or layer.op.p.use_global_stats is False or layer.op.scale_bias:
        return none
    _mean, variance, factor = layer.blobs
    if factor[0] == 0:
        return none
    live: np.ndarray = variance / factor[0] > _LIVE * layer.op.p.eps
    return live


def _answers(ends: list[Value]) -> Value | None:
    found = [value for value in ends if value.layer.type == "Softmax" and _row_length(value) >= CLASSES_FROM]
    return found[0] if len(found) == 1 else None


def _embedding(ends: list[Value]) -> Value | None:
    if len(ends) != 1 or ends[0].layer.type == "Softmax" or _row_length(ends[0]) < EMBEDDING_FROM:
        return None
    return ends[0]


def _row_length(value: Value) -> int:
    """Return the numbers a photo of (N, D) or (N, D, 1, 1); 0 of any other shape."""
    return value.shape[1] if len(value.shape) > 1 and all(size == 1 for size in value.shape[2:]) else 0


def _unit(rows: np.ndarray | None) -> np.ndarray | None:
    if rows is None:
        return None
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
