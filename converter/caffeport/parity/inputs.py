"""What a check runs on: the inputs that are given, those of a reference, or random ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError, shape_text
from ..formats.other_files import misplaced, substitute_of_file
from ..graph.layer import Value
from ..graph.net import Net
from ..graph.walk import read_inputs
from ..operators.base import Role
from .report import Blobs


def reference_blobs(net: Net, reference: str | Path | Mapping[str, np.ndarray] | None) -> Blobs | None:
    if reference is None:
        return None
    title = "the reference"
    if isinstance(reference, (str, Path)):
        title = str(reference)
        reference = load_arrays(reference)
    blobs = {name.removeprefix("data/"): np.asarray(array) for name, array in reference.items()}
    known = {name: array for name, array in blobs.items() if name in net.blobs}
    if not any(net.blobs[name].layer.op.role is not Role.DATA for name in known):
        raise CaffeportError(f"{title} holds no blob of this net: it has {', '.join(list(blobs)[:5]) or 'nothing'}")
    return known


def load_arrays(path: str | Path) -> Blobs:
    """The arrays of an .npz or .npy ("" is the name of a lone array); nothing in it is executed."""
    try:
        with open(path, "rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            return {name: loaded[name] for name in loaded.files if _numeric(path, loaded, name)}
    except OSError as error:
        raise CaffeportError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile, zlib and NumPy each have their own for a broken file
        substitute = substitute_of_file(path)
        if substitute is not None:
            raise CaffeportError(f"{path}: {misplaced(substitute, 'an .npz or .npy')}") from error
        # NumPy's advice for a file with objects in it is to unpickle them, which would run its code.
        raise CaffeportError(f"{path}: is broken, or no .npz or .npy of plain numbers") from error


def _numeric(path: str | Path, loaded: Any, name: str) -> bool:
    return loaded[name].dtype.kind in "fiub"


def fed_inputs(net: Net, inputs: Any, recorded: Blobs | None, seed: int) -> Blobs:
    """An array for every input of the net; random numbers serve where no layer's result depends on it."""
    read = read_inputs(net, [value for value in net.values if value.layer.op.role is not Role.DATA])
    names = [value.name for value in read]
    if inputs is None and recorded is not None:
        inputs = {value.name: _recorded_input(net, value, recorded) for value in read}
    elif inputs is None:
        inputs = net.sample_inputs(seed)
    if isinstance(inputs, np.ndarray) or hasattr(inputs, "detach"):
        inputs = [inputs]
    if not isinstance(inputs, Mapping):
        expected = net.inputs if len(inputs) == len(net.inputs) else names
        if len(inputs) != len(expected):
            raise CaffeportError(f"expected {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
        inputs = dict(zip(expected, inputs, strict=True))
    if "" in inputs and len(inputs) == len(names) == 1:
        inputs = {names[0]: inputs[""]}
    fed = {}
    for value in net.input_values:
        if value.name in inputs:
            given = inputs[value.name]
        elif value in read:
            raise CaffeportError(f'no input for "{value.name}"; the net\'s inputs are {", ".join(names)}')
        else:
            given = np.random.default_rng(seed).standard_normal(value.shape)
        given = given.detach().cpu().numpy() if hasattr(given, "detach") else given
        array = np.array(given, np.float32, order="C")
        if array.ndim != len(value.shape):
            raise CaffeportError(f'input "{value.name}" is {shape_text(value.shape)}, got {shape_text(array.shape)}')
        fed[value.name] = array
    net.infer({value: fed[value.name].shape for value in net.input_values})
    return fed


def _recorded_input(net: Net, value: Value, recorded: Blobs) -> np.ndarray:
    if value.name not in recorded:
        raise CaffeportError(f'the reference lacks the input "{value.name}"; give the inputs it was made with')
    last = net.blobs[value.name]
    if last is not value:
        raise CaffeportError(
            f'the reference\'s "{value.name}" is what {last.layer.title} left there, working in place, not the input; '
            "give the inputs it was made with (inputs=, --input)"
        )
    return recorded[value.name]
