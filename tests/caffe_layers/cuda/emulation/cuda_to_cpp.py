"""CUDA C++ to C++ for the emulation: rewrites kernel launches and shared variables, and leaves the rest as it is.

    python cuda_to_cpp.py FILE.cu OUT.cpp
    python cuda_to_cpp.py --headers INCLUDE_DIR [INCLUDE_DIR ...] OUT_DIR

The second form copies those headers below the folders that hold a launch or a shared variable (Caffe has a launch in
a macro of math_functions.hpp) to the same place below OUT_DIR, which then comes first among the include folders; of
two headers with the same path the first folder's counts, as it does for the compiler.

A launch `kernel<Dtype><<<grid, threads>>>(arguments)` becomes
`emulated_cuda::launcher("kernel<Dtype>", kernel<Dtype>, emulated_cuda::Configuration(grid, threads))(arguments)`.
No line is added or taken away, so that a compiler's messages point into the .cu.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

OPENING = {"(": ")", "[": "]", "{": "}"}


class CudaSyntaxError(Exception):
    """A launch or a shared variable that this script cannot take apart."""


class Edit(NamedTuple):
    start: int
    end: int
    text: str


_SKIPPED = re.compile(
    r"""
      //(?:\\\r?\n|[^\n])*                                        # a comment goes on after a backslash
    | /\*.*?(?:\*/|\Z)
    | (?:\b(?:u8|[uUL])?R)"(?P<tag>[^()\\\s]{0,16})\(.*?\)(?P=tag)"   # a raw string
    | "(?:\\.|[^"\\\n])*"
    | (?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'                        # 1'000 has no character in it
    """,
    re.VERBOSE | re.DOTALL,
)


def code_only(source: str) -> str:
    """`source` with blanks for its comments, strings and characters; every other character keeps its place."""
    return _SKIPPED.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), source)


def _line(source: str, at: int) -> int:
    return source.count("\n", 0, at) + 1


def _back_over_blanks(code: str, end: int) -> int:
    while end > 0 and (code[end - 1].isspace() or code[end - 1] == "\\"):
        end -= 1
    return end


def _back_over_brackets(code: str, end: int) -> int | None:
    """The place of the `<` that belongs to the `>` before `end`."""
    depth = 0
    inside: list[str] = []
    for i in range(end - 1, -1, -1):
        char = code[i]
        if char in ")]}":
            inside.append(char)
        elif char in OPENING:
            if not inside or OPENING[char] != inside.pop():
                return None
        elif inside:
            continue
        elif char == ">":
            depth += 1
        elif char == "<":
            depth -= 1
            if depth == 0:
                return i
        elif char == ";":
            return None
    return None


def _kernel_start(code: str, launch: int) -> int | None:
    """Where the name of the kernel of the `<<<` at `launch` begins: `name`, `space::name<a, b>`, ..."""
    at = _back_over_blanks(code, launch)
    if at > 0 and code[at - 1] == ">":
        opening = _back_over_brackets(code, at)
        if opening is None:
            return None
        at = _back_over_blanks(code, opening)
    while True:
        word = re.search(r"(?:::)?(?:[A-Za-z_]\w*[ ]?##[ ]?)?[A-Za-z_]\w*$", code[:at])
        if not word:
            return None
        start = word.start()
        if (
            not word.group().startswith("::")
            or start == 0
            or not (code[start - 1].isalnum() or code[start - 1] in "_>")
        ):
            return start
        at = start
        if code[at - 1] == ">":
            opening = _back_over_brackets(code, at)
            if opening is None:
                return None
            at = opening


def _closing_chevrons(code: str, start: int) -> int | None:
    """The place of the `>>>` that ends the configuration which begins at `start`."""
    inside: list[str] = []
    for i in range(start, len(code)):
        char = code[i]
        if char in OPENING:
            inside.append(OPENING[char])
        elif char in ")]}":
            if not inside or inside.pop() != char:
                return None
        elif not inside and code.startswith(">>>", i):
            return i
        elif char == ";" and not inside:
            return None
    return None


def _split(text: str) -> list[str]:
    """`text` parted at the commas that are in no brackets; within others, < and > compare."""
    parts = [""]
    inside: list[str] = []
    for char in text:
        if char in OPENING:
            inside.append(OPENING[char])
        elif char == "<" and (not inside or inside[-1] == ">"):
            inside.append(">")
        elif inside and char == inside[-1]:
            inside.pop()
        if char == "," and not inside:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def template_parameters(code: str) -> dict[str, int]:
    """How many template parameters each `__global__` function defined in `code` has."""
    found = {}
    for match in re.finditer(
        r"(?:\btemplate\s*<(?P<parameters>[^;{}()]*)>\s*)?(?P<rest>[^;{}<>]*?)\b__global__\b"
        r"[^;{}()]*?(?:__launch_bounds__\s*\([^()]*\)[^;{}()]*?)?(?P<name>\w+)\s*\(",
        code,
    ):
        parameters = match["parameters"]
        found[match["name"]] = len(_split(parameters)) if parameters is not None else 0
    return found


def launch_edits(source: str, code: str, kernels: dict[str, int]) -> list[Edit]:
    edits = []
    for match in re.finditer("<<<", code):
        launch = match.start()
        start = _kernel_start(code, launch)
        end = _closing_chevrons(code, launch + 3)
        if start is None or end is None:
            raise CudaSyntaxError(f"line {_line(source, launch)}: expected kernel<<<grid, threads>>>(...)")
        after = re.compile(r"[\s\\]*\(").match(code, end + 3)
        if not after:
            raise CudaSyntaxError(f"line {_line(source, end)}: expected ( after >>>")
        name = " ".join(code[start:launch].replace("\\\n", " ").split())
        plain, _, arguments = name.partition("<")
        needed = kernels.get(plain.strip().rpartition("::")[2])
        given = len(_split(arguments.rstrip("> "))) if arguments else 0
        if needed is None:  # defined in some header
            needed = given
        kernel_end = _back_over_blanks(code, launch)
        if given < needed:
            # The compiler has to find template arguments from the call's.
            edits.append(Edit(start, start, f'emulated_cuda::deducing_launcher("{name}", [](auto... arguments) {{ '))
            edits.append(Edit(kernel_end, kernel_end, "(arguments...); }"))
        else:
            edits.append(Edit(start, start, f'emulated_cuda::launcher("{name}", '))
        edits.append(Edit(launch, launch + 3, ", emulated_cuda::Configuration("))
        edits.append(Edit(end, end + 3, "))"))
    return edits


_SHARED = re.compile(r"(?P<before>\b(?:extern|static)\s+)?\b__shared__\b(?P<declaration>[^;]*);")


def shared_edits(source: str, code: str) -> list[Edit]:
    edits = []
    for match in _SHARED.finditer(code):
        line = _line(source, match.start())
        declaration = match["declaration"]
        if "=" in declaration:
            raise CudaSyntaxError(f"line {line}: a __shared__ variable has no initial value")
        if code.count("{", 0, match.start()) == code.count("}", 0, match.start()) or re.search(
            r"(?:\bnamespace\b[^;{}()]*|\bextern\s*)\{[^{}]*$", _innermost(code, match.start())
        ):
            raise CudaSyntaxError(f"line {line}: the emulation takes __shared__ variables in functions only")
        before = (match["before"] or "").split()
        if before == ["extern"]:
            parts = re.fullmatch(r"(?P<type>.*?)(?P<name>\b\w+)\s*\[\s*\]\s*", declaration, re.DOTALL)
            if not parts:
                raise CudaSyntaxError(f"line {line}: expected extern __shared__ type name[];")
            kind = re.sub(r"\b__align__\s*\(\s*\w+\s*\)", "", parts["type"])
            blanks = "\n" * match.group().count("\n")
            text = (
                f"{kind.strip()}* const {parts['name']} = "
                f"static_cast<{kind.strip()}*>(emulated_cuda::dynamic_shared());{blanks}"
            )
            edits.append(Edit(match.start(), match.end(), text))
            continue
        names = []
        for declarator in _split(declaration):
            parts = re.match(r"(?P<front>[^\[]*?)(?P<name>\b[A-Za-z_]\w*)\s*(?:\[.*)?$", declarator.strip(), re.DOTALL)
            if not parts:
                raise CudaSyntaxError(f"line {line}: expected __shared__ type name[size];")
            names.append(parts["name"])
        shared = code.index("__shared__", match.start())
        edits.append(Edit(shared, shared + len("__shared__"), "" if before else "static"))
        enter = "".join(f" {{ static emulated_cuda::Tag tag; tag.enter(&{name}, sizeof({name})); }}" for name in names)
        edits.append(Edit(match.end(), match.end(), enter))
    return edits


def _innermost(code: str, at: int) -> str:
    """The code from the start of what stands before the innermost open brace, up to `at`."""
    depth = 0
    for i in range(at - 1, -1, -1):
        if code[i] == "}":
            depth += 1
        elif code[i] == "{":
            if depth == 0:
                start = max(code.rfind(char, 0, i) for char in ";{}") + 1
                return code[start : i + 1]
            depth -= 1
    return ""


def translate(source: str, kernels: dict[str, int] | None = None) -> str:
    """`source` as C++; `kernels` says how many template parameters kernels of other files have."""
    code = code_only(source)
    known = {**(kernels or {}), **template_parameters(code)}
    edits = launch_edits(source, code, known) + shared_edits(source, code)
    pieces, at = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        pieces += [source[at : edit.start], edit.text]
        at = edit.end
    return "".join([*pieces, source[at:]])


def needs_translation(source: str) -> bool:
    code = code_only(source)
    return "<<<" in code or "__shared__" in code


def _write(path: Path, text: str) -> None:
    """Only when it changes, so that nothing is compiled again for nothing."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def translate_file(path: Path, out: Path) -> None:
    try:
        text = translate(path.read_text())
    except CudaSyntaxError as error:
        sys.exit(f"{path}: {error}")
    _write(out, f'#line 1 "{path.resolve()}"\n{text}')


def translate_headers(folders: list[Path], out: Path) -> list[Path]:
    done: set[Path] = set()
    written = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.suffix not in (".h", ".hpp", ".cuh", ".inc") or name in done:
                continue
            done.add(name)
            source = path.read_text(errors="replace")
            if needs_translation(source):
                translate_file(path, out / name)
                written.append(out / name)
    for path in set(out.rglob("*")) - set(written):
        if path.is_file():
            path.unlink()
    return written


def main(arguments: list[str]) -> None:
    if len(arguments) >= 3 and arguments[0] == "--headers":
        translate_headers([Path(name) for name in arguments[1:-1]], Path(arguments[-1]))
    elif len(arguments) == 2:
        translate_file(Path(arguments[0]), Path(arguments[1]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
