"""Make and refresh a transplanted copy of a Caffe tree, for a build beside the user's own tree.

    python stage.py CAFFE_ROOT COPY [--replace TYPE] [--without TYPE]

The copy holds what a build needs (no data, models or .git), and its sources are adapted to libraries newer than the
tree. Run again, it writes only the files whose content has changed, so that make rebuilds only what depends on them.
The options are those of transplant.py. Standard library only.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from transplanting.todays_libraries import adapt

LIST = ".staged_files"
"""In the copy: the files that staging put there; anything else is the build's."""

LEFT_OUT = {".git", "build", "distribute", "data", "models", "docker"}
"""Top-level folders that a Caffe is built without."""

SOURCES_ONLY = {"examples": (".cpp", ".hpp", ".cu"), "matlab": (".cpp",), "docs": ()}
"""Those that the tree's own Makefile and CMake look into; what has other suffixes, and is no CMakeLists.txt, stays."""

OPTIONS = ("--replace", "--without")
"""Of transplant.py, that staging hands on."""

GENERATED = ("__pycache__", "*.pyc", "*.o", "*.egg-info", "_caffe.so", "caffe_pb2.py", "caffe.pb.h", "caffe.pb.cc")
"""What an earlier build may have left in the tree; another protobuf's headers there would be found first."""


def wanted(name: str) -> bool:
    return name not in LEFT_OUT and not name.startswith((".build_", "build-", "build_"))


def copy_sources(root: Path, copy: Path) -> None:
    for entry in sorted(root.iterdir()):
        if not wanted(entry.name) or entry in copy.parents:  # the build folder may lie in the tree
            continue
        if entry.name in SOURCES_ONLY:
            copy_files(entry, copy / entry.name, ("CMakeLists.txt", *SOURCES_ONLY[entry.name]))
        elif entry.is_dir():
            ignored = shutil.ignore_patterns(*GENERATED)
            shutil.copytree(str(entry), str(copy / entry.name), ignore=ignored)
        else:
            shutil.copy2(str(entry), str(copy / entry.name))


def copy_files(folder: Path, copy: Path, endings: "tuple[str, ...]") -> None:
    for name in files_of(folder):
        if name.endswith(endings):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(folder / name), str(copy / name))


def files_of(folder: Path) -> "list[str]":
    found = []
    for base, _, names in os.walk(str(folder)):
        found += [os.path.relpath(os.path.join(base, name), str(folder)) for name in names]
    return sorted(found)


def same(left: Path, right: Path) -> bool:
    return right.is_file() and left.read_bytes() == right.read_bytes()


def refresh(made: Path, copy: Path) -> int:
    """Bring ``copy`` to the content of ``made``; the number of files written or removed."""
    now = files_of(made)
    listed = copy / LIST
    before = listed.read_text().splitlines() if listed.exists() else []
    changed = 0
    for name in now:
        if not same(made / name, copy / name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(made / name), str(copy / name))
            shutil.copymode(str(made / name), str(copy / name))
            changed += 1
    for name in set(before) - set(now):
        if (copy / name).exists():
            (copy / name).unlink()
            changed += 1
    listed.write_text("\n".join(now) + "\n")
    return changed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stage.py", description=__doc__.splitlines()[0])
    parser.add_argument("root", metavar="CAFFE_ROOT", type=Path, help="the Caffe tree; it is only read")
    parser.add_argument("copy", metavar="COPY", type=Path, help="the folder of the transplanted copy")
    for option in OPTIONS:
        parser.add_argument(option, action="append", default=[], metavar="TYPE", help="as transplant.py's (repeatable)")
    return parser.parse_args()


def transplant(made: Path, options: "list[str]") -> "tuple[int, str]":
    """Put the layers into ``made``; the exit code, and what was said."""
    script = Path(__file__).resolve().parent / "transplant.py"
    command = [sys.executable, str(script), str(made), *options]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: UP022 (Python 3.6)
    return result.returncode, (result.stderr if result.returncode else result.stdout).decode(errors="replace")


def main() -> int:
    given = arguments()
    root, copy = given.root.resolve(), given.copy.resolve()
    options = [word for option in OPTIONS for type_ in getattr(given, option[2:]) for word in (option, type_)]
    if not (root / "src/caffe/proto/caffe.proto").is_file():
        print(f"{root} has no src/caffe/proto/caffe.proto; is it the top folder of a Caffe tree?", file=sys.stderr)
        return 2
    copy.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(copy.parent)) as scratch:
        made = Path(scratch) / "tree"
        made.mkdir()
        copy_sources(root, made)
        adaptations = adapt(made)
        code, said = transplant(made, options)
        if code:
            print(said.replace(str(made), str(root)), end="", file=sys.stderr)
            return code
        changed = refresh(made, copy)
    print(said.replace(str(made), str(copy)), end="")
    print("".join(line + "\n" for line in adaptations), end="")
    print(f"{copy}: {changed} files written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
