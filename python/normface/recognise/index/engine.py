"""faiss, and what both kinds of index do with it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ...errors import MissingDependencyError


class Engine(Protocol):
    """The search of one piece of an index. ``effort``: what a search looks at, the more the slower and the surer."""

    most_effort: int

    def search(self, probes: np.ndarray, count: int, effort: int) -> tuple[np.ndarray, np.ndarray]:
        """(scores, rows), (N, count) each, that seem nearest to unit probes (N, D); -1 where there are fewer."""
        ...


def faiss() -> Any:
    """Return the module. Raises MissingDependencyError with the line that installs it."""
    try:
        import faiss as module
    except ImportError as error:
        raise MissingDependencyError("an index needs faiss: pip install faiss-cpu") from error
    return module


def units(features: np.ndarray) -> np.ndarray:
    """Return the rows (N, D) at length 1 as float32; a zero row stays zero."""
    rows = np.asarray(features, np.float32)
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0).astype(np.float32)
    return np.ascontiguousarray(rows * inverse[:, None])
