"""The graph that every backend reads: a Net of Layers joined by Values. Imports no backend.

Single assignment: an in-place layer's top is a new Value that remembers its blob's name, so no
walker needs to know that Caffe would have overwritten it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import NetError, WeightsError, shape_text
from .fillers import fill, generator
from .layers.base import BlobSpec, LayerType, Role, Shape
from .options import Options
from .prototxt import Message

if TYPE_CHECKING:
    from .parity import Report

MAX_COUNT = 2**31 - 1  # Caffe indexes a blob with int


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
        self._seed = seed
        self._array: np.ndarray | None = None
        self._read: Callable[[], np.ndarray] | None = None

    @property
    def shape(self) -> Shape:
        return self.spec.shape

    @property
    def data(self) -> np.ndarray:
        """float32 numbers in ``shape``: from the weights file (read-only, not copied), else the filler's."""
        if self._read is not None:
            return self._read()
        if self._array is None:
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

    def read_from(self, read: Callable[[], np.ndarray]) -> None:
        """Take the numbers from ``read()`` whenever they are asked for."""
        self._read, self._array = read, None


@dataclass(eq=False)
class Layer:
    """One layer: its type's knowledge (``op``), what it reads and makes, and its blobs."""

    name: str
    type: str
    op: LayerType
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    specs: list[BlobSpec] = field(default_factory=list)  # as this layer sees its params (PERMISSIVE sharing)
    loss_weights: list[float] = field(default_factory=list)
    propagate_down: list[bool] = field(default_factory=list)  # of each input: may its gradient pass on? Empty: yes
    text: Message | None = None  # its message in the net's text; None for an input that only input_shapes names

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
        self.values = [value for layer in layers for value in layer.outputs]
        self.blobs = {value.name: value for value in self.values}
        taken = set(self.blobs)
        for value in self.values:
            if self.blobs[value.name] is value:
                value.key = value.name
                continue
            # "conv1@conv1", then "conv1@bn1": the layer that made this version of the blob.
            value.key = key = f"{value.name}@{value.layer.name}"
            number = 1
            while value.key in taken:  # another version, or a blob that is called so
                number += 1
                value.key = f"{key}.{number}"
            taken.add(value.key)
        self.input_values = [v for layer in layers if layer.op.role is Role.DATA for v in layer.outputs]
        fed = set(self.input_values)
        loose = {v.name for v in self.values if not v.consumers and self.blobs[v.name] is v and v not in fed}
        self.output_values = [self.blobs[name] for name in sorted(loose, key=str.encode)]

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
        """{input blob: transform_param} of the data layers that have one."""
        return {
            layer.tops[0]: layer.op.context.transform
            for layer in self.layers
            if layer.op.role is Role.DATA and layer.op.context.transform is not None and layer.tops
        }

    @property
    def params(self) -> list[Param]:
        """Every learned blob once, in Caffe's order."""
        return list({id(param): param for layer in self.layers for param in layer.params}.values())

    def layer(self, name: str) -> Layer:
        """The layer of that name; raises NetError that names the nearest."""
        from .errors import did_you_mean

        for layer in self.layers:
            if layer.name == name:
                return layer
        raise NetError(f'the net has no layer "{name}"{did_you_mean(name, (layer.name for layer in self.layers))}')

    def infer(self, input_shapes: Mapping[Value, Shape]) -> dict[Value, Shape]:
        """Every Value's shape for other input shapes; raises NetError where they, or a blob, do not fit."""
        shapes = {value: input_shapes.get(value, value.shape) for value in self.input_values}
        for layer in self.layers:
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
        """Random inputs of the declared shapes: normal numbers, or labels and indices where layers need them."""
        random = np.random.default_rng(seed)
        samples = {}
        for value in self.input_values:
            sample = None
            for layer in value.consumers:
                for index, bottom in enumerate(layer.inputs):
                    if bottom is value and sample is None:
                        sample = layer.op.sample_bottom(index, value.shape, random)
            if sample is None:
                sample = random.standard_normal(value.shape)
            samples[value.name] = np.asarray(sample, np.float32)
        return samples

    def to_torch(self, **options: Any) -> Any:
        """The net as a trainable ``torch.nn.Module``; see :func:`caffeport.to_torch.build`."""
        from .to_torch import build

        return build(self, **options)

    def to_onnx(self, path: str | Path, **options: Any) -> None:
        """Write the net as an ONNX file; see :func:`caffeport.to_onnx.export`."""
        from .to_onnx import export

        export(self, path, **options)

    def with_weights(self, weights: Any) -> Net:
        """A copy of the net that holds other weights: a torch module made by ``to_torch()``, its
        state_dict, or ``{layer name: [arrays]}``; see :func:`caffeport.to_caffe.with_weights`."""
        from .to_caffe import with_weights

        return with_weights(self, weights)

    def save(self, path: str | Path, prototxt: str | Path | None = None) -> None:
        """Write a ``.caffemodel`` that Caffe loads (and the net's text); see :func:`caffeport.to_caffe.save`."""
        from .to_caffe import save

        save(self, path, prototxt)

    def check(self, inputs: Mapping[str, np.ndarray] | Sequence[np.ndarray] | None = None, **options: Any) -> Report:
        """Compare backends blob by blob; see :func:`caffeport.check`."""
        from .parity import check

        return check(self, inputs, **options)

    def __repr__(self) -> str:
        return f"Net({self.name!r}: {len(self.layers)} layers, {self.inputs} -> {self.outputs})"


def top_shapes(layer: Layer, bottoms: list[Shape]) -> list[Shape]:
    """The layer's top shapes, checked: as many as tops, no axis below 1, no blob beyond Caffe's limit."""
    shapes = [tuple(int(dim) for dim in shape) for shape in layer.op.top_shapes(bottoms)]
    if len(shapes) != len(layer.outputs):
        raise NetError(f"{layer.title}: makes {len(shapes)} tops, but {len(layer.outputs)} are named")
    for value, shape in zip(layer.outputs, shapes, strict=True):
        check_shape(shape, f'{layer.title}: top "{value.name}"')
    return shapes


def check_shape(shape: Iterable[int], title: str) -> None:
    shape = tuple(shape)
    if any(dim < 1 for dim in shape):
        raise NetError(f"{title} would have the shape {shape_text(shape)}: the input is too small, or a size is wrong")
    if math.prod(shape) > MAX_COUNT:
        raise NetError(f"{title} would have the shape {shape_text(shape)}: more than the 2^31 - 1 numbers Caffe allows")
