"""The graph that every backend reads: a Net of Layers joined by Values. Imports no backend.

Single assignment: an in-place layer's top is a new Value that remembers its blob's name, so no
walker needs to know that Caffe would have overwritten it.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NetError, WeightsError, WeightsWarning, name_list, shape_text
from ..formats.byte_names import to_bytes
from ..formats.prototxt import Message
from ..memory import check_room
from ..naming import Names
from ..operators.base import MAX_AXES, MAX_INT, BlobSpec, Operator, Role, Shape
from ..operators.fillers import fill, generator
from ..wiring import reach
from .options import Options
from .results import Checked, Exported

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class Value:
    """A blob at one point of the net. ``key`` is unique; the last Value of a blob has ``key == name``."""

    name: str
    layer: Layer
    shape: Shape = ()
    consumers: list[Layer] = field(default_factory=list)
    key: str = ""

    def __repr__(self) -> str:
        return f"Value({self.key or self.name}: {shape_text(self.shape)})"


class Param:
    """A learned blob. Layers that share a blob hold the same Param."""

    def __init__(self, spec: BlobSpec, layer: str, index: int, seed: int) -> None:
        self.spec, self.layer, self.index = spec, layer, index
        self.lr_mult, self.decay_mult = 1.0, 1.0
        self.from_filler = True  # until numbers are given
        self.from_file = False  # while its numbers are those of the net's weights file
        self.is_fixed = False  # by a filler without chance, where the weights that were given leave the layer out
        self._seed = seed
        self._array: np.ndarray | None = None
        self._read: Callable[[], np.ndarray] | None = None

    @property
    def shape(self) -> Shape:
        return self.spec.shape

    @property
    def name(self) -> str:
        """Return the blob's name in its layer: "weight", "bias", "mean" ..., as in the torch module's state_dict."""
        return self.spec.name

    @property
    def trained(self) -> bool:
        """Return whether a solver trains it; False for statistics that the forward pass keeps."""
        return self.spec.trained

    @property
    def data(self) -> np.ndarray:
        """Return the float32 numbers in ``shape``: from the weights file (read-only, not copied), else the filler's."""
        if self._read is not None:
            return self._read()
        if self._array is None:
            what = f'layer "{self.layer}": filling its blob {self.index} ({shape_text(self.shape)})'
            check_room(12 * math.prod(self.shape), what)  # in float64 on the way
            try:
                self._array = fill(self.spec.filler, self.shape, generator(self._seed, self.layer, self.index))
            except NetError as error:
                raise NetError(f'layer "{self.layer}": {error}') from None
        return self._array

    @data.setter
    def data(self, array: np.ndarray) -> None:
        if tuple(array.shape) != self.shape:
            raise WeightsError(
                f'layer "{self.layer}": blob {self.index} is {shape_text(self.shape)}, got {shape_text(array.shape)}'
            )
        # ascontiguousarray would give a 0-D blob an axis
        self._read, self._array = None, np.array(array, np.float32, order="C")
        self.from_filler = self.from_file = False

    def read_from(self, read: Callable[[], np.ndarray]) -> None:
        """Take the numbers from ``read()`` whenever they are asked for."""
        self._read, self._array, self.from_filler, self.from_file = read, None, False, False

    def carry(self, source: Param) -> None:
        """Hold the numbers that ``source`` has now, not copied, in this blob's shape, and its multipliers.

        Numbers that either is given later are its own.
        """
        present = copy(source)
        self.read_from(partial(_numbers, present, self.shape))
        self.from_filler, self.is_fixed, self.from_file = source.from_filler, source.is_fixed, source.from_file
        self.lr_mult, self.decay_mult = source.lr_mult, source.decay_mult


def _numbers(param: Param, shape: Shape) -> np.ndarray:
    return param.data.reshape(shape)


@dataclass(eq=False)
class Layer:
    """One layer: its type's knowledge (``op``), what it reads and makes, and its blobs."""

    name: str
    type: str
    op: Operator
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    specs: list[BlobSpec] = field(default_factory=list)  # as this layer sees its params (PERMISSIVE sharing)
    loss_weights: list[float] = field(default_factory=list)
    propagate_down: list[bool] = field(default_factory=list)  # of each input: may its gradient pass on? Empty: yes
    text: Message | None = None  # its message in the net's text; None for an input that only input_shapes names
    maker: Layer | None = None  # of an input: the layer of another phase that would make it

    @property
    def bottoms(self) -> list[str]:
        return [value.name for value in self.inputs]

    @property
    def tops(self) -> list[str]:
        return [value.name for value in self.outputs]

    @property
    def blobs(self) -> list[np.ndarray]:
        return [param.data.reshape(spec.shape) for param, spec in zip(self.params, self.specs, strict=True)]

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of one forward pass at the declared shapes; 0 for layers without big weights."""
        if not self.inputs:
            return 0
        return int(self.op.multiply_adds([v.shape for v in self.inputs], [v.shape for v in self.outputs]))

    @property
    def title(self) -> str:
        return f'layer "{self.name}" ({self.type})'

    def __repr__(self) -> str:
        return f"Layer({self.name!r}, {self.type!r}, {self.bottoms} -> {self.tops})"


class Net:
    """A Caffe net, ready for any backend. Made by :func:`caffeport.load`.

    ``inputs`` and ``outputs`` are blob names in Caffe's order: inputs as the layers declare them,
    outputs (blobs that nothing reads) sorted by name.
    """

    def __init__(self, name: str, layers: list[Layer], message: Message, options: Options) -> None:
        self.name, self.layers, self.message, self.options = name, layers, message, options
        self.phase = options.phase
        self.weights_path: Path | None = None  # the file that the weights were read from
        self.weights_digest: Callable[[], str] | None = None  # its SHA-256, which takes reading it through
        self.values = [value for layer in layers for value in layer.outputs]
        self.blobs = {value.name: value for value in self.values}
        keys = Names(self.blobs)
        for value in self.values:
            if self.blobs[value.name] is value:
                value.key = value.name
                continue
            # "conv1@conv1", then "conv1@bn1": the layer that made this version of the blob.
            value.key = keys.take(f"{value.name}@{value.layer.name}")
        self.input_values = [v for layer in layers if layer.op.role is Role.DATA for v in layer.outputs]
        fed = set(self.input_values)
        loose = {v.name for v in self.values if not v.consumers and self.blobs[v.name] is v and v not in fed}
        self.output_values = [self.blobs[name] for name in sorted(loose, key=to_bytes)]

    @property
    def inputs(self) -> list[str]:
        return [value.name for value in self.input_values]

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self.output_values]

    @property
    def blob_shapes(self) -> dict[str, Shape]:
        return {name: value.shape for name, value in self.blobs.items()}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Return {input blob: transform_param} of the data layers that have one."""
        return {
            layer.tops[0]: layer.op.context.transform
            for layer in self.layers
            if layer.op.role is Role.DATA and layer.op.context.transform is not None and layer.tops
        }

    @property
    def params(self) -> list[Param]:
        """Return every learned blob once, in Caffe's order."""
        return list({id(param): param for layer in self.layers for param in layer.params}.values())

    @property
    def weights_source(self) -> str:
        """Tell where the numbers come from: a file, Caffe's fillers with their seed, or both."""
        params = self.params
        filled = [param for param in params if param.from_filler]
        if not params:
            return "none needed"
        fillers = f"Caffe's fillers, seed {self.options.seed}"
        if len(filled) == len(params):
            return f"none given, {fillers}"
        parts = [str(self.weights_path or "given")]
        for how, some in (
            ("by its filler, without chance", [param.layer for param in filled if param.is_fixed]),
            (f"{fillers}", [param.layer for param in filled if not param.is_fixed]),
        ):
            if some:
                parts.append(f"{how}, for {name_list(some)}")
        return "; ".join(parts)

    def weights_sha256(self) -> str:
        """SHA-256 of the weights' file; "" where there is none, or where numbers were given since."""
        whole = self.weights_digest is not None and all(param.from_file or param.from_filler for param in self.params)
        return self.weights_digest() if whole and self.weights_digest is not None else ""

    @property
    def has_random_weights(self) -> bool:
        """Return whether numbers are missing that no file and nobody gave, so that fillers made them up."""
        return any(param.from_filler and not param.is_fixed for param in self.params)

    def layer(self, name: str) -> Layer:
        """Return the layer of that name; raises NetError that names the nearest."""
        from ..errors import did_you_mean

        for layer in self.layers:
            if layer.name == name:
                return layer
        raise NetError(f'the net has no layer "{name}"{did_you_mean(name, (layer.name for layer in self.layers))}')

    def infer(self, input_shapes: Mapping[Value, Shape], layers: Sequence[Layer] | None = None) -> dict[Value, Shape]:
        """Return every Value's shape for other input shapes; raises NetError where they, or a blob, do not fit.

        layers: ask these alone, in the net's order, instead of all; they include what they depend on.
        """
        shapes = {value: input_shapes.get(value, value.shape) for value in self.input_values}
        for layer in self.layers if layers is None else layers:
            if layer.op.role is Role.DATA:
                continue
            bottoms = [shapes[value] for value in layer.inputs]
            shapes.update(zip(layer.outputs, top_shapes(layer, bottoms), strict=True))
            for param, spec in zip(layer.params, layer.op.blob_specs(bottoms), strict=True):
                if math.prod(param.shape) != math.prod(spec.shape):
                    raise NetError(
                        f"{layer.title}: blob {param.index} would be {shape_text(spec.shape)} for these inputs, "
                        f"but it is {shape_text(param.shape)}"
                    )
        return shapes

    def sample_inputs(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Return random inputs of the declared shapes: normal numbers, or labels and indices where layers need them."""
        random = np.random.default_rng(seed)
        samples = {}
        for value in self.input_values:
            check_room(12 * math.prod(value.shape), f"{value.layer.title}: a random input {shape_text(value.shape)}")
            sample = None
            for layer in value.consumers:
                for index, bottom in enumerate(layer.inputs):
                    if bottom is value and sample is None:
                        sample = layer.op.sample_bottom(index, value.shape, random)
                        classes = layer.op.classes([other.shape for other in layer.inputs])
                        if sample is not None and classes is not None:
                            sample = sample.clip(max=classes - 1)
            if sample is None:
                sample = random.standard_normal(value.shape)
            samples[value.name] = np.asarray(sample, np.float32)
        return samples

    def to_torch(
        self,
        *,
        outputs: Sequence[str] | None = None,
        mean: Sequence[float] | np.ndarray | float | None = None,
        scale: float | None = None,
        rgb: bool = False,
    ) -> torch.nn.Module:
        """Return the net as a trainable ``torch.nn.Module``.

        Its forward takes a tensor for each of ``inputs``, in that order, and returns a tensor if there is one output,
        else ``{blob name: tensor}``. state_dict keys are ``<Caffe's layer name>.<blob>``.

        outputs: blobs to return instead of the net's own outputs.
        mean, scale, rgb: preprocessing in front of the first image that is read: (x - mean) * scale, the channels
            reversed first where ``rgb``. mean: a number, one a channel, or (C, H, W).

        Raises CaffeportError for a blob that is not there, MissingDependencyError without torch.
        """
        module: torch.nn.Module = reach("to_torch")(self, outputs=outputs, mean=mean, scale=scale, rgb=rgb)
        return module

    def to_onnx(
        self,
        path: str | Path,
        *,
        opset: int = 17,
        dynamic_batch: bool = True,
        fold: bool = True,
        outputs: Sequence[str] | None = None,
        mean: Sequence[float] | np.ndarray | float | None = None,
        scale: float | None = None,
        rgb: bool = False,
        external_data: bool | None = None,
    ) -> Exported:
        """Write the net as an ONNX file, whole or not at all; returns the names of its inputs and outputs.

        opset: 13 to 21.
        dynamic_batch: leave the batch axis free, and height and width too where every layer allows it.
        fold: fold BatchNorm, Scale and Bias into the convolution or inner product that feeds them.
        outputs: blobs to export up to, instead of the net's own outputs.
        mean, scale, rgb: preprocessing in front, as in ``to_torch``.
        external_data: weights in ``<path>.data`` beside it; by default only beyond protobuf's 2 GB.

        A loss or metric at the end of a text for the TEST phase is left out, which a CaffeportWarning tells.

        Raises ExportError for any other loss or metric layer, by name, and for what ONNX cannot express.
        """
        if self.has_random_weights:
            warnings.warn(f"{path} has random weights: {self.weights_source}", WeightsWarning, stacklevel=2)
        exported: Exported = reach("to_onnx")(
            self,
            path,
            opset=opset,
            dynamic_batch=dynamic_batch,
            fold=fold,
            outputs=outputs,
            mean=mean,
            scale=scale,
            rgb=rgb,
            external_data=external_data,
        )
        return exported

    def to_python(
        self,
        path: str | Path,
        *,
        weights: str | Path | None = None,
        outputs: Sequence[str] | None = None,
        mean: Sequence[float] | np.ndarray | float | None = None,
        scale: float | None = None,
        rgb: bool = False,
    ) -> list[Path]:
        """Write the net as PyTorch source that does not need this project, and its weights; return both files' paths.

        path: the file, whose name is a module's: ``face.py``. Its ``load()`` gives the model in eval mode.
        weights: the safetensors file that it loads, by default ``face.safetensors`` beside it.
        outputs, mean, scale, rgb: as in ``to_torch``.

        Raises ExportError for a loss or metric layer, and for a layer that has no source form, by name and type.
        """
        if self.has_random_weights:
            warnings.warn(f"{path} has random weights: {self.weights_source}", WeightsWarning, stacklevel=2)
        files: list[Path] = reach("to_python")(
            self, path, weights=weights, outputs=outputs, mean=mean, scale=scale, rgb=rgb
        )
        return files

    def with_weights(
        self, weights: torch.nn.Module | Mapping[str, torch.Tensor] | Mapping[str, Sequence[np.ndarray]]
    ) -> Net:
        """Return a copy of the net that holds other weights: those of a module made by ``to_torch()``, of its
        state_dict, or ``{layer name: [arrays]}``, which may leave layers out.

        Raises WeightsError that names the layer for a missing, unknown or misshapen blob.
        """
        tuned: Net = reach("with_weights")(self, weights)
        return tuned

    def cut(
        self,
        outputs: Sequence[str],
        inputs: Sequence[str] | None = None,
        *,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> Net:
        """Return the part of the net that makes ``outputs``, as a net whose own outputs they are.

        outputs: blobs, as they are behind their in-place layers. One that is read further on within the part stays
            an output by a Split layer; tops of the part's layers that nobody asked for end in a Silence layer.
        inputs: blobs to begin at, instead of the net's own inputs, in the order they are to have. They become Input
            layers of the shapes they have here; so do data layers, whose transform the part does not keep.
        input_shapes: {input of the part: shape}, to replace the one it has here.

        The part has Params of its own. They hold the numbers that the net's have now, without a copy; numbers that
        are given to one of the two later are not the other's. Its text has no rules of phases and stages, so that
        ``save(path, prototxt=...)`` writes a net that loads alone, in the same phase.

        Raises NetError for an unknown blob, and where ``outputs`` also depend on blobs that ``inputs`` leaves out.
        """
        part: Net = reach("cut")(self, outputs, inputs, input_shapes=input_shapes)
        return part

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of one forward pass at the declared shapes; only layers with big weights are counted."""
        return sum(layer.multiply_adds for layer in self.layers)

    def save(self, path: str | Path, prototxt: str | Path | None = None) -> None:
        """Write a ``.caffemodel`` that Caffe loads and, if asked for, the net's text: both or neither."""
        reach("save")(self, path, prototxt)

    def check(
        self,
        inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray] | np.ndarray | None = None,
        *,
        backends: Sequence[str] | None = None,
        reference: str | Path | Mapping[str, np.ndarray] | None = None,
        onnx: str | Path | None = None,
        torch: str | Path | None = None,
        mean: Any = None,
        scale: float | None = None,
        rgb: bool = False,
        rtol: float = 1e-4,
        atol: float = 1e-5,
        seed: int = 0,
        caffe_python: str | Path | None = None,
        caffe_interpreter: str | Path = sys.executable,
        caffe_timeout: float = 600.0,
        training: bool = False,
    ) -> Checked:
        """Compare backends blob by blob, as :func:`caffeport.check` does, whose options these are."""
        report: Checked = reach("check")(
            self,
            inputs,
            backends=backends,
            reference=reference,
            onnx=onnx,
            torch=torch,
            mean=mean,
            scale=scale,
            rgb=rgb,
            rtol=rtol,
            atol=atol,
            seed=seed,
            caffe_python=caffe_python,
            caffe_interpreter=caffe_interpreter,
            caffe_timeout=caffe_timeout,
            training=training,
        )
        return report

    def __repr__(self) -> str:
        return f"Net({self.name!r}: {len(self.layers)} layers, {self.inputs} -> {self.outputs})"


def top_shapes(layer: Layer, bottoms: list[Shape]) -> list[Shape]:
    """Return the layer's top shapes, checked: as many as tops, no axis below 1, no blob beyond Caffe's limit."""
    layer.op.check_axes(bottoms)
    shapes = [tuple(int(dim) for dim in shape) for shape in layer.op.top_shapes(bottoms)]
    if len(shapes) != len(layer.outputs):
        raise NetError(f"{layer.title}: makes {len(shapes)} tops, but {len(layer.outputs)} are named")
    for value, shape in zip(layer.outputs, shapes, strict=True):
        check_shape(shape, f'{layer.title}: top "{value.name}"')
    return shapes


def check_shape(shape: Iterable[int], title: str) -> None:
    shape = tuple(shape)
    if len(shape) > MAX_AXES:
        raise NetError(f"{title} would have {len(shape)} axes; Caffe allows {MAX_AXES}")
    if any(dim < 1 for dim in shape):
        raise NetError(f"{title} would have the shape {shape_text(shape)}: the input is too small, or a size is wrong")
    if math.prod(shape) > MAX_INT:
        raise NetError(f"{title} would have the shape {shape_text(shape)}: more than the 2^31 - 1 numbers Caffe allows")
