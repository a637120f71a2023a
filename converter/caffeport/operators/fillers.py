"""Caffe's weight fillers, seeded: what a layer holds before any weights are loaded.

Formulas: BVLC/caffe include/caffe/filler.hpp; ``gaussian_unitball`` is the NormFace fork's.
"""

from __future__ import annotations

import enum
import math
import zlib

import numpy as np

from ..errors import NetError, did_you_mean
from ..formats.schema import schema

Shape = tuple[int, ...]


class VarianceNorm(enum.Enum):
    FAN_IN = 0
    FAN_OUT = 1
    AVERAGE = 2


@schema
class FillerParameter:
    type: str = "constant"
    value: float = 0.0
    min: float = 0.0
    max: float = 1.0
    mean: float = 0.0
    std: float = 1.0
    sparse: int = -1
    variance_norm: VarianceNorm = VarianceNorm.FAN_IN


def generator(seed: int, layer: str, index: int) -> np.random.Generator:
    """Return a stream of its own for every blob, so that adding a layer leaves the others' weights alone."""
    return np.random.default_rng([seed, zlib.crc32(layer.encode("utf-8", "surrogatepass")), index])


def fill(filler: FillerParameter, shape: Shape, random: np.random.Generator) -> np.ndarray:
    """Return a float32 array of ``shape``. Raises NetError for an unknown filler or a shape it cannot fill."""
    make = _FILLERS.get(filler.type)
    if make is None:
        raise NetError(
            f'unknown filler "{filler.type}"{did_you_mean(filler.type, _FILLERS)}; known: {", ".join(_FILLERS)}'
        )
    return np.asarray(make(filler, shape, random), np.float32).reshape(shape)


def _constant(filler: FillerParameter, shape: Shape, random: np.random.Generator) -> np.ndarray:
    return np.full(shape, filler.value, np.float32)


def _uniform(filler: FillerParameter, shape: Shape, random: np.random.Generator) -> np.ndarray:
    if not -math.inf < filler.min <= filler.max < math.inf:
        raise NetError(f"a uniform filler needs a min no larger than its max, got {filler.min:g} and {filler.max:g}")
    return random.uniform(filler.min, filler.max, shape)


def _gaussian(filler: FillerParameter, shape: Shape, random: np.random.Generator) -> np.ndarray:
    values = random.standard_normal(shape, np.float32) * np.float32(filler.std) + np.float32(filler.mean)
    if filler.sparse >= 0:  # on average, `sparse` inputs of each output are kept
        values *= random.random(shape) < filler.sparse / max(shape[0] if shape else 1, 1)
    return values


def _positive_unitball(filler: FillerParameter, shape: Shape, random: np.random.Generator) -> np.ndarray:
    rows = random.random((shape[0] if shape else 1, math.prod(shape[1:])))
    return rows / rows.sum(axis=1, keepdims=True)


def _gaussian_unitball(filler: FillerParameter, shape: Shape, random: np.random.Generator) -> np.ndarray:
    rows = random.standard_normal((shape[0] if shape else 1, math.prod(shape[1:])))
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def _fan(filler: FillerParameter, shape: Shape) -> float:
    count = math.prod(shape)
    fan_in = count / (shape[0] if shape else 1)
    fan_out = count / shape[1] if len(shape) > 1 else count
    if filler.variance_norm is VarianceNorm.AVERAGE:
        return (fan_in + fan_out) / 2
    return fan_out if filler.variance_norm is VarianceNorm.FAN_OUT else fan_in


def _xavier(filler: FillerParameter, shape: Shape, random: np.random.Generator) -> np.ndarray:
    bound = math.sqrt(3.0 / _fan(filler, shape))
    return (random.random(shape, np.float32) * 2 - 1) * np.float32(bound)


def _msra(filler: FillerParameter, shape: Shape, random: np.random.Generator) -> np.ndarray:
    return random.standard_normal(shape, np.float32) * np.float32(math.sqrt(2.0 / _fan(filler, shape)))


def _bilinear(filler: FillerParameter, shape: Shape, random: np.random.Generator) -> np.ndarray:
    """Return weights that make a deconvolution upsample: (1 - |x/f - c|)(1 - |y/f - c|)."""
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError(f"a bilinear filler needs a 4-D blob with a square kernel, got {shape}")
    size = shape[3]
    factor = math.ceil(size / 2)
    center = (size - 1) / (2 * factor)
    ramp = 1 - np.abs(np.arange(size) / factor - center)
    return np.broadcast_to(np.outer(ramp, ramp), shape)


def _diagonal(filler: FillerParameter, shape: Shape, random: np.random.Generator) -> np.ndarray:
    """Fill the diagonal of a square matrix with ``value``, as CRF-RNN starts its own; it is not a filler of a text."""
    return np.eye(shape[-1], dtype=np.float32) * np.float32(filler.value)


_FILLERS = {
    "constant": _constant,
    "diagonal": _diagonal,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "gaussian_unitball": _gaussian_unitball,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
}
