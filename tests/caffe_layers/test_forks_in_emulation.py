"""Layers that their fork has on the GPU only, or otherwise there: its .cu beside ours, both on the emulated device.

As test_forks_beside_ours.py, with the .cpp and .cu of the fork that NORMFACE_FORKS has, in double; the kernels of both
sides run on the host (cuda/README.md). Nothing of them is in this repository.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
from pathlib import Path

import pytest
from support import caffe_trees, layer_lines, other_layers
from support.fork_layers import LIMITS

FORK = Path(os.environ.get("NORMFACE_FORKS", "nowhere")) / "happynear+caffe-windows"
HERE = Path(__file__).parent
EMULATION = HERE / "cuda" / "emulation"
CONFIGURATIONS = 300
LIMIT = 1e-9  # relative, and absolute below 1: doubles whose order of sums differs


def sums(r: random.Random, seed: int) -> str:
    """Lines for Normalize by L1. (By L2 the fork's epsilon is beside the root on the GPU; ours is under it.)"""
    shape, tops = ",".join(str(r.randint(1, 5)) for _ in range(4)), r.choice([1, 2])
    fields = "normalize_type: 'L1' " + layer_lines.choice(r, "fix_gradient", True)
    fields += layer_lines.choice(r, "bp_norm", True) if tops == 2 else ""
    return f"{seed}|normal:{shape}|{tops}|0|type: 'Normalize' normalize_param {{ {fields} }}"


LAYERS = {
    "GlobalLSEMargin": ("global_lse_margin_layer", other_layers.LAYERS["GlobalLSEMargin"]),
    "LabelSpecificAffine": ("label_specific_affine", other_layers.LAYERS["LabelSpecificAffine"]),
    "LabelSpecificHardMargin": ("label_specific_hard_margin", other_layers.LAYERS["LabelSpecificHardMargin"]),
    "Normalize": ("normalize_layer", sums),
    "RadialRemovalMargin": ("radial_removal_margin_layer", other_layers.LAYERS["RadialRemovalMargin"]),
}

pytestmark = pytest.mark.slow


def succeed(*command: object) -> None:
    result = caffe_trees.run([str(word) for word in command])
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)


def on_the_host(source: str, folder: Path) -> Path:
    """Translate the fork's .cpp and .cu as one."""
    text = "".join((FORK / f"src/caffe/layers/{source}.{end}").read_text(errors="replace") for end in ("cpp", "cu"))
    text = re.sub(r"<\s*<\s*<", "<<<", text)  # an editor has put blanks into its launches
    (folder / "fork.cu").write_text(re.sub(r">\s*>\s*>(?=\s*\()", ">>>", text))
    succeed(sys.executable, EMULATION / "cuda_to_cpp.py", folder / "fork.cu", folder / "fork.cu.cpp")
    return folder / "fork.cu.cpp"


def names_apart(kind: str, fork: Path) -> list[str]:
    """Give the fork's class and kernels names of their own: Caffe has kernels of the same names."""
    names = {f"{kind}Layer", f"gInstantiationGuard{kind}Layer"}
    names |= set(re.findall(r"__global__\s+void\s+(\w+)", fork.read_text()))
    return [f"-D{name}=Fork{name}" for name in sorted(names)]


@pytest.mark.parametrize("kind", LAYERS)
def test_same_numbers(kind, request, tmp_path):
    source, line = LAYERS[kind]
    if not (FORK / f"src/caffe/layers/{source}.cu").is_file():
        pytest.skip(f"{FORK.name} is not in $NORMFACE_FORKS ({FORK.parent})")
    pycaffe, emulated = request.getfixturevalue("pycaffe"), request.getfixturevalue("emulated_caffe")
    (tmp_path / "caffe/layers").mkdir(parents=True)
    header = next((FORK / "include/caffe/layers").glob(f"{source.removesuffix('_layer')}*.hpp"))
    shutil.copy(header, tmp_path / "caffe/layers" / header.name)
    first = [f"-I{folder}" for folder in (tmp_path, EMULATION / "include", emulated / "translated/include")]
    flags = ["-std=c++17", "-O1", "-w", "-DUSE_HDF5", *first, *layer_lines.includes(pycaffe)]
    fork = on_the_host(source, tmp_path)
    names = [*names_apart(kind, fork), f"-DFORK_CLASS=Fork{kind}Layer", f'-DFORK_SOURCE="{fork}"']
    device = EMULATION / "include/emulated_cuda/device_code.hpp"
    succeed("g++", *names, "-include", device, *flags, "-c", HERE / "forks/fork_layer.cpp", "-o", tmp_path / "fork.o")
    succeed("g++", "-DON_A_GPU", *flags, "-c", HERE / "forks/compare.cpp", "-o", tmp_path / "compare.o")
    succeed(
        "g++", tmp_path / "compare.o", tmp_path / "fork.o", "-o", tmp_path / "compare",
        "-Wl,--whole-archive", emulated / "libcaffe.a", "-Wl,--no-whole-archive", emulated / "libemulated_cuda.a",
        pycaffe.folder / "lib/libcaffeproto.a", *layer_lines.LIBRARIES, "-lopenblas",
    )  # fmt: skip
    r = random.Random(7)
    lines = [line(r, seed) for seed in range(CONFIGURATIONS)]
    apart = [[float(word) for word in words] for words in layer_lines.answers(tmp_path / "compare", lines)]
    assert len(apart) == CONFIGURATIONS
    worst = max(range(CONFIGURATIONS), key=lambda i: max(apart[i]))
    assert max(apart[worst]) <= LIMITS.get(kind, LIMIT), (apart[worst], lines[worst])
