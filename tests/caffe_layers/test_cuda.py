"""CUDA without a GPU: the same .cu files run on the host, and compile for the architectures that people have.

cuda/README.md says what the emulation is. What is built here is kept in the cache of tests/support/caffe_trees.py, by
content.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from caffeport.cores import usable_cores
from support import caffe_trees

LAYERS = caffe_trees.REPOSITORY / "caffe_layers"
KERNELS = sorted(str(path.relative_to(LAYERS)) for path in LAYERS.rglob("*.cu"))
EMULATION = Path(__file__).with_name("cuda")
DEVICE_TESTS = (
    EMULATION / "test_block_reduce.cu",
    EMULATION / "test_real_sizes.cpp",
    EMULATION / "test_real_sizes_others.cpp",
)
DEVICE_PROPERTIES = LAYERS / "cmake" / "cuda13_device_properties.hpp"
ARCHITECTURES = (75, 80, 86, 89, 90)


def test_kernels_in_emulation(emulated_caffe):
    """The typed tests of every layer on an emulated device, its threads in three orders."""
    both = ("--parallel", str(usable_cores()))
    commands = [
        ["cmake", "--build", str(emulated_caffe), *both],
        ["ctest", "--test-dir", str(emulated_caffe), "--output-on-failure", "-L", "emulated", *both],
    ]
    for command in commands:
        result = caffe_trees.run(command)
        assert result.returncode == 0, caffe_trees.tail(result.stdout, 60)
    assert set(re.findall(r"emulated\.(\w+) \.* +Passed", result.stdout)) == {"forward", "reverse", "1"}


@pytest.fixture(scope="module")
def settings(math_headers, pycaffe) -> list[str]:
    includes = [pycaffe.copy / "include", pycaffe.folder / "include", math_headers, "/usr/include/x86_64-linux-gnu"]
    return ["-std=c++17", "-DUSE_LMDB", "-DUSE_HDF5", *(f"-I{folder}" for folder in includes)]


@pytest.fixture(scope="module")
def compile_all(nvcc, settings) -> Callable[..., dict[Path, subprocess.CompletedProcess[str]]]:
    """compile_all(sources, *flags): nvcc's answers; what compiled, with all it includes of ours, is not done again."""
    headers = [path for suffix in ("*.hpp", "*.cuh") for path in sorted((LAYERS / "include").rglob(suffix))]
    compiler = caffe_trees.run([nvcc, "--version"]).stdout
    always = [*settings, "-c", "-o", os.devnull]

    def compile_one(source: Path, flags: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        key = caffe_trees.digest_of(source, DEVICE_PROPERTIES, *headers, extra=compiler + str((always, flags)))
        done = caffe_trees.CACHE / "compiled-cuda" / key
        if done.exists():
            return subprocess.CompletedProcess([], 0, "")
        result = caffe_trees.run([nvcc, *always, *flags, str(source)])
        if result.returncode == 0:
            done.parent.mkdir(parents=True, exist_ok=True)
            done.touch()
        return result

    def compile_sources(sources: Sequence[Path], *flags: str) -> dict[Path, subprocess.CompletedProcess[str]]:
        with ThreadPoolExecutor(usable_cores()) as pool:
            return dict(zip(sources, pool.map(lambda source: compile_one(source, flags), sources), strict=True))

    return compile_sources


def in_one(folder: Path) -> Path:
    """Write all kernels as one source."""
    kernels = [LAYERS / kernel for kernel in KERNELS]
    together = folder / "all.cu"
    together.write_text("".join(f'#line 1 "{kernel}"\n{kernel.read_text()}\n' for kernel in kernels))
    return together


@pytest.fixture(scope="module")
def compiled(compile_all, tmp_path_factory) -> dict[Path, subprocess.CompletedProcess[str]]:
    """All kernels as one source, since most of the time goes into the headers that all of them read.

    One by one where that fails, so that the message is the kernel's. (That each includes what it needs is seen in
    emulation, which compiles them one by one.)
    """
    flags = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
    kernels = [LAYERS / kernel for kernel in KERNELS]
    together = in_one(tmp_path_factory.mktemp("kernels"))
    result = compile_all([together], *flags)[together]
    return compile_all(kernels, *flags) if result.returncode else dict.fromkeys(kernels, result)


@pytest.mark.parametrize("kernel", KERNELS)
def test_compiles_for_devices(compiled, kernel):
    result = compiled[LAYERS / kernel]
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)


LARGE_ANGLE = "0d3BF921FB54442D19"
"""In CUDA's own sinf and cosf, for angles of many turns: one multiplication by pi / 2 / 2^64 in double."""


@pytest.mark.slow
def test_float_kernels_compute_in_float(nvcc, settings, tmp_path):
    """Most devices have one unit for double where they have 32 or 64 for float: a constant like 0.5 costs dearly."""
    target = tmp_path / "all.ptx"
    result = caffe_trees.run([nvcc, *settings, "-ptx", "-arch=sm_90", "-o", str(target), str(in_one(tmp_path))])
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)
    kernels = re.findall(r"\.entry _ZN5caffe\d+(\w+?)I([fd])E\w*\((.*?)\n}", target.read_text(), re.DOTALL)
    in_double: dict[str, set[str]] = {"f": set(), "d": set()}
    for name, number, body in kernels:
        sums = re.findall(r"^\s*(?:add|sub|mul|fma|div|sqrt)\..*", body, re.MULTILINE)
        if any(".f64" in line and LARGE_ANGLE not in line for line in sums):
            in_double[number].add(name)
    assert len(in_double["d"]) > 30  # the pattern finds doubles where they belong
    assert in_double["f"] == set()


def test_device_tests_compile(compile_all, pycaffe):
    """The tests that only a GPU can run."""
    for result in compile_all(DEVICE_TESTS, f"-I{pycaffe.copy / 'src'}", "-DGTEST_USE_OWN_TR1_TUPLE").values():
        assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)


def test_tree_of_earlier_cuda_compiles(compile_all, pycaffe):
    """Caffe prints fields of cudaDeviceProp that CUDA 13 has no more; the build gives them back."""
    source = pycaffe.copy / "src" / "caffe" / "common.cpp"
    assert "prop.clockRate" in source.read_text()
    result = compile_all([source], "-include", str(DEVICE_PROPERTIES))[source]
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)
