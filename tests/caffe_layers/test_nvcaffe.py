"""The layers in NVCaffe 0.16 and 0.17, of Layer<Ftype, Btype>: put in and taken out, compiled, and run.

NORMFACE_FORKS names a folder with checkouts of those branches, NVIDIA+caffe-0.16 and NVIDIA+caffe-0.17; one that is not
there is skipped by name. Nothing of them is in this repository. NVCaffe has no build without a GPU: what the layers
stand on of it is compiled here by itself (two_types/), and run in CPU mode. The kernels are compiled only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from support import caffe_trees
from support.layer_lines import LIBRARIES, LOOSE, answers
from support.other_layers import KINDS, lines
from support.transplant_trees import content

FORKS = Path(os.environ.get("NORMFACE_FORKS", "nowhere"))
SOURCE = caffe_trees.REPOSITORY / "caffe_layers"
HERE = Path(__file__).with_name("two_types")
RUN_LAYERS = Path(__file__).parent / "lines" / "run_layers.cpp"
CONFIGURATIONS = 40
LIMIT = 1e-9  # relative, and absolute below 1: doubles whose order of sums differs
LIMITS = {"Accuracy": 1e-7}  # NVCaffe's own, which ours is built on, counts in float
SETTINGS = ["-w", "-DNO_NVML=1", "-DCUDA_NO_HALF", "-DNDEBUG"]

pytestmark = pytest.mark.slow


class Staged(NamedTuple):
    """NVCaffe as it was published, a copy with the layers, and the flags to compile in that."""

    published: Path
    copy: Path
    includes: list[str]

    def ours(self, suffix: str, target: Path) -> Path:
        """Write all sources of the layers with ``suffix`` as one, since the headers take most of the time."""
        paths = [self.copy / path.relative_to(SOURCE) for path in sorted((SOURCE / "src").rglob(f"*{suffix}"))]
        texts = {path: path.read_text() for path in paths if path.exists()}
        chosen = {path: text for path, text in texts.items() if "namespace one_type" in text}  # others are NVCaffe's
        target.write_text("".join(f'#line 1 "{path}"\n{text}\n' for path, text in chosen.items()))
        return target


def succeed(command: list[str]) -> subprocess.CompletedProcess[str]:
    result = caffe_trees.run(command)
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)
    return result


@pytest.fixture(scope="module", params=["0.16", "0.17"])
def staged(request, tmp_path_factory) -> Staged:
    published = FORKS / f"NVIDIA+caffe-{request.param}"
    if not (published / "include/caffe/layer.hpp").is_file():
        pytest.skip(f"NVIDIA+caffe-{request.param} is not in $NORMFACE_FORKS ({FORKS})")
    nvcc, math_headers = request.getfixturevalue("nvcc"), request.getfixturevalue("math_headers")
    folder = tmp_path_factory.mktemp("nvcaffe")
    copy, made = folder / "tree", folder / "made" / "caffe" / "proto"
    succeed([sys.executable, str(SOURCE / "stage.py"), str(published), str(copy)])
    made.mkdir(parents=True)
    succeed(["protoc", f"--proto_path={copy}/src/caffe/proto", f"--cpp_out={made}", "caffe.proto"])
    cuda = Path(nvcc).resolve().parents[1] / "include"
    if not (cuda / "cuda_fp16.h").exists():
        cuda = Path("/usr/local/cuda/include")
    folders = [folder / "made", copy / "include", copy / "3rdparty", cuda, math_headers]
    folders += [Path("/usr/include/x86_64-linux-gnu"), Path("/usr/include/hdf5/serial")]
    return Staged(published, copy, [f"-I{path}" for path in folders])


def test_in_and_out_to_the_byte(staged, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(staged.published, root, symlinks=True)
    before = content(root)
    succeed([sys.executable, str(SOURCE / "transplant.py"), str(root)])
    assert (root / "include/caffe/one_type/layer.hpp").exists()
    succeed([sys.executable, str(SOURCE / "transplant.py"), str(root), "--revert"])
    assert content(root) == before


def test_kernels_compile(staged, nvcc, tmp_path):
    """Unoptimised, for the oldest device of today's nvcc: what is asked is whether NVCaffe has all that they name."""
    together = staged.ours(".cu", tmp_path / "ours.cu")
    quick = ["-Xcicc", "-O0", "-Xptxas", "-O0", "-arch=sm_75"]
    succeed([nvcc, "-std=c++17", *quick, *SETTINGS, *staged.includes, "-c", "-o", os.devnull, str(together)])


@pytest.fixture(scope="module")
def in_nvcaffe(staged, tmp_path_factory) -> Path:
    """Return a program that runs the layers in NVCaffe."""
    folder = tmp_path_factory.mktemp("run")
    pieces = [HERE / "tree_parts.cpp", RUN_LAYERS, staged.ours(".cpp", folder / "ours.cpp")]
    sources = {
        "all": "".join(f'#include "{piece}"\n' for piece in pieces),  # as one: the headers take most of the time
        "proto": '#include "caffe/proto/caffe.pb.cc"\n',
    }
    flags = ["-std=c++14", "-O0", "-DTWO_TYPES", *SETTINGS, *staged.includes, f"-I{staged.copy}/src/caffe"]
    for name, text in sources.items():
        (folder / f"{name}.cpp").write_text(text)
        succeed(["g++", *flags, "-c", str(folder / f"{name}.cpp"), "-o", str(folder / f"{name}.o")])
    objects = [str(folder / f"{name}.o") for name in sources]
    program = folder / "run_layers"  # what is for the GPU only is left unresolved, which a -pie is not loaded with
    succeed(["g++", "-no-pie", *objects, "-o", str(program), *LIBRARIES, "-lopenblas", LOOSE])
    return program


def apart(found: str, expected: str) -> float:
    a, b = float(found), float(expected)
    return 0 if a == b or (a != a and b != b) else abs(a - b) / (1 + abs(b))


@pytest.mark.parametrize("kind", KINDS)
def test_same_numbers_as_in_bvlc_caffe(kind, staged, in_nvcaffe, run_layers):
    """The tops, gradients and parameters of each layer, in double: the sources are the same, what is below is not."""
    if kind == "Axpy" and (staged.published / "src/caffe/layers/axpy_layer.cpp").exists():
        pytest.skip("this tree has an Axpy of its own, which stays")
    configurations = lines(kind, CONFIGURATIONS)
    found, expected = answers(in_nvcaffe, configurations), answers(run_layers, configurations)
    assert sum(words[0] == "top" for words in expected) >= CONFIGURATIONS
    assert [(words[0], len(words)) for words in found] == [(words[0], len(words)) for words in expected]
    for one, other in zip(found, expected, strict=True):
        worst = max((apart(a, b) for a, b in zip(one[1:], other[1:], strict=True)), default=0)
        assert worst <= LIMITS.get(kind, LIMIT), (one, other)


@pytest.mark.parametrize(("forward", "backward"), [("FLOAT16", "FLOAT16"), ("FLOAT", "FLOAT16"), ("DOUBLE", "FLOAT")])
def test_another_pair_of_types_is_refused_by_name(in_nvcaffe, forward, backward):
    types = f"name: 'margin' forward_type: {forward} backward_type: {backward}"
    with pytest.raises(AssertionError) as told:
        answers(in_nvcaffe, [f"1|cos:2,3 label3:2|1|0|{types} type: 'CosinAddm'"])
    assert (
        "Layer margin of type CosinAddm computes in float or in double, forward and backward alike, and not in"
        f" {forward} and {backward}; give this layer forward_type: FLOAT and backward_type: FLOAT" in str(told.value)
    )


@pytest.mark.parametrize("fields", ["", "scale_param { min_value: 1 max_value: 1.5 }"])
def test_float(in_nvcaffe, fields):
    """NVCaffe's own Scale, and ours with a bound; the numbers of a layer in float are read as doubles."""
    tops = []
    for types in ("", "forward_type: FLOAT backward_type: FLOAT"):
        told = answers(in_nvcaffe, [f"1|normal:2,5|1|0 w|type: 'Scale' {fields} {types}"])
        tops.append([words[1:] for words in told if words[0] not in ("line", "given", "start")])
    double, single = ([float(word) for words in top for word in words] for top in tops)
    assert len(double) == 10 + 10 + 5 + 5 and single != double
    assert single == pytest.approx(double, rel=1e-5, abs=1e-6)  # float's digits
