"""The frozen part of a net: its features of all images, computed once, kept in memory and, if wanted, on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from caffeport.files import replacing_path
from torch import Tensor

from ..errors import DataError, TrainingError
from .backbone import Backbone, Trunk
from .fabric import progress_of
from .feeding import ImageSource, ahead, in_order
from .sampling import Chosen

MOST_BYTES = 16 << 30
"""The most memory that features may take; more is refused before it is computed."""


class FeatureSource:
    """Features (N, 1 or 2, ...): of the images, and of their mirror images where mirroring is on."""

    def __init__(self, features: Tensor, kept: np.ndarray) -> None:
        self._features, self._kept = features, kept

    def load(self, chosen: Chosen) -> tuple[Tensor, np.ndarray]:
        places, mirrored = chosen.places, chosen.mirrored
        readable = self._kept[places]
        return self._features[places[readable], mirrored[readable].astype(np.int64)], readable


def frozen_source(
    frozen: Trunk, source: ImageSource, backbone: Backbone, *, mirror: bool, batch_size: int, readers: int,
    cache: str | None, fabric: Any,
) -> FeatureSource:  # fmt: skip
    """The frozen part run over every image once, or read from the folder ``cache``.

    Raises DataError where the features would not fit into memory.
    """
    path = Path(cache) / f"{_mark(backbone, source, mirror)}.safetensors" if cache is not None else None
    if path is not None and path.is_file():
        return FeatureSource(_read(path, len(source)), np.ones(len(source), bool))
    features, kept = _computed(frozen, source, 2 if mirror else 1, batch_size, readers, fabric)
    if path is not None and kept.all() and fabric.is_global_zero:
        _write(path, features)
    return FeatureSource(features, kept)


def _computed(
    frozen: Trunk, source: ImageSource, ways: int, batch_size: int, readers: int, fabric: Any
) -> tuple[Tensor, np.ndarray]:
    features: Tensor | None = None
    kept_all = np.zeros(len(source), bool)
    frozen = frozen.to(fabric.device)
    with progress_of(fabric, "features of the frozen part", ways * len(source)) as bar:
        for way in range(ways):
            for chosen, inputs, kept in ahead(source, in_order(len(source), batch_size, bool(way)), readers):
                if kept.any():
                    with torch.no_grad():
                        outputs = frozen.net(inputs.to(fabric.device)).cpu()
                    if features is None:
                        features = _room(len(source), ways, tuple(outputs.shape[1:]))
                    features[torch.from_numpy(chosen.places[kept]), way] = outputs
                kept_all[chosen.places] = kept
                bar.advance(len(kept))
    if features is None:
        raise DataError(f"{source.images.path}: not one image could be read")
    return features, kept_all


def _room(images: int, ways: int, shape: tuple[int, ...]) -> Tensor:
    size = 4 * images * ways * int(np.prod(shape))
    if size > MOST_BYTES:
        raise DataError(
            f"the frozen part's features would take {size / 2**30:.0f} GB of memory; freeze up to a later, "
            "smaller blob (--freeze-to), or leave mirroring out (--no-mirror)"
        )
    return torch.zeros((images, ways, *shape))


def _mark(backbone: Backbone, source: ImageSource, mirror: bool) -> str:
    """Return a digest of what features depend on: the frozen net, preprocessing, and which images of which source."""
    assert backbone.frozen is not None
    mark = hashlib.sha256(str(backbone.frozen.message).encode())
    for param in backbone.frozen.params:
        mark.update(np.ascontiguousarray(param.data).tobytes())
    names = "\n".join(source.images.names[place] for place in source.places)
    content = (str(source.images.path.resolve()), names, repr(backbone.preprocessing), backbone.size, mirror)
    mark.update(repr(content).encode("utf-8", "surrogatepass"))
    return mark.hexdigest()[:20]


def _read(path: Path, images: int) -> Tensor:
    from safetensors.torch import load_file

    try:
        features = load_file(str(path))["features"]
    except Exception as error:  # safetensors has an exception of its own, which older versions do not export
        raise TrainingError(f"{path}: is damaged; remove it, and the features are computed again") from error
    if len(features) != images:
        raise TrainingError(f"{path}: has features of {len(features)} images, expected {images}; remove it")
    return features


def _write(path: Path, features: Tensor) -> None:
    from safetensors.torch import save_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"--feature-cache {path.parent}: {error.strerror or error}") from error
    with replacing_path(path) as temporary:
        save_file({"features": features}, str(temporary))
