"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..lazy import require
from .model_file import ModelFile


class OnnxRuntime:
    """A session of ONNX Runtime."""

    about = ""

    def __init__(self, file: ModelFile, threads: int) -> None:
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # its errors are raised, and told once
        providers = ["CPUExecutionProvider"]
        self._session: Any = runtime.InferenceSession(str(file.path), options, providers=providers, enable_fallback=0)

    def run(self, arrays: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        return self._session.run(None, dict(arrays))


def start(file: ModelFile, threads: int, net: Any = None) -> OnnxRuntime:
    return OnnxRuntime(file, threads)
