"""The inputs that a file of fewer bits is measured on: images from a folder, a zip or a list, or arrays.

Images come to the net as they do at work: at its size (resized), as pixels from 0 to 255 where the file does the
preprocessing itself, else by the transform that the net's text gives.
"""

from __future__ import annotations

import functools
import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError, shape_text
from ..formats.other_files import misplaced, substitute_of_file
from ..graph.layer import Value
from ..graph.net import Net
from ..graph.preprocessing import Preprocessing
from ..parity.inputs import load_arrays
from ..pixels import decoded

MOST = 128
"""Images that are measured; of more, as many at equal distances are taken."""
RANDOM = 4
"""Runs on random numbers, where no inputs are given."""
HELD = 512 << 20
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
LARGEST = 256 << 20
"""Bytes of one encoded image."""

Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Images:
    """A folder, zip or list of images, or one image; ``rgb`` says that the file takes RGB, not Caffe's BGR."""

    path: Path
    rgb: bool = False


class Feeds(Sequence[Feed]):
    """{input: array} for one run after another, made when it is asked for; ``what`` says of what, for people.

    Those that fit into HELD bytes together are made once.
    """

    def __init__(self, count: int, make: Any, what: str) -> None:
        self._count, self.what = count, what
        first = make(0)
        size = count * sum(array.nbytes for array in first.values())
        self._make = functools.cache(make) if size <= HELD else make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._make(index)

    def __iter__(self) -> Iterator[Feed]:
        return (self._make(index) for index in range(self._count))

    def sha256(self) -> str:
        """SHA-256 of all numbers, in their order."""
        digest = hashlib.sha256()
        for feed in self:
            for name in sorted(feed):
                digest.update(name.encode() + b"\0" + np.ascontiguousarray(feed[name], "<f4").tobytes())
        return digest.hexdigest()


def feeds_of(
    source: str | Path | Images | Mapping[str, np.ndarray] | None,
    net: Net,
    inputs: Mapping[str, Value],
    front: Preprocessing | None,
    fixed_batch: bool,
    rgb: bool = False,
) -> Feeds:
    """Return what to run the file on, whose ``inputs`` {name: the net's} have ``front`` before them.

    source: images; an .npz or {input: (N, ...)} of what the file itself takes; None for random numbers, which are
        pixels where the file takes pixels.
    fixed_batch: whether the file takes the declared batch alone; else one image a run.

    Raises CaffeportError for what does not fit the inputs.
    """
    if not inputs:
        raise CaffeportError("the file has no input, so there is nothing to measure")
    pixels = net.input_values[front.index] if front is not None else None
    if source is None:
        return _random(net, inputs, pixels, fixed_batch)
    if isinstance(source, Mapping):
        return _arrays(source, inputs, fixed_batch, "the arrays given")
    images = source if isinstance(source, Images) else Images(Path(source), rgb)
    if images.path.suffix.lower() in (".npz", ".npy"):
        return _arrays(load_arrays(images.path), inputs, fixed_batch, str(images.path))
    return _images(images, net, inputs, pixels, fixed_batch)


def _random(net: Net, inputs: Mapping[str, Value], pixels: Value | None, fixed_batch: bool) -> Feeds:
    def make(index: int) -> Feed:
        samples = net.sample_inputs(index)
        feed = {}
        for name, value in inputs.items():
            sample = samples[value.name]
            if value is pixels:
                sample = np.random.default_rng(index).integers(0, 256, value.shape).astype(np.float32)
            feed[name] = sample if fixed_batch or value.shape[0] != _batch(inputs) else sample[:1]
        return feed

    return Feeds(RANDOM, make, f"{RANDOM} random inputs")


def _batch(inputs: Mapping[str, Value]) -> int:
    """The declared batch: the first axis of the first input."""
    shape = next(iter(inputs.values())).shape
    return shape[0] if shape else 1


def _arrays(given: Mapping[str, np.ndarray], inputs: Mapping[str, Value], fixed_batch: bool, title: str) -> Feeds:
    if "" in given and len(inputs) == 1:
        given = {next(iter(inputs)): given[""]}
    arrays = {}
    for name, value in inputs.items():
        if name not in given:
            raise CaffeportError(f'{title}: has nothing for the input "{name}"; it has {", ".join(given) or "nothing"}')
        arrays[name] = array = np.asarray(given[name], np.float32)
        if array.ndim != len(value.shape) or array.shape[1:] != value.shape[1:] or not array.size:
            raise CaffeportError(
                f'{title}: "{name}" is {shape_text(array.shape)}; expected {shape_text(("N", *value.shape[1:]))}'  # type: ignore[arg-type]
            )
        if not np.isfinite(array).all():
            raise CaffeportError(f'{title}: "{name}" has numbers that are not finite')
    batches = [value.shape[0] if fixed_batch else 1 for value in inputs.values()]
    lengths = {len(array) // batch for array, batch in zip(arrays.values(), batches, strict=True)}
    if len(lengths) > 1 or min(lengths) < 1:
        raise CaffeportError(f"{title}: expected as many rows of every input, at least one batch of them")
    count = min(lengths)
    chosen = spread(count)

    def make(index: int) -> Feed:
        feed = {}
        for (name, array), batch in zip(arrays.items(), batches, strict=True):
            start = chosen[index] * batch
            feed[name] = np.ascontiguousarray(array[start : start + batch])
        return feed

    return Feeds(len(chosen), make, f"{len(chosen)} inputs of {title}")


def _images(images: Images, net: Net, inputs: Mapping[str, Value], pixels: Value | None, fixed_batch: bool) -> Feeds:
    name, value = next(iter(inputs.items()))
    if len(inputs) != 1 or len(value.shape) != 4 or value.shape[1] not in (1, 3):
        shapes = ", ".join(f"{one} {shape_text(other.shape)}" for one, other in inputs.items())
        raise CaffeportError(
            f"{images.path}: images fit a net with one image input of 1 or 3 channels; this file takes {shapes}: "
            "give the inputs as .npz"
        )
    mean, scale = ((0.0,), 1.0) if value is pixels else _transform(net, value, images.path)
    sources = readers(images.path)
    chosen = spread(len(sources))
    batch, channels, height, width = value.shape

    def make(index: int) -> Feed:
        title, read = sources[chosen[index]]
        image = decoded(read(), title, channels, (height, width))
        if images.rgb and channels == 3:
            image = image[::-1]
        image = (image - np.asarray(mean, np.float32).reshape(-1, 1, 1)) * np.float32(scale)
        return {name: np.ascontiguousarray(np.repeat(image[None], batch if fixed_batch else 1, 0), np.float32)}

    of = f" of {len(sources)}" if len(sources) > len(chosen) else ""
    return Feeds(len(chosen), make, f"{len(chosen)}{of} images of {images.path}")


def _transform(net: Net, value: Value, path: Path) -> tuple[tuple[float, ...], float]:
    """The mean and scale of the net's own data layer. Raises CaffeportError where nobody says what an image needs."""
    transform = net.preprocessing.get(value.name)
    if transform is None or transform.mean_file:
        raise CaffeportError(
            f"{path}: images are pixels from 0 to 255, and nothing says what the net makes of them; put it into the "
            "file (--mean, --scale, --preset; --scale 1 for pixels as they are), or give its inputs as .npz"
        )
    return tuple(transform.mean_value) or (0.0,), float(transform.scale)


def net_inputs(feeds: Feeds, inputs: Mapping[str, Value], net: Net, front: Preprocessing | None, most: int) -> Feed:
    """Return {input of the net: array} of up to ``most`` runs, as they are behind the file's preprocessing."""
    arrays = {}
    for name, value in inputs.items():
        array = np.concatenate([feeds[index][name] for index in spread(len(feeds), most)])
        behind = front is not None and value is net.input_values[front.index]
        arrays[value.name] = front.applied(array) if front is not None and behind else array
    return arrays


def spread(count: int, most: int = MOST) -> list[int]:
    """Return ``most`` numbers below ``count`` at equal distances, or all of them."""
    return list(range(count)) if count <= most else [index * count // most for index in range(most)]


def readers(path: Path) -> list[tuple[str, Any]]:
    """(title, a function that reads the bytes) of every image, in the order of their names or of the list."""
    try:
        if path.is_dir():
            names = sorted(
                os.path.join(folder, name)
                for folder, folders, files in os.walk(path)
                for name in files
                if not name.startswith(".") and name.lower().endswith(SUFFIXES)
            )
            sources = [(name, _file_reader(Path(name))) for name in names]
        elif zipfile.is_zipfile(path):
            sources = _zip_readers(path)
        elif path.suffix.lower() in SUFFIXES:
            sources = [(str(path), _file_reader(path))]
        else:
            sources = _list_readers(path)
    except OSError as error:
        raise CaffeportError(f"{path}: {error.strerror or error}") from error
    if not sources:
        raise CaffeportError(f"{path}: holds no images; expected a folder, zip or list of them, or .npz")
    return sources


def _file_reader(path: Path) -> Any:
    def read() -> bytes:
        try:
            if path.stat().st_size > LARGEST:
                raise CaffeportError(f"{path}: is larger than any image that is read ({LARGEST} bytes)")
            return path.read_bytes()
        except OSError as error:
            raise CaffeportError(f"{path}: {error.strerror or error}") from error

    return read


def _zip_readers(path: Path) -> list[tuple[str, Any]]:
    problem = "is no zip file, or is damaged"
    try:
        archive = zipfile.ZipFile(path)  # open as long as its readers are
        members = [one for one in archive.infolist() if one.filename.lower().endswith(SUFFIXES)]
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise CaffeportError(f"{path}: {problem}: {error}") from error

    def reader(member: zipfile.ZipInfo) -> Any:
        def read() -> bytes:
            if member.file_size > LARGEST:
                raise CaffeportError(f"{path}: {member.filename}: is larger than any image that is read")
            try:
                return archive.read(member)
            except Exception as error:  # zipfile, zlib and the file system each have their own
                raise CaffeportError(f"{path}: {member.filename}: cannot be read: {error}") from error

        return read

    members = sorted((one for one in members if "__MACOSX" not in one.filename), key=lambda one: one.filename)
    return [(f"{path}: {one.filename}", reader(one)) for one in members]


def _list_readers(path: Path) -> list[tuple[str, Any]]:
    """The images that a list names, ``path [label]`` on each line, relative to the list's folder."""
    substitute = substitute_of_file(path)
    if substitute is not None:
        raise CaffeportError(f"{path}: {misplaced(substitute, 'images')}")
    if path.stat().st_size > LARGEST:
        raise CaffeportError(f"{path}: is too large for a list of images")
    raw = path.read_bytes()
    if b"\0" in raw:
        raise CaffeportError(f"{path}: is no folder, zip or list of images, and no .npz")
    readers = []
    for line in os.fsdecode(raw).splitlines():
        name, _, label = line.strip().rpartition(" ")
        name = name.rstrip() if name and label.lstrip("-").isdecimal() else line.strip()
        if name:
            readers.append((str(path.parent / name), _file_reader(path.parent / name)))
    return readers
