"""OpenCV's dnn on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..lazy import require
from .model_file import ModelFile


class OpenCv:
    """A net of OpenCV's dnn; the number of threads is OpenCV's own, of the whole process."""

    about = ""

    def __init__(self, file: ModelFile, threads: int) -> None:
        cv2 = require("cv2")
        cv2.setNumThreads(threads)
        self._net: Any = cv2.dnn.readNetFromONNX(str(file.path))
        self._outputs = [port.name for port in file.outputs]

    def run(self, arrays: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        for name, array in arrays.items():
            self._net.setInput(array, name)
        return self._net.forward(self._outputs)


def start(file: ModelFile, threads: int, net: Any = None) -> OpenCv:
    return OpenCv(file, threads)
