"""The check against real Caffe, as a stand-in for pycaffe (tests/support/fake_caffe.py) plays it: what Caffe is given,
what comes back, and what is said when it fails. tests/caffe_layers/test_caffeport_against_caffe.py has Caffe itself."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import caffeport
import numpy as np
import pytest
from caffeport.cli.main import main
from caffeport.to_caffe import process as caffe_process
from support import nets
from support.signals import as_from_a_terminal

TESTS = Path(__file__).parents[1]
TEXT = (
    nets.inputs(data=(2, 6))
    + nets.inner_product("data", "fc", 4)
    + nets.layer("ReLU", "fc", "fc", name="relu")
    + nets.layer("Power", "fc", "out", "power_param { scale: 2 }")
)
VALUES = ["fc@fc", "fc", "out"]


@pytest.fixture(autouse=True)
def caffe(tmp_path, monkeypatch) -> str:
    """Return the folder for --caffe-python. Afterwards nothing is left of what the check wrote for Caffe."""
    folder = tmp_path / "python"
    (folder / "caffe").mkdir(parents=True)
    shutil.copy(TESTS / "support" / "fake_caffe.py", folder / "caffe" / "__init__.py")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.delenv("CAFFE_PYTHON", raising=False)
    monkeypatch.delenv("FAKE_CAFFE", raising=False)
    monkeypatch.setenv("FAKE_CAFFE_LOG", str(tmp_path / "asked.json"))
    yield str(folder)
    assert not list(temporary.iterdir())
    assert not (folder / "caffe" / "__pycache__").exists()


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Write a net's text and weights."""
    nets.load(tmp_path, TEXT).save(tmp_path / "net.caffemodel")
    return [str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel")]


def load(files, **options) -> caffeport.Net:
    return caffeport.load(*files, **options)


def check(net, caffe, backends=("torch", "onnx", "caffe"), **options):
    return caffeport.check(net, backends=backends, caffe_python=caffe, **options)


def asked(tmp_path) -> dict:
    """Return the request that Caffe got: path, phase, level, stages, and the net's text."""
    return json.loads((tmp_path / "asked.json").read_text())


# ---------------------------------------------------------------- what is compared


@pytest.mark.slow
def test_every_blob_is_compared_with_caffes(files, caffe):
    report = check(load(files), caffe)
    assert report.ok, report.summary
    assert [row.blob for row in report.rows] == VALUES  # the version before the in-place layer too
    assert all(row.baseline == "caffe" and set(row.errors) == {"torch", "onnx"} for row in report.rows)
    assert [(row.baseline, set(row.errors)) for row in report.exported] == [("caffe", {"torch", "onnx, folded"})]
    assert report.caffe == (
        "Caffe 9.9 ran net.prototxt with net.caffemodel, and reads the same weights from caffeport's .caffemodel"
    )
    assert json.loads(report.to_json())["caffe"] == report.caffe
    assert report.caffe in str(report)


@pytest.mark.slow
def test_the_command(files, caffe, capsys):
    arguments = ["check", *files, "--backends", "torch,onnx,caffe", "--caffe-python", caffe]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.count("caffe=torch=onnx") == 4 and "\nCaffe 9.9 ran net.prototxt with net.caffemodel" in out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["baseline"] == "caffe"


@pytest.mark.slow
def test_the_environment_may_say_where_caffe_is(files, caffe, monkeypatch):
    monkeypatch.setenv("CAFFE_PYTHON", caffe)
    assert load(files).check(backends=["caffe", "onnx"]).rows[0].errors.keys() == {"onnx"}


@pytest.mark.slow
def test_a_reference_stays_what_all_are_compared_with(files, caffe):
    net = load(files)
    x = np.random.default_rng(5).standard_normal((3, 6), np.float32)
    weight, bias = net.layer("fc").blobs
    fc = np.maximum(x @ weight.T + bias, 0)
    report = check(net, caffe, backends=["caffe"], reference={"data": x, "fc": fc, "out": 2 * fc})
    assert report.ok and [row.baseline for row in report.rows] == ["", "reference", "reference"]
    assert report.rows[0].note == "caffe only" and report.rows[1].shape == (3, 4)


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["fc", "relu", "out"])
def test_the_layer_where_caffe_differs_is_named(files, caffe, layer, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_CAFFE", f"wrong {layer}")
    assert main(["check", *files, "--backends", "torch,caffe", "--caffe-python", caffe]) == 1
    assert f'FAILED: layer "{layer}"' in capsys.readouterr().out


@pytest.mark.slow
def test_any_batch_size_is_set_before_the_pass(files, caffe):
    report = check(load(files), caffe, inputs=np.ones((5, 6), np.float32))
    assert report.ok and report.rows[0].shape == (5, 4)


@pytest.mark.slow
def test_an_automatic_top_has_no_name_in_caffe(tmp_path, caffe):
    text = nets.inputs(data=(2, 3), target=(2, 3)) + nets.layer("EuclideanLoss", "data target", "l", "", "loss")
    report = check(nets.load(tmp_path, text.replace('top: "l"', "")), caffe)
    assert [(row.blob, row.baseline, set(row.errors)) for row in report.rows] == [("loss", "caffe", {"torch"})]
    assert report.ok


@pytest.mark.slow
def test_a_pycaffe_without_top_ids_and_layer_ranges_by_number(files, caffe, monkeypatch):
    monkeypatch.setenv("FAKE_CAFFE", "old")
    assert check(load(files), caffe).ok


# ---------------------------------------------------------------- what Caffe is given


@pytest.mark.slow
def test_files_that_still_say_what_the_net_does_are_given_as_they_are(files, caffe, tmp_path):
    check(load(files), caffe)
    assert asked(tmp_path) | {"text": ""} == {"path": files[0], "phase": 1, "level": 0, "stages": None, "text": ""}


@pytest.mark.slow
def test_other_weights_are_given_as_caffeport_writes_them(files, caffe):
    net = load(files)
    weight, bias = net.layer("fc").blobs
    report = check(net.with_weights({"fc": [weight * 2, bias]}), caffe)
    assert report.ok and report.caffe == "Caffe 9.9 ran net.prototxt with the weights that caffeport writes"
    net.layer("fc").params[1].data = bias + 1
    report = check(net, caffe)
    assert report.ok and report.caffe.endswith("with the weights that caffeport writes")


@pytest.mark.slow
def test_a_file_that_was_changed_meanwhile_is_not_used(files, caffe, tmp_path):
    net = load(files)
    Path(files[0]).write_text(TEXT.replace("scale: 2", "scale: 3"))
    os.unlink(files[1])
    report = check(net, caffe)
    assert report.ok
    assert report.caffe == "Caffe 9.9 ran caffeport's text of net.prototxt with the weights that caffeport writes"
    assert asked(tmp_path)["path"] != files[0]


@pytest.mark.slow
def test_a_caffemodel_that_caffe_reads_otherwise_fails_the_check(files, caffe, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_CAFFE", "misreads")
    assert main(["check", *files, "--backends", "torch,caffe", "--caffe-python", caffe]) == 1
    out = capsys.readouterr().out
    assert "but reads other weights from caffeport's .caffemodel" in out
    assert 'FAILED: layer "fc" (InnerProduct) is the first that differs: blob "weights of fc"' in out


def train_text(tmp_path) -> Path:
    rules = "include { phase: TRAIN } data_param { source: 'nowhere' batch_size: 2 }"
    text = nets.layer("Data", "", "data label", rules, "database")
    text += nets.layer("Data", "", "data label", rules.replace("TRAIN", "TEST").replace("2", "3"), "database")
    text += nets.inner_product("data", "fc", 3)
    text += nets.layer("ReLU", "fc", "fc", "phase: TRAIN", "relu")
    text += nets.layer("Power", "fc", "fc", "power_param { scale: 2 } include { stage: 'double' }", "double")
    text += nets.layer("EuclideanLoss", "fc label", "loss")
    text += nets.layer("HDF5Output", "fc label", "", 'hdf5_output_param { file_name: "precious.h5" }', "out")
    return nets.write(tmp_path, "state { level: 4 }\n" + text.replace("'", '"'), "train.prototxt")


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.*works in place:caffeport.CaffeportWarning"
)  # of the gradient, which is not looked at
def test_data_layers_become_inputs_and_nothing_is_written(tmp_path, caffe):
    shapes = {"data": (2, 5), "label": (2, 3)}
    net = caffeport.load(train_text(tmp_path), phase="train", stages=["double"], input_shapes=shapes)
    report = check(net, caffe)
    assert report.ok, report.summary
    assert [row.blob for row in report.rows] == ["fc@fc", "fc@relu", "fc", "loss"]
    call = asked(tmp_path)
    assert (call["phase"], call["level"], call["stages"]) == (0, 4, ["double"])
    layers = caffeport.formats.prototxt.parse(call["text"]).messages("layer")
    assert [layer.text("type") for layer in layers] == ["Input", "InnerProduct", "ReLU", "Power", "EuclideanLoss"]
    assert layers[0].text("name") == "database" and layers[0].texts("top") == ["data", "label"]
    shapes = [shape.texts("dim") for shape in layers[0].messages("input_param")[0].messages("shape")]
    assert shapes == [["2", "5"], ["2", "3"]]
    # The layers of the train net, each acting as in TEST: but one says itself that it does not.
    assert [layer.text("phase") for layer in layers] == ["", "TEST", "TRAIN", "TEST", "TEST"]


@pytest.mark.slow
def test_training_keeps_the_phase(tmp_path, caffe):
    text = nets.inputs(data=(2, 6)) + nets.inner_product("data", "fc", 4)
    net = nets.load(tmp_path, text, phase="train")
    assert check(net, caffe, backends=["torch", "caffe"], training=True).ok
    call = asked(tmp_path)
    assert call["phase"] == 0 and call["text"] == text


# ---------------------------------------------------------------- what goes wrong

FATAL = r"Check failed: 5 == 7 \(5 vs\. 7\) Not what this layer wants"
REFUSES = f"{FATAL}; use the fork that the net was made for, or leave caffe out of the backends"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        ("check@net", rf'Caffe refuses this net when setting up layer "data" \(Input\): {REFUSES}'),
        ("check@running", rf'Caffe refuses this net when running layer "fc" \(InnerProduct\): {REFUSES}'),
        ("check@weights", f"Caffe refuses this net when loading net.caffemodel: {FATAL}"),
        ("check@reshape", f"Caffe refuses this net when setting the shapes of the inputs: {FATAL}"),
        ("check@import", f"Caffe refuses this net when importing caffe: {FATAL}"),
        (
            "lacks Power",
            r'layer "out" \(Power\): this Caffe has no layer type "Power"; use the fork that has it, or leave caffe',
        ),
        (
            "parse",
            'Caffe cannot parse net.prototxt: 3:9: Message type "caffe.LayerParameter" has no field named '
            r'"center_loss_param"; .*put them in with caffe_layers/transplant\.py',
        ),
        ("kill@running", r'Caffe ran out of memory when running layer "fc" .*; check with a smaller batch or input'),
        ("bad_alloc@running", r'Caffe ran out of memory when running layer "fc"'),
        ("segfault@running", r'Caffe ended by SIGSEGV when running layer "fc" \(InnerProduct\)$'),
        ("segfault@import", "Caffe ended by SIGSEGV when importing caffe; --caffe-interpreter names the Python that"),
        (
            "exit@running",
            r'Caffe ended with exit code 3 and without a result when running layer "fc" \(InnerProduct\): '
            "some last words",
        ),
        ("raise@running", r'Caffe failed when running layer "fc" \(InnerProduct\): RuntimeError: that went wrong'),
        ("raise@import", "Caffe failed when importing caffe: RuntimeError: that went wrong"),
        ("filtered", 'Caffe failed .*Caffe leaves out layer "out" of this net'),
        ("no tops", r'Caffe failed .*layer "fc" has 0 tops in Caffe, but 1 in caffeport'),
    ],
)
def test_what_caffe_does_is_said_in_one_line(files, caffe, mode, problem, monkeypatch, capsys):
    monkeypatch.setenv("FAKE_CAFFE", mode)
    assert main(["check", *files, "--backends", "torch,caffe", "--caffe-python", caffe]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.startswith("caffeport: error: ")
    assert re.search(problem, error.rstrip())


@pytest.mark.slow
def test_a_face_layer_that_is_lacking_can_be_put_in(tmp_path, caffe, monkeypatch):
    monkeypatch.setenv("FAKE_CAFFE", "lacks Flip")
    net = nets.load(tmp_path, nets.inputs(data=(1, 2, 3, 4)) + nets.layer("Flip", "data", "mirrored"))
    problem = (
        r'layer "mirrored" \(Flip\): this Caffe has no layer type "Flip"; caffe_layers/transplant.py puts the face'
    )
    with pytest.raises(caffeport.CaffeportError, match=problem):
        check(net, caffe)


def wait_for(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_a_caffe_that_hangs_is_stopped(files, caffe, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_CAFFE", "hang@running")
    problem = r'did not end within 10 s, when running layer "fc" \(InnerProduct\); --caffe-timeout sets another limit'
    with pytest.raises(caffeport.CaffeportError, match=problem):
        check(load(files), caffe, caffe_timeout=10)
    assert gone(int((tmp_path / "asked.json").read_text()))


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(files, caffe, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_CAFFE", "hang@running")
    monkeypatch.setenv("TMPDIR", tempfile.tempdir)
    arguments = ["check", *files, "--backends", "onnx,caffe", "--caffe-python", caffe]
    process = subprocess.Popen(
        as_from_a_terminal([sys.executable, "-m", "caffeport", *arguments]),
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "asked.json"
    wait_for(lambda: log.exists() and log.read_text())
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "caffeport: error: interrupted\n"
    assert process.returncode == 130
    assert gone(int(log.read_text()))


def broken(caffe: str, source: str) -> None:
    (Path(caffe) / "caffe" / "__init__.py").write_text(source)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            "from . import _caffe",
            r"cannot import caffe from .*: ImportError: .*_caffe.*; build it for that Python \(make pycaffe\), or",
        ),
        (
            "import google_that_is_not_there",
            "No module named 'google_that_is_not_there'; --caffe-interpreter names the",
        ),
        ("raise ImportError('no google', name='google.protobuf')", "no google; install protobuf for that Python, or"),
        ("raise ImportError('libhdf5.so.9: cannot open')", "libhdf5.so.9: cannot open; LD_LIBRARY_PATH has to hold"),
    ],
)
def test_a_caffe_that_cannot_be_imported(files, caffe, source, problem):
    broken(caffe, source)
    with pytest.raises(caffeport.CaffeportError, match=problem):
        check(load(files), caffe)


def test_interpreters_that_are_none(files, caffe, tmp_path):
    for interpreter, problem in (
        (tmp_path / "python9", r"python9: cannot be started: No such file .*; --caffe-interpreter expects the Python"),
        (tmp_path, "cannot be started: Permission denied"),
        (shutil.which("false"), "ended with exit code 1 and without a result; --caffe-interpreter expects Python 3.6"),
    ):
        with pytest.raises(caffeport.CaffeportError, match=problem):
            check(load(files), caffe, caffe_interpreter=interpreter)


@pytest.mark.slow
def test_another_interpreter_is_used(files, caffe, tmp_path):
    script = tmp_path / "mine"
    script.write_text(f'#!/bin/sh\necho used >> {tmp_path}/used\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    assert check(load(files), caffe, caffe_interpreter=script).ok
    assert (tmp_path / "used").read_text() == "used\n"


@pytest.mark.slow
def test_a_signal_is_told_from_an_exit_code_of_a_script(files, caffe, tmp_path, monkeypatch):
    script = tmp_path / "mine"
    script.write_text(f'#!/bin/sh\n{sys.executable} "$@"\nexit $?\n')
    script.chmod(0o755)
    monkeypatch.setenv("FAKE_CAFFE", "kill@running")
    with pytest.raises(caffeport.CaffeportError, match='Caffe ran out of memory when running layer "fc"'):
        check(load(files), caffe, caffe_interpreter=script)


@pytest.mark.slow
def test_folders_without_caffe(files, caffe, tmp_path):
    for folder, problem in (
        (tmp_path / "nowhere", "there is no folder .*nowhere; expected the folder python/ of a Caffe"),
        (tmp_path / "temporary", "holds no package caffe; expected the folder python/"),
        (tmp_path, f"holds no package caffe; did you mean {caffe}?"),
        (Path(caffe) / "caffe", f"holds no package caffe; did you mean {caffe}?"),
    ):
        with pytest.raises(caffeport.CaffeportError, match=rf"--caffe-python {folder}: {problem}"):
            check(load(files), str(folder))
    assert check(load(files), os.pathsep.join([str(tmp_path / "temporary"), caffe])).ok


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"backends": ["torch", "caffe"], "caffe_python": None},
            r'the backend "caffe" is a Caffe of your own: caffe_py',
        ),
        ({"backends": ["torch", "onnx"]}, r'caffe is not among the backends: backends=\("torch", "onnx", "caffe"\)'),
        ({"backends": ["caffe"]}, "compares two things at least"),
        (
            {"backends": ["torch", "cafe"]},
            r'unknown backend "cafe" \(did you mean "caffe"\?\); known: torch, onnx, caf',
        ),
        ({"caffe_timeout": 0}, "caffe_timeout is more than 0 seconds, got 0"),
        ({"caffe_timeout": float("nan")}, "caffe_timeout is more than 0 seconds, got nan"),
        ({"training": True}, r'training needs the train net: load it with phase="train" \(--phase train\)'),
    ],
)
def test_unfitting_wishes(files, caffe, options, problem):
    wishes = {"backends": ["torch", "onnx", "caffe"], "caffe_python": caffe} | options
    with pytest.raises(caffeport.CaffeportError, match=problem):
        caffeport.check(load(files), **wishes)


def test_training_has_no_onnx(files, caffe):
    with pytest.raises(caffeport.CaffeportError, match="ONNX has no training pass; compare torch and caffe"):
        check(load(files, phase="train"), caffe, training=True)


def test_a_full_disk(files, caffe, monkeypatch):
    def full(*arguments, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(caffeport.CaffeportError, match="No space left on device; TMPDIR sets another folder"):
        check(load(files), caffe)


# ---------------------------------------------------------------- the script


def test_the_script_runs_in_old_pythons_and_imports_next_to_nothing():
    source = Path(caffe_process.__file__).with_name("_pycaffe_forward.py").read_text()
    tree = ast.parse(source, feature_version=(3, 6))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"numpy", "caffe"}


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("", ""),
        ("I0131 12:00:00.12 1 net.cpp:84] Creating Layer a\nE0131 12:00:00.12 1 a.cpp:1] Odd", ""),
        (
            "F0131 12:00:00.123456 17 net.cpp:757] Cannot copy\n*** Check failure stack trace: ***\n    @ 0x1",
            "Cannot copy",
        ),
        ("F20240131 12:00:00.123456 139 a.cpp:5] Check failed: a == b (1 vs. 2) \nF0131 12:00:00.1 1 b:1] Late", None),
    ],
)
def test_caffes_own_words(log, message):
    assert caffe_process.fatal_message(log) == ("Check failed: a == b (1 vs. 2)" if message is None else message)
