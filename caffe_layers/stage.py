"""Make and refresh a transplanted copy of a Caffe tree, for a build beside the user's own tree.

    python stage.py CAFFE_ROOT COPY

The copy holds what a build needs (no data, models or .git), and its sources are adapted to libraries newer than the
tree. Run again, it writes only the files whose content has changed, so that make rebuilds only what depends on them.
Standard library only.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from todays_libraries import adapt

LIST = ".staged_files"
"""In the copy: the files that staging put there; anything else is the build's."""

LEFT_OUT = {".git", "build", "distribute", "data", "models", "docker", "examples", "docs", "matlab"}
"""Top-level folders that the libraries, the tool and the tests are built without."""

GENERATED = ("__pycache__", "*.pyc", "*.o", "*.egg-info", "_caffe.so", "caffe_pb2.py", "caffe.pb.h", "caffe.pb.cc")
"""What an earlier build may have left in the tree; another protobuf's headers there would be found first."""


def wanted(name: str) -> bool:
    return name not in LEFT_OUT and not name.startswith((".build_", "build-", "build_"))


def copy_sources(root: Path, copy: Path) -> None:
    for entry in sorted(root.iterdir()):
        if not wanted(entry.name) or entry in copy.parents:  # the build folder may lie in the tree
            continue
        if entry.is_dir():
            ignored = shutil.ignore_patterns(*GENERATED)
            shutil.copytree(str(entry), str(copy / entry.name), ignore=ignored)
        else:
            shutil.copy2(str(entry), str(copy / entry.name))


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


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: stage.py CAFFE_ROOT COPY", file=sys.stderr)
        return 2
    root, copy = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    if not (root / "src/caffe/proto/caffe.proto").is_file():
        print(f"{root} has no src/caffe/proto/caffe.proto; is it the top folder of a Caffe tree?", file=sys.stderr)
        return 2
    copy.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(copy.parent)) as scratch:
        made = Path(scratch) / "tree"
        made.mkdir()
        copy_sources(root, made)
        transplant = Path(__file__).resolve().parent / "transplant.py"
        result = subprocess.run([sys.executable, str(transplant), str(made)], stdout=subprocess.PIPE)
        if result.returncode:
            return result.returncode
        report = result.stdout.decode(errors="replace").replace(str(made), str(copy))
        report += "".join(line + "\n" for line in adapt(made))
        changed = refresh(made, copy)
    print(report, end="")
    print(f"{copy}: {changed} files written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
