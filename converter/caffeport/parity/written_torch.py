"""A file of weights, or a program, for torch that exists, run beside the Net; no pickle is executed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CaffeportError, shape_text
from ..formats.other_files import PICKLE, PYTORCH, SAFETENSORS, kind_of_file, misplaced
from ..formats.safetensors_header import refuse_many
from ..graph.net import Net
from ..lazy import require
from ..operators.base import Role
from .streamed import Streamed

ENDINGS = (".safetensors", ".pth", ".pt", ".pt2")


def run(net: Net, path: str | Path, fed: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """{Value key: array} of a forward pass with the file's weights, or of the program's outputs.

    The forward pass goes on while its blobs are asked for; see Streamed.

    A ``.safetensors``, ``.pth`` or ``.pt`` holds weights by the keys of ``to_torch()``'s state_dict and gives every
    blob; a ``.pt2`` is a whole program and gives its outputs.

    Raises CaffeportError for another ending, a file that cannot be read, and weights that are another net's.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise CaffeportError(
            f"{path}: expected a file for torch ({', '.join(ENDINGS)}), got {path.suffix or 'no ending'}"
        )
    if not path.is_file():
        raise CaffeportError(f"{path}: {'is no file' if path.exists() else 'No such file or directory'}")
    torch = require("torch")
    inputs = [torch.from_numpy(np.ascontiguousarray(fed[name], np.float32)) for name in net.inputs]
    if path.suffix == ".pt2":
        return _run_program(net, path, inputs)
    module: Any = net.to_torch().eval()
    state = _read_state(path)
    _refuse_other_nets(path, state, module.state_dict())
    module.load_state_dict(state)
    return Streamed(
        [value.key for value in net.values if value.layer.op.role is not Role.DATA], _arrays(module, inputs)
    )


def _arrays(module: Any, inputs: list[Any]) -> Iterator[tuple[str, np.ndarray]]:
    made = module.stream(*inputs)
    while True:
        with require("torch").no_grad():  # not while somebody else runs
            key, tensor = next(made, ("", None))
        if tensor is None:
            return
        yield key, tensor.numpy()


def _read_state(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            refuse_many(path)
            state = require("safetensors.torch").load_file(str(path))
        else:
            state = require("torch").load(path, map_location="cpu", weights_only=True)
    except CaffeportError:
        raise
    except Exception as error:  # safetensors, zipfile and the unpickler each have their own
        _refuse_other_files(path)
        said = str(error).strip().partition("\n")[0]
        raise CaffeportError(f"{path}: holds no weights that can be read ({said[:120]})") from error
    if not isinstance(state, dict) or not all(hasattr(tensor, "shape") for tensor in state.values()):
        raise CaffeportError(f"{path}: holds no state_dict, {{name: tensor}}")
    return {name: tensor.float() for name, tensor in state.items()}


def _refuse_other_files(path: Path) -> None:
    """Raise CaffeportError for a file that cannot be read because it is something else."""
    kind = kind_of_file(path)
    if kind is not None and kind not in (PYTORCH, PICKLE, SAFETENSORS):
        raise CaffeportError(f"{path}: {misplaced(kind, 'a file for torch (.safetensors, .pth, .pt2)')}")


def _refuse_other_nets(path: Path, state: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    missing = [name for name in wanted if name not in state]
    beyond = [name for name in state if name not in wanted]
    if missing or beyond:
        words = [f"lacks {_some(missing)}"] * bool(missing) + [f"has {_some(beyond)}"] * bool(beyond)
        raise CaffeportError(f"{path}: are another net's weights: the file {' and '.join(words)}")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{shape_text(tuple(tensor.shape))}, this net wants {shape_text(tuple(wanted[name].shape))}"
            raise CaffeportError(f"{path}: are another net's weights: {name} is {shapes}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


@contextlib.contextmanager
def _no_pickles() -> Iterator[None]:
    """Keep torch.export.load from unpickling code, which it would try where plain weights do not load."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _run_program(net: Net, path: Path, inputs: list[Any]) -> dict[str, np.ndarray]:
    torch = require("torch")
    try:
        with _no_pickles():
            program = torch.export.load(path)
    except Exception as error:  # torch.export has many, without a base of their own
        _refuse_other_files(path)
        raise CaffeportError(f"{path}: is no program that torch.export can load") from error
    try:
        with torch.no_grad():
            results = program.module()(*inputs)
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        raise CaffeportError(f"{path}: does not run on this net's inputs: {said[:200]}") from error
    if not isinstance(results, dict):
        names = net.outputs
        results = dict(zip(names, results if isinstance(results, (list, tuple)) else [results], strict=False))
    known = {name: net.blobs[name] for name in results if name in net.blobs}
    if len(known) != len(results):
        raise CaffeportError(f"{path}: its outputs {', '.join(results)} are not all blobs of this net")
    return {known[name].key: tensor.numpy() for name, tensor in results.items()}
