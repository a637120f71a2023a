"""The graph that every backend reads: a Net of Layers joined by Values. Imports no backend.

Single assignment: an in-place layer's top is a new Value that remembers its blob's name, so no
walker needs to know that Caffe would have overwritten it.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CaffeportError, NetError, WeightsWarning, name_list, shape_text
from ..formats.byte_names import to_bytes
from ..formats.prototxt import Message
from ..memory import check_room
from ..naming import Names
from ..operators.base import Role, Shape
from ..wiring import reach
from .layer import Layer, Param, Value, top_shapes
from .layer_table import cost_line, layer_facts, layers_html
from .options import Options
from .results import Checked, Exported

if TYPE_CHECKING:
    import torch


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
        """Return the names of the blobs that are fed, as the layers declare them."""
        return [value.name for value in self.input_values]

    @property
    def outputs(self) -> list[str]:
        """Return the names of the blobs that no layer reads, sorted, as pycaffe lists them."""
        return [value.name for value in self.output_values]

    @property
    def blob_shapes(self) -> dict[str, Shape]:
        """Return {blob: shape} at the declared input shapes, each blob as its last layer leaves it."""
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
        """Return the SHA-256 of the weights' file; "" where there is none, or where numbers were given since."""
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
        target: str = "any",
        precision: str = "float32",
        calibrate: Any = None,
        keep: Sequence[str] = (),
    ) -> Exported:
        """Write the net as an ONNX file, whole or not at all; returns the names of its inputs and outputs.

        opset: 13 to 21.
        dynamic_batch: leave the batch axis free, and height and width too where every layer allows it.
        fold: fold BatchNorm, Scale, Bias and Power into the layer with weights before or after them.
        outputs: blobs to export up to, instead of the net's own outputs.
        mean, scale, rgb: preprocessing in front, as in ``to_torch``.
        external_data: weights in ``<path>.data`` beside it; by default only beyond protobuf's 2 GB.
        target: the runtime whose fastest form of every layer is written: "onnxruntime", "openvino", "opencv", or "any",
            what is fastest on the whole; the numbers are the same. It has no effect without ``fold``.
        precision: "float32", or "float16" or "int8" with float32 inputs and outputs, whose layers stay in float32
            where the smaller type does not hold their numbers; ``precision`` of the result says which, and how far the
            outputs moved. Both need ONNX Runtime.
        calibrate: inputs that activations are measured on: a folder, zip or list of images, an .npz, {input: (N, ...)},
            or caffeport.precision.calibration.Images. int8 needs them; float16 does with random ones.
        keep: layers that are to stay in float32.

        A loss or metric at the end of a text for the TEST phase is left out, which a CaffeportWarning tells.

        Raises ExportError for any other loss or metric layer, by name, and for what ONNX cannot express.
        """
        if self.has_random_weights:
            warnings.warn(f"{path} has random weights: {self.weights_source}", WeightsWarning, stacklevel=2)
        lower: dict[str, Any] = {}
        if precision != "float32":
            lower = {"precision": precision, "calibrate": calibrate, "keep": keep}
        elif calibrate is not None or keep:
            raise CaffeportError('calibrate and keep are for precision "float16" and "int8" (--fp16, --int8)')
        exported: Exported = reach("to_lower_precision" if lower else "to_onnx")(
            self,
            path,
            **lower,
            opset=opset,
            dynamic_batch=dynamic_batch,
            fold=fold,
            outputs=outputs,
            mean=mean,
            scale=scale,
            rgb=rgb,
            external_data=external_data,
            target=target,
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
        """Return the multiply-adds of one forward pass at the declared shapes; only layers with big weights count."""
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

    @property
    def cost_line(self) -> str:
        """Return the number of layers, parameters and multiply-adds, and what goes in and out, in one line."""
        inputs = [f"{name} {shape_text(self.blob_shapes[name])}" for name in self.inputs]
        return cost_line(layer_facts(self.layers), inputs, self.outputs)

    def _repr_html_(self) -> str:
        """The table of layers, as a notebook shows it."""
        return layers_html(f"{self.name or '(no name)'}: {self.cost_line}", self.layers, self.weights_source)

    def __repr__(self) -> str:
        return f"Net({self.name!r}: {len(self.layers)} layers, {self.inputs} -> {self.outputs})"
