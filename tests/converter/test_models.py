"""Real published models, where they are at hand: conversion proven on every blob, and the faces told apart."""

from __future__ import annotations

import zipfile
from pathlib import Path

import caffeport
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support.published_models import MODELS, mobilefacenet_net, needs_models, open_nsfw_net

SHARED = MODELS.parent

# Pieces of nets, which their authors meant to be pasted: the blobs they start from are made elsewhere.
FRAGMENTS = {
    "combine_softmax_contrastive": {"last_ip_layer": (4, 512), "label": (4,)},
    "normalized_Euclidean_contrastive": {"last_ip_layer": (4, 512), "label": (4,)},
    "normalized_Euclidean_triplet": {"last_ip_layer": (4, 512), "label": (4,)},
    "scaled_cosine_softmax": {"last_ip_layer": (4, 512), "label": (4,)},
    "GNAP": {"res4_3": (4, 512, 7, 6)},
}


def networks() -> list[Path]:
    return sorted(path for path in MODELS.glob("*/*.prototxt") if "solver" not in path.name)


@pytest.mark.slow
@needs_models
@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
@pytest.mark.parametrize("phase", ["test", "train"])
@pytest.mark.parametrize("path", networks(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_network_builds(path, phase):
    net = caffeport.load(path, phase=phase, input_shapes=FRAGMENTS.get(path.stem, {}))
    assert all(dim > 0 for shape in net.blob_shapes.values() for dim in shape)
    again = caffeport.load(path, phase=phase, input_shapes=FRAGMENTS.get(path.stem, {}))
    for mine, same in zip(net.params[:3], again.params[:3], strict=True):
        np.testing.assert_array_equal(mine.data, same.data)  # the fillers are seeded


@needs_models
@pytest.mark.parametrize("path", sorted(MODELS.glob("*/*solver.prototxt")), ids=lambda path: path.stem)
def test_a_solver_is_no_net(path):
    with pytest.raises(caffeport.PrototxtError, match=r"belongs to a solver"):
        caffeport.load(path)


def mtcnn(number: int) -> caffeport.Net:
    return caffeport.load(MODELS / f"mtcnn/det{number}.prototxt", MODELS / f"mtcnn/det{number}.caffemodel")


@needs_models
@pytest.mark.parametrize("number", [1, 2, 3])
def test_mtcnn(number):
    report = mtcnn(number).check(rtol=1e-4, atol=0)
    assert report.ok, report.summary
    assert all(set(row.errors) == {"onnx"} for row in report.rows)


@needs_models
def test_pnet_takes_images_of_any_size(tmp_path):
    net = mtcnn(1)
    net.to_onnx(tmp_path / "pnet.onnx")
    onnx.checker.check_model(str(tmp_path / "pnet.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "pnet.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["N", 3, "H", "W"]
    model = net.to_torch()
    for height, width in ((12, 12), (37, 60), (120, 91)):
        x = np.random.default_rng(0).standard_normal((2, 3, height, width), np.float32)
        with torch.no_grad():
            wanted = model(torch.tensor(x))
        for name, found in zip(net.outputs, session.run(net.outputs, {"data": x}), strict=True):
            np.testing.assert_allclose(found, wanted[name].numpy(), 1e-4, 1e-5)


@pytest.mark.slow
@needs_models
def test_mobilefacenet():
    report = mobilefacenet_net().check(rtol=1e-4, atol=0)
    assert report.ok, report.summary
    assert len(report.rows) == 195


@pytest.mark.slow
@needs_models
def test_mobilefacenet_tells_faces_apart(tmp_path):
    """The first 600 pairs of LFW's view 2, best single threshold: 0.99 or better."""
    cv2 = pytest.importorskip("cv2")
    if not (SHARED / "lfw").is_dir():
        pytest.skip("LFW (../shared/lfw) is not here")
    mobilefacenet_net().to_onnx(tmp_path / "face.onnx", mean=127.5, scale=1 / 128)
    session = onnxruntime.InferenceSession(str(tmp_path / "face.onnx"), providers=["CPUExecutionProvider"])
    pairs = [line.split("\t") for line in (SHARED / "lfw/pairs.txt").read_text().splitlines()[1:601]]
    named = [((p[0], p[1]), (p[0], p[2]), True) if len(p) == 3 else ((p[0], p[1]), (p[2], p[3]), False) for p in pairs]
    features = {}
    with zipfile.ZipFile(SHARED / "lfw/lfw-112x96.zip") as archive:
        members = {Path(name).name: name for name in archive.namelist()}
        for key in sorted({face for a, b, _ in named for face in (a, b)}):
            raw = archive.read(members[f"{key[0]}_{int(key[1]):04d}.jpg"])
            image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]  # this net wants RGB
            image = np.pad(image, ((0, 0), (8, 8), (0, 0))).astype(np.float32).transpose(2, 0, 1)
            both = session.run(None, {"data": np.stack([image, image[:, :, ::-1]])})[0].sum(0)
            features[key] = both / np.linalg.norm(both)
    scores = np.array([features[a] @ features[b] for a, b, _ in named])
    same = np.array([match for *_, match in named])
    assert same.sum() == 300
    accuracy = max(((scores >= threshold) == same).mean() for threshold in scores)
    assert accuracy >= 0.99


@pytest.mark.slow
@needs_models
def test_lenet_finds_its_input_size_in_the_weights():
    folder = MODELS / "normface"
    with pytest.warns(caffeport.CaffeportWarning, match="100x1x28x28 from the weights"):
        net = caffeport.load(folder / "lenet_NCA_nonorm.prototxt", folder / "lenet_iter_20000.caffemodel")
    assert net.inputs == ["data", "label"]
    assert net.preprocessing["data"].mean_value == [128.0]
    report = net.check(rtol=1e-4, atol=0)
    assert report.ok, report.summary


@pytest.mark.slow
def test_open_nsfw():
    report = open_nsfw_net().check(rtol=1e-4, atol=0)
    assert report.ok, report.summary
    assert len(report.rows) == 228
    assert report.exported[0].ok
