"""What a check runs on: the inputs that are given, those of a reference, or random ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import CaffeportError, shape_text
from ..formats.other_files import misplaced, substitute_of_file
from ..graph.layer import Value
from ..graph.net import Net
from ..graph.walk import read_inputs
from ..operators.base import Role
from .report import Blobs

Result = TypeVar("Result")
_NUMERIC = "fiub"
"""NumPy's kinds of numbers: floating, signed, unsigned, bool."""


def reference_blobs(net: Net, reference: str | Path | Mapping[str, np.ndarray] | None) -> Blobs | None:
    if reference is None:
        return None
    title = "the reference"
    if isinstance(reference, (str, Path)):
        title = str(reference)
        reference = Recorded(reference)
    names = {name.removeprefix("data/"): name for name in reference}
    known = {key: name for key, name in names.items() if key in net.blobs}
    if not any(net.blobs[key].layer.op.role is not Role.DATA for key in known):
        raise CaffeportError(f"{title} holds no blob of this net: it has {', '.join(list(names)[:5]) or 'nothing'}")
    return _Renamed(reference, known)


class _Named(Mapping[str, np.ndarray]):
    """Arrays whose names are known before any of them is read; a subclass gives the array of a name."""

    _names: Collection[str]

    def __contains__(self, key: object) -> bool:
        return key in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Renamed(_Named):
    """Some of the arrays of another mapping, by other names: {name here: name there}."""

    def __init__(self, arrays: Mapping[str, np.ndarray], names: Mapping[str, str]) -> None:
        self._arrays, self._others, self._names = arrays, names, names.keys()

    def __getitem__(self, key: str) -> np.ndarray:
        return np.asarray(self._arrays[self._others[key]])


class Recorded(_Named):
    """The arrays of numbers in an .npz, each read from the disk when it is asked for, or the one of an .npy.

    All are looked at once, so that a broken file is refused before anything runs.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._names = list(_read(path, lambda stored: [name for name in stored if stored[name].dtype.kind in _NUMERIC]))

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._names:
            raise KeyError(key)
        return _read(self._path, lambda stored: stored[key])


def load_arrays(path: str | Path) -> Blobs:
    """The arrays of an .npz or .npy ("" is the name of a lone array); nothing in it is executed."""
    return dict(Recorded(path))


def _read(path: str | Path, take: Callable[[Mapping[str, np.ndarray]], Result]) -> Result:
    """What ``take`` returns of the file's arrays; whatever is wrong with the file becomes a CaffeportError."""
    try:
        with open(path, "rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            return take({"": loaded} if isinstance(loaded, np.ndarray) else loaded)
    except OSError as error:
        raise CaffeportError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile, zlib and NumPy each have their own for a broken file
        substitute = substitute_of_file(path)
        if substitute is not None:
            raise CaffeportError(f"{path}: {misplaced(substitute, 'an .npz or .npy')}") from error
        # NumPy's advice for a file with objects in it is to unpickle them, which would run its code.
        raise CaffeportError(f"{path}: is broken, or no .npz or .npy of plain numbers") from error


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
        try:
            array = np.array(given, np.float32, order="C")
        except (TypeError, ValueError) as error:
            raise CaffeportError(f'input "{value.name}" is no array of numbers: {error}') from error
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
