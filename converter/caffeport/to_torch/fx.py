"""A net's module under torch.fx: an input by its blob's name, a node a layer.

torch's own modules are left to the tracer's rules. Any other becomes one node whole, so that every net can be traced,
its losses too, and so that what a module does while it trains is not cut down to what it did while it was traced.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import fx, nn


@cache
def attributes() -> frozenset[str]:
    """The attributes that a module is asked for by itself, also after it went through fx or TorchScript."""
    return frozenset({"self", *dir(fx.GraphModule(nn.Module(), fx.Graph())), *dir(torch.jit.ScriptModule)})


def placeholders(arguments: fx.Proxy, names: Sequence[str]) -> list[fx.Proxy]:
    """An input for each of ``names``, instead of the one that fx has made for ``*inputs``."""
    tracer, taken, proxies = arguments.tracer, set[str](), []
    for name in names:
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not name.isidentifier() or keyword.iskeyword(name) or name == "self":
            name = f"input_{name}"
        while name in taken:
            name += "_"
        taken.add(name)
        proxies.append(tracer.create_proxy("placeholder", name, (), {}))
    tracer.graph.erase_node(arguments.node)
    return proxies


def tracer_of(inputs: Sequence[Any]) -> Any:
    """The tracer that follows these inputs, or None."""
    for x in inputs:
        if isinstance(x, fx.Proxy):
            return x.tracer
    return None


def call(tracer: Any, module: nn.Module, inputs: Sequence[Any], outputs: int) -> Any:
    """Return what ``module`` gives under the tracer: one value, or a list of ``outputs``."""
    if type(module).__module__.startswith("torch."):
        return module(*inputs)
    proxy = tracer.create_proxy("call_module", tracer.path_of_module(module), tuple(inputs), {})
    return proxy if outputs == 1 else [proxy[i] for i in range(outputs)]
