"""A net's weights, or the net itself, in a file for torch; the name's ending says in which form."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError, CaffeportWarning, ExportError, NetError
from ..files import replacing_path
from ..graph.file_facts import file_facts
from ..graph.layer import Layer
from ..graph.net import Net
from ..graph.preprocessing import METADATA_KEY, Preprocessing
from ..graph.walk import wanted_values
from ..json_text import to_json
from ..lazy import require
from .safetensors_file import state_arrays, write_safetensors

FORMATS = {
    ".safetensors": "a state_dict",
    ".pth": "a state_dict",
    ".pt": "a state_dict",
    ".pt2": "a program of torch.export",
}


FACTS = "caffeport.json"
"""The extra file of a ``.pt2`` with what it says of itself, as other forms have it in their metadata."""


def check_format(path: str | Path) -> str:
    """The ending of ``path``; raises CaffeportError, which lists those there are, for any other."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        known = ", ".join(f"{ending} ({form})" for ending, form in FORMATS.items())
        raise CaffeportError(f"{path}: a file for torch is named by its form: {known}; got {ending or 'no ending'}")
    return ending


def save_torch(
    net: Net,
    path: str | Path,
    *,
    ending: str | None = None,
    outputs: Sequence[str] | None = None,
    mean: Any = None,
    scale: float | None = None,
    rgb: bool = False,
    dynamic_batch: bool = True,
) -> None:
    """Write the net whole or not at all, in the form that the ending of ``path`` names, or ``ending`` in its place.

    ``.safetensors``: every blob, for ``model.load_state_dict(safetensors.torch.load_file(path))``; needs no torch.
    ``.pth`` and ``.pt``: the same for ``torch.load(path, weights_only=True)``.
    ``.pt2``: what ``net.to_torch(outputs=..., mean=..., scale=..., rgb=...)`` gives, for ``torch.export.load(path)``;
    with ``dynamic_batch`` for any batch size where the layers allow it, else for the declared one.

    ``.safetensors`` and ``.pt2`` say what they are made of (caffeport.graph.file_facts); the former also what has to
    be done to images before it, by ``mean``, ``scale`` and ``rgb``.

    Blobs that layers share are written under each of their names, since load_state_dict wants all keys.
    """
    ending = check_format(path) if ending is None else ending
    wanted = wanted_values(net, outputs)
    with replacing_path(path) as temporary:
        if ending == ".pt2":
            module = net.to_torch(outputs=outputs, mean=mean, scale=scale, rgb=rgb)
            facts = file_facts(net, (value.name for value in wanted))
            front = Preprocessing.of(net, wanted, mean, scale, rgb)
            facts |= {} if front is None else {METADATA_KEY: front.to_json()}
            temporary.write_bytes(_program(net, module, dynamic_batch, facts))
        elif ending == ".safetensors":
            write_safetensors(net, temporary, Preprocessing.of(net, wanted, mean, scale, rgb))
        else:
            torch = require("torch")
            with temporary.open("wb") as stream:  # to a path torch would write its random name into the file
                torch.save({key: torch.from_numpy(array) for key, array in state_arrays(net).items()}, stream)


def _program(net: Net, module: Any, dynamic_batch: bool, facts: dict[str, str]) -> bytes:
    """The bytes of torch.export's program of the module, for any batch size if that is wanted and can be."""
    batched = _batched_inputs(net) if dynamic_batch else None
    if batched:
        with contextlib.suppress(ExportError):
            return _traced(net, module, batched, facts)
    if dynamic_batch and _varying(net) is None:
        warnings.warn(
            f"net {net.name!r}: a layer fixes the batch size, so the .pt2 file is for the declared shapes",
            CaffeportWarning,
            stacklevel=4,
        )
    return _traced(net, module, set(), facts)


def _varying(net: Net) -> Layer | None:
    """Return a layer that gives as many rows as the numbers say, if the net has one."""
    return next((layer for layer in net.layers if layer.op.varying_axis is not None), None)


def _traced(net: Net, module: Any, batched: set[str], facts: dict[str, str]) -> bytes:
    """The program of one trace; the first axis of the ``batched`` inputs is free."""
    torch = require("torch")
    samples, axes = [], []
    for name, sample in net.sample_inputs().items():
        # Two images at least: torch takes a size of 1 for a constant.
        samples.append(torch.from_numpy(np.concatenate([sample, sample]) if name in batched else sample))
        axes.append({0: torch.export.Dim("N", min=1)} if name in batched else None)
    shapes = {"inputs": tuple(axes)} if batched else None
    stream = io.BytesIO()
    try:
        # Where it fails torch prints the whole graph, thousands of lines.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # torch's, on its own future
            program = torch.export.export(module, tuple(samples), dynamic_shapes=shapes)
            for graph in (part.graph for part in program.graph_module.modules() if hasattr(part, "graph")):
                for node in graph.nodes:
                    node.meta.pop("stack_trace", None)  # it holds paths of this machine
            torch.export.save(program, stream, extra_files={FACTS: to_json(facts)})
    except Exception as error:  # torch.export has many, without a base of their own
        varying = _varying(net)
        if varying is not None:
            raise ExportError(
                f"{varying.title}: gives as many rows as the numbers say, which torch.export does not take; name a "
                "blob before it (--output BLOB), or write its weights (.safetensors) or an ONNX file"
            ) from error
        words = str(error).strip().partition("\n")[0]
        raise ExportError(f"net {net.name!r}: torch.export does not take it: {words}") from error
    return stream.getvalue()


def _batched_inputs(net: Net) -> set[str] | None:
    """The inputs whose first axis is the batch, if the net's layers allow another batch size, else None."""
    inputs = [value for value in net.input_values if value.shape]
    if not inputs:
        return None
    batched = [value for value in inputs if value.shape[0] == inputs[0].shape[0]]
    try:
        net.infer({value: (2 * value.shape[0], *value.shape[1:]) for value in batched})
    except NetError:
        return None
    return {value.name for value in batched}
