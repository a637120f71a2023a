"""The window that a convolution slides over its bottom: kernel, stride, pads and dilation for every spatial axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

Shape = tuple[int, ...]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """(near, far) padding of one axis with which there are ceil(size / stride) positions, as TensorFlow's SAME.

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
        """Whether both sides have one pad, whatever the size."""
        return not self.same and self.far in (None, self.pad)

    def at(self, size: Sequence[int]) -> Window:
        """The window with the pads that it has at this size.

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
        """The pads before and behind at this size."""
        window = self.at(size)
        return window.pad, window.pad if window.far is None else window.far

    def extents(self) -> Shape:
        """How far the dilated kernel reaches."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    def slide(self, size: Sequence[int]) -> Shape:
        """Positions along each axis of a convolution over ``size``."""
        near, far = self.edges(size)
        return tuple(
            (i + p + q - extent) // s + 1
            for i, p, q, extent, s in zip(size, near, far, self.extents(), self.stride, strict=True)
        )
