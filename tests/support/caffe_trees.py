"""Real Caffe for the tests: two trees from the package registry, built with the face layers in them.

``built("bvlc")`` is official BVLC Caffe as it was published: the package's archive, with the two places put back that
the package changed. ``built("ssd")`` is an SSD fork of it, and ``built("yours")`` the tree that NORMFACE_CAFFE_ROOT
names, if any: the layers' tests run in that one too. The first call downloads the tree and builds it through the
project's own CMakeLists.txt, which takes some minutes on two cores; the result is kept outside the repository, in
$NORMFACE_CACHE or ~/.cache/normface, by the content of what went into it. A change of the layers rebuilds only what
depends on it.

What can't be built here (no compiler, Debian's development packages missing) skips the tests that need it, and says
what is missing; with CI set in the environment the packages are installed, and what is missing then fails the tests.
Elsewhere ``make caffe-packages`` installs them. NORMFACE_TESTS=fast skips all of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from caffeport.cores import usable_cores

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("NORMFACE_CACHE", "~/.cache/normface")).expanduser()

VERSIONS = {"bvlc": "3.0.0", "ssd": "9.0.2"}
"""Of the source archive ``brocolli-caffe``."""

YOURS = os.environ.get("NORMFACE_CAFFE_ROOT", "")
NAMES = [*VERSIONS, *(["yours"] if YOURS else [])]

AS_PUBLISHED = {
    "bvlc": [
        ("src/caffe/util/io.cpp", "Limit(536870912)", "Limit(kProtoReadBytesLimit, 536870912)"),
        (
            "src/caffe/net.cpp",
            "(const string& trained_filename) {\n  CopyTrainedLayersFromBinaryProto(trained_filename);\n",
            "(const string& trained_filename) {\n  if (H5Fis_hdf5(trained_filename.c_str())) {\n"
            "    CopyTrainedLayersFromHDF5(trained_filename);\n  } else {\n"
            "    CopyTrainedLayersFromBinaryProto(trained_filename);\n  }\n",
        ),
    ]
}
"""(file, what the package made of it, what BVLC's master has) for the two files in which they differ."""

PACKAGES = (
    "g++", "cmake", "make", "libboost-system-dev", "libboost-thread-dev", "libboost-filesystem-dev",
    "libboost-regex-dev", "libboost-python-dev", "libgoogle-glog-dev", "libgflags-dev", "libprotobuf-dev",
    "protobuf-compiler", "libhdf5-dev", "liblmdb-dev", "libopenblas-dev", "python3-dev", "python3-venv",
)  # fmt: skip
"""Debian's, that a build needs."""


PYCAFFE_IMPORTS = ("numpy", "protobuf", "scikit-image", "six")

UNITY = ("-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=12")
"""A dozen sources in one: most of the time goes into the headers that all of them read. These two trees allow it."""

FAST = os.environ.get("NORMFACE_TESTS") == "fast"

BUILT_FROM = {".cpp", ".cu", ".hpp", ".cuh", ".inc", ".proto", ".json", ".cmake", ".py"}


@dataclass(frozen=True)
class Tree:
    """A built tree: ``copy`` has its sources with the layers; lib/, tools/ and test/ are beside that in ``folder``."""

    name: str
    folder: Path
    interpreter: str
    """The Python that pycaffe was built for."""

    @property
    def copy(self) -> Path:
        return self.folder / "caffe"

    @property
    def pythonpath(self) -> str:
        return str(self.copy / "python")

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": self.pythonpath, "GLOG_minloglevel": "2", "OPENBLAS_NUM_THREADS": "1"}


class MissingError(Exception):
    """What a build needs and this machine lacks."""


def require(name: str) -> Tree:
    """Return the built tree; skips the test where it can't be built, and fails it in CI."""
    if FAST:
        pytest.skip("needs real Caffe, which the fast tests leave out")
    try:
        return built(name)
    except MissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(f"real Caffe ({name}) can't be built here: {missing}")
        pytest.skip(f"real Caffe ({name}) can't be built here: {missing}")


def ready(name: str) -> Tree | None:
    """Return the tree if it is built as the layers are now; None, and nothing is built, if not."""
    stamps = (CACHE / "caffe").glob(f"{name}-*/content")
    return built(name) if layers_digest() in [stamp.read_text() for stamp in stamps] else None


@functools.cache
def built(name: str) -> Tree:
    """Raises MissingError, and RuntimeError with the compiler's last lines where a build fails."""
    with lock(name):
        ensure_packages()
        source = sources(name)
        python = interpreter()
        folder = CACHE / "caffe" / f"{name}-{identity(name, source, python)[:12]}"
        stamp = folder / "content"
        content = layers_digest()
        if not stamp.exists() or stamp.read_text() != content:
            build(source, folder, python)
            stamp.write_text(content)
        return Tree(name, folder, python)


@contextlib.contextmanager
def lock(name: str):
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        handle = open(CACHE / f"{name}.lock", "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise MissingError(f"its cache cannot be written ({error}); name another folder by NORMFACE_CACHE") from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def identity(name: str, source: Path, python: str) -> str:
    """Return a digest that tells trees apart, and the Pythons that pycaffe is built for."""
    if name in VERSIONS:
        return digest_of(source.parent / "archive.sha256", extra=python)
    parts = [path for part in ("include", "src", "tools", "python") for path in (source / part).rglob("*")]
    return digest_of(*sorted(path for path in parts if path.suffix in BUILT_FROM), extra=f"{source} {python}")


def sources(name: str) -> Path:
    """Return the tree as it was published; downloaded once."""
    if name == "yours":
        if not Path(YOURS, "src/caffe/proto/caffe.proto").is_file():
            raise RuntimeError(f"NORMFACE_CAFFE_ROOT={YOURS} has no src/caffe/proto/caffe.proto")
        return Path(YOURS).resolve()
    version = VERSIONS[name]
    folder = CACHE / "sources" / f"brocolli-caffe-{version}"
    tree = folder / "tree"
    if not tree.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        result = run([*command, "--dest", str(folder), f"brocolli-caffe=={version}"])
        archives = list(folder.glob("*.tar.gz"))
        if result.returncode or not archives:
            raise MissingError(f"the package brocolli-caffe {version} can't be downloaded: {tail(result.stdout, 3)}")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(folder / "unpacked", filter="data")
        (folder / "archive.sha256").write_text(hashlib.sha256(archives[0].read_bytes()).hexdigest())
        next((folder / "unpacked").iterdir()).rename(tree)
    for file, packaged, published in AS_PUBLISHED.get(name, []):
        text = (tree / file).read_text()
        if published not in text:
            assert text.count(packaged) == 1, (file, packaged)
            (tree / file).write_text(text.replace(packaged, published))
    return tree


def ensure_packages(asked: bool = False) -> None:
    """Raise MissingError where packages are; install them where that is asked for, or in CI."""
    missing = [package for package in PACKAGES if not installed(package)]
    if not missing:
        return
    if not (asked or os.environ.get("CI")):
        raise MissingError(f"it needs {' '.join(missing)}; make caffe-packages installs them")
    apt = shutil.which("apt-get")
    if apt and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run([apt, "update", "-qq"], env=environment)
        run([apt, "install", "-y", "-qq", "--no-install-recommends", *missing], env=environment)
        missing = [package for package in missing if not installed(package)]
    if missing:
        raise MissingError(f"install {' '.join(missing)}")


def interpreter() -> str:
    """Make a Python with what pycaffe imports, in the cache: a build outlives the checkout that made it.

    Of this Python's version if Debian has Boost.Python for that, else of Debian's own.
    """
    version = f"{sys.version_info[0]}{sys.version_info[1]}"
    ours = list(Path("/usr/lib").glob(f"*/libboost_python{version}.so"))
    base = getattr(sys, "_base_executable", sys.executable) if ours else "/usr/bin/python3"
    environment = CACHE / f"pycaffe-{version if ours else 'debian'}"
    python = environment / "bin" / "python"
    if not (environment / "complete").exists():
        constraints = ["-c", str(REPOSITORY / "constraints.txt")] if ours else []
        for command in (
            [base, "-m", "venv", "--clear", str(environment)],
            [str(python), "-m", "pip", "install", "--quiet", *constraints, *PYCAFFE_IMPORTS],
        ):
            result = run(command)
            if result.returncode:
                raise MissingError(f"a Python for pycaffe: {tail(result.stdout, 3)}")
        (environment / "complete").touch()
    return str(python)


def installed(package: str) -> bool:
    if shutil.which("dpkg-query") is None:
        raise MissingError("only Debian's packages are known here, and this is no Debian")
    result = run(["dpkg-query", "--show", "--showformat=${db:Status-Status}", package])
    return result.stdout == "installed"


def forget_other_checkout(source: Path, folder: Path) -> None:
    """CMake refuses a build folder that was configured from elsewhere; the cache outlives a checkout."""
    cached = folder / "CMakeCache.txt"
    if cached.exists() and f"CMAKE_HOME_DIRECTORY:INTERNAL={source}\n" not in cached.read_text(errors="replace"):
        cached.unlink()


def build(source: Path, folder: Path, python: str) -> None:
    forget_other_checkout(REPOSITORY, folder)
    steps = [
        ["cmake", "-S", str(REPOSITORY), "-B", str(folder), f"-DCAFFE_ROOT={source}", "-DCPU_ONLY=ON",
         f"-DPYTHON_EXECUTABLE={python}", *([] if source == Path(YOURS).resolve() else UNITY)],
        ["cmake", "--build", str(folder), "--parallel", str(usable_cores())],
    ]  # fmt: skip
    print(f"building real Caffe ({folder.name}); its output goes to {folder}/build.log", file=sys.stderr, flush=True)
    log = folder / "build.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("w") as handle:
        for step in steps:
            handle.flush()
            if subprocess.run(step, stdin=subprocess.DEVNULL, stdout=handle, stderr=subprocess.STDOUT).returncode:
                problem = tail(log.read_text(errors="replace"), 40)
                raise RuntimeError(f"{' '.join(step)} failed; all of it is in {log}:\n{problem}")


def run(command: list[str], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", check=False, **options,
    )  # fmt: skip


def tail(text: str, lines: int) -> str:
    return "\n".join(text.splitlines()[-lines:])


def layers_digest() -> str:
    """Return the digest of everything in the repository that goes into a build."""
    layers = [path for path in sorted((REPOSITORY / "caffe_layers").rglob("*")) if path.suffix in BUILT_FROM]
    folder = REPOSITORY / "tests" / "caffe_layers"
    tests = sorted([*folder.glob("test_*_layer.cpp"), *folder.glob("*.hpp")])
    return digest_of(REPOSITORY / "CMakeLists.txt", *layers, *tests)


def digest_of(*paths: Path, extra: str = "") -> str:
    digest = hashlib.sha256(extra.encode())
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def main() -> int:
    """Build the trees ahead of the tests, which would otherwise wait for them in silence."""
    if sys.argv[1:] == ["packages"]:
        ensure_packages(asked=True)
        return 0
    for name in NAMES:
        try:
            print(f"real Caffe ({name}): {built(name).folder}", flush=True)
        except MissingError as missing:
            print(f"real Caffe ({name}) can't be built here: {missing}", file=sys.stderr)
            if os.environ.get("CI"):
                return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; what is built so far is kept, and the next call goes on from there", file=sys.stderr)
        sys.exit(130)
