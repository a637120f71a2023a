"""A model with its own preprocessing, by one name."""

from __future__ import annotations

from pathlib import Path

from .extractor import Extractor


def load(
    model: str | Path,
    *,
    mirror: str = "none",
    batch_size: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    runtime: str = "auto",
) -> Extractor:
    """Return the Extractor of a folder that ``normface finetune`` wrote, or of an ONNX file that notes its needs.

    The options are those of Extractor, which also takes other models, and preprocessing as options.
    Raises NormfaceError for a model that does not say what its images need.
    """
    return Extractor(model, mirror=mirror, batch_size=batch_size, threads=threads, device=device, runtime=runtime)
