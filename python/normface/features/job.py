"""Extracting a whole data set into a file, so that a run which is stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, NormfaceError
from .extractor import Extractor, title_of
from .feature_set import Features
from .features import checked_target, save_features
from .part import Part


@dataclass
class Outcome:
    """The outcome of a job: ``skipped`` has (name, why) of every image without a feature."""

    features: Features
    skipped: list[tuple[str, str]]
    continued_from: int


def extract_to(
    path: str | Path, extractor: Extractor, images: Any, *, bad: str = "stop", progress: bool = True
) -> Outcome:
    """Write the features of ``images`` to ``path`` (.npz or .parquet).

    Until they are complete they lie in ``<path>.part``; the same call continues there, another model, other settings
    or other images start anew. bad: "stop" or "skip" at an image without a feature; after a stop, "skip" goes on.

    Raises DataError for such an image, or where no image at all has a feature.
    """
    path = checked_target(path)
    if bad not in ("stop", "skip"):
        raise NormfaceError(f'bad "{bad}" is unknown; known: stop, skip')
    if not len(images):
        raise DataError("there are no images to take features of")
    with Part(path.with_name(path.name + ".part"), _key(extractor, images), extractor.dimension) as part:
        if bad == "stop" and part.skipped:  # an earlier run was to skip them
            raise DataError(f"{part.skipped[0][1]} (an earlier run skipped it; skip again, or delete {path}.part)")
        start = part.done
        for fate, features in extractor.batches(images, progress=progress, start=start, bad=bad):
            part.sizes |= extractor.image_sizes
            part.add(fate, features)
        rows = part.kept()
        if not len(rows):
            raise DataError(f"none of the {len(images)} images has a feature; the first: {part.skipped[0][1]}")
        # Weights that were exchanged meanwhile do no harm: the probe is of those that have been at work.
        identity = extractor.identity
        settings = dict(extractor.settings)
        if len(part.sizes) == 1:
            settings["face"] = list(*part.sizes)
        if identity is not None:
            settings["identity"] = identity.to_dict()
        result = Features(
            part.rows(),
            [images.names[index] for index in rows],
            None if images.labels is None else np.asarray(images.labels)[rows],
            None if images.labels is None else list(images.identities),
            settings,
        )
        save_features(path, result)
        part.remove()
    return Outcome(result, [(images.names[index], why) for index, why in part.skipped], start)


def _key(extractor: Extractor, images: Any) -> str:
    """Changes with the model's files, the settings, and the images: their names and, where they are files, those."""
    digest = hashlib.sha256(json.dumps([extractor.settings, extractor.batch_size], sort_keys=True).encode())
    source = getattr(images, "path", None)
    files = [extractor.settings["model"], extractor.settings["weights"], *([] if source is None else [source])]
    for file in files:
        digest.update(_state(file))
    for index in range(len(images)):
        digest.update(_state(title_of(images, index)))
    return digest.hexdigest()


def _state(path: str | Path | None) -> bytes:
    """A path with its file's size and time; a folder's time changes with work in it, and so does not count."""
    name = os.fsencode(str(path)) + b"\0"
    try:
        status = os.stat(path or "")
    except (OSError, ValueError):  # no file: a member of an archive, say
        return name
    return name + f"{status.st_size} {status.st_mtime_ns} ".encode() if stat.S_ISREG(status.st_mode) else name
