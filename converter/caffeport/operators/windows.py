"""The windows that convolutions and poolings slide over their bottoms.

A pooling has P = ceil((H + p + q - k) / s) + 1 positions for a pad p before and q behind (q = p but in Synopsys'
fork); with a pad, one that would start at or beyond H + p is dropped. That equals pooling with rounding down after
padding the far side to q + s - 1, but no more than k - 1 where there is a pad, whatever H is: so the ONNX form needs
no ceil_mode and fits every input size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .base import MAX_INT, Shape

HUGE = 1 << 12  # pixels; no image that a net takes has as many along an axis


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return (near, far) padding of one axis with which there are ceil(size / stride) positions, as TensorFlow's SAME.

    Of an odd number the far side gets one more.
    """
    padding = max(kernel - (size % stride or stride), 0)
    return padding // 2, padding - padding // 2


@dataclass(frozen=True)
class Window:
    """Kernel, stride, pad and dilation for every spatial axis."""

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape
    far: Shape | None = None  # the pad behind, where it differs from that before (pad_l, pad_r, pad_t, pad_b)
    same: bool = False  # pad_type SAME: the pads follow the size of the bottom

    @property
    def even(self) -> bool:
        """Return whether both sides have one pad, whatever the size."""
        return not self.same and self.far in (None, self.pad)

    def at(self, size: Sequence[int]) -> Window:
        """Return the window with the pads that it has at this size.

        The fork pads SAME for the kernel without its dilation; what a dilated one reaches beyond that, reads zeros.
        """
        if not self.same:
            return self
        near, far = [], []
        for i, kernel, stride, extent in zip(size, self.kernel, self.stride, self.extents(), strict=True):
            near.append(same_padding(i, kernel, stride)[0])
            far.append(max((-(-i // stride) - 1) * stride + extent - i - near[-1], 0))
        return replace(self, pad=tuple(near), far=tuple(far), same=False)

    def edges(self, size: Sequence[int]) -> tuple[Shape, Shape]:
        """Return the pads before and behind at this size."""
        window = self.at(size)
        return window.pad, window.pad if window.far is None else window.far

    def extents(self) -> Shape:
        """Return how far the dilated kernel reaches."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    def slide(self, size: Sequence[int]) -> Shape:
        """Return the positions along each axis of a convolution over ``size``."""
        near, far = self.edges(size)
        return tuple(
            (i + p + q - extent) // s + 1
            for i, p, q, extent, s in zip(size, near, far, self.extents(), self.stride, strict=True)
        )


@dataclass(frozen=True)
class PoolWindow:
    """Pairs (height, width). ``ceil``: positions are rounded up; ``behind``: the far pad, where it is not the near.

    ``inside``: an average over the pixels, not over the padded image. ``same``: pads follow the size; see ``at``.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    ceil: bool = True
    behind: tuple[int, int] | None = None
    inside: bool = False
    same: bool = False

    @property
    def edge(self) -> tuple[int, int]:
        """The pad of the far side, beyond which a window is clipped."""
        return self.pad if self.behind is None else self.behind

    def at(self, size: tuple[int, int]) -> PoolWindow:
        """Return the window with the pads that it has at this size."""
        if not self.same:
            return self
        rows, columns = (same_padding(size[i], self.kernel[i], self.stride[i]) for i in (0, 1))
        return replace(self, pad=(rows[0], columns[0]), behind=(rows[1], columns[1]), same=False, ceil=False)

    @property
    def is_huge(self) -> bool:
        """Return whether it may be far larger than any bottom, so that padding for it would fill memory; see
        ``fitted``."""
        return max(*self.kernel, *self.stride) > HUGE

    def fitted(self, size: tuple[int, int]) -> PoolWindow:
        """Return a window that does the same on this size and is no larger than it takes.

        A kernel beyond the padded size has one position and is cut to that size by Caffe; a stride beyond it
        leads from the first position to one without a pixel, wherever that is.
        """
        reach = [size[i] + self.pad[i] + self.edge[i] for i in (0, 1)]
        kernel = (min(self.kernel[0], reach[0]), min(self.kernel[1], reach[1]))
        stride = (min(self.stride[0], reach[0] + 1), min(self.stride[1], reach[1] + 1))
        return replace(self, kernel=kernel, stride=stride)

    def positions(self, size: tuple[int, int]) -> tuple[int, int]:
        h, w = (self._positions(size[i], i) for i in (0, 1))
        return h, w

    def _positions(self, size: int, i: int) -> int:
        kernel, stride, pad = self.kernel[i], self.stride[i], self.pad[i]
        room = size + pad + self.edge[i] - kernel
        positions = (-(-room // stride) if self.ceil else room // stride) + 1
        # Caffe looks at all pads before it clips either axis.
        if self.padded and (positions - 1) * stride >= size + pad:
            positions -= 1
        return positions

    @property
    def padded(self) -> bool:
        return any(self.pad) or any(self.edge)

    @property
    def far(self) -> tuple[int, int]:
        """Return the padding of the far side with which rounding down gives Caffe's positions (see above)."""
        height, width = (
            min(q + (s - 1 if self.ceil else 0), k - 1 if self.padded else MAX_INT)
            for k, s, q in zip(self.kernel, self.stride, self.edge, strict=True)
        )
        return height, width

    @property
    def torch_agrees(self) -> bool:
        """Return whether torch's pooling has the same windows: it always clips, and takes even pads up to half a
        kernel."""
        return (
            not self.same
            and self.edge == self.pad
            and all(2 * p <= k for k, p in zip(self.kernel, self.pad, strict=True))
            and (
                not self.ceil
                or all(s <= k or p > 0 for k, s, p in zip(self.kernel, self.stride, self.pad, strict=True))
            )
        )

    def divisors(self, size: tuple[int, int]) -> list[np.ndarray]:
        """Return for each axis the window length that an average divides by: clipped to the padded image, or to the
        image."""
        lengths = []
        for i, positions in enumerate(self.positions(size)):
            starts = np.arange(positions) * self.stride[i] - self.pad[i]
            ends = np.minimum(starts + self.kernel[i], size[i] + (0 if self.inside else self.edge[i]))
            lengths.append(np.maximum(ends - (np.maximum(starts, 0) if self.inside else starts), 0))
        return lengths
