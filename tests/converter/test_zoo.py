"""The zoo: its data, the files that it knows, --preset, and the page that is written from it."""

from __future__ import annotations

import json
import re
import sys

import caffeport
import numpy as np
import onnxruntime
import pytest
from caffeport import zoo
from caffeport.cli.main import main
from caffeport.zoo import known
from support import nets
from support.published_models import MODELS, ROOT, needs_models

AT_HAND = {
    "mtcnn/det1.caffemodel": "mtcnn-pnet",
    "mtcnn/det2.caffemodel": "mtcnn-rnet",
    "mtcnn/det3.caffemodel": "mtcnn-onet",
    "mobilefacenet/mobilefacenet.caffemodel": "mobilefacenet",
    "normface/lenet_iter_20000.caffemodel": "normface-mnist",
    "wild/ultralight_slim320/net.caffemodel": "ultra-light-slim-320",
    "wild/retinaface_cholihao/net.caffemodel": "retinaface-mnet",
    "wild/arcface_landmark/net.caffemodel": "arcface-landmark",
    "wild/cifar_h5_zj/net.caffemodel.h5": "cifar10-quick-hdf5",
    "wild/v1_cifar_quick/net.caffemodel": "cifar10-quick-v1",
    "wild/deeplm_1_F/net.caffemodel": "deep-landmark-1f",
    "wild/hyperlpr_ssd/net.caffemodel": "hyperlpr-ssd",
    "wild/hyperlpr_finemap/net.caffemodel": "hyperlpr-finemapping",
    "wild/mtcnn_det1_half/net.caffemodel": "mtcnn-pnet-fast",
    "wild/plate_det2/net.caffemodel": "plate-rnet",
    "wild/upresnet10/net.caffemodel": "waifu2x-upresnet10",
    "wild/yolov3lite_tusimple/net.caffemodel": "mobilenet-yolov3-lane",
}
IDENTITY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: %d dim: 2 dim: 2 } } }
layer { name: "same" type: "Power" bottom: "data" top: "same" power_param { power: 1 } }
"""


@pytest.mark.parametrize("model", zoo.MODELS, ids=lambda model: model.name)
def test_an_entry_is_whole(model):
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", model.name)
    assert model.title and model.task and model.licence and model.weights
    assert not any(path.startswith(("/", "http")) for path in (model.net, model.weights))
    if model.file is not None:
        assert re.fullmatch(r"[0-9a-f]{64}", model.file.sha256) and model.file.bytes > 0
        assert 0 <= model.file.worst < 1e-4  # what caffeport check takes as equal
    if model.preset is not None:
        assert model.preset.source and model.preset.scale > 0
        assert len(model.preset.mean) in ((1,) if model.grey else (1, 3))
        assert not (model.grey and model.preset.rgb)
    elif model.file is not None:
        assert model.note  # a file that is at hand, and no recipe: the note says why


def test_names_and_hashes_are_one_model_each():
    names = [model.name for model in zoo.MODELS]
    hashes = [model.file.sha256 for model in zoo.MODELS if model.file is not None]
    assert len(set(names)) == len(names) and len(set(hashes)) == len(hashes)


def test_find():
    sha256 = "39b20f7a57bb8176cc9466cea4dfd52da6a6f876de60c7ab222a309f2d0ca08c"
    assert zoo.find(sha256).name == zoo.find(sha256.upper()).name == "mtcnn-rnet"
    assert zoo.find("0" * 64) is None
    with pytest.raises(caffeport.CaffeportError, match='no model "mtcn-pnet" \\(did you mean "mtcnn-pnet"'):
        zoo.named("mtcn-pnet")
    with pytest.raises(caffeport.CaffeportError, match=r"preprocessing of alexnet is not known .*imagenet_mean"):
        zoo.preset("alexnet")


@needs_models
@pytest.mark.parametrize(("path", "name"), AT_HAND.items(), ids=AT_HAND.values())
def test_files_at_hand_are_recognised(path, name):
    assert zoo.recognise(MODELS / path).name == name


def test_only_a_file_of_a_known_size_is_read(tmp_path, monkeypatch):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(bytes(1000))
    monkeypatch.setattr(known.hashlib, "sha256", lambda: pytest.fail("the file is read"))
    assert zoo.recognise(path) is None
    assert zoo.recognise(tmp_path) is None and zoo.recognise(tmp_path / "missing") is None
    monkeypatch.undo()
    path.write_bytes(bytes(23929))  # as large as wechat-qr-sr's, and not it
    assert zoo.recognise(path) is None


@needs_models
def test_known_weights_are_told(capsys):
    net, weights = str(MODELS / "mtcnn/det1.prototxt"), str(MODELS / "mtcnn/det1.caffemodel")
    assert main(["show", net, weights]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("known: MTCNN, stage 1 (PNet) (kpzhang93/MTCNN_face_detection_alignment, licence: MIT): ")
    assert "(x - 127.5) * 0.0078125, RGB; read prob1, conv4-2; more: caffeport zoo mtcnn-pnet" in line
    assert main(["show", net, weights, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["known"] == "mtcnn-pnet"
    assert main(["show", net, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["known"] is None
    assert main(["check", net, weights, "--json"]) == 0
    assert any(note.startswith("known: MTCNN") for note in json.loads(capsys.readouterr().out)["notes"])


@needs_models
def test_a_preset_of_another_model_is_told(tmp_path, capsys):
    files = [str(MODELS / f"mtcnn/det1.{ending}") for ending in ("prototxt", "caffemodel")]
    assert main(["convert", *files, "--onnx", str(tmp_path / "p.onnx"), "--preset", "center-face"]) == 0
    assert "note: the weights are mtcnn-pnet's, which takes" in capsys.readouterr().err
    assert main(["convert", *files, "--onnx", str(tmp_path / "p.onnx"), "--preset", "mtcnn-pnet", "--check"]) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and "give it RGB pixels from 0 to 255; takes images of any size from 12x12 on" in shown.out


def identity(folder, channels=3):
    """A net whose output is its input, so that what stands in front is all that the file computes."""
    net = nets.load(folder, IDENTITY % channels)
    net.save(folder / "net.caffemodel")
    return [str(folder / "net.prototxt"), str(folder / "net.caffemodel"), "--onnx", str(folder / "n.onnx")]


@pytest.mark.parametrize(
    ("options", "mean", "scale", "turned", "order"),
    [
        ("--preset center-face", 127.5, 1 / 128, False, "BGR"),
        ("--preset center-face --rgb", 127.5, 1 / 128, True, "RGB"),
        ("--preset mobilefacenet", 127.5, 1 / 128, False, "RGB"),
        ("--preset mobilefacenet --rgb", 127.5, 1 / 128, False, "RGB"),  # RGB is what its net takes
        ("--preset res10-ssd", (104, 177, 123), 1, False, "BGR"),
        ("--preset res10-ssd --rgb", (104, 177, 123), 1, True, "RGB"),
        ("--preset center-face --mean 100 --scale 0.5", 100, 0.5, False, "BGR"),
    ],
)
def test_convert_with_a_preset(options, mean, scale, turned, order, tmp_path, capsys):
    assert main(["convert", *identity(tmp_path), *options.split()]) == 0
    out = capsys.readouterr().out
    name = options.split()[1]
    assert f"preset {name}: " in out and f"give it {order} pixels from 0 to 255" in out
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 2, 2)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "n.onnx"), providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {"data": pixels})
    wanted = ((pixels[:, ::-1] if turned else pixels) - np.reshape(mean, (-1, 1, 1))) * scale
    np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-6)  # float32's rounding of a difference and a product
    proof = re.search(r"to prove it: caffeport (check .*)", out)[1]
    assert main(proof.split()) == 0


def test_presets_that_cannot_be_had(tmp_path, capsys):
    files = identity(tmp_path, channels=1)
    assert main(["convert", *files, "--preset", "wechat-qr-sr", "--rgb"]) == 2
    assert "takes one channel; leave --rgb out" in capsys.readouterr().err
    for name, words in {
        "vgg-16": "preprocessing of vgg-16 is not known as mean, scale and channel order: BGR, 224x224",
        "centre-face": 'no model "centre-face" (did you mean "center-face"?)',
    }.items():
        with pytest.raises(SystemExit) as end:
            main(["convert", *files, "--preset", name])
        assert end.value.code == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "n.onnx").exists()


def test_the_command(capsys):
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(zoo.MODELS) + 1 and all(
        model.name in line for model, line in zip(zoo.MODELS, lines[1:], strict=True)
    )
    assert main(["zoo", "open-nsfw"]) == 0
    out = capsys.readouterr().out
    assert "x - (104, 117, 123), BGR, 224x224 (HxW)" in out and "228 blobs" in out and "--preset open-nsfw" in out
    assert main(["zoo", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == [model.name for model in zoo.MODELS]
    assert main(["zoo", "mtcnn-onet", "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert entry["file"]["bytes"] == 1558412 and entry["preset"]["mean"] == [127.5] and entry["preset"]["rgb"] is True


def test_presets_of_normface_are_those_of_the_zoo():
    """Its names and numbers, which people's scripts have."""
    from normface.preprocessing import PRESETS, Preprocessing

    wanted = {
        "center-face": Preprocessing((127.5,), 1 / 128, size=(112, 96)),
        "normface": Preprocessing((128.0,), 1 / 128, size=(112, 96)),
        "sphereface": Preprocessing((127.5,), 1 / 128, size=(112, 96)),
        "mobilefacenet": Preprocessing((127.5,), 1 / 128, rgb=True, fit="pad", size=(112, 112)),
    }
    assert wanted == PRESETS


def test_the_page_is_up_to_date(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    import zoo_page

    assert (ROOT / "docs/zoo.md").read_text() == zoo_page.page(), "run: python docs/zoo_page.py"
