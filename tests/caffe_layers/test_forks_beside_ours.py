"""The forks' own .cpp files compiled beside the C++ layers: the same numbers in double, on 300 random configurations.

NORMFACE_FORKS names a folder with checkouts of the forks, OWNER+NAME each; a layer whose fork is not there is skipped
by name. Nothing of them is in this repository. Where our numbers differ on purpose (each header says why), the
configurations keep off that place, or the quantity is not compared.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from support import layer_lines, other_layers
from support.fork_layers import LAYERS, LIMITS, Fork

FORKS = Path(os.environ.get("NORMFACE_FORKS", "nowhere"))
HERE = Path(__file__).with_name("forks")
CONFIGURATIONS = 300
LIMIT = 1e-9  # relative, and absolute below 1: doubles whose order of sums differs


def put_header(layer: Fork, folder: Path) -> None:
    """Copy the header to where the .cpp includes it from, or the class alone."""
    header = FORKS / layer.name / layer.header
    (folder / "layers").mkdir(parents=True)
    if not layer.of_many:
        shutil.copy(header, folder / "layers")
        return
    pattern = rf"^( *)template <typename Dtype>\s*class {layer.class_name} .*?^\1}};"
    found = re.search(pattern, header.read_text(errors="replace"), re.DOTALL | re.MULTILINE)
    assert found, (header, layer.class_name)
    (folder / header.name).write_text(f"namespace caffe {{\n{found[0]}\n}}\n")


@pytest.mark.parametrize("kind", LAYERS)
def test_same_numbers(kind, pycaffe, tmp_path):
    fork, name, source, _, _, macros, _ = LAYERS[kind]
    if not (FORKS / fork / source).is_file():
        pytest.skip(f"{fork} is not in $NORMFACE_FORKS ({FORKS})")
    put_header(LAYERS[kind], tmp_path / "include" / "caffe")
    settings = [f"-I{tmp_path / 'include'}", *macros, f"-D{name}=Fork{name}", f"-DFORK_CLASS=Fork{name}"]
    settings += [f'-DFORK_SOURCE="{FORKS / fork / source}"']
    fork_layer = layer_lines.compile_object(pycaffe, HERE / "fork_layer.cpp", tmp_path / "fork.o", *settings)
    program = layer_lines.compile_in(pycaffe, HERE / "compare.cpp", fork_layer, program=tmp_path / "compare")
    lines = other_layers.lines(kind, CONFIGURATIONS)
    apart = [[float(word) for word in words] for words in layer_lines.answers(program, lines)]
    assert len(apart) == CONFIGURATIONS
    worst = max(range(CONFIGURATIONS), key=lambda i: max(apart[i]))
    limit = LIMITS.get(kind, LIMIT)
    assert max(apart[worst]) <= limit, (apart[worst], lines[worst], sum(max(each) > limit for each in apart))
