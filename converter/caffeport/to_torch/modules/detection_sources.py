"""The bottoms in which DetectionOutput's numbers come (see caffeport.operators.detection_sources)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ...operators.detection_sources import Sources


def in_order(sources: Sources, bottoms: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return offsets (N, 4 P), scores (N, P C) and priors (1, 2, 4 P) in SSD's order."""
    if not sources.maps:
        return bottoms[0], bottoms[1], bottoms[2]
    named: dict[str, list[Tensor]] = {"conf": [], "loc": [], "prior": [], "more": []}
    for index, bottom in enumerate(bottoms):
        named[sources.role(index)].append(bottom)
    loc = torch.cat([_flat(sources, part, 4, True) for part in named["loc"]], 1)
    conf = torch.cat([_flat(sources, part, sources.classes, False) for part in named["conf"]], 1)
    if sources.order == "ratios" and sources.priors > 1:
        parts = [part.reshape(2, 4, -1).transpose(1, 2) for part in named["prior"]]
        return loc, conf, torch.cat(parts, 1).reshape(1, 2, -1)
    prior = torch.cat(named["prior"], 2)
    if sources.order == "cells":
        return loc, conf, prior
    corners, variances = prior.reshape(2, -1, 4)
    parts, start = [], 0
    for ratios, cells in sources.boxes([tuple(bottom.shape) for bottom in bottoms]):
        part = corners[start : start + ratios * cells].reshape(cells, ratios, 4)
        parts.append(part.transpose(0, 1).reshape(-1, 4))
        start += ratios * cells
    return loc, conf, torch.stack([torch.cat(parts), variances]).reshape(1, 2, -1)


def _flat(sources: Sources, x: Tensor, each: int, offsets: bool) -> Tensor:
    """Return (N, boxes each) with each box's numbers together."""
    if sources.order == "maps" and offsets:  # ratios, sets, coordinates, cells
        x = x.reshape(len(x), x.shape[1] // (4 * sources.located), sources.located, 4, -1).permute(0, 1, 4, 2, 3)
    elif sources.order != "cells":
        x = x.reshape(len(x), each, -1).transpose(1, 2)
    return x.reshape(len(x), -1)
