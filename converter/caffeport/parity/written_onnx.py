"""An ONNX file that exists, run beside the Net: it is proven itself, not a fresh export of the Net.

Tensors inside the file that have a blob's name are compared too, so that a difference is told where it begins. A file
that another tool has rewritten may have lost some of these names; its outputs it has to have.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError, shape_text
from ..formats.onnx_parts import refuse_many
from ..formats.other_files import ONNX, START, kind_of, misplaced
from ..graph.layer import Value
from ..graph.net import Net
from ..graph.preprocessing import METADATA_KEY, Preprocessing
from ..lazy import LazyModule, require
from ..operators.base import Role
from ..shelf import Shelf
from ..to_onnx.names import onnx_names
from .backends import exportable
from .coarser import Coarser, Own, coarser_of
from .onnx_run import FOLDER, options_of, run_parts, session_of
from .own_inputs import on_own_inputs
from .parts import are_large, put_beside
from .streamed import Streamed

onnx: Any = LazyModule("onnx")

MAX_BYTES = 2**31
"""Protobuf's limit for a message, and so for an ONNX file; larger models have their weights beside it."""
_ARRAY_TYPES = {10: np.float16, 11: np.float64}
"""ONNX's number of an element type -> NumPy's; of others float32 is fed."""


@dataclass
class WrittenOnnx:
    """A file's graph, checked against the Net: ``blobs`` are the Values that its tensors stand for, by their names."""

    path: Path
    model: Any
    blobs: dict[str, Value]
    inputs: dict[str, Value]
    preprocessing: Preprocessing | None
    preprocessed: str
    """The name of the input that the preprocessing stands in front of."""
    coarser: Coarser | None
    """What it computes in, where that is not float32."""

    def run(
        self, fed: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], shelf: Shelf | None = None
    ) -> Mapping[str, np.ndarray]:
        """{Value key: array} of every blob that the file names, for the Net's own inputs ``fed``.

        shapes: {Value key: shape}. Blobs that are large together are made part by part, while they are asked for.
        """
        return Streamed([value.key for value in self.blobs.values()], self._arrays(fed, shapes, shelf))

    def _arrays(
        self, fed: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], shelf: Shelf | None
    ) -> Iterator[tuple[str, np.ndarray]]:
        require("onnxruntime")
        wanted = {name: shapes[value.key] for name, value in self.blobs.items()}
        made = {name for node in self.model.graph.node for name in node.output}
        try:
            if are_large(4 * math.prod(shape) for shape in wanted.values()) and made.issuperset(wanted):
                with tempfile.TemporaryDirectory() as folder:
                    beside = (
                        Path(folder) if put_beside(self.model, Path(folder), "weights") else self.path.resolve().parent
                    )
                    for name, array in run_parts(self.model, wanted, self._feed(fed), beside, shelf):
                        yield self.blobs[name].key, array
                        del array
                return
            names = list(self.blobs)
            _make_outputs(self.model, names)
            options = options_of()
            options.add_session_config_entry(FOLDER, str(self.path.resolve().parent))
            session = session_of(self.model.SerializeToString(), options)
            results = dict(zip(names, session.run(names, self._feed(fed)), strict=True))
        except CaffeportError:
            raise
        except Exception as error:  # ONNX Runtime's own classes have no public base
            raise CaffeportError(f"{self.path}: ONNX Runtime: {str(error).splitlines()[0]}") from error
        for name in names:
            yield self.blobs[name].key, results.pop(name)

    def owns(self, net: Net, fed: Mapping[str, np.ndarray], tolerance: tuple[float, float]) -> dict[str, Own]:
        """{Value key: how its blob is by itself}, for a file in a coarser number format; see on_own_inputs."""
        try:
            model = onnx.load(str(self.path))  # anew, with all its weights
            known = set(exportable(net))
            blobs = {name: value for name, value in self.blobs.items() if value in known}
            return on_own_inputs(net, model, blobs, self._feed(fed), fed, tolerance)
        except CaffeportError as error:
            raise CaffeportError(f"{self.path}: layer by layer: {error}") from error
        except Exception as error:  # ONNX Runtime's own classes have no public base
            first = str(error).splitlines()[0]
            raise CaffeportError(f"{self.path}: layer by layer: ONNX Runtime: {first}") from error

    def _feed(self, fed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The file's inputs: those of the Net, with the file's own preprocessing taken back."""
        types = {entry.name: _ARRAY_TYPES.get(entry.type.tensor_type.elem_type) for entry in self.model.graph.input}
        arrays = {}
        for name, value in self.inputs.items():
            array = np.asarray(fed[value.name])
            if self.preprocessing is not None and value.name == self.preprocessed:
                array = self.preprocessing.undone(array)
            arrays[name] = np.ascontiguousarray(array, types[name] or np.float32)
        return arrays


def read(net: Net, path: str | Path, mean: Any = None, scale: float | None = None, rgb: bool = False) -> WrittenOnnx:
    """Read the file and match its inputs, outputs and tensors with the Net's.

    mean, scale, rgb: the preprocessing that the file is to have in front, as given to ``to_onnx``; by default what its
        metadata says.

    Raises CaffeportError for a file that is no ONNX, or whose inputs or outputs the Net has not.
    """
    path = Path(path)
    model = _load(path)
    names = {name: value for value, name in onnx_names(net).items()}
    stored = {entry.name for entry in model.graph.initializer}
    inputs = {}
    for entry in model.graph.input:
        if entry.name in stored:
            continue
        value = names.get(entry.name)
        if value is None or value not in net.input_values:
            raise CaffeportError(
                f'{path}: its input "{entry.name}" is no input of this net ({", ".join(net.inputs) or "it has none"}): '
                "another net's file?"
            )
        inputs[entry.name] = value
    made = {name for node in model.graph.node for name in node.output}
    blobs = {name: names[name] for name in made if name in names and names[name].layer.op.role is not Role.DATA}
    for entry in model.graph.output:
        if entry.name not in names:
            raise CaffeportError(f'{path}: its output "{entry.name}" is no blob of this net: another net\'s file?')
        if entry.name not in blobs and names[entry.name].layer.op.role is not Role.DATA:
            blobs[entry.name] = names[entry.name]
    if not blobs:
        raise CaffeportError(f"{path}: has no output that is a blob of this net")
    order = {value: position for position, value in enumerate(net.values)}
    ordered = dict(sorted(blobs.items(), key=lambda item: order[item[1]]))
    preprocessing, target = _preprocessing(net, path, model, list(ordered.values()), mean, scale, rgb)
    return WrittenOnnx(path, model, ordered, inputs, preprocessing, target, coarser_of(model))


def own_front(path: str | Path) -> tuple[list[float] | None, float] | None:
    """Return the (mean, scale) that an exported file has in front, by its metadata; None where it says none.

    An image reaches the net in BGR whatever the file takes. Raises CaffeportError for a file that is no ONNX.
    """
    said = next((entry.value for entry in _load(Path(path)).metadata_props if entry.key == METADATA_KEY), None)
    try:
        content = json.loads(said or "{}")
        return (content["mean"] or None, float(content["scale"])) if "mean" in content else None
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise CaffeportError(f"{path}: its metadata {METADATA_KEY} is damaged") from error


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CaffeportError(f"{path}: {size} bytes are more than an ONNX file can have (2 GiB)")
        refuse_many(path)
        raw = path.read_bytes()
    except ValueError as error:
        raise CaffeportError(f"{path}: {error}") from error
    except OSError as error:
        raise CaffeportError(f"{path}: {error.strerror or error}") from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except Exception as error:  # protobuf's class depends on which implementation is installed
        raise CaffeportError(f"{path}: {_no_onnx(raw)}") from error
    if not model.graph.node and not model.graph.output:
        raise CaffeportError(f"{path}: {_no_onnx(raw)}")
    return model


def _no_onnx(raw: bytes) -> str:
    kind = kind_of(raw[:START])
    if kind is ONNX:
        return f"is an ONNX file that is cut short or damaged ({len(raw)} bytes), or holds no graph; make it again"
    return (
        "is no ONNX file; give one that caffeport convert --onnx has written"
        if kind is None
        else misplaced(kind, "an ONNX file")
    )


def _make_outputs(model: Any, names: Sequence[str]) -> None:
    """Let the graph give these tensors too; its runtime infers their shapes."""
    known = {entry.name for entry in model.graph.output}
    for name in names:
        if name not in known:
            model.graph.output.add(name=name)


def _preprocessing(
    net: Net, path: Path, model: Any, wanted: list[Value], mean: Any, scale: float | None, rgb: bool
) -> tuple[Preprocessing | None, str]:
    """What stands in front of the net by the caller's word, else by the file's, and the input's name."""
    if mean is None and scale is None and not rgb:
        said = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)
        if said is None:
            return None, ""
        try:
            content = json.loads(said)
            mean, scale, rgb = content["mean"], float(content["scale"]), bool(content["rgb"])
        except KeyError:
            raise CaffeportError(
                f"{path}: subtracts a mean image that its metadata does not hold; give it (mean=, --mean)"
            ) from None
        except (ValueError, TypeError) as error:
            raise CaffeportError(f"{path}: its metadata {METADATA_KEY} is damaged") from error
        mean = mean if mean != [] else None
    preprocessing = Preprocessing.of(net, wanted, mean, scale, rgb)
    if preprocessing is None:
        return None, ""
    if preprocessing.scale == 0:
        raise CaffeportError(f"{path}: a scale of 0 leaves nothing of the input to compare")
    return preprocessing, net.input_values[preprocessing.index].name


def refuse_random(written: WrittenOnnx | None, given: bool) -> None:
    """Raise CaffeportError for an int8 file that is to be checked without inputs that were given."""
    if written is not None and written.coarser is not None and written.coarser.calibrated and not given:
        raise CaffeportError(
            f"{written.path}: is int8, which holds for inputs like those it was calibrated on, not for random numbers; "
            "give images, or the net's inputs as .npz (inputs=, --input)"
        )


def told(written: WrittenOnnx) -> str:
    """What was run, for the report."""
    inputs = ", ".join(f"{name} {shape_text(value.shape)}" for name, value in written.inputs.items())
    front = ""
    if written.preprocessing is not None:
        front = f", with its preprocessing {written.preprocessing.to_json()} in front of {written.preprocessed}"
    coarser = ""
    if written.coarser is not None:
        about = f"; {written.coarser.about}" if written.coarser.about else ""
        coarser = f", in {written.coarser.name} (compared layer by layer, on its own inputs{about})"
    return f"inputs {inputs or 'none'}{front}{coarser}; {len(written.blobs)} blobs have their names in it"
