"""The runtimes that there are adapters for, what each is installed by, and what its errors become."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass

from ..errors import CaffeportError, MissingDependencyError, did_you_mean


class ModelRunError(CaffeportError):
    """A runtime does not open a file, or does not run it; the message names the runtime and says what it said."""


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    name: what ``--runtimes`` calls it. title: what its makers call it.
    modules: what it imports. distributions: the packages that bring them, of which one is enough.
    install: the line that installs it.
    adapter: the module beside this one that opens files with it.
    """

    name: str
    title: str
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    install: str
    adapter: str

    @property
    def missing(self) -> bool:
        """Whether a module that it needs is not installed; nothing is imported to find out."""
        return any(importlib.util.find_spec(module) is None for module in self.modules)

    @property
    def version(self) -> str:
        """The version of its package, empty where it has none."""
        for name in self.distributions:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return ""

    def require(self) -> None:
        """Raise MissingDependencyError, with the line that installs it, where it is not there."""
        if self.missing:
            raise MissingDependencyError(f"{self.title} is not installed: {self.install}")


_OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")

RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            "onnxruntime",
            "ONNX Runtime",
            ("onnxruntime",),
            ("onnxruntime", "onnxruntime-gpu"),
            "pip install onnxruntime",
            "onnx_runtime",
        ),
        Runtime("openvino", "OpenVINO", ("openvino",), ("openvino",), "pip install openvino", "openvino_runtime"),
        Runtime("opencv", "OpenCV", ("cv2",), _OPENCV, "pip install opencv-python", "opencv_runtime"),
        Runtime("torch", "PyTorch", ("torch",), ("torch",), "pip install torch", "torch_runtime"),
        Runtime("tract", "tract", ("tract",), ("tract",), "pip install tract", "tract_runtime"),
        Runtime("mnn", "MNN", ("MNN",), ("mnn",), "pip install mnn", "mnn_runtime"),
        Runtime("ncnn", "ncnn", ("ncnn", "pnnx"), ("ncnn",), "pip install ncnn pnnx", "ncnn_runtime"),
    )
}
"""Every runtime by its name, in the order in which tables show them."""


def runtime(name: str) -> Runtime:
    """Return the runtime of that name; raises CaffeportError that lists them."""
    if name not in RUNTIMES:
        raise CaffeportError(f'runtime "{name}" is unknown{did_you_mean(name, RUNTIMES)}; known: {", ".join(RUNTIMES)}')
    return RUNTIMES[name]


def installed() -> list[Runtime]:
    """Return the runtimes whose packages are there."""
    return [one for one in RUNTIMES.values() if not one.missing]
