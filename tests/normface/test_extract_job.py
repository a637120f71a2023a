"""normface extract: files from folders, lists and zips; what happens at bad images and after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from normface.cli.main import main
from normface.errors import DataError
from normface.features import Extractor, load_features, part
from normface.features.job import extract_to
from support import command_line
from support.linear_faces import FEATURES, HEIGHT, WIDTH, linear_faces

PEOPLE = ("Al", "Bo", "Cy")


def write_faces(folder: Path, people=PEOPLE, each: int = 4) -> list[str]:
    """PNGs of random pixels, one folder a person; returns their names in order."""
    draw = np.random.default_rng(0)
    names = [f"{person}/{number}.png" for person in people for number in range(each)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), draw.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    return names


@pytest.fixture
def net(tmp_path):
    return linear_faces(tmp_path)


def said(capsys, *arguments) -> tuple[int, str, str]:
    return command_line.said(capsys, "extract", *arguments)


def refused(capsys, *arguments) -> str:
    code, out, error = said(capsys, *arguments)
    assert (code, out) == (2, "")
    progress, _, error = error.rpartition("normface: error: ")
    assert all(line.startswith("features: ") for line in progress.splitlines())
    assert error.count("\n") == 1
    return error


def by_hand(net, folder: Path, names: list[str]) -> np.ndarray:
    """mean 128, scale 1/128, mirror sum."""
    rows = []
    for name in names:
        x = (cv2.imread(str(folder / name)).transpose(2, 0, 1) - 128.0) / 128
        rows.append(net.feature(x) + net.feature(x[..., ::-1]))
    return np.array(rows)


OPTIONS = ("--mean", "128", "--scale", "0.0078125", "--mirror", "sum", "--batch-size", "5")


@pytest.mark.parametrize("form", ["folder", "zip", "list"])
def test_the_file(net, tmp_path, capsys, form):
    names = write_faces(tmp_path / "faces")
    data, more = tmp_path / "faces", ()
    if form == "zip":
        data = tmp_path / "faces.zip"
        with zipfile.ZipFile(data, "w") as archive:
            for name in names:
                archive.write(tmp_path / "faces" / name, name)
    if form == "list":
        data, more = tmp_path / "list.txt", ("--root", tmp_path / "faces")
        data.write_text("".join(f"{name} {PEOPLE.index(name[:2])}\n" for name in names))
    out = tmp_path / "f.npz"
    code, printed, errors = said(capsys, net.prototxt, net.caffemodel, "--data", data, *more, "--out", out, *OPTIONS)
    assert code == 0 and printed.startswith(f"wrote {out}: 12 features of {FEATURES} numbers; by ")
    assert errors.startswith("features: 12 of 12")
    found = load_features(out)
    assert found.names == names
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.identities == (["0", "1", "2"] if form == "list" else list(PEOPLE))
    np.testing.assert_allclose(found.features, by_hand(net, tmp_path / "faces", names), rtol=1e-4, atol=1e-5)
    assert found.settings["mirror"] == "sum"
    assert found.settings["model"] == str(net.prototxt)
    assert not (tmp_path / "f.npz.part").exists()


def test_parquet_holds_the_same(net, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    write_faces(tmp_path / "faces")
    for name in ("f.npz", "f.parquet"):
        call = (net.prototxt, net.caffemodel, "--data", tmp_path / "faces", "--out", tmp_path / name, *OPTIONS)
        assert said(capsys, *call)[0] == 0
    one, other = load_features(tmp_path / "f.npz"), load_features(tmp_path / "f.parquet")
    np.testing.assert_array_equal(one.features, other.features)
    assert (one.names, one.identities, one.settings) == (other.names, other.identities, other.settings)


def test_json(net, tmp_path, capsys):
    names = write_faces(tmp_path / "faces")
    (tmp_path / "faces" / names[5]).write_bytes(b"no image")
    out = tmp_path / "f.npz"
    call = (net.prototxt, net.caffemodel, "--data", tmp_path / "faces", "--out", out, *OPTIONS, "--json")
    code, printed, _ = said(capsys, *call, "--on-bad-image", "skip")
    assert code == 0
    content = json.loads(printed)
    assert content.pop("skipped") == [
        {
            "picture": names[5],
            "why": f"{tmp_path / 'faces' / names[5]}: is no JPEG, PNG, BMP, WebP, GIF, TIFF or PNM image",
        }
    ]
    assert content.pop("runtime").endswith(", cpu")
    assert content == {"file": str(out), "pictures": 11, "dimension": FEATURES, "continued_from": 0}


class TestBadImages:
    @pytest.fixture
    def call(self, net, tmp_path):
        self.names = write_faces(tmp_path / "faces")
        (tmp_path / "faces" / self.names[7]).write_bytes(b"")
        return (net.prototxt, net.caffemodel, "--data", tmp_path / "faces", "--out", tmp_path / "f.npz", *OPTIONS)

    def test_stop_names_it_and_keeps_the_work(self, call, net, tmp_path, capsys):
        assert "7.png" not in self.names[7]
        assert f"{self.names[7]}: is empty; expected an image" in refused(capsys, *call)
        assert not (tmp_path / "f.npz").exists()
        code, printed, errors = said(capsys, *call, "--on-bad-image", "skip")
        assert code == 0
        assert "11 features of 5 numbers, continued from 5" in printed  # whole batches of five
        assert f"normface: skipped {tmp_path / 'faces' / self.names[7]}: is empty" in errors
        kept = self.names[:7] + self.names[8:]
        found = load_features(tmp_path / "f.npz")
        assert found.names == kept
        assert found.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 4
        np.testing.assert_allclose(found.features, by_hand(net, tmp_path / "faces", kept), rtol=1e-4, atol=1e-5)

    def test_none_can_be_read(self, call, tmp_path, capsys):
        for name in self.names:
            (tmp_path / "faces" / name).write_bytes(b"")
        error = refused(capsys, *call, "--on-bad-image", "skip")
        assert "none of the 12 images has a feature; the first: " in error

    def test_stop_after_an_interrupted_skip(self, net, tmp_path, monkeypatch):
        """What was skipped must not be missing in silence."""
        from normface.data import open_images

        names = write_faces(tmp_path / "faces")
        (tmp_path / "faces" / names[1]).write_bytes(b"")
        extractor = Extractor(net.prototxt, net.caffemodel, mean=0, batch_size=3)
        images = open_images(tmp_path / "faces")
        whole = Extractor._infer

        def interrupted(self, batch):
            if len(batch) == 3:  # not the first, which lacks one
                raise KeyboardInterrupt
            return whole(self, batch)

        monkeypatch.setattr(Extractor, "_infer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract_to(tmp_path / "f.npz", extractor, images, bad="skip", progress=False)
        monkeypatch.undo()
        with pytest.raises(DataError, match=r"1\.png: is empty.* \(an earlier run skipped it; skip again, or delete "):
            extract_to(tmp_path / "f.npz", extractor, images, progress=False)
        outcome = extract_to(tmp_path / "f.npz", extractor, images, bad="skip", progress=False)
        assert (outcome.continued_from, [name for name, _ in outcome.skipped]) == (3, [names[1]])


SLOWLY = """
import sys, time
from normface.cli.main import main
from normface.errors import DataError
from normface.data.readers import Reader
from normface.features import part
part.SAVE_EVERY = 0.0
read = Reader.read
def slowly(self, index):
    time.sleep(0.05)
    return read(self, index)
Reader.read = slowly
sys.exit(main(sys.argv[1:]))
"""


class TestRestart:
    @pytest.fixture
    def call(self, net, tmp_path):
        write_faces(tmp_path / "faces", each=40)
        return ["extract", net.prototxt, net.caffemodel, "--data", tmp_path / "faces", *OPTIONS, "--threads", "1"]

    def killed(self, call, out: Path) -> int:
        """Kill a run in its middle without any warning; returns how many images it had noted."""
        command = [sys.executable, "-c", SLOWLY, *map(str, call), "--out", str(out)]
        paths = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": paths})
        note, done, end = out.with_name(out.name + ".part") / "note.json", 0, time.monotonic() + 60
        try:
            while done < 20 and process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
                done = json.loads(note.read_text())["done"] if note.exists() else 0
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL, "ended by itself"
        assert not out.exists()
        return json.loads(note.read_text())["done"]

    @pytest.mark.slow
    def test_after_a_kill_it_goes_on_and_the_file_is_the_same(self, call, tmp_path, capsys):
        assert main([*map(str, call), "--out", str(tmp_path / "whole.npz")]) == 0
        done = self.killed(call, tmp_path / "killed.npz")
        assert 20 <= done < 120
        capsys.readouterr()
        assert main([*map(str, call), "--out", str(tmp_path / "killed.npz")]) == 0
        assert f"continued from {done}" in capsys.readouterr().out
        assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
        assert not (tmp_path / "killed.npz.part").exists()

    @pytest.mark.slow
    def test_other_work_starts_anew(self, call, net, tmp_path, capsys):
        """Another setting, model, image or place: nothing of the old work is taken."""
        out, kept = tmp_path / "f.npz", tmp_path / "kept"
        self.killed(call, out)
        (tmp_path / "f.npz.part").rename(kept)
        image, renamed = tmp_path / "faces" / "Cy" / "9.png", tmp_path / "faces" / "Cy" / "9b.png"

        @contextlib.contextmanager
        def another(file: Path, change) -> Iterator[None]:
            """A file's bytes changed, and afterwards the very file as it was."""
            raw, status = file.read_bytes(), file.stat()
            file.write_bytes(change(raw))
            yield
            file.write_bytes(raw)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

        @contextlib.contextmanager
        def another_name() -> Iterator[None]:
            image.rename(renamed)
            yield
            renamed.rename(image)

        black = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
        for change, more, anew in (
            (contextlib.nullcontext(), [], False),  # so that the others would continue too
            (contextlib.nullcontext(), ["--scale", "1"], True),
            (contextlib.nullcontext(), ["--mirror", "max"], True),
            (contextlib.nullcontext(), ["--batch-size", "6"], True),  # would continue in the middle of a batch
            (another_name(), [], True),
            (another(image, lambda _: black), [], True),
            (another(net.caffemodel, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])), [], True),  # of the same size
        ):
            with change:
                (tmp_path / "f.npz.part").mkdir(exist_ok=True)
                for file in kept.iterdir():
                    (tmp_path / "f.npz.part" / file.name).write_bytes(file.read_bytes())
                capsys.readouterr()
                assert main([*map(str, call), *more, "--out", str(out)]) == 0
                assert ("continued" not in capsys.readouterr().out) == anew
                assert main([*map(str, call), *more, "--out", str(tmp_path / "anew.npz")]) == 0
                assert out.read_bytes() == (tmp_path / "anew.npz").read_bytes()

    @pytest.mark.slow
    @pytest.mark.parametrize("damage", ["rows.f32", "note.json"])
    def test_damaged_remains_start_anew(self, call, tmp_path, capsys, damage):
        self.killed(call, tmp_path / "f.npz")
        (tmp_path / "f.npz.part" / damage).write_bytes(b"{")
        capsys.readouterr()
        assert main([*map(str, call), "--out", str(tmp_path / "f.npz")]) == 0
        assert "continued" not in capsys.readouterr().out
        assert len(load_features(tmp_path / "f.npz")) == 120

    def test_rows_that_were_not_noted_are_written_again(self, tmp_path):
        rows = np.arange(12, dtype=np.float32).reshape(6, 2)
        with part.Part(tmp_path / "p", "key", 2) as first:
            first.add([0, 1], rows[:2])
            first.save()
            first.add([2, 3], rows[2:4] + 99)
            note = (tmp_path / "p" / "note.json").read_bytes()
        (tmp_path / "p" / "note.json").write_bytes(note)  # as if killed between rows and note
        with part.Part(tmp_path / "p", "key", 2) as again:
            assert again.done == 2
            again.add([2, 3, 4, 5], rows[2:])
            np.testing.assert_array_equal(again.rows(), rows)
        with part.Part(tmp_path / "p", "other", 2) as anew:
            assert (anew.done, anew.rows().shape) == (0, (0, 2))

    def test_two_runs_do_not_write_into_one_file(self, tmp_path):
        with part.Part(tmp_path / "p", "key", 2) as first:
            first.add([0], np.ones((1, 2), np.float32))
            with pytest.raises(DataError, match=r"p: another run is writing there; wait for it"):
                part.Part(tmp_path / "p", "key", 2)
            np.testing.assert_array_equal(first.rows(), [[1, 1]])
        with part.Part(tmp_path / "p", "key", 2) as second:
            assert second.done == 1

    def test_only_its_own_files_are_removed(self, call, tmp_path):
        (tmp_path / "f.npz.part").mkdir()
        (tmp_path / "f.npz.part" / "mine.txt").write_text("kept")
        assert main([*map(str, call), "--out", str(tmp_path / "f.npz")]) == 0
        assert [path.name for path in (tmp_path / "f.npz.part").iterdir()] == ["mine.txt"]


class TestOneLineErrors:
    @pytest.mark.slow
    def test_each(self, net, tmp_path, capsys):
        write_faces(tmp_path / "faces")
        (tmp_path / "empty").mkdir()
        (tmp_path / "text.onnx").write_text("no model")
        (tmp_path / "file.npz.part").write_text("in the way")
        model, data, out = (net.prototxt, net.caffemodel), ("--data", tmp_path / "faces"), ("--out", tmp_path / "f.npz")
        plain = ("--mean", "0")
        for arguments, message in (
            ((*model, *data, *out), "give a preset (--preset), or --mean and --scale"),
            ((*model, *data, "--out", tmp_path / "f.txt", *plain), "written as .npz or .parquet"),
            ((*model, "--data", tmp_path / "missing", *out, *plain), "missing: does not exist"),
            ((*model, "--data", tmp_path / "empty", *out, *plain), "empty: holds no images"),
            ((tmp_path / "missing.prototxt", net.caffemodel, *data, *out, *plain), "missing.prototxt"),
            ((net.prototxt, tmp_path / "no.caffemodel", *data, *out, *plain), "no.caffemodel"),
            ((net.prototxt, *data, *out, *plain), "needs its weights beside it"),
            ((tmp_path / "text.onnx", *data, *out, *plain), " cannot load it: "),
            ((*model, *data, *out, "--mean", "1,x"), '--mean "1,x": expected a number'),
            ((*model, *data, *out, *plain, "--size", "112"), 'size "112": expected HxW, such as 112x96'),
            ((*model, *data, *out, *plain, "--threads", "0"), "threads 0: expected 1 or more"),
            ((*model, *data, *out, *plain, "--batch-size", "0"), "batch size 0: expected 1 or more"),
            ((*model, *data, *out, *plain, "--preset", "vgg"), "--preset"),
            ((*model, *data, *out, *plain, "--output", "fd"), 'has no blob "fd"'),
            ((*model, *data, "--out", tmp_path / "file.npz", *plain), "file.npz.part: cannot be written: "),
        ):
            assert message in refused(capsys, *arguments)
            assert not (tmp_path / "f.npz").exists()
