"""Layers of Synopsys' fork that move numbers between space and channels or batch.

They follow TensorFlow's operators of these names; the definitions are in
foss-for-synopsys-dwc-arc-processors/synopsys-caffe, src/caffe/layers.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import Operator, Shape, layer_type, nn

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@schema
class BlockParameter:
    block_size: int = 0
    data_format: str = "NHWC"


class Blocks(Operator):
    """The base of DepthToSpace and SpaceToDepth."""

    bottom_axes = ((4, 4),)
    formats: tuple[str, ...] = ("NHWC", "NCHW")

    def setup(self) -> None:
        if self.p.block_size < 1:
            self.fail(f"expected a block_size of 1 or more, got {self.p.block_size}")
        if self.p.data_format not in self.formats:
            self.fail(f'expected a data_format of {" or ".join(self.formats)}, got "{self.p.data_format}"')
        self.last = self.p.data_format == "NHWC"  # channels are the last axis

    def channels_first(self, shape: Shape) -> Shape:
        return (shape[0], shape[3], shape[1], shape[2]) if self.last else shape

    def onnx_first(self, g: Emitter, x: Tensor) -> Tensor:
        return g.op("Transpose", x, perm=[0, 3, 1, 2]) if self.last else x

    def onnx_back(self, g: Emitter, x: Tensor) -> Tensor:
        return g.op("Transpose", x, perm=[0, 2, 3, 1]) if self.last else x

    def as_given(self, batch: int, channels: int, height: int, width: int) -> list[Shape]:
        return [(batch, height, width, channels) if self.last else (batch, channels, height, width)]


@layer_type("DepthToSpace")
class DepthToSpace(Blocks):
    """Channel (i b + j) C' + c fills row i, column j of every b x b block of channel c.

    With data_format "CRD" (channels on axis 1), it is channel (c b + i) b + j, as PixelShuffle's.
    """

    schemas = {"depth_to_space_param": BlockParameter}
    formats = ("NHWC", "NCHW", "CRD")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        batch, channels, height, width = self.channels_first(bottoms[0])
        block = self.p.block_size
        if channels % block**2:
            self.fail(f"block_size {block} squared does not divide {channels} channels")
        return self.as_given(batch, channels // block**2, height * block, width * block)

    def module(self, bottoms: list[Shape]) -> Any:
        if self.p.data_format == "CRD":
            return nn.PixelShuffle(self.p.block_size)
        return nn.DepthToSpace(self.p.block_size, self.last)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        mode = "CRD" if self.p.data_format == "CRD" else "DCR"
        return self.onnx_back(g, g.op("DepthToSpace", self.onnx_first(g, x[0]), blocksize=self.p.block_size, mode=mode))


@layer_type("SpaceToDepth")
class SpaceToDepth(Blocks):
    """Row i, column j of every b x b block of channel c becomes channel (i b + j) C + c; undoes DepthToSpace"""

    schemas = {"space_to_depth_param": BlockParameter}

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        batch, channels, height, width = self.channels_first(bottoms[0])
        block = self.p.block_size
        if height % block or width % block:
            self.fail(f"block_size {block} does not divide a bottom of {height}x{width}")
        return self.as_given(batch, channels * block**2, height // block, width // block)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.SpaceToDepth(self.p.block_size, self.last)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return self.onnx_back(g, g.op("SpaceToDepth", self.onnx_first(g, x[0]), blocksize=self.p.block_size))


@schema
class SpaceToBatchNDParameter:
    block_shape: list[int] = field(default_factory=list)
    paddings: list[int] = field(default_factory=list)


@schema
class BatchToSpaceNDParameter:
    block_shape: list[int] = field(default_factory=list)
    crops: list[int] = field(default_factory=list)


class BatchBlocks(Operator):
    """The base of SpaceToBatchND and BatchToSpaceND: a block length and two edges for each axis from axis 1 on."""

    bottom_axes = ((2, None),)
    edges_name = ""

    def setup(self) -> None:
        self.blocks = self.p.block_shape
        edges = getattr(self.p, self.edges_name)
        if not self.blocks or min(self.blocks) < 1:
            self.fail(f"expected a block_shape of 1 or more for each axis, got {self.blocks}")
        if len(edges) != 2 * len(self.blocks) or min(edges) < 0:
            self.fail(f"expected two {self.edges_name} of 0 or more for each of {len(self.blocks)} axes, got {edges}")
        self.before, self.after = edges[::2], edges[1::2]

    def check_rank(self, bottom: Shape) -> int:
        if len(bottom) <= len(self.blocks):
            self.fail(f"{len(self.blocks)} blocks are too many for a bottom of {bottom}")
        return math.prod(self.blocks)


@layer_type("SpaceToBatchND")
class SpaceToBatchND(BatchBlocks):
    """Axes from 1 on padded with zeros and cut into blocks; every place in a block becomes a batch of its own"""

    schemas = {"space_to_batch_nd_param": SpaceToBatchNDParameter}
    edges_name = "paddings"

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,), parts = bottoms, self.check_rank(bottoms[0])
        padded = [
            size + before + after for size, before, after in zip(bottom[1:], self.before, self.after, strict=False)
        ]
        if any(size % block for size, block in zip(padded, self.blocks, strict=True)):
            self.fail(f"block_shape {self.blocks} does not divide {bottom} with paddings {self.p.paddings}")
        rest = bottom[1 + len(padded) :]
        self.check_padded((bottom[0], *padded, *rest))
        return [(bottom[0] * parts, *(size // b for size, b in zip(padded, self.blocks, strict=True)), *rest)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.SpaceToBatch(self.blocks, self.before, self.after)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        rest = [0] * (x[0].rank - 1 - len(self.blocks))
        sizes = [x[0].static(axis) for axis in range(1, x[0].rank)]
        name = g.pad(x[0], [0, *self.before, *rest], [0, *self.after, *rest])
        cut = [-1]
        for size, block, before, after in zip(sizes, self.blocks, self.before, self.after, strict=False):
            cut += [(size + before + after) // block, block]
        axes = len(self.blocks)
        order = [*range(2, 2 * axes + 1, 2), 0, *range(1, 2 * axes, 2), *range(2 * axes + 1, 2 * axes + 1 + len(rest))]
        parts = g.op("Reshape", name, g.ints([*cut, *sizes[axes:]]))
        return g.op("Reshape", g.op("Transpose", parts, perm=order), g.ints([-1, *g.tops[0].shape[1:]]))


@layer_type("BatchToSpaceND")
class BatchToSpaceND(BatchBlocks):
    """Undoes SpaceToBatchND: the batch spread over blocks of the axes from 1 on, whose edges are then cropped"""

    schemas = {"batch_to_space_nd_param": BatchToSpaceNDParameter}
    edges_name = "crops"

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        (bottom,), parts = bottoms, self.check_rank(bottoms[0])
        if bottom[0] % parts:
            self.fail(f"block_shape {self.blocks} does not divide a batch of {bottom[0]}")
        sizes = [
            size * block - before - after
            for size, block, before, after in zip(bottom[1:], self.blocks, self.before, self.after, strict=False)
        ]
        if min(sizes) < 1:
            self.fail(f"crops {self.p.crops} leave nothing of {bottom}")
        return [(bottom[0] // parts, *sizes, *bottom[1 + len(sizes) :])]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.BatchToSpace(self.blocks, self.before, self.after)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        axes, sizes = len(self.blocks), [x[0].static(axis) for axis in range(1, x[0].rank)]
        parts = g.op("Reshape", x[0], g.ints([*self.blocks, -1, *sizes]))
        order = [axes]
        for axis in range(axes):
            order += [axes + 1 + axis, axis]
        parts = g.op("Transpose", parts, perm=[*order, *range(2 * axes + 1, axes + 1 + len(sizes))])
        whole = [size * block for size, block in zip(sizes, self.blocks, strict=False)]
        top = g.op("Reshape", parts, g.ints([-1, *whole, *sizes[axes:]]))
        if not any(self.before) and not any(self.after):
            return top
        ends = [size - after for size, after in zip(whole, self.after, strict=True)]
        return g.slice(top, range(1, axes + 1), self.before, ends)
