"""Statistics over a blob: BatchNorm, LRN, MVN."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import Word, schema
from .base import BlobSpec, InPlace, Operator, Shape, layer_type, nn
from .fillers import FillerParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class BatchNormParameter:
    use_global_stats: bool | None = None
    moving_average_fraction: float = 0.999
    eps: float = 1e-5
    scale_bias: bool = False  # NVCaffe: Scale's two blobs within this layer
    scale_filler: FillerParameter | None = None
    bias_filler: FillerParameter | None = None
    engine: Word = Word()


@layer_type("BatchNorm")
class BatchNorm(Operator):
    """y = (x - mean) / sqrt(var + eps) over axis 1.

    Blobs: sums of mean and variance (C,), and the factor (1,) they are divided by (0 counts as: both 0).
    Statistics of the batch in the TRAIN phase or where use_global_stats is false; NVCaffe's scale_bias
    adds two blobs that scale and shift the result, and so does either of their fillers without it.
    """

    schemas = {"batch_norm_param": BatchNormParameter}
    bottom_axes = ((1, None),)

    def setup(self) -> None:
        if not self.p.eps >= 0:  # the root of a negative number, for a channel whose variance is small
            self.fail(f"expected an eps of 0 or more, got {self.p.eps:g}")
        self.scale_bias = self.p.scale_bias or self.p.scale_filler is not None or self.p.bias_filler is not None

    def channels(self, bottom: Shape) -> int:
        return bottom[1] if len(bottom) > 1 else 1

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        size = (self.channels(bottoms[0]),)
        specs = [
            BlobSpec("mean", size, trained=False),
            BlobSpec("variance", size, trained=False),
            BlobSpec("scale_factor", (1,), trained=False),
        ]
        if self.scale_bias:
            weight = self.p.scale_filler or FillerParameter(value=1.0)
            specs += [BlobSpec("weight", size, weight), BlobSpec("bias", size, self.p.bias_filler or FillerParameter())]
        return specs

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.BatchNorm(self.p.eps, self.p.moving_average_fraction, self.p.use_global_stats, self.scale_bias)

    def statistics(self, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return (scale, shift) in float64: y = x * scale + shift."""
        factor = float(blobs[2][0])
        divisor = 0.0 if factor == 0 else 1.0 / factor
        mean, variance = (np.asarray(blob, np.float64) * divisor for blob in blobs[:2])
        scale = 1.0 / np.sqrt(variance + self.p.eps)
        shift = -mean * scale
        if self.scale_bias:
            return scale * blobs[3], shift * blobs[3] + blobs[4]
        return scale, shift

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        if self.p.use_global_stats is False:
            return self._onnx_batch_statistics(g, x[0])
        channels = self.channels(x[0].shape)

        def divided(index: int) -> Callable[[list[np.ndarray]], np.ndarray]:
            def make(blobs: list[np.ndarray]) -> np.ndarray:
                factor = float(blobs[2][0])
                return np.asarray(blobs[index] * (0.0 if factor == 0 else 1.0 / factor), np.float32)

            return make

        if x[0].rank < 2:
            scale = g.derived("scale", (1,), lambda blobs: self.statistics(blobs)[0])
            shift = g.derived("shift", (1,), lambda blobs: self.statistics(blobs)[1])
            return g.op("Add", g.op("Mul", x[0], scale), shift)
        if g.folds:
            zero, one = g.const(np.zeros(channels)), g.const(np.ones(channels))
            return g.op("BatchNormalization", x[0], *g.blobs(), zero, one, epsilon=0.0)
        weight = g.blob(3) if self.scale_bias else g.const(np.ones(channels))
        bias = g.blob(4) if self.scale_bias else g.const(np.zeros(channels))
        mean = g.derived("mean", (channels,), divided(0))
        variance = g.derived("variance", (channels,), divided(1))
        return g.op("BatchNormalization", x[0], weight, bias, mean, variance, epsilon=self.p.eps)

    def _onnx_batch_statistics(self, g: Emitter, x: Tensor) -> Tensor:
        axes = [axis for axis in range(x.rank) if axis != 1 or x.rank == 1]
        centered = g.op("Sub", x, g.reduce("ReduceMean", x, axes))
        variance = g.reduce("ReduceMean", g.op("Mul", centered, centered), axes)
        result = g.op("Div", centered, g.op("Sqrt", g.add(variance, self.p.eps)))
        if self.scale_bias:
            shape = (self.channels(x.shape), *[1] * max(x.rank - 2, 0))
            result = g.op("Add", g.op("Mul", result, g.blob(3, shape)), g.blob(4, shape))
        return result

    def can_absorb(self, top: Shape) -> bool:
        return self.p.use_global_stats is not False and len(top) > 1

    def absorbed_shapes(self, top: Shape, blobs: list[Shape]) -> list[Shape]:
        return [top[1:2]] * 2

    def absorb(self, top: Shape, blobs: list[np.ndarray], scale: np.ndarray, shift: np.ndarray) -> list[np.ndarray]:
        own_scale, own_shift = self.statistics(blobs)
        return [own_scale * scale, own_shift * scale + shift]

    def channel_affine(self, bottom: Shape, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        if self.p.use_global_stats is False or len(bottom) < 2:
            return None
        return self.statistics(blobs)


class NormRegion(enum.Enum):
    ACROSS_CHANNELS = 0
    WITHIN_CHANNEL = 1


@schema
class LRNParameter:
    local_size: int = 5
    alpha: float = 1.0
    beta: float = 0.75
    norm_region: NormRegion = NormRegion.ACROSS_CHANNELS
    k: float = 1.0
    engine: Word = Word()


LARGE_BETA = 4
"""Papers have 0.5 to 1. Beyond it torch's own LRN, which divides by a power, may overflow."""


@layer_type("LRN")
class LRN(Operator):
    """ACROSS_CHANNELS: x (k + alpha / n * sum x^2)^-beta over n channels;
    WITHIN_CHANNEL: x (1 + alpha / n^2 * sum x^2)^-beta over n x n pixels (zeros outside, k ignored)"""

    in_place = InPlace.OVERWRITTEN
    schemas = {"lrn_param": LRNParameter}
    bottom_axes = ((4, 4),)

    def setup(self) -> None:
        if self.p.local_size < 1 or self.p.local_size % 2 == 0:
            self.fail(f"expected an odd local_size of 1 or more, got {self.p.local_size}")

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        if p.norm_region is NormRegion.ACROSS_CHANNELS:
            fits = within(p.local_size, p.alpha, bottoms[0][1:2])[0] == p.local_size
            across = nn.LocalResponseNorm if fits and p.beta <= LARGE_BETA else nn.LRNAcrossChannels
            return across(p.local_size, p.alpha, p.beta, p.k)
        return nn.LRNWithinChannel(p.local_size, p.alpha, p.beta)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        p, across = self.p, self.p.norm_region is NormRegion.ACROSS_CHANNELS
        axes = [1] if across else [2, 3]
        size, alpha = p.local_size, p.alpha
        if size >= 2 * max(x[0].shape[axis] for axis in axes):
            size, alpha = within(size, alpha, [x[0].static(axis) for axis in axes])
        if not across:
            half = (size - 1) // 2
            squares = g.pad(g.op("Mul", x[0], x[0]), [0, 0, half, half], [0, 0, half, half])
            mean = g.op("AveragePool", squares, kernel_shape=[size] * 2, strides=[1, 1])
            return g.op("Mul", x[0], g.op("Pow", g.add(g.mul(mean, alpha), 1.0), g.const(-p.beta)))
        if alpha > 0 and p.beta > 0:
            return g.op("LRN", x[0], size=size, alpha=alpha, beta=p.beta, bias=p.k)
        return self._onnx_across(g, x[0], size, alpha)

    def _onnx_across(self, g: Emitter, x: Tensor, size: int, alpha: float) -> Tensor:
        """Sum over channels by a pooling over the rows of (N, 1, C, H W), where ONNX Runtime's LRN refuses the
        window."""
        half = (size - 1) // 2
        squares = g.op("Reshape", g.op("Mul", x, x), g.ints([0, 1, x.static(1), -1]))
        squares = g.pad(squares, [0, 0, half, 0], [0, 0, half, 0])
        mean = g.op("AveragePool", squares, kernel_shape=[size, 1], strides=[1, 1])
        factor = g.op("Pow", g.add(g.mul(mean, alpha), self.p.k), g.const(-self.p.beta))
        return g.op("Mul", x, g.op("Reshape", factor, g.op("Shape", x)))


def within(size: int, alpha: float, extents: Sequence[int]) -> tuple[int, float]:
    """Return a window of odd ``size`` no wider than reaches everything from everywhere, and the alpha that makes up for
    it."""
    enough = min(size, 2 * max(extents) - 1)
    return enough, alpha * (enough / size) ** len(extents)


@schema
class MVNParameter:
    normalize_variance: bool = True
    across_channels: bool = False
    eps: float = 1e-9


@layer_type("MVN")
class MVN(Operator):
    """(x - mean) / (sqrt(variance) + eps) for every image and channel, or every image; eps outside the root.

    The top has four axes, as Caffe's: (N, C, 1, 1) for a 2-D bottom. Its gradient is Caffe's, which leaves eps out of
    the derivative and is finite where the variance is 0; with exact_gradients it is the derivative.
    """

    in_place = InPlace.OTHER_GRADIENT
    schemas = {"mvn_param": MVNParameter}
    bottom_axes = ((1, 4),)

    def axes(self, rank: int) -> list[int]:
        return list(range(1 if self.p.across_channels else 2, rank))

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [(*bottoms[0], *[1] * (4 - len(bottoms[0])))]

    def module(self, bottoms: list[Shape]) -> Any:
        exact = bool(self.context.options.get("exact_gradients"))
        return nn.MVN(self.axes(4), self.p.normalize_variance, self.p.eps, exact)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        axes, image = self.axes(4), g.unsqueeze(x[0], range(x[0].rank, 4))
        centered = g.op("Sub", image, g.reduce("ReduceMean", image, axes))
        if not self.p.normalize_variance:
            return centered
        variance = g.reduce("ReduceMean", g.op("Mul", centered, centered), axes)
        return g.op("Div", centered, g.add(g.op("Sqrt", variance), self.p.eps))
