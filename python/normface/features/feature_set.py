"""Features with the names of their images, as they are in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(repr=False)
class Features:
    """Features with the names of their images, and whose they are where that is known.

    features: float32 (N, D).
    names: the N images.
    labels, identities: int64 (N,), and the labels' names.
    settings: how the features were made.
    """

    features: np.ndarray
    names: list[str]
    labels: np.ndarray | None = None
    identities: list[str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)  # how they were made

    def __repr__(self) -> str:
        people = "" if self.identities is None else f", {len(self.identities)} identities"
        return f"Features({len(self)} images, {self.features.shape[-1]} numbers each{people})"

    def __len__(self) -> int:
        return len(self.names)

    def identity(self, row: int) -> str | None:
        """Return whose face it is, where that is known."""
        if self.labels is None or self.identities is None:
            return None
        return self.identities[int(self.labels[row])]
