"""How the packages are built: no circle of files, no long list of options by place, an epsilon in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"caffeport": ROOT / "converter/caffeport", "normface": ROOT / "python/normface"}
IMPORTERS = ("LazyModule", "__import__", "import_module", "require")
"""Functions that import the module of which they are given the name."""
MOST_OPTIONS_BY_PLACE = 3

Imports = dict[str, dict[str, int]]
"""{module: {module that it imports: line}}"""


def imports_of(folder: Path) -> Imports:
    """Read which modules of a package import which others of it: above, in functions, for types, by their name."""
    files = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: Imports = {}
    for module, path in files.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        lines = found.setdefault(module, {})
        for name, line in named(ast.parse(path.read_text("utf-8")), package):
            other = name if name in files else name.rpartition(".")[0]  # a module, or something within one
            if other in files and other != module:
                lines.setdefault(other, line)
    return found


def named(tree: ast.Module, package: str) -> Iterator[tuple[str, int]]:
    """Yield the full name of everything that a file imports, and the line; ``package`` holds the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = absolute("." * node.level + (node.module or ""), package)
            yield from ((f"{start}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in IMPORTERS and isinstance(node.args[0].value, str):
                yield absolute(node.args[0].value, package), node.lineno


def absolute(name: str, package: str) -> str:
    """Resolve leading dots: one is the package, each further one its parent."""
    rest = name.lstrip(".")
    parents = package.split(".")[: len(package.split(".")) + 1 - (len(name) - len(rest))] if rest != name else []
    return ".".join([*parents, *([rest] if rest else [])])


def circles(imports: Imports) -> list[list[str]]:
    """Find the largest sets of modules each of which imports, by way of others, every other one of its set."""
    reached = {module: reach(module, imports) for module in imports}
    sets = {tuple(sorted(m for m in reached[module] if module in reached[m])) for module in imports}
    return sorted(list(members) for members in sets if members)


def reach(module: str, imports: Imports) -> set[str]:
    """Find all modules that a module imports, by way of others too."""
    seen: set[str] = set()
    waiting = list(imports[module])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(imports[name])
    return seen


def described(circle: list[str], imports: Imports) -> str:
    """Tell the files of a circle, and the lines that close it."""
    lines = [
        f"  {module}, line {line}: imports {other}"
        for module in circle
        for other, line in imports[module].items()
        if other in circle
    ]
    return "\n".join([f"a circle of {len(circle)} files:", *lines])


@pytest.mark.parametrize("package", list(PACKAGES))
def test_no_circle_of_files(package):
    imports = imports_of(PACKAGES[package])
    assert len(imports) > 20, f"{PACKAGES[package]} holds hardly any file"
    found = [described(circle, imports) for circle in circles(imports)]
    assert not found, "\n".join(found)


CLOSING = {
    "above": "from . import one",
    "a name above": "from .one import A",
    "absolute": "import house.low.one",
    "absolute name": "from house.low.one import A",
    "in a function": "def f():\n    from .one import A",
    "for types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .one import A",
    "by its name": "import importlib\none = importlib.import_module('.one', __package__)",
    "lazily by its name": "one = LazyModule('house.low.one')",
    "by the parent": "from ..low import one",
    "by the package": "from ..low.one import A",
    "round about": "from ..high import top",
}


@pytest.mark.parametrize("way", CLOSING)
def test_a_circle_is_found_however_it_is_closed(way, tmp_path):
    files = {
        "__init__": "",
        "low/__init__": "",
        "low/one": "from .two import B\nclass A: ...",
        "low/two": f"import os\n{CLOSING[way]}\nclass B: ...",
        "high/__init__": "",
        "high/top": "from ..low.one import A",
    }
    imports = imports_of(house(tmp_path, files))
    [circle] = circles(imports)
    expected = ["house.low.one", "house.low.two"]
    assert circle == (["house.high.top", *expected] if way == "round about" else expected)
    assert "house.low.one, line 1: imports house.low.two" in described(circle, imports)


def test_two_circles_are_told_apart_and_what_leads_into_one_is_in_none(tmp_path):
    files = {
        "__init__": "from .top import T",
        "a": "from . import b",
        "b": "from . import a\nfrom . import c",
        "c": "from . import d",
        "d": "from . import e",
        "e": "from . import c",
        "top": "from . import a\nimport json",
    }
    imports = imports_of(house(tmp_path, files))
    assert circles(imports) == [["house.a", "house.b"], ["house.c", "house.d", "house.e"]]


def test_files_without_a_circle(tmp_path):
    files = {
        "__init__": "from .a import A",
        "a": "from .b import B",
        "b": "import os\nfrom os import path",
        "c": "from . import a, b",
    }
    assert circles(imports_of(house(tmp_path, files))) == []


def house(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / "house" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder / "house"


@pytest.mark.parametrize("package", ["normface"])  # load has four by place, as its contract says
def test_many_options_are_given_by_keyword(package):
    """Whoever reads ``f(a, None, True, 3, ())`` has to look up what it means."""
    many = [
        f"{path.relative_to(ROOT)}:{function.lineno}: {function.name} takes {options} options by place"
        for path in sorted(PACKAGES[package].rglob("*.py"))
        for function in public_functions(ast.parse(path.read_text("utf-8")))
        if (options := len(function.args.defaults)) > MOST_OPTIONS_BY_PLACE
    ]
    assert not many, "\n".join(many)


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return (function for function in functions if function.name == "__init__" or not function.name.startswith("_"))


def test_an_epsilon_of_one_name_stands_in_one_place():
    """Two of one name drift apart, or mean different things."""
    places: dict[str, list[str]] = {}
    for folder in PACKAGES.values():
        for path in sorted(folder.rglob("*.py")):
            for node in ast.parse(path.read_text("utf-8")).body:
                names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
                for name in names:
                    if name.endswith("EPS"):
                        places.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert "UNIT_EPS" in places
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def exceptions_of(path: Path) -> Iterator[str]:
    """Yield the names of the classes of a file that are raised, to judge by their bases' names."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            bases = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
            if any(base.endswith(("Error", "Exception")) for base in bases):
                yield node.name


@pytest.mark.parametrize("package", list(PACKAGES))
def test_an_exception_is_named_error(package):
    names = [(path.name, name) for path in sorted(PACKAGES[package].rglob("*.py")) for name in exceptions_of(path)]
    assert len(names) > 3
    assert [pair for pair in names if not pair[1].endswith("Error")] == []
