"""The nodes of an ONNX file that stand for a layer of the net, by the names that caffeport gives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import CaffeportError, did_you_mean
from ..graph.net import Net
from ..to_onnx.names import onnx_names

FRONT = "graph/"
"""The start of the names of nodes that belong to no layer: the preprocessing in front."""


class LayerNodes:
    """``model``, a ModelProto that was exported of ``net``, with its nodes by layer."""

    def __init__(self, net: Net, model: Any) -> None:
        self._net = net
        self._names = {layer.name for layer in net.layers}
        makers = {name: node.name for node in model.graph.node for name in node.output}
        self._nodes: dict[str, set[str]] = {name: set() for name in self._names}
        self._layers: dict[str, str] = {}
        for node in model.graph.node:
            layer = self._by_name(node.name)
            if layer is not None:
                self._nodes[layer].add(node.name)
                self._layers[node.name] = layer
        for value, name in onnx_names(net).items():  # a layer that was folded into another, by what it makes
            if name in makers:
                self._nodes[value.layer.name].add(makers[name])
        self.deciding = set().union(
            *(self._nodes[layer.name] for layer in net.layers if layer.op.varying_axis is not None)
        )
        """Of layers that choose among boxes: as many as the numbers say."""
        self.front = {node.name for node in model.graph.node if node.name.startswith(FRONT)}

    def _by_name(self, node: str) -> str | None:
        """Return the layer with the longest name that the node's begins with."""
        parts = node.split("/")
        for count in range(len(parts) - 1, 0, -1):
            name = "/".join(parts[:count])
            if name in self._names:
                return name
        return None

    def of(self, layers: Sequence[str]) -> set[str]:
        """Return the names of these layers' nodes. Raises CaffeportError for a layer that has none in the file."""
        nodes: set[str] = set()
        for name in layers:
            if name not in self._names:
                near = did_you_mean(name, self._names)
                raise CaffeportError(f'keep (--keep): the net has no layer "{name}"{near}')
            if not self._nodes[name]:
                raise CaffeportError(
                    f'keep (--keep): layer "{name}" ({self._net.layer(name).type}) has no node of its own in the file, '
                    f"where it is left out or folded into another{self._before(name)}"
                )
            nodes |= self._nodes[name]
        return nodes

    def _before(self, name: str) -> str:
        """Return the words that name the nearest layer before this one that has nodes, on the way of first bottoms."""
        inputs = self._net.layer(name).inputs
        while inputs:
            layer = inputs[0].layer
            if layer is None:
                break
            if self._nodes.get(layer.name):
                return f'; name that one, likely "{layer.name}"'
            inputs = layer.inputs
        return "; name that one"

    def whole(self, nodes: Iterable[str]) -> set[str]:
        """Return these nodes and all others of their layers."""
        nodes = set(nodes)
        return nodes.union(*(self._nodes[self._layers[node]] for node in nodes if node in self._layers))

    def layers_of(self, nodes: Iterable[str]) -> list[str]:
        """Return the layers that these nodes belong to, in the net's order."""
        chosen = {self._layers[node] for node in nodes if node in self._layers}
        return [layer.name for layer in self._net.layers if layer.name in chosen]
