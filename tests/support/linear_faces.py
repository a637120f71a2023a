"""The smallest face net, feature = W vec(x) + b, so that a test can say in NumPy what its features are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import caffeport
import numpy as np

from support import nets

HEIGHT, WIDTH, FEATURES = 4, 3, 5


@dataclass
class LinearFaces:
    prototxt: Path
    caffemodel: Path
    weight: np.ndarray
    bias: np.ndarray

    def feature(self, x: np.ndarray) -> np.ndarray:
        """(D,) float64 of one input (C, H, W), as the net takes it."""
        return self.weight @ x.reshape(-1).astype(np.float64) + self.bias

    def onnx(self, path: Path, **options: object) -> Path:
        caffeport.load(self.prototxt, self.caffemodel).to_onnx(path, **options)
        return path


def linear_faces(folder: Path, channels: int = 3, text: str | None = None, name: str = "face") -> LinearFaces:
    """Write its files. text: a whole prototxt with an InnerProduct called fc instead."""
    text = text or nets.inputs(data=(1, channels, HEIGHT, WIDTH)) + nets.inner_product("data", "fc", FEATURES)
    net = caffeport.load(nets.write(folder, text, f"{name}.prototxt"))
    net.save(folder / f"{name}.caffemodel")
    weight, bias = (np.array(param.data, np.float64) for param in net.layer("fc").params)
    return LinearFaces(folder / f"{name}.prototxt", folder / f"{name}.caffemodel", weight, bias)


class Faces:
    """A source in memory: ``read`` gives random pixels of its own number, or raises what ``broken`` has for it."""

    labels = None

    def __init__(self, count: int, channels: int = 3, broken: dict[int, Exception] | None = None) -> None:
        self.names = [f"{number}.png" for number in range(count)]
        self.pixels = [
            np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
            for number in range(count)
        ]
        self._broken = broken or {}

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> np.ndarray:
        if index in self._broken:
            raise self._broken[index]
        return self.pixels[index]
