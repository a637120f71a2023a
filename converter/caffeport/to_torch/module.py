"""A Net as a torch module that computes, and trains, what Caffe would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, fx, nn

from ..errors import CaffeportError, InputShapeError, shape_text
from ..graph.layer import Layer, Value
from ..graph.module_names import module_paths, state_names
from ..graph.net import Net
from ..graph.preprocessing import Preprocessing
from ..graph.walk import needed_layers, wanted_values
from ..operators.base import Phase, Role
from . import fx as torch_fx
from .errors import FAULTS, differences, fails_on_zeros
from .modules import Preprocess


def build(
    net: Net,
    *,
    outputs: Sequence[str] | None = None,
    mean: Any = None,
    scale: float | None = None,
    rgb: bool = False,
) -> CaffeModule:
    """The net as an ``nn.Module``.

    Its forward takes a tensor for each of ``net.inputs``, in that order, and returns a tensor if there is
    one output, else ``{blob name: tensor}``. Blobs are parameters (statistics are buffers) whose
    state_dict keys are ``<Caffe's layer name>.<blob>``; blobs that layers share are one parameter.
    It is in training mode if the net was loaded for the train phase, else in eval mode.

    outputs: blobs to return instead of the net's own outputs; layers that they do not need are left out. The
        inputs stay those of the net; None will do for one that these outputs do not depend on.
    mean, scale, rgb: put preprocessing in front of the first image input that is read: (x - mean) * scale, and with
    ``rgb`` the channels are reversed first (Caffe's nets expect BGR). mean has the net's channel order.
    """
    wanted = wanted_values(net, outputs)
    layers = net.layers if outputs is None else needed_layers(net, wanted)
    module = CaffeModule(net, layers, wanted, Preprocessing.of(net, wanted, mean, scale, rgb))
    return module.train(net.phase is Phase.TRAIN)


class Step(NamedTuple):
    """A layer: where its module is, where its inputs are, where its outputs go."""

    title: str
    path: tuple[str, ...]
    inputs: list[int]
    outputs: list[int]
    dead: list[int]  # what nobody needs afterwards
    stops: set[int]  # the inputs, by their place, that the gradient does not pass (propagate_down: false)
    flatten: int | None  # the axis from which on the input is flattened first


class CaffeModule(nn.Module):
    """Runs the layers in Caffe's order; a blob is dropped as soon as nobody needs it.

    ``layer_paths`` tells where each layer's module is, for ``get_submodule``: at the layer's name, save for a few
    that torch's tools could not use (``training``, ``forward``). Keys of the state_dict have the layer's name always.
    """

    def __init__(self, net: Net, layers: list[Layer], wanted: list[Value], preprocessing: Preprocessing | None) -> None:
        super().__init__()
        self.input_names = net.inputs
        self.output_names = [value.name for value in wanted]
        self.preprocessing = Preprocess(preprocessing) if preprocessing is not None else None
        self.loss_weights = {
            value.name: weight
            for layer in net.layers
            for value, weight in zip(layer.outputs, layer.loss_weights, strict=True)
            if weight and net.blobs[value.name] is value
        }
        index = {value: i for i, value in enumerate(net.values)}
        self._keys = [value.key for value in net.values]
        self._declared = [(value.name, value.shape) for value in net.values]
        self._inputs = [index[value] for value in net.input_values]
        self._outputs = [index[value] for value in wanted]
        # Modules are looked up when they run, so that they can be replaced.
        self._plan: list[Step] = []
        self._caffe_keys: dict[str, str] = {}  # of blobs whose layer is not at its name: the key by path, Caffe's
        self.layer_paths: dict[str, str] = {}

        layers = [layer for layer in layers if layer.op.role is not Role.DATA]
        names = state_names(net.layers)
        last_use = {index[value]: step for step, layer in enumerate(layers) for value in layer.inputs}
        shared: dict[int, nn.Parameter | Tensor] = {}
        paths = module_paths(names.values(), {*dir(self), *torch_fx.attributes()})
        for step, layer in enumerate(layers):
            name = names[layer]
            path = paths[name]
            module = _module(layer, shared)
            if layer.op.full_precision:
                cast(Any, module).full_precision = True  # for who trains in mixed precision
            _place(self, path, module)
            self.layer_paths[name] = path
            if path != name:
                self._caffe_keys.update({f"{path}.{spec.name}": f"{name}.{spec.name}" for spec in layer.specs})
            inputs, outputs = ([index[value] for value in values] for values in (layer.inputs, layer.outputs))
            dead = [i for i in {*inputs, *outputs} if last_use.get(i, step) == step and i not in self._outputs]
            stops = {i for i, passes in enumerate(layer.propagate_down) if not passes}
            flatten = layer.op.flatten_axis([value.shape for value in layer.inputs])
            self._plan.append(Step(layer.title, tuple(path.split(".")), inputs, outputs, dead, stops, flatten))

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        if isinstance(inputs, fx.Proxy):
            inputs = tuple(torch_fx.placeholders(inputs, self.input_names))
        values = self._run(inputs, keep=False)
        if len(self._outputs) == 1:
            return values[self._outputs[0]]
        return {name: values[i] for name, i in zip(self.output_names, self._outputs, strict=True)}

    def blobs(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Every blob after a forward pass; of in-place versions the last has the blob's own name."""
        return {self._keys[i]: value for i, value in self._run(inputs, keep=True).items()}

    def stream(self, *inputs: Tensor, keep: Callable[[Tensor], Tensor] | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield (key, tensor) of every blob that a layer makes, as ``blobs`` gives them, while it is made.

        A blob is dropped here after the last layer that reads it, so that a pass over a large net takes no more than
        the blobs that are still read. ``keep`` returns what is to stand for a blob from there on.
        """
        values = self._fed(inputs, None)
        last = {i: number for number, step in enumerate(self._plan) for i in step.inputs}
        for number, step in enumerate(self._plan):
            self._run_step(step, values, inputs, None)
            if keep is not None:
                for i in step.outputs:
                    values[i] = keep(values[i])
            made = [(self._keys[i], values[i]) for i in step.outputs]
            for i in {*step.inputs, *step.outputs}:
                if last.get(i, -1) <= number:
                    values.pop(i, None)
            made.reverse()
            while made:
                yield made.pop()

    def loss(self, outputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """The sum of the outputs weighted by their loss_weight, as Caffe's solver minimises it."""
        if isinstance(outputs, Tensor):
            outputs = {self.output_names[0]: outputs}
        weighted = [weight * outputs[name].sum() for name, weight in self.loss_weights.items() if name in outputs]
        if not weighted:
            raise CaffeportError('no output has a loss_weight; load the net with phase="train" to keep its losses')
        return torch.stack(weighted).sum()

    def _run(self, inputs: Sequence[Tensor], keep: bool) -> dict[int, Tensor]:
        tracer = torch_fx.tracer_of(inputs)
        values = self._fed(inputs, tracer)
        for step in self._plan:
            self._run_step(step, values, inputs, tracer)
            if not keep:
                for i in step.dead:
                    del values[i]
        return values

    def _fed(self, inputs: Sequence[Tensor], tracer: Any) -> dict[int, Tensor]:
        """{place: tensor} before the first layer."""
        if len(inputs) != len(self._inputs):
            expected = ", ".join(self.input_names)
            raise CaffeportError(f"expected {len(self._inputs)} inputs ({expected}), got {len(inputs)}")
        values = dict(zip(self._inputs, inputs, strict=True))
        if self.preprocessing is not None:
            image = self._inputs[self.preprocessing.index]
            read = [values[image]]
            front = self.preprocessing
            values[image] = front(*read) if tracer is None else torch_fx.call(tracer, front, read, 1)
        return values

    def _run_step(self, step: Step, values: dict[int, Tensor], inputs: Sequence[Tensor], tracer: Any) -> None:
        """Run one layer on what it reads in ``values``, and put there what it makes."""
        _, path, bottoms, tops, _, stops, flatten = step
        module: Any = self  # which torch declares to hold modules, or None
        for part in path:
            module = module._modules[part]
        read = [values[i] for i in bottoms]
        if stops:
            read = [x.detach() if place in stops else x for place, x in enumerate(read)]
        try:
            if flatten is not None:
                read[0] = read[0].flatten(flatten)
            results = module(*read) if tracer is None else torch_fx.call(tracer, module, read, len(tops))
        except FAULTS as error:
            if fails_on_zeros(module, read):
                self._raise_for_shapes(step, values, inputs, error)
            raise
        if len(tops) == 1 and not isinstance(results, (list, tuple)):
            values[tops[0]] = results
        else:
            values.update(zip(tops, results, strict=True))

    def _raise_for_shapes(
        self, step: Step, values: Mapping[int, Tensor], inputs: Sequence[Tensor], error: Exception
    ) -> None:
        """Raise an error that names the layer if a shape is not what the net declares."""
        bottoms = differences([values[i] for i in step.inputs], [self._declared[i] for i in step.inputs])
        if not bottoms:
            return
        first = differences(inputs, [self._declared[i] for i in self._inputs])
        where = f" (input: {'; '.join(first)})" if first and first != bottoms else ""
        said = str(error).partition("\n")[0]
        raise InputShapeError(f"{step.title}: {'; '.join(bottoms)}{where}; torch says: {said}") from error

    # A layer at another place than its name: the state_dict has its name all the same.

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        state = super().state_dict(*args, **kwargs)
        prefix = kwargs.get("prefix", args[1] if len(args) > 1 else "")
        _rename(state, prefix, self._caffe_keys)
        return state

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        _rename(state_dict, prefix, {key: path for path, key in self._caffe_keys.items()})
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        inputs, outputs = ([self._declared[i] for i in places] for places in (self._inputs, self._outputs))
        return " -> ".join(
            ", ".join(f"{name} {shape_text(shape)}" for name, shape in side) for side in (inputs, outputs)
        )


def _module(layer: Layer, shared: dict[int, Any]) -> nn.Module:
    """The layer's module with its blobs in place; ``shared`` maps a Param to what holds it already."""
    shapes = [value.shape for value in layer.inputs]
    with torch.device("meta"):
        module: nn.Module = layer.op.module(shapes)
    views = {}
    for param, spec in zip(layer.params, layer.specs, strict=True):
        if id(param) not in shared:
            # A copy: the file's numbers are read-only, and two modules of one net must not share them.
            tensor = torch.from_numpy(np.array(param.data, np.float32))
            shared[id(param)] = nn.Parameter(tensor, requires_grad=spec.trained) if spec.trained else tensor
        held = shared[id(param)]
        module._parameters.pop(spec.name, None)
        if isinstance(held, nn.Parameter):
            module.register_parameter(spec.name, held)
        else:
            module.register_buffer(spec.name, held)
        if tuple(held.shape) != spec.shape:
            views[spec.name] = spec.shape
    return _Reshaped(module, views) if views else module


class _Reshaped(nn.Module):
    """A layer that shares blobs of another shape (share_mode PERMISSIVE)."""

    _layer: nn.Module

    def __init__(self, layer: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self._modules = layer._modules
        self._parameters, self._buffers = layer._parameters, layer._buffers
        self._shapes = shapes
        object.__setattr__(self, "_layer", layer)

    def forward(self, *x: Tensor) -> Any:
        held: dict[str, Any] = {**self._parameters, **self._buffers}
        views = {name: held[name].reshape(shape) for name, shape in self._shapes.items()}
        return torch.func.functional_call(self._layer, {**held, **views}, x)


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    """Set the module without add_module, which refuses names like "1" and "" in a path."""
    *outer, name = path.split(".")
    for part in outer:
        root = root._modules.setdefault(part, nn.Module())  # type: ignore[assignment]
    root._modules[name] = module


def _rename(state: Any, prefix: str, names: Mapping[str, str]) -> None:
    """Rename keys of ``state`` under ``prefix``, each at its place."""
    if names:
        renamed = {f"{prefix}{old}": f"{prefix}{new}" for old, new in names.items()}
        items = [(renamed.get(key, key), value) for key, value in state.items()]
        state.clear()
        state.update(items)
