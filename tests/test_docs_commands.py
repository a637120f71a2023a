"""Every command line that a page shows is one that its program takes; caffeport's run, on stand-ins for the files.

normface's run in test_docs_normface_commands.py.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import caffeport
import cv2
import normface.cli.main
import numpy as np
import pytest
from caffeport.cli.main import main, parser
from support import nets
from test_docs import PAGES, ROOT, plain_blocks

PARSERS = {"caffeport": parser, "normface": normface.cli.main.parser}
SYNOPSIS = re.compile(r"[\[\]|]|\.\.\.| DIR\b|(?<=--)[\w-]+ FILE\b")
"""Marks of a line that says what there is to say, rather than being typed."""


def commands(page: str) -> list[str]:
    """The lines of a page's blocks that begin with one of the programs, without comments, each whole."""
    text = "".join(plain_blocks(page))
    lines = re.sub(r"\\\n", " ", text).splitlines()
    words = [re.split(r"  #| > ", line)[0].removeprefix("$ ").strip() for line in lines]
    typed = [line for line in words if re.match(r"(caffeport|normface) ", line) and not line.startswith("caffeport: ")]
    return [line for line in typed if not SYNOPSIS.search(line)]


ALL = [(page, line) for page in PAGES for line in commands(page)]
RUN = [(page, line) for page, line in ALL if line.startswith("caffeport") and "--print-completion" not in line]


def test_there_are_command_lines_to_try():
    assert len(ALL) > 35 and len(RUN) > 12


@pytest.mark.parametrize(("page", "line"), ALL)
def test_the_program_takes_it(page, line, capsys):
    """Options, their values, and what has to be there: as argparse itself sees them."""
    program, *words = shlex.split(line)
    if words[0] == "--print-completion":
        pytest.importorskip("shtab")
        with pytest.raises(SystemExit) as stopped:
            PARSERS[program]().parse_args(words)
        assert stopped.value.code == 0 and len(capsys.readouterr().out) > 1000
        return
    assert callable(PARSERS[program]().parse_args(words).run)


FACE = (
    nets.inputs(data=(1, 3, 112, 96))
    + nets.conv("data", "conv", 4, "kernel_size: 3 stride: 8")
    + nets.layer("Pooling", "conv", "pool", "pooling_param { pool: AVE global_pooling: true }")
    + nets.inner_product("pool", "fc5", 32)
)
TWO_STAGES = nets.inputs(data=(1, 3, 8, 8)) + "".join(
    nets.inner_product("data", blob, 4) for blob in ("rois", "cls_prob", "bbox_pred")
)
V1 = """input: "data" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 3
layers { name: "r" type: RELU bottom: "data" top: "r" }"""
TEXT_WEIGHTS = 'layer { name: "s" type: "Scale" blobs { shape { dim: 2 } data: 1 data: 2 } }'


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> Path:
    """A folder with a small file under every name that the pages' commands read."""
    folder = tmp_path_factory.mktemp("docs")
    nets.load(folder, FACE).save(folder / "face.caffemodel", prototxt=folder / "deploy.prototxt")
    for text, weights in (("det2.prototxt", "det2.caffemodel"), ("NET", "WEIGHTS")):
        shutil.copy(folder / "deploy.prototxt", folder / text)
        shutil.copy(folder / "face.caffemodel", folder / weights)
    shutil.copy(folder / "face.caffemodel", folder / "v1.caffemodel")
    nets.load(folder, TWO_STAGES).save(folder / "rfcn.caffemodel", prototxt=folder / "test.prototxt")
    (folder / "v1_train_val.prototxt").write_text(V1)
    (folder / "weights.prototxt").write_text(TEXT_WEIGHTS)
    for number, name in enumerate(("ann1", "ann2", "bob")):
        pixels = np.random.default_rng(number).integers(0, 256, (112, 96, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{name}.jpg"), pixels)
        (folder / "faces" / name).mkdir(parents=True)
        shutil.copy(folder / f"{name}.jpg", folder / "faces" / name / "1.jpg")
    assert main(["upgrade", str(folder / "face.caffemodel"), str(folder / "face.caffemodel.h5")]) == 0
    net = caffeport.load(folder / "NET", folder / "WEIGHTS")
    net.to_onnx(folder / "face.onnx", mean=127.5, scale=0.0078125, rgb=True)
    assert (
        main(
            [
                "convert",
                *(str(folder / name) for name in ("NET", "WEIGHTS")),
                "--torch",
                str(folder / "face.safetensors"),
            ]
        )
        == 0
    )
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
@pytest.mark.parametrize(("page", "line"), RUN)
def test_caffeports_commands_run(page, line, stand_ins, monkeypatch, capsys):
    if "CAFFE_ROOT" in line:
        pytest.skip("needs a built Caffe: tests/caffe_layers runs it")
    monkeypatch.chdir(stand_ins)
    _, *words = shlex.split(line)
    assert main(words) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_readmes_proof_is_what_is_printed(stand_ins, monkeypatch, capsys):
    """Names, shapes and what is compared; the errors' last digits are the processor's."""
    monkeypatch.chdir(stand_ins)
    (line,) = [line for line in commands("README.md") if line.startswith("caffeport check")]
    assert main(shlex.split(line)[1:]) == 0
    printed = [row.split()[:6] for row in capsys.readouterr().out.splitlines()]
    (block,) = [block for block in plain_blocks("README.md") if block.startswith("$ caffeport check")]
    shown = re.findall(r"^ok  .*$", block, re.MULTILINE)
    assert len(shown) == 4
    for row in shown:
        assert row.split()[:6] in printed, row
