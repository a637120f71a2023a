"""What ``debug_info: true`` prints of an iteration: how large every blob, parameter and gradient is, on the mean.

Source: BVLC/caffe, Net::ForwardDebugInfo and BackwardDebugInfo. The lines and their numbers are Caffe's, the layers
those of the net's text: the Split layers that Caffe puts in where a blob has several readers have no lines here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caffeport import Layer, Message, Net
from caffeport.operators.base import Role
from torch import Tensor


def forward_lines(net: Net, blobs: Mapping[str, Tensor], params: Sequence[Tensor]) -> list[str]:
    """The [Forward] lines: blobs as ``CaffeModule.blobs`` gives them, params in the order of ``net.params``."""
    lines = []
    held = dict(zip(map(id, net.params), params, strict=True))
    for layer in net.layers:
        for value in layer.outputs:
            if value.key in blobs:
                lines.append(f"    [Forward] Layer {layer.name}, top blob {value.name} data: {_size(blobs[value.key])}")
        names = _shared_names(layer)
        for index, param in enumerate(layer.params):
            name = names[index] if index < len(names) and names[index] else str(index)
            lines.append(f"    [Forward] Layer {layer.name}, param blob {name} data: {_size(held[id(param)])}")
    return lines


def backward_lines(net: Net, blobs: Mapping[str, Tensor], params: Sequence[Tensor]) -> list[str]:
    """The [Backward] lines, the last layer first; blobs and params hold the gradients in ``grad``."""
    lines = []
    held = dict(zip(map(id, net.params), params, strict=True))
    for layer in reversed(net.layers):
        if layer.op.role is Role.DATA:
            continue
        for value in layer.inputs:
            blob = blobs.get(value.key)
            if blob is not None and blob.grad is not None:
                lines.append(f"    [Backward] Layer {layer.name}, bottom blob {value.name} diff: {_size(blob.grad)}")
        for index, param in enumerate(layer.params):
            grad = held[id(param)].grad
            if grad is not None or not param.trained:  # statistics have a gradient of 0 there
                size = "0" if grad is None else _size(grad)
                lines.append(f"    [Backward] Layer {layer.name}, param blob {index} diff: {size}")
    return lines


def _shared_names(layer: Layer) -> list[str]:
    """The name of each ``param { name: … }`` of a layer's text, empty where it has none."""
    stated = [] if layer.text is None else [entry.value for entry in layer.text.fields if entry.name == "param"]
    return [message.text("name") if isinstance(message, Message) else "" for message in stated]


def _size(tensor: Tensor) -> str:
    return f"{float(tensor.detach().float().abs().mean()) if tensor.numel() else 0.0:g}"
