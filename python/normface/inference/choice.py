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


def choose(runtime: str = "auto", device: str = "auto", *, any_size: bool = False) -> Choice:
    """Return what runs a model.

    ``auto`` takes CUDA by ONNX Runtime where its package has CUDA (onnxruntime-gpu) and there is a GPU; else on an x86
    processor OpenVINO, where it is installed; else ONNX Runtime on the CPU. any_size: the images have many sizes, for
    each of which OpenVINO would compile anew, so that ``auto`` leaves it out.

    Raises NormfaceError for unknown names and what does not go together, MissingDependencyError with the line that
    installs what is missing.
    """
    for what, name, known in (("runtime", runtime, RUNTIMES), ("device", device, DEVICES)):
        if name not in known:
            raise NormfaceError(f'{what} "{name}" is unknown{did_you_mean(name, known)}; known: {", ".join(known)}')
    if runtime in ("openvino", "torch"):
        if device == "cuda":
            raise NormfaceError(f"runtime {runtime} is for the cpu; for cuda choose onnxruntime, or leave both out")
        if importlib.util.find_spec(runtime) is None:
            raise MissingDependencyError(f"runtime {runtime}: not installed: {_INSTALL[runtime]}")
        return Choice(runtime, "cpu")
    if device == "cuda":
        return Choice("onnxruntime", "cuda")
    if device == "auto" and _has_cuda():
        return Choice("onnxruntime", "cuda", "there is a GPU")
    if runtime == "auto" and not any_size and _has_openvino():
        return Choice("openvino", "cpu", "the fastest on this processor that is installed")
    return Choice("onnxruntime", "cpu")


def _has_openvino() -> bool:
    return platform.machine().lower() in _X86 and importlib.util.find_spec("openvino") is not None


def _has_cuda() -> bool:
    """Whether ONNX Runtime's package is the one for CUDA, and a GPU is there and visible."""
    if not _GPU.exists() or os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    return importlib.util.find_spec("onnxruntime") is not None and "CUDAExecutionProvider" in providers_there()


def providers_there() -> list[str]:
    """The execution providers that the installed ONNX Runtime was built with."""
    runtime: Any = require("onnxruntime")
    names: list[str] = runtime.get_available_providers()
    return names
