"""What an ONNX file says of itself: its inputs and outputs, before a runtime has seen it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError
from ..formats.onnx_parts import refuse_many
from ..formats.other_files import ONNX, kind_of_file, misplaced
from ..lazy import LazyModule

onnx: Any = LazyModule("onnx")


@dataclass(frozen=True)
class Port:
    """An input or output: its name, its sizes (None for one that is free), NumPy's type of its numbers."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file by its path; ``inputs`` and ``outputs`` are read when they are first asked for."""

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise CaffeportError(f"{self.path}: {'is no file' if self.path.exists() else 'No such file or directory'}")
        kind = kind_of_file(self.path)
        if kind is not None and kind is not ONNX:
            raise CaffeportError(f"{self.path}: {misplaced(kind, 'an ONNX model')}")
        try:
            refuse_many(self.path)
        except (OSError, ValueError) as error:
            raise CaffeportError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from error

    @cached_property
    def model(self) -> Any:
        """The file as a message of onnx, without weights that lie in files of their own."""
        try:
            model = onnx.load(str(self.path), load_external_data=False)
        except Exception as error:  # protobuf's class depends on which implementation is installed
            raise CaffeportError(
                f"{self.path}: is no ONNX model, or is damaged; give one that caffeport convert --onnx has written"
            ) from error
        if not model.graph.output:
            raise CaffeportError(f"{self.path}: is no ONNX model: it has no output")
        return model

    @cached_property
    def inputs(self) -> list[Port]:
        """What the graph takes; weights that old files list among the inputs are left out."""
        stored = {entry.name for entry in self.model.graph.initializer}
        return [_port(entry) for entry in self.model.graph.input if entry.name not in stored]

    @cached_property
    def outputs(self) -> list[Port]:
        """What the graph gives, in its order."""
        return [_port(entry) for entry in self.model.graph.output]

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The file's own notes, such as the preprocessing that stands in front of the net."""
        return {entry.key: entry.value for entry in self.model.metadata_props}


def _port(entry: Any) -> Port:
    tensor = entry.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, TypeError):
        dtype = np.dtype(np.float32)
    return Port(entry.name, shape, dtype)
