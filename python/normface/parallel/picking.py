"""Rows of tensors that lie in pieces in a checkpoint's safetensors files, read by their numbers alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

AT_ONCE = 1 << 16
"""Rows that are read at once."""


class Stored:
    """The tensors of a checkpoint's folder, each in pieces that begin at an offset of the whole."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        self._files = [safe_open(str(path), framework="pt") for path in sorted(folder.glob("*.safetensors"))]

    def _pieces(self, name: str) -> Iterator[tuple[Any, list[int]]]:
        for file in self._files:
            if name in file.keys():  # noqa: SIM118 - it is no dict
                offsets = json.loads((file.metadata() or {}).get("DCP_SHARDING_INFO", "{}")).get(name, {})
                piece = file.get_slice(name)
                yield piece, offsets.get("saved_offsets", [0] * len(piece.get_shape()))

    def whole(self, name: str) -> Tensor:
        """Return a tensor that is in one piece. Raises KeyError where there is none."""
        for file in self._files:
            if name in file.keys():  # noqa: SIM118
                tensor: Tensor = file.get_tensor(name)
                return tensor
        raise KeyError(name)

    def rows(self, name: str, places: Tensor, prefix: tuple[int, ...]) -> Tensor:
        """Return the rows at ``places`` (n,), in their order, of the part [prefix] of a tensor."""
        rows: Tensor | None = None
        missing = torch.ones(len(places), dtype=torch.bool)
        for piece, offsets in self._pieces(name):
            axis, shape = len(prefix), piece.get_shape()
            rows = torch.empty([len(places), *shape[axis + 1 :]]) if rows is None else rows
            for first in range(0, shape[axis], AT_ONCE):
                last = min(first + AT_ONCE, shape[axis])
                start = offsets[axis] + first
                wanted = ((places >= start) & (places < start + last - first)).nonzero()[:, 0]
                if len(wanted):
                    at = (*prefix, slice(first, last))
                    block = piece[at]
                    rows = rows.to(block.dtype)
                    rows[wanted] = block[places[wanted] - start]
                    missing[wanted] = False
        if rows is None or missing.any():
            raise KeyError(name)
        return rows
