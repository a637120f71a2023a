"""Images to features: read, prepared, run in batches on all cores, mirror images merged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.cores import usable_cores
from caffeport.operators.custom import CustomLayers

from .. import model_folder
from ..errors import DataError, NormfaceError
from ..inference import choose
from ..progress import progress as progress_bar
from . import mirror as mirroring
from .identity import ModelIdentity, identity_of
from .own_preprocessing import OwnPreprocessing, resolve
from .pipeline import pipelined
from .session import FeatureSession

BATCH_SIZES = {"cpu": 4, "cuda": 64}
"""The batch size by device. On a CPU every core has a batch of its own, and a small one stays in its cache."""
MOST_THREADS = 16
"""Unless told otherwise: each batch in work takes memory."""
READERS = 4
"""Threads that read and decode, beside those that run the model; a file may take its time to come."""


class Extractor:
    """A model with its preprocessing: uint8 images in, float32 features out.

    model, weights: an ``.onnx`` file, a prototxt and its caffemodel (converted on the fly), or the folder of a
        finetuned model, whose config.json says the preprocessing.
    preset: of normface.preprocessing.PRESETS; mean, scale, rgb, fit and size replace what it says. Without any
        of them the model's own is used: a transform_param, or what caffeport noted in the ONNX file.
    mirror: none, sum, max or concat; see normface.features.mirror.
    output: the blob of the feature, where the model has several outputs or ends elsewhere.
    batch_size: images of a run, None: as suits the device; a model of a fixed batch size has its own.
    custom_layers: operators of your own for a Caffe net, as of caffeport.load.
    threads: batches that run at the same time on a CPU, None: one a core.
    runtime, device: what runs the model, see normface.inference.choose; by default the fastest that there is.

    inside: what the model itself does to its images first, None where that is nothing.
    runtime: what runs the model, and on what, in words.
    size: (H, W) of the net's images.
    color: whether it takes three channels.
    dimension: numbers of a feature.
    image_sizes: (H, W) of the images of the last ``batches``, as they were read.
    settings: all of that as plain values, as it is stored with the features.

    Raises NormfaceError where the model is no net from one image to one vector, or its preprocessing is unknown.
    """

    def __init__(
        self,
        model: str | Path,
        weights: str | Path | None = None,
        *,
        preset: str | None = None,
        mean: float | Sequence[float] | None = None,
        scale: float | None = None,
        rgb: bool | None = None,
        fit: str | None = None,
        size: tuple[int, int] | None = None,
        mirror: str = "none",
        output: str | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
        device: str = "auto",
        runtime: str = "auto",
        custom_layers: CustomLayers = (),
    ) -> None:
        self.mirror = mirroring.checked(mirror)
        for name, number in (("batch size", batch_size), ("threads", threads)):
            if number is not None and number < 1:
                raise NormfaceError(f"{name} {number}: expected 1 or more")
        folder = model_folder.read(model) if os.path.isdir(model) else None
        if folder is not None and weights is not None:
            raise NormfaceError(f"{model}: is a folder with a model's weights; leave {weights} out")
        model = model if folder is None else folder.onnx
        choice = choose(runtime, device, caffe=Path(model).suffix.lower() != ".onnx")
        self.threads = (threads or min(usable_cores(), MOST_THREADS)) if choice.device == "cpu" else 1
        self._session = FeatureSession(model, weights, output, choice, custom_layers, self.threads)
        self.runtime = self._session.runtime
        if folder is not None:
            self._session.own = OwnPreprocessing(folder.preprocessing)
        options: dict[str, Any] = {"scale": scale, "rgb": rgb, "fit": fit, "size": size}
        options["mean"] = None if mean is None else tuple(np.asarray(mean, float).reshape(-1).tolist())
        self.preprocessing = resolve(self._session.own, preset, options, self._session.title)
        self.inside = None if self._session.own is None else self._session.own.inside
        self.image_sizes: set[tuple[int, int]] = set()
        self.color = self._session.channels == 3
        self._check_channels()
        self.size = self._image_size(size)
        self.batch_size = self._session.batch or batch_size or BATCH_SIZES[choice.device]
        dimension = self._session.dimension(self.size, self.batch_size if self._session.compiles else 2)
        self.dimension = 2 * dimension if mirror == "concat" else dimension
        self.settings: dict[str, Any] = {
            "model": str(model),
            "weights": None if weights is None else str(weights),
            "output": output,
            "mirror": mirror,
            "mean": list(self.preprocessing.mean),
            "scale": self.preprocessing.scale,
            "rgb": self.preprocessing.rgb,
            "fit": self.preprocessing.fit,
            "size": list(self.size),
        }

    def __repr__(self) -> str:
        """Return what it takes, what it does to it and what it gives, in one line."""
        height, width = self.size
        channels = "grey" if not self.color else "RGB" if self.preprocessing.rgb else "BGR"
        inside = "" if self.inside is None else ", the rest inside the model"
        return (
            f"Extractor({str(self.settings['model'])!r}: {height}x{width} {channels}, {self.preprocessing.formula()}"
            f"{inside} -> {self.dimension} numbers, mirror {self.mirror})"
        )

    @cached_property
    def identity(self) -> ModelIdentity | None:
        """Return the identity that a threshold measured with this extractor belongs to: features.identity."""
        return identity_of(self)

    def weight_digests(self) -> tuple[str, ...]:
        """Return the SHA-256 of the weights that the feature depends on, by value."""
        return self._session.weight_digests()

    def features_of(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features, (N, D) float32, of decoded images, uint8 (H, W, C) in BGR each."""
        rows = np.empty((len(images), self.dimension), np.float32)
        for start in range(0, len(images), self.batch_size):
            part = [self._prepared(image, "an image") for image in images[start : start + self.batch_size]]
            rows[start : start + len(part)] = self._infer(part)
        if not len(rows):
            raise NormfaceError("no images to take features of")
        return rows

    def features(self, images: Any, *, progress: bool = False, start: int = 0) -> np.ndarray:
        """Return the features, (N - start, D) float32, of a normface.data source from image ``start`` on.

        Raises DataError at an image that cannot be read.
        """
        if len(images) <= start:
            raise NormfaceError("no images to take features of")
        rows = np.empty((len(images) - start, self.dimension), np.float32)
        row = 0
        for _, features in self.batches(images, progress=progress, start=start):
            rows[row : row + len(features)] = features
            row += len(features)
        return rows

    def batches(
        self, images: Any, *, progress: bool = False, start: int = 0, bad: str = "stop"
    ) -> Iterator[tuple[list[int | DataError], np.ndarray]]:
        """Yield for every batch, in order, what became of each image, and the features (n, D) of those that have them.

        What became of an image: its index, or with ``bad="skip"`` the DataError that says why it has no feature: it
        cannot be read, or the model makes no number (NaN, infinity) of it. With "stop" that is raised.
        """
        chunks = [
            range(first, min(first + self.batch_size, len(images)))
            for first in range(start, len(images), self.batch_size)
        ]

        self.image_sizes = set()

        def read(index: int) -> np.ndarray | DataError:
            try:
                image = images.read(index)
                prepared = self._prepared(image, title_of(images, index))
                self.image_sizes.add(image.shape[:2])
                return prepared
            except DataError as error:
                return error

        def work(chunk: Sequence[int], loaded: list[np.ndarray | DataError]) -> Any:
            return self._batch(images, chunk, loaded)

        display = progress_bar("features", len(images), start) if progress else nullcontext()
        with display as bar, closing(pipelined(chunks, read, work, READERS, self.threads)) as results:
            for fate, features in results:
                errors = [entry for entry in fate if isinstance(entry, DataError)]
                if errors and bad == "stop":
                    raise errors[0]
                yield fate, features
                if bar is not None:
                    bar.advance(len(fate))

    def _batch(self, images: Any, chunk: Sequence[int], loaded: list[Any]) -> tuple[list[int | DataError], np.ndarray]:
        fate = [entry if isinstance(entry, DataError) else i for i, entry in zip(chunk, loaded, strict=True)]
        ready = [entry for entry in loaded if not isinstance(entry, DataError)]
        if not ready:
            return fate, np.empty((0, self.dimension), np.float32)
        features = self._infer(ready)
        finite = np.isfinite(features).all(axis=1)
        if finite.all():
            return fate, features
        rows = iter(finite.tolist())
        for place, index in enumerate(chunk):
            if isinstance(fate[place], int) and not next(rows):
                fate[place] = DataError(f"{title_of(images, index)}: the model's feature of it is not finite")
        return fate, features[finite]

    def _prepared(self, image: np.ndarray, name: str) -> np.ndarray:
        channels = 3 if self.color else 1
        if image.ndim != 3 or image.shape[2] != channels or image.dtype != np.uint8:
            shape = f"{'x'.join(map(str, image.shape))} {image.dtype}"
            raise DataError(f"{name}: is {shape}; expected HxWx{channels} uint8, as the net takes {channels} channels")
        return self.preprocessing.fitted(image, self.size, name)

    def _infer(self, images: list[np.ndarray]) -> np.ndarray:
        batch = self.preprocessing.batch(images)
        front = self._run(batch)
        if self.mirror == "none":
            return front
        return mirroring.merged(front, self._run(np.ascontiguousarray(batch[..., ::-1])), self.mirror)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        whole = self._session.batch or (self.batch_size if self._session.compiles else len(batch))
        missing = whole - len(batch)
        if missing > 0:  # a model of a fixed batch size, or a runtime that would prepare itself for another one
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            return self._session.run(batch)[:-missing]
        return self._session.run(batch)

    def _check_channels(self) -> None:
        channels = self._session.channels
        if len(self.preprocessing.mean) not in (1, channels):
            raise NormfaceError(
                f"mean: has {len(self.preprocessing.mean)} numbers, and the net's images have {channels} channels"
            )
        if self.preprocessing.rgb and not self.color:
            raise NormfaceError("rgb: needs a net that takes 3 channels; this one takes grey images")

    def _image_size(self, told: tuple[int, int] | None) -> tuple[int, int]:
        fixed = self._session.size
        if fixed is not None:
            if told is not None and tuple(told) != fixed:
                raise NormfaceError(f"{self._session.title}: takes images of {fixed[0]}x{fixed[1]} only; not --size")
            return fixed
        size = told or self._session.declared or self.preprocessing.size
        if size is None:
            raise NormfaceError(f"{self._session.title}: takes images of any size; say which (--size HxW)")
        return size[0], size[1]


def title_of(images: Any, index: int) -> str:
    """An image as messages name it; sources made elsewhere may have names only."""
    return images.title(index) if hasattr(images, "title") else images.names[index]
