"""The forks' own .cpp files compiled beside the C++ layers: the same numbers in double, on 300 random configurations.

NORMFACE_FORKS names a folder with checkouts of the forks, OWNER+NAME each; a layer whose fork is not there is skipped
by name. Nothing of them is in this repository. Where our numbers differ on purpose (each header says why), the
configurations keep off that place, or the quantity is not compared.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from support import caffe_trees
from support.fork_layers import LAYERS, LIMITS

FORKS = Path(os.environ.get("NORMFACE_FORKS", "nowhere"))
HERE = Path(__file__).with_name("forks")
CONFIGURATIONS = 300
LIMIT = 1e-9  # relative, and absolute below 1: doubles whose order of sums differs


@pytest.mark.parametrize("kind", LAYERS)
def test_same_numbers(kind, pycaffe, tmp_path):
    fork, name, source, header, line, macros = LAYERS[kind]
    if not (FORKS / fork / source).is_file():
        pytest.skip(f"{fork} is not in $NORMFACE_FORKS ({FORKS})")
    include = tmp_path / "include" / "caffe" / "layers"
    include.mkdir(parents=True)
    shutil.copy(FORKS / fork / header, include)
    settings = ["-std=c++14", "-O1", "-w", "-DCPU_ONLY", "-DUSE_HDF5"]
    settings += [f"-I{pycaffe.copy / 'include'}", f"-I{pycaffe.folder / 'include'}", "-I/usr/include/x86_64-linux-gnu"]
    fork_settings = [f"-I{tmp_path / 'include'}", *macros, f"-D{name}=Fork{name}", f"-DFORK_CLASS=Fork{name}"]
    fork_settings += [f'-DFORK_SOURCE="{FORKS / fork / source}"']
    library = pycaffe.folder / "lib"  # what a fork has for the GPU only is left unresolved
    commands = [
        ["g++", *fork_settings, *settings, "-c", str(HERE / "fork_layer.cpp"), "-o", str(tmp_path / "fork.o")],
        ["g++", *settings, str(HERE / "compare.cpp"), str(tmp_path / "fork.o"), "-o", str(tmp_path / "compare"),
         f"-L{library}", f"-Wl,-rpath,{library}", "-lcaffe", "-lprotobuf", "-lglog", "-lgflags", "-lboost_system",
         "-lboost_thread", "-lpthread", "-Wl,--unresolved-symbols=ignore-all"],
    ]  # fmt: skip
    for command in commands:
        result = caffe_trees.run(command)
        assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)
    r = random.Random(7)
    lines = [line(r, seed) for seed in range(CONFIGURATIONS)]
    (tmp_path / "lines").write_text("".join(f"{each}\n" for each in lines))
    result = caffe_trees.run([str(tmp_path / "compare"), str(tmp_path / "lines")])
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)
    apart = [[float(number) for number in each.split()] for each in result.stdout.splitlines()]
    assert len(apart) == CONFIGURATIONS
    worst = max(range(CONFIGURATIONS), key=lambda i: max(apart[i]))
    limit = LIMITS.get(kind, LIMIT)
    assert max(apart[worst]) <= limit, (apart[worst], lines[worst], sum(max(each) > limit for each in apart))
