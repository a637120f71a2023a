"""Source of the package's own classes with all that they need of it, for a file that does not import the package."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType

_PACKAGE = __name__.partition(".")[0]
Import = tuple[str, str, str]
"""(module, name in it or "", name here)"""


@dataclass
class Copies:
    """``texts``: {name: source}, each after what it needs; ``imports``: what they import from elsewhere."""

    texts: dict[str, str] = field(default_factory=dict)
    imports: set[Import] = field(default_factory=set)

    def add(self, cls: type) -> None:
        """Add a class and its dependencies. Raises OSError or ValueError where there is no source."""
        self._add(sys.modules[cls.__module__], cls.__name__)

    def _add(self, module: ModuleType, name: str) -> None:
        if name in self.texts:
            return
        text = inspect.getsource(module)
        tree = ast.parse(text)
        node = _definition(tree, name)
        if node is None:
            self._add_imported(module, tree, name)
            return
        segment = _segment(text, node)
        self.texts[name] = ""  # who needs itself, or who needs this in turn, stops here
        inner = _local_imports(node)
        for other in _names(node):
            if other in inner:
                self._add(_resolved(module, *inner[other]), inner[other][2])
            elif _definition(tree, other) is not None or other in _imports(tree):
                self._add(module, other)
        del self.texts[name]
        self.texts[name] = _without(segment, node, text)

    def _add_imported(self, module: ModuleType, tree: ast.Module, name: str) -> None:
        source, level, original = _imports(tree)[name]
        if level or source.partition(".")[0] == _PACKAGE:
            self._add(_resolved(module, source, level, original), original)
        else:
            self.imports.add((source, original, name))


def _resolved(module: ModuleType, source: str, level: int, original: str) -> ModuleType:
    """The package's own module that an import names."""
    name = source
    if level:
        package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
        for _ in range(level - 1):
            package = package.rpartition(".")[0]
        name = f"{package}.{source}" if source else package
    return sys.modules[name]


def _definition(tree: ast.Module, name: str) -> ast.stmt | None:
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node
    return None


def _imports(tree: ast.AST) -> dict[str, tuple[str, int, str]]:
    """{name here: (module, dots before it, name there or "")} of a file's imports, those for types too."""
    names: dict[str, tuple[str, int, str]] = {}
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.If):
            names |= _imports(node)
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: (alias.name, 0, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: (node.module or "", node.level, a.name) for a in node.names}
    return names


def _local_imports(node: ast.AST) -> dict[str, tuple[str, int, str]]:
    """As ``_imports``, of those within functions."""
    names: dict[str, tuple[str, int, str]] = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef):
            names |= _imports(inner)
    return names


def _names(node: ast.AST) -> list[str]:
    """All names that a definition reads, in their order."""
    return list(dict.fromkeys(_read(node)))


def _read(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
            yield inner.id


def _segment(text: str, node: ast.stmt) -> str:
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def _without(segment: str, node: ast.stmt, text: str) -> str:
    """The source without the package's imports within functions, and the blank line behind them."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    lines: list[str | None] = list(segment.splitlines())
    for function in ast.walk(node):
        if not isinstance(function, ast.FunctionDef):
            continue
        for inner in function.body:
            if isinstance(inner, ast.ImportFrom) and (inner.level or (inner.module or "").startswith(_PACKAGE)):
                start, end = inner.lineno - first, (inner.end_lineno or inner.lineno) - first
                lines[start : end + 1] = [None] * (end + 1 - start)
                if end + 1 < len(lines) and lines[end + 1] == "":
                    lines[end + 1] = None
    return textwrap.dedent("\n".join(line for line in lines if line is not None))


def import_lines(imports: set[Import]) -> str:
    """Sorted as ruff's rules sort them: the standard library, then the others."""
    groups: tuple[list[Import], list[Import]] = ([], [])
    for entry in imports:
        groups[entry[0].partition(".")[0] not in sys.stdlib_module_names].append(entry)
    texts = ["from __future__ import annotations", *("\n".join(_sorted(group)) for group in groups if group)]
    return "\n\n".join(texts)


def _sorted(group: list[Import]) -> list[str]:
    whole = sorted({(m, here) for m, name, here in group if not name}, key=lambda entry: entry[0].lower())
    lines = [f"import {m}" + (f" as {here}" if here != m else "") for m, here in whole]
    parts: dict[str, set[str]] = {}
    for module, name, here in group:
        if name:
            parts.setdefault(module, set()).add(name if here == name else f"{name} as {here}")
    for module in sorted(parts, key=str.lower):
        names = sorted(parts[module], key=lambda name: (not name.isupper(), not name[0].isupper(), name.lower()))
        lines.append(f"from {module} import {', '.join(names)}")
    return lines
