"""A model in a runtime, with one image input and one feature output."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from caffeport.errors import CaffeportError
from caffeport.formats.other_files import ONNX, kind_of_file, misplaced
from caffeport.graph.walk import read_inputs, wanted_values
from caffeport.operators.custom import CustomLayers, custom_operators
from caffeport.runtimes import RUNTIMES

from ..errors import NormfaceError, did_you_mean, shape_text
from ..inference import Choice, open_engine
from .identity import onnx_digest
from .own_preprocessing import OwnPreprocessing, of_metadata, of_transform
from .unread_inputs import unread_inputs

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
"""ONNX Runtime's name of an input's type -> NumPy's."""


class FeatureSession:
    """``run`` takes (N, C, H, W) float32 and gives (N, D) float32; several threads may call it at once.

    size: (H, W) of the input, None where the model takes any. declared: (H, W) that the net's text gives.
    channels: 1 or 3. batch: how many images a run takes, None for any number. runtime: what runs it, in words.
    compiles: whether another number of images takes time to prepare, so that padding them to one that was run is best.
    own: what the model says of its preprocessing; None where it says nothing.
    """

    def __init__(
        self,
        model: str | Path,
        weights: str | Path | None,
        output: str | None,
        choice: Choice,
        custom_layers: CustomLayers = (),
        threads: int = 1,
    ) -> None:
        self.title = str(model)
        self._custom_layers = custom_operators(custom_layers)
        self._model, self._weights, self._wanted = Path(model), weights, output
        self.own: OwnPreprocessing | None = None
        self._net: Any = None
        self.declared: tuple[int, int] | None = None
        if Path(model).suffix.lower() == ".onnx":
            if weights is not None:
                raise NormfaceError(f"{model}: holds its weights; leave {weights} out")
            self._open(Path(model), output, choice, threads)
            self.own = of_metadata(self._engine.metadata, self.title)
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = self._convert(Path(model), weights, output, Path(folder))
                self._open(path, None, choice, threads)  # it has the one output that is wanted
        self.runtime, self.compiles = self._engine.title, self._engine.compiles
        self._input = self._image_input()
        batch, self.channels, *size = self._input.shape
        self.batch: int | None = batch if isinstance(batch, int) and batch > 0 else None
        self.size: tuple[int, int] | None = None
        if all(isinstance(axis, int) and axis > 0 for axis in size):
            self.size = (size[0], size[1])

    def dimension(self, size: tuple[int, int], count: int = 2) -> int:
        """D, by a run on ``count`` black images (H, W). Raises NormfaceError where the output is no vector an image."""
        return self.run(np.zeros((self.batch or count, self.channels, *size), np.float32)).shape[1]

    def weight_digests(self) -> tuple[str, ...]:
        """Return the weights by value, see normface.features.identity; a Caffe net's in each of its forms."""
        if self._weights is None:
            inside = None if self.own is None else self.own.inside
            digests = [onnx_digest(self._model, self._output, inside)]
        else:
            with tempfile.TemporaryDirectory() as folder:
                forms: list[dict[str, Any]] = [{}, {"target": "openvino"}, {"fold": False}]
                paths = [
                    self._convert(self._model, self._weights, self._wanted, Path(folder, str(index)), form)
                    for index, form in enumerate(forms)
                ]
                digests = [onnx_digest(path, self._output, None) for path in paths]
        return tuple(dict.fromkeys(digest for digest in digests if digest))

    def run(self, batch: np.ndarray) -> np.ndarray:
        try:
            inputs = {name: unread.zeros(len(batch)) for name, unread in self._unread.items()}
            inputs[self._input.name] = batch.astype(TYPES[self._input.type], copy=False)
            features = self._engine.run([self._output], inputs)[0]
        except Exception as error:  # every runtime has classes of its own
            problem = f"{self.title}: {self._runtime_name} cannot run it on {shape_text(batch.shape)}"
            raise NormfaceError(f"{problem}: {_first_line(error)}") from error
        vector = (
            features.ndim >= 2 and features.shape[0] == len(batch) and features.size == len(batch) * features.shape[1]
        )
        if not vector or features.dtype.kind != "f" or not features.size:
            raise NormfaceError(
                f'{self.title}: its output "{self._output}" is {shape_text(features.shape)} {features.dtype} of '
                f"{len(batch)} images, no feature vector each; name the blob of the feature (--output)"
            )
        return np.ascontiguousarray(features.reshape(len(batch), -1), np.float32)

    @property
    def _runtime_name(self) -> str:
        return self.runtime.rpartition(",")[0].rpartition(" ")[0]  # without version and device

    def _open(self, path: Path, output: str | None, choice: Choice, threads: int) -> None:
        if not os.path.isfile(path):
            raise NormfaceError(f"{path}: no such file")
        try:
            self._engine = open_engine(path, choice, threads, self._net if choice.runtime == "torch" else None)
        except NormfaceError:
            raise
        except Exception as error:  # every runtime has classes of its own
            raise NormfaceError(f"{self.title}: {_no_model(path, choice.runtime, error)}") from error
        self._output = self._feature_output(output)
        several = len(self._engine.inputs) > 1
        self._unread = unread_inputs(path, self._output) if several else {}

    def _convert(
        self,
        net_path: Path,
        weights: str | Path | None,
        output: str | None,
        folder: Path,
        form: Mapping[str, Any] | None = None,
    ) -> Path:
        import caffeport

        if weights is None:
            kind = kind_of_file(net_path)
            if kind is ONNX:
                raise NormfaceError(f"{net_path}: is an ONNX model by another name; call it {net_path.stem}.onnx")
            if kind is not None:
                raise NormfaceError(f"{net_path}: {misplaced(kind, 'NET.prototxt WEIGHTS.caffemodel, or one .onnx')}")
            raise NormfaceError(
                f"{net_path}: needs its weights beside it: NET.prototxt WEIGHTS.caffemodel, or one .onnx"
            )
        net = caffeport.load(net_path, weights, custom_layers=self._custom_layers)
        if output is not None and output not in net.blobs:
            raise NormfaceError(
                f'{net_path}: has no blob "{output}"{did_you_mean(output, net.blobs)} (--output); '
                f"its outputs are {', '.join(net.outputs)}"
            )
        if output is None and len(net.outputs) > 1:
            self._refuse_several(net.outputs)
        wanted = wanted_values(net, None if output is None else [output])
        images = [value for value in read_inputs(net, wanted) if len(value.shape) == 4]
        if len(images) == 1:
            self.declared = (images[0].shape[2], images[0].shape[3])
            self.own = of_transform(net.preprocessing.get(images[0].name))
        folder.mkdir(exist_ok=True)
        path = folder / "net.onnx"
        self._net = net
        net.to_onnx(path, outputs=[value.name for value in wanted] or None, **(form or {}))
        return path

    def _image_input(self) -> Any:
        inputs = [one for one in self._engine.inputs if one.name not in self._unread]
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] not in (1, 3):
            listed = ", ".join(f"{one.name} {shape_text(one.shape)}" for one in inputs) or "none"
            raise NormfaceError(f"{self.title}: needs one image input (N, 1 or 3 channels, H, W), and has {listed}")
        if inputs[0].type not in TYPES:
            raise NormfaceError(f"{self.title}: its input is {inputs[0].type}; expected {' or '.join(TYPES)}")
        return inputs[0]

    def _feature_output(self, output: str | None) -> str:
        names = self._engine.outputs
        if output is None and len(names) == 1:
            return names[0]
        if output is None:
            self._refuse_several(names)
        if output not in names:
            raise NormfaceError(
                f'{self.title}: has no output "{output}"{did_you_mean(output, names)}; it has {", ".join(names)}'
            )
        return output

    def _refuse_several(self, names: list[str]) -> NoReturn:
        raise NormfaceError(f"{self.title}: has the outputs {', '.join(names)}; say which is the feature (--output)")


def _no_model(path: Path, runtime: str, error: Exception) -> str:
    """Say why a runtime cannot load a file, which may be something else altogether, or half of one."""
    kind = kind_of_file(path)
    if kind is None or kind is ONNX:
        damaged = "parsing failed" in str(error) or isinstance(error, CaffeportError)
        words = _first_line(error).removeprefix(f"{path}: ")
        return f"{RUNTIMES[runtime].title} cannot load it: {words}{'. Is the file cut short?' if damaged else ''}"
    return misplaced(kind, "an ONNX model")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
