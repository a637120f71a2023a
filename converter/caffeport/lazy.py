"""Modules that are imported when first used, so that reading and exporting a net never loads torch."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import MissingDependencyError

_ADVICE = {
    "torch": "install PyTorch: pip install torch",
    "onnx": "install onnx: pip install onnx",
    "onnxruntime": "install ONNX Runtime: pip install onnxruntime, or onnxruntime-gpu for CUDA",
    "cv2": "install OpenCV: pip install opencv-python; where libGL is missing, opencv-python-headless",
    "openvino": "install OpenVINO: pip install openvino",
    "tract": "install tract: pip install tract",
    "MNN": "install MNN: pip install mnn",
    "ncnn": "install ncnn: pip install ncnn pnnx",
    "safetensors": "install safetensors: pip install safetensors",
    "py_mini_racer": "install mini-racer, which draws it: pip install mini-racer",
    "shtab": "install shtab, which writes the scripts: pip install shtab",
}


class LazyModule:
    """Stands for a module; the first attribute read imports it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(require(self._name), attribute)


def require(name: str) -> Any:
    """Import a module, or raise MissingDependencyError with one line that says what to install.

    An installed library that cannot be loaded (cv2 without libGL, say) counts as missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        root = (error.name or name).partition(".")[0]
        root = root if root in _ADVICE else name.partition(".")[0]
        if root not in _ADVICE:
            raise
        raise MissingDependencyError(f"{root} cannot be imported ({error}); {_ADVICE[root]}") from error
