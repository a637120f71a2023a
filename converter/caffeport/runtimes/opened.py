"""``open_model``: one way to open an ONNX file in any runtime, and to run it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..cores import usable_cores
from ..errors import CaffeportError, MissingDependencyError, shape_text
from .known import ModelRunError, Runtime
from .known import runtime as runtime_of
from .model_file import ModelFile

if TYPE_CHECKING:
    from ..graph.net import Net


class Session(Protocol):
    """What an adapter's ``start(file, threads, net)`` returns."""

    about: str
    """What else has to be said of the run, empty for nothing: one thread only, one image at a time."""

    def run(self, arrays: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        """The outputs in the file's order; ``arrays`` has one for every input, contiguous, in the input's type."""
        ...


class OpenedModel:
    """A file that a runtime has opened: call it, or its ``run``, with {input: array}, and it gives {output: array}.

    Inputs are given by the names in the file; the batch and other free axes may change from run to run, and a
    runtime that plans for sizes does so at the first run of each. ONNX Runtime and OpenVINO may be called from several
    threads at once.
    """

    def __init__(self, runtime: Runtime, file: ModelFile, session: Session) -> None:
        self.runtime, self.file, self._session = runtime, file, session
        self.inputs, self.outputs = file.inputs, file.outputs
        self.about = session.about

    def run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return {output: array}. Raises ModelRunError where the runtime cannot run it."""
        fed = {}
        for port in self.inputs:
            if port.name not in arrays:
                raise CaffeportError(f'{self.file.path}: no array for its input "{port.name}"')
            fed[port.name] = np.ascontiguousarray(arrays[port.name], port.dtype)
        try:
            results = self._session.run(fed)
        except CaffeportError:
            raise
        except Exception as error:  # every runtime has classes of its own
            shapes = ", ".join(f"{name} {shape_text(array.shape)}" for name, array in fed.items())
            raise ModelRunError(
                f"{self.runtime.title} does not run {self.file.path} on {shapes}: {said(error)}"
            ) from error
        if len(results) != len(self.outputs):  # MNN says nothing where it fails, and gives none
            raise ModelRunError(
                f"{self.runtime.title} does not run {self.file.path}: it gives {len(results)} of the "
                f"{len(self.outputs)} outputs and no reason"
            )
        return {port.name: np.asarray(array) for port, array in zip(self.outputs, results, strict=True)}

    __call__ = run


def open_model(
    path: str | Path, runtime: str = "onnxruntime", threads: int | None = None, *, net: Net | None = None
) -> OpenedModel:
    """Open an ONNX file in the runtime of that name (RUNTIMES lists them), on the CPU, in float32 arithmetic.

    threads: of a run; by default one for every core that this process may use. tract takes one always.
    net: what the file was made of, which "torch" needs, since PyTorch opens no ONNX files.

    Some runtimes would compute in half precision of their own accord where the processor can (OpenVINO, MNN, ncnn);
    here they are told not to.

    Raises CaffeportError for a name that is unknown and a file that is no ONNX, MissingDependencyError with the line
    that installs it where the runtime is missing, ModelRunError where it cannot open the file.
    """
    chosen = runtime_of(runtime)
    if threads is not None and threads < 1:
        raise CaffeportError(f"threads is 1 or more, got {threads}")
    file = ModelFile(Path(path))
    chosen.require()
    adapter = importlib.import_module(f".{chosen.adapter}", __package__)
    try:
        session = adapter.start(file, threads or usable_cores(), net)
    except (CaffeportError, MissingDependencyError):
        raise
    except Exception as error:  # every runtime has classes of its own
        raise ModelRunError(f"{chosen.title} does not open {path}: {said(error)}") from error
    return OpenedModel(chosen, file, session)


def said(error: Exception) -> str:
    """The first line that says something, of a runtime's own message."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
