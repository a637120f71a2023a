"""A model opened in a runtime: arrays in and out by their names."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from caffeport.formats.onnx_parts import refuse_many
from caffeport.lazy import require
from caffeport.runtimes import RUNTIMES as ADAPTERS
from caffeport.runtimes.model_file import ModelFile
from caffeport.runtimes.openvino_runtime import OpenVino
from caffeport.runtimes.torch_runtime import Torch

from ..errors import NormfaceError
from ..fast_prelu import with_fast_prelu
from .choice import Choice, providers_there

if TYPE_CHECKING:
    from caffeport import Net

CPU = ["CPUExecutionProvider"]


@dataclass(frozen=True)
class Port:
    """An input as ONNX Runtime tells of it: ``shape`` has a name or None for a free axis; type "tensor(float)"."""

    name: str
    shape: list[Any]
    type: str


class Engine(Protocol):
    """An opened model. Several threads may run it at once.

    title: the runtime, its version and the device. compiles: whether it prepares itself for each size of its inputs.
    """

    title: str
    inputs: list[Port]
    outputs: list[str]
    metadata: Mapping[str, str]
    compiles: bool

    def run(self, outputs: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]: ...


def open_engine(path: Path, choice: Choice, threads: int, net: Net | None = None) -> Engine:
    """Open an ONNX file.

    threads: runs that go on at the same time, each on one core. net: what the file was made of, for torch.

    Raises the runtime's own error where it cannot open the file.
    """
    if choice.runtime == "onnxruntime":
        try:
            refuse_many(path)
        except ValueError as error:
            raise NormfaceError(f"{path}: {error}") from error
        return OnnxEngine(path, choice.device)
    return AdapterEngine(path, choice, threads, net)


class OnnxEngine:
    """ONNX Runtime, one thread a run: cores are kept busy by several runs, which never wait for one another."""

    compiles = False

    def __init__(self, path: Path, device: str, providers: Sequence[str] | None = None) -> None:
        """providers: ONNX Runtime's, in place of the device's."""
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # its errors are raised, and told once
        options.intra_op_num_threads = 1
        own = providers is None
        providers = _providers(device) if providers is None else list(providers)
        model = with_fast_prelu(path) if providers == CPU else str(path)
        fallback = int(providers != CPU)  # which prints an "EP Error", and opens a bad file once more
        self._session = runtime.InferenceSession(model, options, providers=providers, enable_fallback=fallback)
        if own and self._session.get_providers()[0] != providers[0]:  # ONNX Runtime goes on with the CPU without a word
            raise NormfaceError("device cuda: ONNX Runtime cannot start CUDA (driver, cuDNN); see --device cpu")
        self.title = f"ONNX Runtime {runtime.__version__}, {device}"
        self.inputs = [Port(one.name, one.shape, one.type) for one in self._session.get_inputs()]
        self.outputs = [one.name for one in self._session.get_outputs()]
        self.metadata = self._session.get_modelmeta().custom_metadata_map

    def run(self, outputs: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        results: list[np.ndarray] = self._session.run(list(outputs), dict(feeds))
        return results


class AdapterEngine:
    """OpenVINO or torch, by caffeport's adapters."""

    def __init__(self, path: Path, choice: Choice, threads: int, net: Net | None) -> None:
        file = ModelFile(path)
        named = {entry.name: entry.type.tensor_type.shape.dim for entry in file.model.graph.input}
        self.inputs = [
            Port(one.name, [dim.dim_param or dim.dim_value or None for dim in named[one.name]], _type(one.dtype))
            for one in file.inputs
        ]
        self.outputs = [one.name for one in file.outputs]
        self.metadata: Mapping[str, str] = file.metadata
        self.compiles = choice.runtime == "openvino"
        self.title = f"{ADAPTERS[choice.runtime].title} {_version(choice.runtime)}, {choice.device}"
        if choice.runtime == "torch" and net is None:
            raise NormfaceError(f"runtime torch: PyTorch opens no ONNX files ({path}); give NET WEIGHTS")
        self._session: Any = OpenVino(file, threads, threads) if net is None else Torch(file, 1, net, choice.device)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        arrays = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        results = self._session.run(arrays)
        return [np.asarray(results[self.outputs.index(name)]) for name in outputs]


def _type(dtype: np.dtype) -> str:
    return f"tensor({ {'float32': 'float', 'float64': 'double'}.get(dtype.name, dtype.name) })"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _providers(device: str) -> list[str]:
    if device == "cpu":
        return CPU
    if "CUDAExecutionProvider" not in providers_there():
        raise NormfaceError(
            "device cuda: this ONNX Runtime has no CUDA; pip uninstall onnxruntime, then "
            "pip install onnxruntime-gpu, or choose cpu"
        )
    return ["CUDAExecutionProvider", *CPU]
