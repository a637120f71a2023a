"""What a check was made of: files with their sizes and SHA-256, versions, inputs, the day."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import CaffeportError
from ..version import __version__

PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "safetensors")
_PIECE = 1 << 20


@dataclass(frozen=True)
class FileFacts:
    """A file that the check read: ``role`` says as what, ``about`` what was found in it."""

    role: str
    path: str
    bytes: int
    sha256: str
    about: str = ""

    def __str__(self) -> str:
        size = f"{self.bytes / 1e6:.1f} MB" if self.bytes >= 1e5 else f"{self.bytes / 1e3:.1f} kB"
        return f"{self.path} ({size}, SHA-256 {self.sha256}){f': {self.about}' if self.about else ''}"


def facts(role: str, path: str | Path, about: str = "") -> FileFacts:
    """Read the file through. Raises CaffeportError where it cannot be read."""
    path, digest, size = Path(path), hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise CaffeportError(f"{path}: {error.strerror or error}") from error
    return FileFacts(role, str(path), size, digest.hexdigest(), about)


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """{package: version} of what is installed, caffeport's own first, and of Python."""
    found = {"caffeport": __version__, "python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
