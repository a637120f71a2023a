"""Fixtures of the tests with real Caffe."""

import shutil
import sys
from pathlib import Path

import pytest
from caffeport.cores import usable_cores
from support import caffe_trees, layer_lines

MATH_HEADERS = ("nvidia-cublas", "nvidia-curand")
"""Registry packages that have cuBLAS's and cuRAND's headers; nvcc brings the others."""


@pytest.fixture(scope="session", params=list(caffe_trees.VERSIONS))
def caffe_tree(request) -> caffe_trees.Tree:
    """Official BVLC Caffe and an SSD fork, each with the face layers."""
    return caffe_trees.require(request.param)


@pytest.fixture(scope="session")
def pycaffe() -> caffe_trees.Tree:
    """Official BVLC Caffe with the face layers, for comparisons with caffeport."""
    return caffe_trees.require("bvlc")


@pytest.fixture(scope="session")
def run_layers(pycaffe, tmp_path_factory) -> Path:
    """A program that runs layers of BVLC's Caffe in double, see lines/."""
    source = Path(__file__).parent / "lines" / "run_layers.cpp"
    return layer_lines.compile_in(pycaffe, source, program=tmp_path_factory.mktemp("bvlc") / "run_layers")


@pytest.fixture(scope="session")
def emulated_caffe(pycaffe) -> Path:
    """A folder with libcaffe.a and libemulated_cuda.a, the layers' kernels on the host; kept in the cache."""
    source, folder = Path(__file__).parent / "cuda", caffe_trees.CACHE / "emulated-cuda"
    caffe_trees.forget_other_checkout(source, folder)
    tree = (f"-DCAFFE_TREE={pycaffe.copy}", f"-DCAFFE_BUILD={pycaffe.folder}")
    for command in (
        ["cmake", "-S", str(source), "-B", str(folder), *tree],
        ["cmake", "--build", str(folder), "--parallel", str(usable_cores()), "--target", "caffe"],
    ):
        result = caffe_trees.run(command)
        assert result.returncode == 0, caffe_trees.tail(result.stdout, 60)
    return folder


@pytest.fixture(scope="session")
def nvcc() -> str:
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if found is None:
        pytest.skip("nvcc is not installed: the kernels are not compiled for real devices")
    return found


@pytest.fixture(scope="session")
def math_headers() -> Path:
    """A folder with the headers of cuBLAS and cuRAND."""
    target = caffe_trees.CACHE / "cuda-math"
    if not (target / "complete").exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(target),
            *MATH_HEADERS,
        ]
        result = caffe_trees.run(command)
        assert result.returncode == 0, caffe_trees.tail(result.stdout, 5)
        for library in target.rglob("*.so*"):  # hundreds of megabytes that nobody links to
            library.unlink()
        (target / "complete").touch()
    return next(target.rglob("cublas_v2.h")).parent
