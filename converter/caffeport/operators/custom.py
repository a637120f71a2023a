"""Operators of the user's own: classes, or the Python files that define them."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from ..errors import NetError
from .base import Operator

CustomLayers = str | Path | type[Operator] | Iterable[str | Path | type[Operator]]
"""The values that ``custom_layers`` takes: an operator or a file of them, or several of either."""
_EXPECTED = "custom_layers expects Operator subclasses marked with @layer_type(...)"


def custom_operators(custom_layers: CustomLayers) -> tuple[type[Operator], ...]:
    """Return the operators that ``custom_layers`` names. Raises NetError, with file and line where a file fails."""
    single = isinstance(custom_layers, (str, Path, type))
    entries = [custom_layers] if single else custom_layers
    operators: list[type[Operator]] = []
    for entry in entries:  # type: ignore[union-attr]
        if isinstance(entry, (str, Path)):
            operators += operators_of_file(Path(entry))
        elif isinstance(entry, type) and issubclass(entry, Operator) and entry.types:
            operators.append(entry)
        else:
            raise NetError(f"{_EXPECTED}, got {entry!r}")
    return tuple(operators)


def operators_of_file(path: Path) -> list[type[Operator]]:
    """Return the marked Operator subclasses that a Python file defines, in the order of its text."""
    if not path.is_file():
        raise NetError(f"{path}: no such file; {_EXPECTED}, or the path of the Python file that defines them")
    module = _run(path)
    operators = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Operator)
        and value.__module__ == module.__name__
        and "types" in value.__dict__
    ]
    if not operators:
        raise NetError(f"{path}: defines no Operator subclass marked with @layer_type(...)")
    return list(dict.fromkeys(operators))


def _run(path: Path) -> ModuleType:
    """Run the file as a module, which sys.modules has while and after it runs, as dataclasses need."""
    whole = path.resolve()
    name = f"caffeport_layers_{sha256(str(whole).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(whole))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(whole)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(compile(whole.read_bytes(), str(whole), "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise NetError(f"{path}{_line_of(error, str(whole))}: {type(error).__name__}: {_words(error)}") from error
    return module


def _line_of(error: Exception, file: str) -> str:
    """Return ``:line`` of the last line of the file that ran, or of its mistake in syntax; "" where none did."""
    if isinstance(error, SyntaxError) and error.filename == file and error.lineno:
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f":{lines[-1]}" if lines else ""


def _words(error: Exception) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)
