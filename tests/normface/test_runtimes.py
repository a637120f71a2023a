"""The runtimes that run a model: which is chosen, and that all give the same features and the same faces."""

from __future__ import annotations

import importlib.util
import json
import platform

import numpy as np
import onnxruntime
import pytest
import torch
from normface.cli.main import main
from normface.errors import MissingDependencyError, NormfaceError
from normface.features import Extractor
from normface.inference import choice, choose
from support import nets

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
RUNTIMES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino), "torch"]
TEXT = (
    nets.inputs(data=(1, 3, 12, 10), unread=(1, 4))
    + nets.conv("data", "conv1", 8)
    + nets.layer("PReLU", "conv1", "conv1", name="prelu1")
    + nets.layer("Pooling", "conv1", "pool", "pooling_param { kernel_size: 3 stride: 2 }")
    + nets.inner_product("pool", "fc", 16)
)


@pytest.fixture
def machine(monkeypatch):
    """Set what ``choose`` sees of the machine."""

    def be(
        *, openvino: bool, processor: str = "x86_64", gpu: bool = False, cuda: bool = False, torch_cuda: bool = False
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_cuda)
        find = importlib.util.find_spec
        absent = {"openvino"} - ({"openvino"} if openvino else set())
        spec = object()
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *rest: None if name in absent else spec if name == "openvino" else find(name, *rest),
        )
        monkeypatch.setattr(platform, "machine", lambda: processor)
        monkeypatch.setattr(choice, "_GPU", type("Path", (), {"exists": lambda self: gpu})())
        providers = [*(["CUDAExecutionProvider"] if cuda else []), "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return be


@pytest.mark.parametrize(
    ("there", "asked", "chosen"),
    [
        ({"openvino": True}, {}, ("openvino", "cpu")),
        ({"openvino": False}, {}, ("onnxruntime", "cpu")),
        ({"openvino": True, "processor": "aarch64"}, {}, ("onnxruntime", "cpu")),
        ({"openvino": True, "processor": "AMD64"}, {}, ("openvino", "cpu")),  # Windows
        ({"openvino": True}, {"any_size": True}, ("onnxruntime", "cpu")),
        ({"openvino": True}, {"any_size": True, "runtime": "openvino"}, ("openvino", "cpu")),
        ({"openvino": True, "gpu": True, "cuda": True}, {}, ("onnxruntime", "cuda")),
        ({"openvino": True, "gpu": True, "cuda": True}, {"device": "cpu"}, ("openvino", "cpu")),
        ({"openvino": True, "gpu": True, "cuda": True}, {"runtime": "openvino"}, ("openvino", "cpu")),
        ({"openvino": True, "gpu": True, "cuda": False}, {}, ("openvino", "cpu")),
        ({"openvino": True, "gpu": False, "cuda": True}, {}, ("openvino", "cpu")),
        ({"openvino": True}, {"runtime": "onnxruntime"}, ("onnxruntime", "cpu")),
        ({"openvino": True}, {"runtime": "torch"}, ("torch", "cpu")),
        ({"openvino": True}, {"device": "cuda"}, ("onnxruntime", "cuda")),
        ({"openvino": True, "gpu": True, "torch_cuda": True}, {}, ("openvino", "cpu")),  # torch opens no ONNX file
        ({"openvino": True, "gpu": True, "torch_cuda": True}, {"caffe": True}, ("torch", "cuda")),
        ({"openvino": True, "gpu": True, "torch_cuda": True}, {"caffe": True, "device": "cuda"}, ("torch", "cuda")),
        ({"openvino": True, "gpu": True, "torch_cuda": True}, {"caffe": True, "device": "cpu"}, ("openvino", "cpu")),
        (
            {"openvino": True, "gpu": True, "cuda": True, "torch_cuda": True},
            {"caffe": True},
            ("onnxruntime", "cuda"),
        ),
        (
            {"openvino": True, "gpu": True, "torch_cuda": True},
            {"caffe": True, "runtime": "onnxruntime"},
            ("onnxruntime", "cpu"),
        ),
        ({"openvino": True, "gpu": True, "torch_cuda": True}, {"runtime": "torch"}, ("torch", "cuda")),
        ({"openvino": True, "gpu": True, "torch_cuda": True}, {"runtime": "torch", "device": "cpu"}, ("torch", "cpu")),
        ({"openvino": True, "gpu": True}, {"runtime": "torch"}, ("torch", "cpu")),
        ({"openvino": True, "torch_cuda": True}, {"caffe": True}, ("openvino", "cpu")),  # hidden
    ],
)
def test_choice(machine, there, asked, chosen):
    machine(**there)
    made = choose(**asked)
    assert (made.runtime, made.device) == chosen


def test_a_hidden_gpu_is_none(machine, monkeypatch):
    machine(openvino=False, gpu=True, cuda=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose().device == "cpu"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"runtime": "openvine"}, r'runtime "openvine" is unknown \(did you mean "openvino"\?\); known: auto'),
        ({"device": "tpu"}, 'device "tpu" is unknown'),
        ({"runtime": "openvino", "device": "cuda"}, "runtime openvino is for the cpu; for cuda choose onnxruntime or"),
        ({"runtime": "torch", "device": "cuda"}, "device cuda: torch sees no GPU here, or is built for the CPU alone"),
    ],
)
def test_refusals(asked, message):
    with pytest.raises(NormfaceError, match=message):
        choose(**asked)


def test_a_runtime_that_is_missing(machine):
    machine(openvino=False)
    with pytest.raises(MissingDependencyError, match="runtime openvino: not installed: pip install openvino"):
        choose("openvino")


def images(count):
    return [np.random.default_rng(index).integers(0, 256, (12, 10, 3), np.uint8) for index in range(count)]


def reference(net, batch):
    """The features by torch in float64."""
    model = net.to_torch(outputs=["fc"]).double().eval()
    x = np.stack(batch).transpose(0, 3, 1, 2) / 64 - 1
    return model(torch.from_numpy(x), torch.zeros(len(batch), 4, dtype=torch.float64)).detach().numpy()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("threads", [1, 3])
def test_features(tmp_path, runtime, threads):
    """Of 11 images: two whole batches and a rest, at several threads, and of one image alone."""
    net = nets.load(tmp_path, TEXT)
    net.save(tmp_path / "net.caffemodel")
    extractor = Extractor(
        tmp_path / "net.prototxt", tmp_path / "net.caffemodel", output="fc", mean=64, scale=1 / 64, runtime=runtime,
        threads=threads, device="cpu", batch_size=4,
    )  # fmt: skip
    faces = images(11)
    wanted = reference(net, faces)
    source = type("Source", (), {"names": [str(i) for i in range(11)], "labels": None, "read": lambda self, i: faces[i],
                                 "__len__": lambda self: 11})()  # fmt: skip
    np.testing.assert_allclose(extractor.features(source), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(extractor.features_of(faces[:1]), wanted[:1], rtol=1e-4, atol=1e-5)
    name = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch"}[runtime]
    assert extractor.runtime.startswith(name) and extractor.runtime.endswith(", cpu")


@needs_openvino
def test_openvino_computes_in_float32(tmp_path):
    """By itself it takes bfloat16 where the processor has it, which is off by a hundred times this."""
    net = nets.load(tmp_path, TEXT)
    net.to_onnx(tmp_path / "net.onnx", outputs=["fc"])
    extractor = Extractor(tmp_path / "net.onnx", mean=64, scale=1 / 64, size=(12, 10), runtime="openvino")
    faces = images(64)
    wanted = reference(net, faces)
    assert np.abs(extractor.features_of(faces) - wanted).max() < 2e-6 * np.abs(wanted).max()


def test_torch_opens_no_onnx_file(tmp_path):
    nets.load(tmp_path, TEXT).to_onnx(tmp_path / "net.onnx", outputs=["fc"])
    with pytest.raises(NormfaceError, match=r"runtime torch: PyTorch opens no ONNX files .*; give NET WEIGHTS"):
        Extractor(tmp_path / "net.onnx", mean=0, scale=1, size=(12, 10), runtime="torch")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_extract_tells_what_ran(tmp_path, capsys, monkeypatch, runtime):
    import cv2

    monkeypatch.chdir(tmp_path)
    nets.load(tmp_path, TEXT).save("net.caffemodel")
    (tmp_path / "faces").mkdir()
    for index, face in enumerate(images(3)):
        cv2.imwrite(f"faces/{index}.png", face)
    line = ["extract", "net.prototxt", "net.caffemodel", "--output", "fc", "--mean", "64", "--scale", "0.015625"]
    line += ["--data", "faces", "--out", "f.npz"]
    assert main([*line, "--runtime", runtime, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runtime"].split()[0] in ("ONNX", "OpenVINO", "PyTorch")
    assert main([*line, "--runtime", runtime]) == 0
    assert "; by " in capsys.readouterr().out
