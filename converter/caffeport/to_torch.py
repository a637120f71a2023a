"""A Net as a torch module that computes, and trains, what Caffe would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .errors import CaffeportError
from .layers.base import Phase, Role
from .module_paths import module_paths
from .net import Layer, Net, Value
from .preprocessing import Preprocessing
from .walk import needed_layers, wanted_values


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


class CaffeModule(nn.Module):
    """Runs the layers in Caffe's order; a blob is dropped as soon as nobody needs it."""

    def __init__(self, net: Net, layers: list[Layer], wanted: list[Value], preprocessing: Preprocessing | None) -> None:
        super().__init__()
        self.input_names = net.inputs
        self.output_names = [value.name for value in wanted]
        self.preprocessing = preprocessing
        self.loss_weights = {
            value.name: weight
            for layer in net.layers
            for value, weight in zip(layer.outputs, layer.loss_weights, strict=True)
            if weight and net.blobs[value.name] is value
        }
        index = {value: i for i, value in enumerate(net.values)}
        self._keys = [value.key for value in net.values]
        self._inputs = [index[value] for value in net.input_values]
        self._outputs = [index[value] for value in wanted]
        layers = [layer for layer in layers if layer.op.role is not Role.DATA]
        last_use = {index[value]: step for step, layer in enumerate(layers) for value in layer.inputs}
        # For each layer: the path of its module, where its inputs are, where its outputs go, what nobody needs
        # afterwards, and of which inputs the gradient stops (propagate_down: false), by their place.
        # Modules are looked up when they run, so that they can be replaced.
        self._plan: list[tuple[tuple[str, ...], list[int], list[int], list[int], set[int]]] = []
        shared: dict[int, nn.Parameter | Tensor] = {}
        paths = module_paths(net.layers)
        for step, layer in enumerate(layers):
            path = tuple(paths[layer].split("."))
            module = _module(layer, shared)
            module.full_precision = layer.op.full_precision  # for who trains in mixed precision
            _place(self, path, module)
            inputs = [index[value] for value in layer.inputs]
            outputs = [index[value] for value in layer.outputs]
            dead = [i for i in {*inputs, *outputs} if last_use.get(i, step) == step and i not in self._outputs]
            stops = {i for i, passes in enumerate(layer.propagate_down) if not passes}
            self._plan.append((path, inputs, outputs, dead, stops))

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        values = self._run(inputs, keep=False)
        if len(self._outputs) == 1:
            return values[self._outputs[0]]
        return {name: values[i] for name, i in zip(self.output_names, self._outputs, strict=True)}

    def blobs(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Every blob after a forward pass; of in-place versions the last has the blob's own name."""
        return {self._keys[i]: value for i, value in self._run(inputs, keep=True).items()}

    def loss(self, outputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """The sum of the outputs weighted by their loss_weight, as Caffe's solver minimises it."""
        if isinstance(outputs, Tensor):
            outputs = {self.output_names[0]: outputs}
        weighted = [weight * outputs[name].sum() for name, weight in self.loss_weights.items() if name in outputs]
        if not weighted:
            raise CaffeportError('no output has a loss_weight; load the net with phase="train" to keep its losses')
        return torch.stack(weighted).sum()

    def _run(self, inputs: Sequence[Tensor], keep: bool) -> dict[int, Tensor]:
        if len(inputs) != len(self._inputs):
            expected = ", ".join(self.input_names)
            raise CaffeportError(f"expected {len(self._inputs)} inputs ({expected}), got {len(inputs)}")
        if self.preprocessing is not None:
            inputs = self.preprocessing.apply_torch(inputs)
        values = dict(zip(self._inputs, inputs, strict=True))
        for path, bottoms, tops, dead, stops in self._plan:
            module: nn.Module = self
            for part in path:
                module = module._modules[part]
            read = [values[i] for i in bottoms]
            if stops:
                read = [x.detach() if place in stops else x for place, x in enumerate(read)]
            made = module(*read)
            if isinstance(made, Tensor):
                values[tops[0]] = made
            else:
                values.update(zip(tops, made, strict=True))
            if not keep:
                for i in dead:
                    del values[i]
        return values


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

    def __init__(self, layer: nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self._modules = layer._modules
        self._parameters, self._buffers = layer._parameters, layer._buffers
        self._shapes = shapes
        object.__setattr__(self, "_layer", layer)

    def forward(self, *x: Tensor) -> Any:
        held = {**self._parameters, **self._buffers}
        views = {name: held[name].reshape(shape) for name, shape in self._shapes.items()}
        return torch.func.functional_call(self._layer, {**held, **views}, x)


def _place(root: nn.Module, path: tuple[str, ...], module: nn.Module) -> None:
    """Set the module without add_module, which refuses names that a module has as attributes ("type")."""
    owner = root
    for part in path[:-1]:
        child = owner._modules.get(part)
        if child is None:
            child = owner._modules[part] = nn.Module()
        owner = child
    held = owner._modules.get(path[-1])
    if held is not None:  # this name starts an earlier dotted one
        for key, child in held._modules.items():
            module._modules.setdefault(key, child)
    owner._modules[path[-1]] = module
