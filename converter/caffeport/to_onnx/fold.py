"""BatchNorm, Scale and Bias folded into the layer that feeds them: by connection, never by list order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..graph.layer import Layer, Value
from ..graph.net import Shape


@dataclass
class Folded:
    """A layer with the affine layers it swallowed; ``output`` is the last one's top."""

    layer: Layer
    swallowed: list[Layer] = field(default_factory=list)

    @property
    def output(self) -> Value:
        return self.swallowed[-1].outputs[0]

    @property
    def shapes(self) -> list[Shape]:
        """Return the shapes of weight and bias; a layer without a bias gets one."""
        weight = self.layer.specs[0].shape
        return [weight, (self.layer.outputs[0].shape[1],)]

    def blobs(self) -> list[np.ndarray]:
        """Return the new weight and bias, computed in float64 and rounded once."""
        top = self.layer.outputs[0].shape
        scale, shift = np.ones(top[1]), np.zeros(top[1])
        for layer in self.swallowed:
            affine = layer.op.channel_affine(top, layer.blobs)
            assert affine is not None
            scale, shift = scale * affine[0], shift * affine[0] + affine[1]
        blobs = self.layer.blobs
        changed = self.layer.op.absorb(top, blobs, scale, shift)
        return [np.asarray(blob, np.float32) for blob in changed]


def plan(layers: Sequence[Layer], wanted: Sequence[Value]) -> dict[Layer, Folded]:
    """Return {layer that absorbs: what it swallows}.

    A layer is swallowed only if it does no more than scale and shift channels, and nobody but it reads
    the blob in between, which is not asked for as an output either.
    """
    members = set(layers)
    folds = {}
    for layer in layers:
        if len(layer.outputs) != 1 or not layer.op.can_absorb(layer.outputs[0].shape):
            continue
        fold = Folded(layer)
        value = layer.outputs[0]
        while value not in wanted:
            readers = [reader for reader in value.consumers if reader in members]
            if len(readers) != 1 or len(readers[0].inputs) != 1 or len(readers[0].outputs) != 1:
                break
            if readers[0].op.channel_affine(value.shape, readers[0].blobs) is None:
                break
            fold.swallowed.append(readers[0])
            value = readers[0].outputs[0]
        if fold.swallowed:
            folds[layer] = fold
    return folds


def once(make: Callable[[], list[np.ndarray]]) -> Callable[[], list[np.ndarray]]:
    """Call ``make()`` once for the two blobs of one fold: the last result stays until it is taken."""
    cache: list[list[np.ndarray]] = []

    def cached() -> list[np.ndarray]:
        if cache:
            return cache.pop()
        result = make()
        cache.append(result)
        return result

    return cached
