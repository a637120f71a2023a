"""The forks' own .cpp files compiled beside the C++ layers: the same numbers in double, on 300 random configurations.

NORMFACE_FORKS names a folder with checkouts of the forks, OWNER+NAME each; a layer whose fork is not there is skipped
by name. Nothing of them is in this repository. Where our numbers differ on purpose (each header says why), the
configurations keep off that place, or the quantity is not compared.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import caffe_trees

FORKS = Path(os.environ.get("NORMFACE_FORKS", "nowhere"))
HERE = Path(__file__).with_name("forks")
CONFIGURATIONS = 300
LIMIT = 1e-9  # relative, and absolute below 1: doubles whose order of sums differs

Line = Callable[[random.Random, int], str]


def scores(text: Callable[[random.Random, int], str]) -> Line:
    """Lines for a layer of (cosines, labels)."""

    def line(r: random.Random, seed: int) -> str:
        rows, classes = r.randint(1, 9), r.randint(3, 12)
        return f"{seed}|cos:{rows},{classes} label{classes}:{rows}|1|0|{text(r, classes)}"

    return line


def noise(r: random.Random, seed: int) -> str:
    rows, classes = r.randint(60, 200), r.randint(2, 5)
    shield = r.choice(["true", "false"])
    fields = f"slide_batch_num: {r.randint(1, 4)} bins: {r.choice([60, 100, 200])} shield_forward: {shield}"
    bottoms = f"normal:{rows},{classes} cos:{rows},{classes} label{classes}:{rows}"
    return f"{seed}|{bottoms}|1|0|type: 'NoiseTolerantFR' noise_tolerant_fr_param {{ {fields} }}"


def norm(r: random.Random, seed: int) -> str:
    shape = ",".join(str(r.randint(1, 5)) for _ in range(4))
    return f"{seed}|normal:{shape}|1|0|type: 'NormL2'"


def rank(r: random.Random, seed: int) -> str:
    pairs, size, negatives = r.randint(2, 6), r.randint(1, 6), r.randint(1, 8)
    fields = f"pair_size: 2 neg_num: {negatives} hard_ratio: 1 margin: {r.uniform(0, 1):.3f}"
    bottoms = f"normal:{2 * pairs},{size} pair2:{2 * pairs}"
    return f"{seed}|{bottoms}|1|0|type: 'RankHardLoss' rank_hard_loss_param {{ {fields} }}"


def inter(r: random.Random, seed: int) -> str:
    rows, size, classes = r.randint(1, 9), r.randint(1, 9), r.randint(2, 9)
    fields = (
        f"num_output: {classes} type: {r.choice(['MEAN', 'AMONG'])} normalize: {r.choice(['true', 'false'])} "
        f"alpha_start_iter: {r.choice([1, 2, 3])} alpha_start_value: {r.uniform(0, 9):.3f}"
    )
    return f"{seed}|normal:{rows},{size} label{classes}:{rows}|1|w|type: 'InterClass' inter_class_param {{ {fields} }}"


def axpy(r: random.Random, seed: int) -> str:
    n, c, h, w = (r.randint(1, 5) for _ in range(4))
    return f"{seed}|normal:{n},{c},1,1 normal:{n},{c},{h},{w} normal:{n},{c},{h},{w}|1|0 1 2|type: 'Axpy'"


def center(r: random.Random, seed: int) -> str:
    rows, size, classes = r.randint(1, 9), r.randint(1, 9), r.randint(2, 9)
    fields = f"num_output: {classes} center_step: FORK distance_type: '{r.choice(['L1', 'L2'])}'"
    bottoms = f"normal:{rows},{size} label{classes}:{rows}"
    return f"{seed}|{bottoms}|1|0 w|type: 'CenterLoss' center_loss_param {{ {fields} }}"


# type: (the fork, its class, its .cpp, its .hpp, the lines)
LAYERS: dict[str, tuple[str, str, str, str, Line]] = {
    "CosinAddm": (
        "xialuxi+arcface-caffe", "CosinAddmLayer", "cosin_add_m_layer.cpp", "cosin_add_m_layer.hpp",
        scores(lambda r, _: f"type: 'CosinAddm' cosin_add_m_param {{ m: {r.uniform(0, 2):.3f} }}"),
    ),
    "Arcface": (
        "huangyangyu+NoiseFace", "ArcfaceLayer", "layer/arcface_layer.cpp", "layer/arcface_layer.hpp",
        scores(lambda r, _: f"type: 'Arcface' arcface_param {{ m: {r.uniform(0, 2):.3f} }}"),
    ),
    "AdaCosAddmScale": (
        "xialuxi+arcface-caffe", "AdaCosAddmScaleLayer", "AdaCos/adacos_add_m_scale_layer.cpp",
        "AdaCos/adacos_add_m_scale_layer.hpp",
        scores(lambda r, classes: "type: 'AdaCosAddmScale' adacos_add_m_scale_param { "
               f"m: {r.uniform(0, 1.5):.3f} num_classes: {classes + r.randint(0, 99)} }}"),
    ),
    "NormL2": ("huangyangyu+NoiseFace", "NormL2Layer", "layer/normL2_layer.cpp", "layer/normL2_layer.hpp", norm),
    "NoiseTolerantFR": (
        "huangyangyu+NoiseFace", "NoiseTolerantFRLayer", "layer/noise_tolerant_fr_layer.cpp",
        "layer/noise_tolerant_fr_layer.hpp", noise,
    ),
    "RankHardLoss": (
        "wujiyang+Triplet-Loss", "RankHardLossLayer", "rank_hard_loss_layer.cpp", "rank_hard_loss_layer.hpp", rank,
    ),
    "InterClass": (
        "wy1iu+sphereface-plus", "InterClassLayer", "tools/caffe-sfplus/src/caffe/layers/inter_class_layer.cpp",
        "tools/caffe-sfplus/include/caffe/layers/inter_class_layer.hpp", inter,
    ),
    # m1 theta + m2 is beyond pi for no cosine above -0.97.
    "CombinedMargin": (
        "gehaocool+CombinedMargin-caffe", "CombinedMarginLayer", "combined_margin_layer.cpp",
        "combined_margin_layer.hpp",
        scores(lambda r, _: f"type: 'CombinedMargin' combined_margin_param {{ m1: {r.uniform(0.5, 1):.3f} "
               f"m2: {r.uniform(0, 0.2):.3f} m3: {r.uniform(0, 1):.3f} }}"),
    ),
    "Axpy": (
        "happynear+caffe-windows", "AxpyLayer", "src/caffe/layers/axpy_layer.cpp",
        "include/caffe/layers/axpy_layer.hpp", axpy,
    ),
    "CenterLoss": (
        "happynear+caffe-windows", "CenterLossLayer", "src/caffe/layers/center_loss_layer.cpp",
        "include/caffe/layers/center_loss_layer.hpp", center,
    ),
}  # fmt: skip

FLOAT_ANGLES = {"CombinedMargin": 1e-6, "AdaCosAddmScale": 1e-6}
"""These forks keep theta in a float."""


@pytest.mark.parametrize("kind", LAYERS)
def test_same_numbers(kind, pycaffe, tmp_path):
    fork, name, source, header, line = LAYERS[kind]
    if not (FORKS / fork / source).is_file():
        pytest.skip(f"{fork} is not in $NORMFACE_FORKS ({FORKS})")
    include = tmp_path / "include" / "caffe" / "layers"
    include.mkdir(parents=True)
    shutil.copy(FORKS / fork / header, include)
    settings = ["-std=c++14", "-O1", "-w", "-DCPU_ONLY", "-DUSE_HDF5"]
    settings += [f"-I{pycaffe.copy / 'include'}", f"-I{pycaffe.folder / 'include'}", "-I/usr/include/x86_64-linux-gnu"]
    fork_settings = [f"-I{tmp_path / 'include'}", f"-D{name}=Fork{name}", f"-DFORK_CLASS=Fork{name}"]
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
    limit = FLOAT_ANGLES.get(kind, LIMIT)
    assert max(apart[worst]) <= limit, (apart[worst], lines[worst], sum(max(each) > limit for each in apart))
