"""Every runtime that is installed gives the numbers that real Caffe recorded, whatever the batch."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import caffeport
import numpy as np
import pytest
from caffeport.errors import CaffeportError, MissingDependencyError
from caffeport.runtimes import RUNTIMES, ModelRunError, open_model
from caffeport.runtimes import known as known_runtimes
from support import nets

DIGITS = Path(__file__).parents[2] / "examples/digits"
TOLERANCE = 1e-5
"""Of the largest number: float32 sums of a few hundred products in another order."""


@pytest.fixture(scope="module")
def net():
    return caffeport.load(DIGITS / "deploy.prototxt", DIGITS / "digits_center.caffemodel")


@pytest.fixture(scope="module")
def model(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("runtimes") / "digits.onnx"
    net.to_onnx(path)
    return path


@pytest.fixture(scope="module")
def recorded():
    with np.load(DIGITS / "digits_center_blobs.npz") as blobs:
        return {name.removeprefix("data/"): blobs[name] for name in blobs.files}


def needed(name: str) -> None:
    if RUNTIMES[name].missing:
        pytest.skip(f"{RUNTIMES[name].title} is not installed: {RUNTIMES[name].install}")


def close(array, expected):
    assert array.shape == expected.shape
    np.testing.assert_allclose(array, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_gives_caffes_numbers(name, net, model, recorded):
    needed(name)
    opened = open_model(model, name, threads=1, net=net)
    image, output = opened.inputs[0].name, opened.outputs[0].name
    expected = recorded[output]
    results = opened({image: recorded[image]})
    assert list(results) == [port.name for port in opened.outputs]
    close(results[output], expected)
    close(opened({image: recorded[image][3:5]})[output], expected[3:5])  # another batch size afterwards
    close(opened({image: recorded[image]})[output], expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_several_threads_may_call_one_model(name, model, recorded):
    needed(name)
    opened = open_model(model, name, threads=1)
    image, output = opened.inputs[0].name, opened.outputs[0].name
    batches = [slice(start, start + 1 + start % 6) for start in range(8)]  # OpenVINO compiles no more than four sizes
    results: dict[int, np.ndarray] = {}

    def call(place: int) -> None:
        results[place] = opened({image: recorded[image][batches[place]]})[output]

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, batch in enumerate(batches):
        close(results[place], recorded[output][batch])


@pytest.mark.slow
def test_nothing_but_the_file_is_left_beside_it(net, tmp_path, recorded):
    needed("ncnn")
    path = tmp_path / "digits.onnx"
    net.to_onnx(path)
    open_model(path, "ncnn")({net.inputs[0]: recorded[net.inputs[0]][:1]})
    assert [one.name for one in tmp_path.iterdir()] == ["digits.onnx"]


def test_torch_runs_the_preprocessing_that_the_file_has(net, tmp_path, recorded):
    path = tmp_path / "digits.onnx"
    net.to_onnx(path, mean=8, scale=0.125)
    image, output = net.inputs[0], net.outputs[0]
    pixels = recorded[image] * 8 + 8
    close(open_model(path, "torch", net=net)({image: pixels})[output], recorded[output])


@pytest.mark.parametrize("name", [name for name in RUNTIMES if name not in ("torch", "ncnn")])
def test_a_file_that_is_no_onnx_is_refused(name, tmp_path):
    needed(name)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x08 this is no graph")
    with pytest.raises(CaffeportError, match=r"net\.onnx"):
        open_model(path, name)


def test_a_runtime_that_gives_no_output_is_told(model):
    """MNN answers so, without an exception, where it cannot run a file of 8 bits."""
    opened = open_model(model, threads=1)
    opened._session = SimpleNamespace(run=lambda arrays: [])
    with pytest.raises(ModelRunError, match=r"ONNX Runtime does not run .*: it gives 0 of the 1 outputs and no reason"):
        opened({"data": np.zeros((1, 1, 8, 8), np.float32)})


def test_what_is_wrong_is_told(net, model, tmp_path, recorded, monkeypatch):
    with pytest.raises(
        CaffeportError, match=r'runtime "onnxruntim" is unknown \(did you mean "onnxruntime"\?\); known: onnx'
    ):
        open_model(model, "onnxruntim")
    with pytest.raises(CaffeportError, match=r"none\.onnx: No such file"):
        open_model(tmp_path / "none.onnx")
    with pytest.raises(CaffeportError, match="threads is 1 or more, got 0"):
        open_model(model, threads=0)
    with pytest.raises(CaffeportError, match=r"digits_center\.caffemodel: .*an ONNX model"):
        open_model(DIGITS / "digits_center.caffemodel")
    with pytest.raises(ModelRunError, match=r"PyTorch opens no ONNX files: give the net that .*\(NET WEIGHTS\)"):
        open_model(model, "torch")
    with pytest.raises(CaffeportError, match=f'no array for its input "{net.inputs[0]}"'):
        open_model(model)({"other": recorded[net.inputs[0]]})
    with pytest.raises(ModelRunError, match=r"ONNX Runtime does not run .*digits\.onnx on data 1x7x3x3: "):
        open_model(model)({net.inputs[0]: np.zeros((1, 7, 3, 3), np.float32)})
    monkeypatch.setattr(known_runtimes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="tract is not installed: pip install tract"):
        open_model(model, "tract")


def test_torch_refuses_another_nets_file(model, tmp_path):
    other = nets.load(tmp_path, nets.inputs(data=(1, 3, 8, 8)) + nets.conv("data", "conv", 2))
    with pytest.raises(ModelRunError, match=r"its outputs \w+ are no blobs of net"):
        open_model(model, "torch", net=other)


@pytest.mark.skipif(sys.platform != "linux", reason="SIGUSR1")
def test_signals_are_met_after_a_model_of_openvino_was_dropped_in_another_thread(model):
    """OpenVINO's plugin would take along the stack that the main thread's signals are handled on."""
    needed("openvino")
    code = f"""
import os, signal, threading
import numpy as np
from caffeport.runtimes import open_model
met = []
signal.signal(signal.SIGUSR1, lambda number, frame: met.append(number))
held = [open_model({str(model)!r}, "openvino", threads=1)]
held[0]({{held[0].inputs[0].name: np.zeros((1, 1, 8, 8), np.float32)}})
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
print(len(met))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.slow
def test_openvino_tells_nobody_that_it_was_imported():
    """Its telemetry would send an event over the network, from a process of its own."""
    pytest.importorskip("openvino")
    code = (
        "import sys\n"
        "from caffeport.runtimes.openvino_runtime import core\n"
        "core()\n"
        "print(sorted(name for name in sys.modules if name.startswith('openvino_telemetry')))\n"
        "import openvino.tools.ovc.utils as utils\n"
        "print(utils.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\nopenvino.tools.ovc.telemetry_stub\n", done.stderr[-1000:]
