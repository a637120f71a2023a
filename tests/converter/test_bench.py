"""caffeport bench: times of every runtime, and no wrong one wins."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import caffeport
import numpy as np
import onnx
import pytest
from caffeport.cli.main import main
from caffeport.runtimes import RUNTIMES, ModelRunError, bench
from caffeport.runtimes.bench import Plan, Result, Timing, fastest, random_inputs
from caffeport.runtimes.model_file import ModelFile
from caffeport.runtimes.process import RuntimeProcess, save_inputs
from support import nets

DIGITS = Path(__file__).parents[2] / "examples/digits"
QUICK = ["--rounds", "1", "--seconds", "0", "--threads", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "digits.onnx"
    caffeport.load(DIGITS / "deploy.prototxt", DIGITS / "digits_center.caffemodel").to_onnx(path)
    return path


@pytest.mark.slow
def test_every_runtime_that_is_there_is_timed_and_agrees(model, capsys):
    files = [str(model), str(DIGITS / "deploy.prototxt"), str(DIGITS / "digits_center.caffemodel")]
    assert main(["bench", *files, "--batch", "1,3", *QUICK, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    there = [name for name, one in RUNTIMES.items() if not one.missing]
    assert [one["name"] for one in answer["runtimes"]] == there
    assert [one["name"] for one in answer["absent"]] == [name for name in RUNTIMES if name not in there]
    assert answer["inputs"]["3"]["data"][0] == 3
    for one in answer["runtimes"]:
        assert one["error"] == "" and one["ok"], one
        for batch in ("1", "3"):
            times = one["times"][batch]
            assert 0 < times["tenth"] <= times["median"] <= times["nine_tenths"] and times["runs"] >= 1
        assert (one["max_rel"] is None) == (one["name"] == there[0])
    assert set(answer["fastest"].values()) <= set(there)


@pytest.mark.slow
def test_the_table_names_what_is_absent_and_what_is_fastest(model, capsys, monkeypatch):
    monkeypatch.setattr(
        type(RUNTIMES["tract"]), "missing", property(lambda one: one.name not in ("onnxruntime", "opencv"))
    )
    assert main(["bench", str(model), *QUICK]) == 0
    told = capsys.readouterr().out
    assert "not installed: tract (pip install tract)" in told
    assert "PyTorch" not in told  # it has no net to run, and nobody asked for it
    assert "fastest at batch 1, 1 threads: O" in told
    assert "outputs compared with ONNX Runtime's: all agree" in told


class _Fake:
    """A process that answers at once, with the numbers and times that it is made with."""

    outputs: dict[str, object] = {}
    times: dict[str, float] = {}

    def __init__(self, title: str) -> None:
        self.title = title

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def ask(self, command: str, **words):
        return {"version": "1", "about": ""}

    def run(self, inputs: Path, folder: Path):
        outputs = self.outputs[self.title]
        if isinstance(outputs, Exception):
            raise outputs
        return {"y": outputs}

    def time(self, inputs: Path, seconds: float, least: int = 1):
        return [self.times[self.title]]


def test_a_fast_wrong_one_does_not_win(model, capsys, monkeypatch):
    right = np.linspace(-1, 1, 10)
    _Fake.outputs = {
        "ONNX Runtime": right,
        "OpenVINO": right * 1.01,
        "OpenCV": right + 1e-7,
        "tract": ModelRunError("tract ended its process by SIGSEGV"),
        "MNN": right[:5],
    }
    _Fake.times = {"ONNX Runtime": 3e-3, "OpenVINO": 1e-3, "OpenCV": 2e-3, "MNN": 1e-3}
    monkeypatch.setattr(bench, "RuntimeProcess", _Fake)
    monkeypatch.setattr(type(RUNTIMES["tract"]), "missing", property(lambda one: False))
    assert main(["bench", str(model), "--runtimes", "onnxruntime,openvino,opencv,tract,mnn", *QUICK, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["fastest"] == {"1": "opencv"}
    by_name = {one["name"]: one for one in answer["runtimes"]}
    assert [by_name[name]["ok"] for name in ("onnxruntime", "openvino", "opencv", "mnn")] == [True, False, True, False]
    assert by_name["tract"]["error"] == "tract ended its process by SIGSEGV" and by_name["tract"]["times"] == {}
    assert by_name["mnn"]["max_rel"] is None  # infinite, which JSON has no number for
    assert main(["bench", str(model), "--runtimes", "onnxruntime,openvino,opencv,tract,mnn", *QUICK]) == 1
    told = capsys.readouterr().out
    assert "OpenVINO, MNN differ and cannot win" in told and "SIGSEGV" in told
    assert "fastest at batch 1, 1 threads: OpenCV, 2 ms, 500/s" in told


def in_eight_bits(path):
    """A file that multiplies in 8 bits; what runtimes make of it is _Fake's."""
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1, 10]) for name in "xy")
    scale = onnx.numpy_helper.from_array(np.float32(0.1), "scale")
    nodes = [onnx.helper.make_node("QuantizeLinear", ["x", "scale"], ["q"])]
    nodes += [onnx.helper.make_node("DequantizeLinear", ["q", "scale"], ["y"])]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [x], [y], [scale])), path)


def in_half(path):
    x, y = (onnx.helper.make_tensor_value_info(name, 10, [1, 10]) for name in "xy")
    one = onnx.numpy_helper.from_array(np.ones(1, np.float16), "one")
    node = onnx.helper.make_node("Mul", ["x", "one"], ["y"])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [one])), path)


@pytest.mark.parametrize(
    ("write", "off", "code", "words"),
    [
        (in_eight_bits, 1.4, 0, "8 bits hold for inputs like those of the calibration"),
        (in_eight_bits, np.nan, 1, "OpenVINO differ and cannot win"),
        (in_half, 1.009, 0, "all agree"),
        (in_half, 1.011, 1, "OpenVINO differ and cannot win"),
    ],
)
def test_files_of_fewer_bits_have_their_own_tolerance(write, off, code, words, tmp_path, capsys, monkeypatch):
    """Of float16 1 % rms; random inputs say nothing of 8 bits, which were calibrated on others."""
    right = np.linspace(-1, 1, 10)
    _Fake.outputs = {"ONNX Runtime": right, "OpenVINO": right * off}
    _Fake.times = {"ONNX Runtime": 3e-3, "OpenVINO": 1e-3}
    monkeypatch.setattr(bench, "RuntimeProcess", _Fake)
    write(tmp_path / "few.onnx")
    assert main(["bench", str(tmp_path / "few.onnx"), "--runtimes", "onnxruntime,openvino", *QUICK]) == code
    told = capsys.readouterr().out
    assert words in told
    assert f"threads: {'ONNX Runtime' if code else 'OpenVINO'}" in told


@pytest.mark.slow
def test_a_crash_is_told(tmp_path, model):
    save_inputs(tmp_path / "x.npz", {"data": np.zeros((1, 1, 8, 8), np.float32)})
    with RuntimeProcess("ONNX Runtime") as process:
        process.ask("open", path=str(model), runtime="onnxruntime", threads=1, net=None)
        os.kill(process._process.pid, signal.SIGSEGV)
        with pytest.raises(ModelRunError, match="ONNX Runtime ended its process by SIGSEGV"):
            process.time(tmp_path / "x.npz", 0)


@pytest.mark.slow
def test_a_runtime_that_never_answers_is_stopped(model):
    with RuntimeProcess("ONNX Runtime", timeout=0.01) as process:
        with pytest.raises(ModelRunError, match="ONNX Runtime has not answered for 0 s"):
            process.ask("open", path=str(model), runtime="onnxruntime", threads=1, net=None)
        assert process._process.poll() is not None


def test_inputs_are_those_that_the_file_leaves_free(tmp_path):
    free = tmp_path / "free.onnx"
    nets.load(tmp_path, nets.inputs(data=(1, 3, 8, 8)) + nets.conv("data", "y", 2)).to_onnx(free)
    fixed = tmp_path / "fixed.onnx"
    nets.load(tmp_path, nets.inputs(data=(2, 3, 8, 8)) + nets.conv("data", "y", 2)).to_onnx(fixed, dynamic_batch=False)
    made = random_inputs(ModelFile(free), [1, 4], {"data": (9, 3, 5, 6)})
    assert {batch: arrays["data"].shape for batch, arrays in made.items()} == {1: (1, 3, 5, 6), 4: (4, 3, 5, 6)}
    made = random_inputs(ModelFile(fixed), [1, 4], {})
    assert {batch: arrays["data"].shape for batch, arrays in made.items()} == {2: (2, 3, 8, 8)}
    with pytest.raises(caffeport.CaffeportError, match=r"free; give it \(--input-shape data=1x3x224x224\)"):
        random_inputs(ModelFile(free), [1], {})
    with pytest.raises(caffeport.CaffeportError, match=r'has no input "image"; its inputs are data'):
        random_inputs(ModelFile(free), [1], {"image": (1, 3, 8, 8)})
    with pytest.raises(caffeport.CaffeportError, match=r'its input "data" has 4 axes, got 3x8x8'):
        random_inputs(ModelFile(free), [1], {"data": (3, 8, 8)})
    with pytest.raises(caffeport.CaffeportError, match=r'"data" is 3 on axis 1, which is fixed .*; got 1x1x8x8'):
        random_inputs(ModelFile(free), [1], {"data": (1, 1, 8, 8)})


@pytest.mark.slow
def test_a_fixed_batch_is_told(tmp_path, capsys):
    path = tmp_path / "fixed.onnx"
    nets.load(tmp_path, nets.inputs(data=(2, 3, 8, 8)) + nets.conv("data", "y", 2)).to_onnx(path, dynamic_batch=False)
    assert main(["bench", str(path), "--runtimes", "onnxruntime", "--batch", "1,16", *QUICK]) == 0
    shown = capsys.readouterr()
    assert "takes batches of 2 alone" in shown.err and "batch 2, ms" in shown.out


@pytest.mark.slow
def test_preprocessing_and_several_inputs(tmp_path, capsys):
    text = nets.inputs(a=(1, 3, 4, 4), b=(1, 3, 4, 4)) + nets.layer(
        "Eltwise", "a b", "y", "eltwise_param { operation: PROD }"
    )
    path = tmp_path / "two.onnx"
    nets.load(tmp_path, text).to_onnx(path)
    more = ["--input-shape", "a=1x3x4x4", "--input-shape", "b=1x3x4x4"]
    assert main(["bench", str(path), "--runtimes", "onnxruntime,opencv", *QUICK, *more]) == 0
    assert "all agree" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none.onnx"], r"none\.onnx: No such file"),
        (["{model}", "--runtimes", "onnx"], 'runtime "onnx" is unknown'),
        (["{model}", "--runtimes", ","], "expected names of runtimes"),
        (["{model}", "--batch", "0"], 'expected a whole number from 1 on, got "0"'),
        (["{model}", "--batch", "1,x"], 'got "x"'),
        (["{model}", "--seconds", "-1"], "--seconds is 0 or more, got -1"),
        (["{model}", "--seed", "-1"], 'expected a whole number of 0 or more, got "-1"'),
        (["{model}", "net.prototxt"], "needs its weights beside it"),
        (["{model}", "net.prototxt", "w.caffemodel"], r"net\.prototxt: No such file"),
        (["{broken}"], r"broken\.onnx: is no ONNX model, or is damaged; give one that"),
    ],
)
def test_bad_input_is_one_line(model, tmp_path, capsys, words, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(model.read_bytes()[:1000])
    words = [word.format(model=model, broken=tmp_path / "broken.onnx") for word in words]
    try:
        code = main(["bench", *words])
    except SystemExit as stop:
        code = stop.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(lines) == 1
    import re

    assert re.search(told, lines[0]), lines[0]


@pytest.mark.slow
def test_a_model_that_nothing_runs(tmp_path, capsys):
    path = tmp_path / "odd.onnx"
    node = onnx.helper.make_node("Frobnicate", ["x"], ["y"], domain="nobody")
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["N", 3]) for name in "xy")
    graph = onnx.helper.make_graph([node], "odd", [x], [y])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("nobody", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), str(path))
    assert main(["bench", str(path), "--runtimes", "onnxruntime,opencv", *QUICK]) == 2
    shown = capsys.readouterr()
    assert "no runtime runs it" in shown.err and "ONNX Runtime does not open" in shown.out


def test_the_fastest_is_of_those_with_a_time():
    slow, none = Result("a", "A", times={1: Timing(2, 1, 3, 9)}), Result("b", "B", error="crashed")
    assert fastest([none, slow], 1) is slow and fastest([none], 1) is None


def test_a_plan_counts_its_turns(model):
    inputs = random_inputs(ModelFile(model), [1, 2], {})
    assert Plan(ModelFile(model), inputs, 1, 5, 0.5).turns == 10
