"""Which runtime runs a model, and on what: as the user says, or the fastest that there is."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffeport.errors import MissingDependencyError
from caffeport.lazy import require

from ..errors import NormfaceError, did_you_mean

RUNTIMES = ("auto", "onnxruntime", "openvino", "torch")
DEVICES = ("auto", "cpu", "cuda")
_INSTALL = {"openvino": "pip install openvino", "torch": "pip install torch"}
_X86 = ("x86_64", "amd64", "x86", "i386", "i686")
_GPU = Path("/dev/nvidia0")


@dataclass(frozen=True)
class Choice:
    """runtime: "onnxruntime", "openvino" or "torch". device: "cpu" or "cuda". why: the reason, for ``auto`` alone."""

    runtime: str
    device: str
    why: str = ""


def choose(runtime: str = "auto", device: str = "auto", *, any_size: bool = False, caffe: bool = False) -> Choice:
    """Return what runs a model.

    ``auto`` takes, where there is a GPU, CUDA by ONNX Runtime whose package has it (onnxruntime-gpu), or else by
    PyTorch; without one on an x86 processor OpenVINO, where it is installed; else ONNX Runtime on the CPU. any_size:
    the images have many sizes, for each of which OpenVINO would compile anew, so that ``auto`` leaves it out. caffe:
    the model is a Caffe net, which alone PyTorch runs.

    Raises NormfaceError for unknown names and what does not go together, MissingDependencyError with the line that
    installs what is missing.
    """
    for what, name, known in (("runtime", runtime, RUNTIMES), ("device", device, DEVICES)):
        if name not in known:
            raise NormfaceError(f'{what} "{name}" is unknown{did_you_mean(name, known)}; known: {", ".join(known)}')
    if runtime in _INSTALL and importlib.util.find_spec(runtime) is None:
        raise MissingDependencyError(f"runtime {runtime}: not installed: {_INSTALL[runtime]}")
    if runtime == "openvino":
        if device == "cuda":
            raise NormfaceError(f"runtime {runtime} is for the cpu; for cuda choose onnxruntime or torch")
        return Choice(runtime, "cpu")
    if runtime == "torch":
        if device == "cuda" and not _torch_has_cuda():
            raise NormfaceError("device cuda: torch sees no GPU here, or is built for the CPU alone; choose cpu")
        return Choice(runtime, "cuda" if device != "cpu" and _torch_has_cuda() else "cpu")
    if device != "cpu" and _has_cuda():
        return Choice("onnxruntime", "cuda", "there is a GPU")
    if device != "cpu" and runtime == "auto" and caffe and _torch_has_cuda():
        return Choice("torch", "cuda", "there is a GPU, and this ONNX Runtime has no CUDA")
    if device == "cuda":
        return Choice("onnxruntime", "cuda")  # which says what it lacks
    if runtime == "auto" and not any_size and _has_openvino():
        return Choice("openvino", "cpu", "the fastest on this processor that is installed")
    return Choice("onnxruntime", "cpu")


def _has_openvino() -> bool:
    return platform.machine().lower() in _X86 and importlib.util.find_spec("openvino") is not None


def _has_gpu() -> bool:
    """Whether a GPU is there and visible."""
    return _GPU.exists() and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")


def _has_cuda() -> bool:
    """Whether there is a GPU, and ONNX Runtime's package is the one for CUDA."""
    if not _has_gpu():
        return False
    return importlib.util.find_spec("onnxruntime") is not None and "CUDAExecutionProvider" in providers_there()


def _torch_has_cuda() -> bool:
    """Whether there is a GPU that PyTorch can use; it is not imported without one."""
    if not _has_gpu() or importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def providers_there() -> list[str]:
    """The execution providers that the installed ONNX Runtime was built with."""
    runtime: Any = require("onnxruntime")
    names: list[str] = runtime.get_available_providers()
    return names
