"""The identity that a threshold belongs to: a model's weights, by value, and all that is done to a face on the way.

Two things have to agree, since either alone could be deceived. The *weights*: a hash of the numbers that the feature
depends on, in the order in which the graph reads them; names, opset, axes and metadata do not count, so that an ONNX
file is known by its content and by nothing that it says of itself. And the *probe*: the features of three made-up
images, by all of the model and its preprocessing, which differ wherever the graph or an attribute does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.lazy import require

from ..preprocessing import Preprocessing
from .own_preprocessing import Inside

PROBED = 16
"""Numbers of each probe's feature that are kept, at unit length."""
PROBE_DECIMALS, PROBE_TOLERANCE = 4, 1e-3
"""Processors differ by 1e-5, and an accelerator's shorter floats by a few 1e-4."""
LARGEST = 1 << 30
"""Bytes of an ONNX file that is read for its hash."""


@dataclass(frozen=True)
class ModelIdentity:
    """weights: SHA-256 by value; several of a Caffe net, which is exported folded or not, one of an ONNX file.

    preprocessing: what is done to images in all, before the model and within it, the size being the net's.
    probe: (3, PROBED or fewer).
    """

    weights: tuple[str, ...]
    preprocessing: Preprocessing
    mirror: str
    probe: tuple[tuple[float, ...], ...]

    def differences(self, other: ModelIdentity) -> list[str]:
        """Return in words how ``other`` is another model than this one; [] where this one's threshold holds for it."""
        words = []
        if not set(self.weights) & set(other.weights):
            return ["its weights are others"]
        for name in ("mean", "scale", "rgb", "fit", "size"):
            measured, given = getattr(self.preprocessing, name), getattr(other.preprocessing, name)
            if not _same(measured, given):
                words.append(f"{name} {_shown(measured)} there, {_shown(given)} here")
        if self.mirror != other.mirror:
            words.append(f"mirror {self.mirror} there, {other.mirror} here")
        if not words and not self._probes_as(other):
            words.append("the features of test images are others")
        return words

    def _probes_as(self, other: ModelIdentity) -> bool:
        mine, its = np.asarray(self.probe), np.asarray(other.probe)
        return mine.shape == its.shape and bool((np.abs(mine - its) <= PROBE_TOLERANCE).all())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON or TOML take it."""
        before = self.preprocessing
        return {
            "weights": list(self.weights),
            "mirror": self.mirror,
            "probe": [list(row) for row in self.probe],
            "preprocessing": {
                "mean": list(before.mean),
                "scale": before.scale,
                "rgb": before.rgb,
                "fit": before.fit,
                "size": list(before.size or ()),
            },
        }

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> ModelIdentity:
        """Raises KeyError, TypeError or ValueError for what is none; to be called within ``reading.parsing``."""
        before = content["preprocessing"]
        height, width = (int(side) for side in before["size"])
        mean = tuple(float(number) for number in before["mean"])
        preprocessing = Preprocessing(
            mean, float(before["scale"]), bool(before["rgb"]), str(before["fit"]), (height, width)
        )
        probe = tuple(tuple(float(number) for number in row) for row in content["probe"])
        weights = tuple(str(digest) for digest in content["weights"])
        if not weights or not probe or not all(probe):
            raise ValueError("its weights or probe are empty")
        return ModelIdentity(weights, preprocessing, str(content["mirror"]), probe)


def identity_of(extractor: Any) -> ModelIdentity | None:
    """Return that of an Extractor; None where the model is too large, or its preprocessing is not in numbers."""
    whole = in_all(extractor.preprocessing, extractor.inside, extractor.size)
    weights = extractor.weight_digests()
    if whole is None or not weights:
        return None
    features = extractor.features_of(probe_images(extractor.size, 3 if extractor.color else 1))
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    if not np.isfinite(features).all() or not lengths.all():
        return None
    probes = np.round((features / lengths)[:, :PROBED].astype(np.float64), PROBE_DECIMALS) + 0.0  # no minus zero
    return ModelIdentity(weights, whole, extractor.mirror, tuple(tuple(row) for row in probes.tolist()))


def in_all(before: Preprocessing, inside: Inside | None, size: tuple[int, int]) -> Preprocessing | None:
    """Return what is done before the model and within it, as one; None where the model subtracts a mean image."""
    if inside is None:
        return before.with_options(size=size)
    if inside.mean is None:
        return None
    return Preprocessing(inside.mean, inside.scale, before.rgb != inside.rgb, before.fit, size)


def probe_images(size: tuple[int, int], channels: int) -> list[np.ndarray]:
    """Three images of whole numbers, the same everywhere: slopes, a moiré, a chessboard."""
    y, x, channel = np.ogrid[: size[0], : size[1], :channels]
    planes = (3 * x + 5 * y + 50 * channel, x * y + 85 * channel, 255 * ((x // 8 + y // 8 + channel) % 2))
    return [(image % 256).astype(np.uint8) for image in planes]


def onnx_digest(path: str | Path, output: str, inside: Inside | None) -> str:
    """SHA-256 of the floating point numbers that ``output`` depends on; "" where the file is too large.

    Left out are the mean and scale of ``inside`` at the front, where the graph has just those numbers.
    """
    if Path(path).stat().st_size > LARGEST:
        return ""
    onnx = require("onnx")
    graph = onnx.load(str(path)).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    folded = _front(onnx, graph, stored, inside)
    digest = hashlib.sha256()
    for node in _needed(graph, output):
        for tensor in _tensors(node, stored):
            if tensor.name in folded or tensor.data_type not in _floats(onnx):
                continue
            numbers = onnx.numpy_helper.to_array(tensor)
            digest.update(f"{numbers.dtype.name} {numbers.size}\n".encode())
            digest.update(np.ascontiguousarray(numbers).tobytes())
    return digest.hexdigest()


def _needed(graph: Any, output: str) -> list[Any]:
    """The nodes that ``output`` depends on, in the graph's order."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    waiting, needed = [output], set()
    while waiting:
        number = makers.get(waiting.pop())
        if number is not None and number not in needed:
            needed.add(number)
            waiting += _reads(graph.node[number])
    return [graph.node[number] for number in sorted(needed)]


def _reads(node: Any) -> list[str]:
    inner = [one for attribute in node.attribute for graph in (attribute.g, *attribute.graphs) for one in graph.node]
    return [*node.input, *(name for one in inner for name in _reads(one))]


def _tensors(node: Any, stored: Mapping[str, Any]) -> Iterator[Any]:
    """Those that a node reads or holds, the graphs within it included; one that two nodes read comes twice."""
    yield from (stored[name] for name in node.input if name in stored)
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        for graph in (attribute.g, *attribute.graphs):
            yield from graph.initializer
            for inner in graph.node:
                yield from _tensors(inner, stored)


def _front(onnx: Any, graph: Any, stored: Mapping[str, Any], inside: Inside | None) -> set[str]:
    """The names of the mean and the scale at the image's entry, where they are those of ``inside``."""
    if inside is None or inside.mean is None:
        return set()
    expected = {"Sub": np.array(inside.mean, np.float32), "Mul": np.array([inside.scale], np.float32)}
    names: set[str] = set()
    value = next((one.name for one in graph.input if one.name not in stored), "")
    while True:
        readers = [node for node in graph.node if value in node.input]
        if len(readers) != 1 or readers[0].op_type not in ("Identity", "Cast", "Slice", *expected):
            return names
        (reader,) = readers
        for name in reader.input[1:]:
            if reader.op_type in expected and name in stored:
                numbers = onnx.numpy_helper.to_array(stored[name]).reshape(-1)
                if np.array_equal(numbers, expected.pop(reader.op_type)):
                    names.add(name)
        value = reader.output[0]


def _floats(onnx: Any) -> set[int]:
    kinds = onnx.TensorProto
    return {kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16, kinds.BFLOAT16}


def _same(measured: Any, given: Any) -> bool:
    """Equal, numbers as the single precision in which they are applied; a mean for all channels is one for each."""
    if isinstance(measured, tuple) and isinstance(given, tuple):
        width = max(len(measured), len(given))
        return all(_same(a, b) for a, b in zip(_widened(measured, width), _widened(given, width), strict=True))
    if isinstance(measured, float):
        return bool(np.float32(measured) == np.float32(given))
    return bool(measured == given)


def _widened(numbers: tuple[Any, ...], width: int) -> tuple[Any, ...]:
    return numbers * width if len(numbers) == 1 else numbers


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{number:g}" for number in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
