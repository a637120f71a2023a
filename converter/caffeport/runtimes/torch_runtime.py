"""PyTorch: not the file, which it cannot open, but the net that the file was made of."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph.preprocessing import METADATA_KEY
from ..lazy import require
from .known import ModelRunError
from .model_file import ModelFile

if TYPE_CHECKING:
    from ..graph.net import Net


class Torch:
    """The net's module, with the preprocessing that the file has in front, up to the file's outputs."""

    about = "the net, not the file"

    def __init__(self, file: ModelFile, threads: int, net: Net, device: str = "cpu") -> None:
        """device: "cpu", or "cuda", where all is computed in float32 as on the CPU, one run at a time."""
        self._torch: Any = require("torch")
        self._torch.set_num_threads(threads)
        self._device = self._torch.device(device)
        self._turn = threading.Lock() if device != "cpu" else None
        self._outputs = [port.name for port in file.outputs]
        self._inputs = net.inputs
        front: dict[str, Any] = {}
        if METADATA_KEY in file.metadata:
            said = json.loads(file.metadata[METADATA_KEY])
            if "mean" not in said:
                raise ModelRunError(f"{file.path}: subtracts a mean image, which its metadata does not hold")
            front = {"mean": said["mean"] or None, "scale": float(said["scale"]), "rgb": bool(said["rgb"])}
        unknown = [name for name in self._outputs if name not in net.blobs]
        if unknown:
            raise ModelRunError(f"{file.path}: its outputs {', '.join(unknown)} are no blobs of net {net.name!r}")
        self._module: Any = net.to_torch(outputs=self._outputs, **front).eval().to(self._device)

    def run(self, arrays: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        if self._turn is None:
            return self._run(arrays)
        from ..to_torch.float32 import whole_float32

        with self._turn, whole_float32():
            return self._run(arrays)

    def _run(self, arrays: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        tensors = [
            self._torch.from_numpy(arrays[name]).to(self._device) if name in arrays else None for name in self._inputs
        ]
        with self._torch.inference_mode():
            results = self._module(*tensors)
        named = results if isinstance(results, dict) else {self._outputs[0]: results}
        return [named[name].cpu().numpy() for name in self._outputs]


def start(file: ModelFile, threads: int, net: Net | None = None) -> Torch:
    if net is None:
        raise ModelRunError(f"PyTorch opens no ONNX files: give the net that {file.path} was made of (NET WEIGHTS)")
    return Torch(file, threads, net)
