"""The bottoms in which DetectionOutput's offsets, scores and default boxes come, and their order.

SSD has one bottom of each; RefineDet two more, of its first stage. Synopsys' fork
(foss-for-synopsys-dwc-arc-processors/synopsys-caffe, src/caffe/layers/detection_output_layer.cpp) also takes them of
every feature map apart, and then in orders that spare the net its Permute layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .base import Shape, count

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


@dataclass(frozen=True)
class Sources:
    """``maps`` feature maps have bottoms of their own, first scores, then offsets; with 0 all are concatenated.

    ``priors``: how many bottoms the default boxes are in. ``order``: "cells" as SSD's Permute layers leave them;
    "ratios" (ratio_permute): numbers (N, C, boxes) and offsets (N, 4, boxes), the boxes of one ratio together;
    "maps" (no_permute): scores (N, C, ratios, H W) and offsets (N, ratios 4, H, W) as the convolutions give them.
    ``ratios``: of "ratios", how many each map has. ``classes`` and ``located``: C, and how many sets of offsets.
    """

    maps: int
    priors: int
    order: str
    ratios: tuple[int, ...]
    classes: int
    located: int

    def role(self, index: int) -> str:
        """Return the kind of a bottom: loc, conf, prior, or more, for what comes behind."""
        if not self.maps:
            return ("loc", "conf", "prior", "more")[min(index, 3)]
        end = 2 * self.maps
        return (
            "conf" if index < self.maps else "loc" if index < end else "prior" if index < end + self.priors else "more"
        )

    def parts(self, role: str, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shapes of the bottoms of this kind."""
        return [shape for index, shape in enumerate(bottoms) if self.role(index) == role]

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, Shape, Shape]:
        """Return the shapes of offsets (N, 4 P), scores (N, P C) and priors (1, 2, 4 P), as if they came
        concatenated."""
        loc, conf, prior = (self.parts(role, bottoms) for role in ("loc", "conf", "prior"))
        if not self.maps:
            return loc[0], conf[0], prior[0]
        widths = [sum(count(shape, start) for shape in some) for some, start in ((loc, 1), (conf, 1), (prior, 2))]
        pairs = 2 if all(shape[1] == 2 for shape in prior) else 0
        return (loc[0][0], widths[0]), (conf[0][0], widths[1]), (1, pairs, widths[2])

    def boxes(self, bottoms: Sequence[Shape]) -> list[tuple[int, int]]:
        """Return (ratios, cells) of every feature map."""
        result = []
        for index, shape in enumerate(self.parts("loc", bottoms)):
            total = count(shape, 1) // (4 * self.located)
            ratios = shape[1] // (4 * self.located) if self.order == "maps" else self.ratios[index]
            result.append((ratios, total // max(1, ratios)))
        return result

    def onnx(self, g: Emitter, x: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return offsets, scores and priors in SSD's order."""
        if not self.maps:
            return x[0], x[1], x[2]
        named: dict[str, list[Tensor]] = {"conf": [], "loc": [], "prior": [], "more": []}
        for index, bottom in enumerate(x):
            named[self.role(index)].append(bottom)
        loc = [self._flat(g, part, 4, True) for part in named["loc"]]
        conf = [self._flat(g, part, self.classes, False) for part in named["conf"]]
        prior = g.op("Concat", *named["prior"], axis=2) if self.priors > 1 else named["prior"][0]
        if self.order == "ratios" and self.priors > 1:
            parts = [g.op("Reshape", part, g.ints([2, 4, -1])) for part in named["prior"]]
            parts = [g.op("Transpose", part, perm=[0, 2, 1]) for part in parts]
            prior = g.op("Reshape", g.op("Concat", *parts, axis=1), g.ints([1, 2, -1]))
        elif self.order != "cells":
            prior = self._reordered(g, prior, x)
        return g.op("Concat", *loc, axis=1), g.op("Concat", *conf, axis=1), prior

    def _flat(self, g: Emitter, x: Tensor, each: int, offsets: bool) -> Tensor:
        """Return (N, boxes each) with each box's numbers together."""
        if self.order == "maps" and offsets:  # ratios, sets, coordinates, cells
            x = g.op("Reshape", x, g.ints([0, x.shape[1] // (4 * self.located), self.located, 4, -1]))
            x = g.op("Transpose", x, perm=[0, 1, 4, 2, 3])
        elif self.order != "cells":
            x = g.op("Transpose", g.op("Reshape", x, g.ints([0, each, -1])), perm=[0, 2, 1])
        return g.op("Flatten", x, axis=1)

    def _reordered(self, g: Emitter, prior: Tensor, x: Sequence[Tensor]) -> Tensor:
        """Return the corners of all maps' boxes by ratio, then by cell; their variances stay."""
        places, start = [], 0
        for bottom in x:
            for axis in range(1, bottom.rank):
                bottom.static(axis)
        for ratios, cells in self.boxes([bottom.shape for bottom in x]):
            places += [start + cell * ratios + ratio for ratio in range(ratios) for cell in range(cells)]
            start += ratios * cells
        rows = g.op("Reshape", prior, g.ints([1, 2, -1, 4]))
        corners, variances = g.split(rows, 1, [1, 1], 2)
        corners = g.op("Gather", corners, g.ints(places), axis=2)
        return g.op("Reshape", g.op("Concat", corners, variances, axis=1), g.ints([1, 2, -1]))
