"""``BN``, one name for what three forks made of batch normalisation before Caffe had its own.

Sources: alexgkendall/caffe-segnet, hszhao/PSPNet (two versions, with different fields) and
happynear/caffe-windows, ``src/caffe/layers/bn_layer.cpp`` in each.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..formats.schema import Word, schema
from .base import BlobSpec, Operator, Phase, Shape, layer_type, nn
from .fillers import FillerParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

SEGNET_EPS = 1e-9


class BNMode(enum.Enum):
    LEARN = 0
    INFERENCE = 1


@schema
class BNParameter:
    """The fields of every fork; None where a fork's default has to be told from a given value."""

    bn_mode: BNMode | None = None  # SegNet
    scale_filler: FillerParameter | None = None  # SegNet, and the first versions of the two others
    shift_filler: FillerParameter | None = None
    var_eps: float | None = None  # first versions of PSPNet and caffe-windows
    moving_average: bool | None = None
    decay: float | None = None
    axis: int | None = None
    slope_filler: FillerParameter | None = None  # later versions
    bias_filler: FillerParameter | None = None
    eps: float | None = None
    momentum: float | None = None
    frozen: bool = False
    engine: Word = Word()


_FIRST = ("var_eps", "moving_average", "decay", "axis")
_LATER = ("slope_filler", "bias_filler", "eps", "momentum")


@layer_type("BN")
class BN(Operator):
    """Batch normalisation over axis 1 as SegNet (2 blobs), PSPNet or caffe-windows (4, told apart by ``bn``) has it.

    SegNet, 2 blobs: y = x scale + shift with bn_mode INFERENCE; with LEARN, the default, in either phase,
    y = (x - mean) / sqrt(var + 1e-9) scale + shift with the mean and variance of the batch, which a second
    and a third top give.

    PSPNet, 4 blobs (load(..., bn="variance")): y = (x - mean) / sqrt(variance + eps) scale + shift.

    caffe-windows, 4 blobs (load(..., bn="inverse_std")): y = (x - mean) inverse_std scale + shift; eps is in the blob.

    With four blobs the TRAIN phase normalises by the batch and keeps momentum of the blobs (mean, and variance
    or inverse standard deviation, biased), unless frozen: then scale and shift are constants too. In
    the first versions ``decay`` is what the batch's share is, and moving_average false means statistics of
    the batch in the TEST phase as well; left out, the blobs are used (as the forks' models want it: the
    default is false in PSPNet, true in caffe-windows).
    """

    schemas = {"bn_param": BNParameter}
    tops = (1, 3)

    def setup(self) -> None:
        self.stored = self.context.stored_shapes or None
        self.is_segnet = self._is_segnet()
        if self.is_segnet:
            foreign = [name for name in (*_FIRST, *_LATER) if getattr(self.p, name) is not None]
            if foreign or self.p.frozen:
                self.fail(f"{(foreign or ['frozen'])[0]} belongs to the forms with 4 blobs; SegNet's has 2")
            self.learn = self.p.bn_mode is not BNMode.INFERENCE
            if self.context.num_tops > 1 and not self.learn:
                self.fail("bn_mode INFERENCE has one top")
            return
        if self.context.num_tops > 1:
            self.fail("more than one top is for SegNet's form (2 blobs, bn_mode LEARN)")
        self._check_fields()
        p = self.p
        first = any(getattr(p, name) is not None for name in (*_FIRST, "scale_filler", "shift_filler"))
        self.inverse = self.context.options.get("bn") == "inverse_std"
        self.eps = next((eps for eps in (p.eps, p.var_eps) if eps is not None), 1e-10 if first else 1e-5)
        self.uses_blobs = p.frozen or p.moving_average is not False
        self.momentum = 0.9 if p.momentum is None else p.momentum
        if p.decay is not None:
            self.momentum = 1 - p.decay
        elif first and p.momentum is None and self.phase is Phase.TRAIN:
            self.fail("expected a decay: its default, 0.05 in PSPNet and 0.95 in caffe-windows, depends on the fork")

    def _is_segnet(self) -> bool:
        p, chosen = self.p, self.context.options.get("bn")
        if self.stored is None:
            # No weights: as many blobs as the fields speak of.
            fields = p.frozen or any(getattr(p, name) is not None for name in (*_FIRST, *_LATER))
            return p.bn_mode is not None or not (chosen or fields)
        if len(self.stored) == 2:
            return True
        if len(self.stored) != 4:
            self.fail(f"expected 2 or 4 blobs, the weights hold {len(self.stored)}")
        if p.bn_mode is not None:
            self.fail("bn_mode belongs to SegNet's form, which has 2 blobs; the weights hold 4")
        if chosen is None:
            self.fail(
                "the weights hold 4 blobs, and two forks mean different things by the last one: the variance (PSPNet) "
                'or the inverse standard deviation (caffe-windows); say which: load(..., bn="variance") or '
                '(..., bn="inverse_std"), --bn variance or --bn inverse_std'
            )
        return False

    def _check_fields(self) -> None:
        p = self.p
        for one, other in (
            ("scale_filler", "slope_filler"),
            ("shift_filler", "bias_filler"),
            ("var_eps", "eps"),
            ("decay", "momentum"),
        ):
            if getattr(p, one) is not None and getattr(p, other) is not None:
                self.fail(f"expected {one} or {other}, which say the same in different forks, not both")
        if p.axis not in (None, 1):
            self.fail(f"axis {p.axis} is not supported; expected 1")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,) = bottoms
        if len(bottom) < 2 or (self.is_segnet and len(bottom) != 4):
            self.fail(f"expected a bottom of {'4' if self.is_segnet else '2 or more'} axes, got {len(bottom)}")
        statistics = (1, bottom[1], 1, 1)
        return [bottom, statistics, statistics][: self.context.num_tops]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        p, channels = self.p, bottoms[0][1]
        usual = (1, channels) if not self.is_segnet and self.inverse else (1, channels, 1, 1)
        stored = [shape if math.prod(shape) == channels else usual for shape in self.stored or [usual] * 4]
        zero = FillerParameter()
        fillers = [p.scale_filler or p.slope_filler or zero, p.shift_filler or p.bias_filler or zero]
        trained = not p.frozen
        specs = [BlobSpec(name, stored[i], fillers[i], trained) for i, name in enumerate(("weight", "bias"))]
        if self.is_segnet:
            return specs
        last, start = ("inverse_std", 1.0) if self.inverse else ("variance", float(p.frozen))
        specs.append(BlobSpec("mean", stored[2], zero, trained=False))
        return [*specs, BlobSpec(last, stored[3], FillerParameter(value=start), trained=False)]

    def module(self, bottoms: list[Shape]) -> Any:
        if self.is_segnet:
            return nn.SegNetBN(SEGNET_EPS if self.learn else None, self.context.num_tops)
        return nn.MovingBN(self.inverse, self.eps, self.momentum, self.p.frozen, self.uses_blobs)

    def affine(self, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return (scale, shift) in float64: y = x * scale + shift, where blobs alone decide."""
        flat = [np.asarray(blob, np.float64).ravel() for blob in blobs]
        if self.is_segnet:
            return flat[0], flat[1]
        weight, bias, mean, last = flat
        with np.errstate(divide="ignore", invalid="ignore"):  # a variance of 0 with an eps of 0
            scale = weight * (last if self.inverse else 1 / np.sqrt(last + self.eps))
            return scale, np.where(mean == 0, bias, bias - mean * scale)

    @property
    def by_batch(self) -> bool:
        """Return whether a deployed net normalises by the batch."""
        return self.learn if self.is_segnet else not self.uses_blobs

    def channel_affine(self, bottom: Shape, blobs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        return None if self.by_batch else self.affine(blobs)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor | list[Tensor]:
        channels = (x[0].shape[1], *[1] * (x[0].rank - 2))
        if not self.by_batch:
            scale = g.derived("scale", channels, lambda blobs: self.affine(blobs)[0])
            shift = g.derived("shift", channels, lambda blobs: self.affine(blobs)[1])
            return g.op("Add", g.op("Mul", x[0], scale), shift)
        axes = [axis for axis in range(x[0].rank) if axis != 1]
        mean = g.reduce("ReduceMean", x[0], axes)
        centered = g.op("Sub", x[0], mean)
        variance = g.reduce("ReduceMean", g.op("Mul", centered, centered), axes)
        eps = SEGNET_EPS if self.is_segnet else self.eps
        result = g.op("Div", centered, g.op("Sqrt", g.add(variance, eps)))
        result = g.op("Add", g.op("Mul", result, g.blob(0, channels)), g.blob(1, channels, how="bias"))
        return [result, mean, variance][: self.context.num_tops]
