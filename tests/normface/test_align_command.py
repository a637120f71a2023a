"""normface align: folders kept, runs that go on, and photos of every unlucky kind. Landmarks come from a file here."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from normface.alignment import template
from normface.cli.main import main

POINTS = 1.5 * template() + [40, 20]
WORDS = " ".join(f"{number:.4f}" for number in POINTS.reshape(-1))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of photos of all kinds, of 240 x 200 pixels, and landmarks.txt beside it."""
    random = np.random.default_rng(0)
    colour = cv2.GaussianBlur(random.integers(0, 256, (240, 200, 3), dtype=np.uint8), (0, 0), 3)
    folder = tmp_path / "photos"
    (folder / "ann").mkdir(parents=True)
    (folder / "bob" / "trip").mkdir(parents=True)
    cv2.imwrite(str(folder / "ann" / "1.jpg"), colour)
    cv2.imwrite(str(folder / "ann" / "grey.png"), colour[:, :, 0])
    cv2.imwrite(str(folder / "bob" / "rgba.png"), cv2.cvtColor(colour, cv2.COLOR_BGR2BGRA))
    cv2.imwrite(str(folder / "bob" / "trip" / "one pixel.bmp"), colour[:1, :1])
    cv2.imwrite(str(folder / "bob" / "nobody.png"), colour)
    (folder / "bob" / "broken.jpg").write_bytes((folder / "ann" / "1.jpg").read_bytes()[:500])
    names = ("ann/1.jpg", "ann/grey.png", "bob/rgba.png", "bob/trip/one pixel.bmp", "bob/broken.jpg")
    (tmp_path / "landmarks.txt").write_text("".join(f"{name} {WORDS}\n" for name in names))
    return folder


@pytest.fixture
def align(photos, tmp_path, capsys):
    """Runs the command on the folder; gives exit code, standard output and errors."""

    def run(*more: str, inputs=(photos,), out=tmp_path / "out", landmarks=tmp_path / "landmarks.txt"):
        code = main(["align", *map(str, inputs), "--out", str(out), "--landmarks", str(landmarks), *map(str, more)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


FACES = ["ann/1.jpg", "ann/grey.png", "bob/rgba.png", "bob/trip/one pixel.png"]


def test_a_folder_of_all_kinds(align, tmp_path):
    code, out, err = align()
    assert code == 0
    assert out.splitlines()[0] == "no face: bob/nobody.png"
    assert out.splitlines()[-1] == f"wrote to {tmp_path / 'out'}: 4 faces of 6 photos, 1 without a face, 1 failed"
    assert "broken.jpg" in err
    assert "Traceback" not in err
    assert files(tmp_path / "out") == [*FACES, "faces.jsonl"]
    for name in FACES:
        assert cv2.imread(str(tmp_path / "out" / name)).shape == (112, 96, 3), name


def test_the_faces_pixels(align, photos, tmp_path):
    """The points are the template's times 1.5: output pixel (u, v) is the photo's (1.5 u + 40, 1.5 v + 20)."""
    align()
    photo = cv2.imread(str(photos / "bob" / "rgba.png")).astype(float)
    face = cv2.imread(str(tmp_path / "out" / "bob" / "rgba.png")).astype(float)
    even = photo[20 : 20 + 168 : 3, 40 : 40 + 144 : 3]  # whole pixels of the photo for even u and v
    assert np.abs(face[::2, ::2] - even).max() <= 2  # OpenCV's weights are in steps of 1/32


def test_what_the_record_holds(align, tmp_path):
    align()
    head, *entries = map(json.loads, (tmp_path / "out" / "faces.jsonl").read_text().splitlines())
    assert head["settings"]["size"] == [112, 96]
    by_name = {entry["photo"]: entry for entry in entries}
    assert len(by_name) == 6
    assert by_name["bob/nobody.png"]["faces"] == []
    assert "broken.jpg" in by_name["bob/broken.jpg"]["error"]
    (face,) = by_name["ann/1.jpg"]["faces"]
    assert (by_name["ann/1.jpg"]["height"], by_name["ann/1.jpg"]["width"]) == (240, 200)
    assert face["file"] == "ann/1.jpg"
    assert face["score"] is None
    np.testing.assert_allclose(face["landmarks"], POINTS, rtol=0, atol=1e-4)
    np.testing.assert_allclose(face["box"], [*POINTS.min(axis=0), *POINTS.max(axis=0)], rtol=0, atol=1e-4)


def test_the_record_serves_as_landmarks(align, tmp_path):
    align()
    code, _, _ = align(out=tmp_path / "again", landmarks=tmp_path / "out" / "faces.jsonl")
    assert code == 0
    for name in FACES:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_second_run_does_what_is_missing(align, tmp_path):
    align()
    out = tmp_path / "out"
    before = {name: (out / name).stat().st_mtime_ns for name in FACES}
    (out / "ann/1.jpg").unlink()
    code, text, _ = align()
    assert code == 0
    assert "1 faces of 6 photos, 4 photos were done already, 1 without a face, 1 failed" in text
    after = {name: (out / name).stat().st_mtime_ns for name in FACES}
    assert [name for name in FACES if before[name] != after[name]] == ["ann/1.jpg"]
    assert "4 faces of 6 photos, 1 without" in align("--overwrite")[1]


def test_an_interrupted_run_goes_on(align, tmp_path):
    """The record ends within a line, as where the machine went off; what the line was about is done again."""
    align()
    record = tmp_path / "out" / "faces.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    code, text, _ = align()
    assert code == 0
    assert "2 photos were done already" in text
    assert len(record.read_text().splitlines()) == 7


def test_other_settings_are_not_mixed_in(align, tmp_path):
    align()
    code, _, err = align("--size", "112x112")
    assert code == 2
    assert "made with other settings (size); name another folder, or --overwrite" in err
    assert align("--size", "112x112", "--overwrite")[0] == 0
    assert cv2.imread(str(tmp_path / "out" / "ann/1.jpg")).shape == (112, 112, 3)
    (tmp_path / "out" / "faces.jsonl").write_text("not ours\n")
    assert "is no record of normface align" in align()[2]


def test_changed_landmarks_count_as_other_settings(align, tmp_path):
    align()
    with open(tmp_path / "landmarks.txt", "a") as stream:
        stream.write(f"bob/nobody.png {WORDS}\n")
    assert "other settings (landmarks)" in align()[2]


def test_all_faces_and_the_central_and_largest_one(align, tmp_path):
    small, right = 0.3 * template() + [86, 106], 0.6 * template() + [140, 10]
    lines = [f"ann/1.jpg {' '.join(map(str, points.reshape(-1)))}" for points in (right, small, POINTS)]
    (tmp_path / "three.txt").write_text("\n".join(lines))
    three = {"landmarks": tmp_path / "three.txt"}
    align("--faces", "all", out=tmp_path / "all", **three)
    assert files(tmp_path / "all")[:3] == [f"ann/1_face{number}.jpg" for number in (1, 2, 3)]
    align("--faces", "central", out=tmp_path / "central", **three)
    align("--faces", "largest", out=tmp_path / "largest", **three)
    found = {name: (tmp_path / name / "ann/1.jpg").read_bytes() for name in ("central", "largest")}
    assert found["central"] == (tmp_path / "all" / "ann/1_face2.jpg").read_bytes()
    assert found["largest"] == (tmp_path / "all" / "ann/1_face3.jpg").read_bytes()


def test_drawings(align, photos, tmp_path):
    align("--draw", tmp_path / "drawn")
    assert files(tmp_path / "drawn") == sorted([*FACES, "bob/nobody.png"])
    photo = cv2.imread(str(photos / "bob/rgba.png"))
    drawn = cv2.imread(str(tmp_path / "drawn" / "bob/rgba.png"))
    assert drawn.shape == photo.shape
    x, y = np.round(POINTS[2]).astype(int)
    assert drawn[y, x].tolist() == [0, 220, 255]  # a yellow nose
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "drawn" / "bob/nobody.png")), photo)
    (tmp_path / "drawn" / "ann/1.jpg").unlink()
    assert "1 faces of 6" in align("--draw", tmp_path / "drawn")[1]


def test_json_and_strict(align, tmp_path):
    code, out, _ = align("--json", "--strict")
    assert code == 1
    content = json.loads(out)
    assert (content["photos"], content["faces"], content["skipped"]) == (6, 4, 0)
    assert content["without_face"] == ["bob/nobody.png"]
    assert [entry["photo"] for entry in content["failed"]] == ["bob/broken.jpg"]
    assert Path(content["record"]) == tmp_path / "out" / "faces.jsonl"


def test_files_a_zip_a_list_and_several_folders(align, photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "ann.zip", "w") as archive:
        archive.write(photos / "ann" / "1.jpg", "ann/1.jpg")
    (tmp_path / "list.txt").write_text("ann/grey.png\n")
    more = (photos / "bob" / "rgba.png", tmp_path / "ann.zip", tmp_path / "list.txt")
    code, _, _ = align("--root", photos, inputs=more[2:], out=tmp_path / "listed")
    assert (code, files(tmp_path / "listed")) == (0, ["ann/grey.png", "faces.jsonl"])
    code, _, _ = align(inputs=more[:2], out=tmp_path / "both")
    assert (code, files(tmp_path / "both")) == (0, ["ann/1.jpg", "faces.jsonl", "rgba.png"])
    code, _, _ = align(inputs=(photos / "ann", photos / "bob"), out=tmp_path / "two")
    assert (code, files(tmp_path / "two")) == (0, [*FACES, "faces.jsonl"])


def test_photos_of_one_name_keep_apart(align, photos, tmp_path):
    cv2.imwrite(str(photos / "ann" / "grey.bmp"), np.zeros((9, 9, 3), np.uint8))
    with open(tmp_path / "landmarks.txt", "a") as stream:
        stream.write(f"ann/grey.bmp {WORDS}\n")
    align()
    assert {"ann/grey.png", "ann/grey.png.png"} <= set(files(tmp_path / "out"))
    code, _, err = align(inputs=(photos / "ann" / "1.jpg", photos / "ann" / "1.jpg"))
    assert code == 2
    assert "would both become 1.jpg" in err


def test_a_rotated_photo_is_turned_upright(align, photos, tmp_path):
    """EXIF orientation 6: the file holds the photo turned left; landmarks count in the upright one."""
    upright = cv2.imread(str(photos / "ann" / "1.jpg"))
    _, raw = cv2.imencode(".jpg", cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE), [cv2.IMWRITE_JPEG_QUALITY, 100])
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = raw.tobytes()[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + raw.tobytes()[2:]
    (photos / "ann" / "turned.jpg").write_bytes(turned)
    (tmp_path / "landmarks.txt").write_text(f"ann/1.jpg {WORDS}\nann/turned.jpg {WORDS}\n")
    align("--format", "png", inputs=(photos / "ann",))
    faces = [cv2.imread(str(tmp_path / "out" / name)).astype(float) for name in ("1.png", "turned.png")]
    assert np.abs(faces[0] - faces[1]).mean() < 2  # JPEG's losses


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--size", "96x112"), "size is 112x96 or 112x112"),
        (("--size", "big"), "expected HxW"),
        (("--faces", "most"), "invalid choice"),
        (("--min-size", "30"), "--landmarks takes the place of a detector, which --min-size would set"),
        (("--landmarks", "none.txt"), "none.txt: No such file"),
    ],
)
def test_bad_options(align, tmp_path, more, message):
    try:
        code, _, err = align(*more)
    except SystemExit as stop:  # argparse's own
        code, err = stop.code, None
    assert code == 2
    assert err is None or (message in err and len(err.splitlines()) == 1)
    assert not (tmp_path / "out").exists()


def test_the_photos_are_never_written_over(align, photos, tmp_path):
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    for out in (photos, photos / "aligned", photos / "ann" / ".."):
        code, _, err = align(out=out)
        assert code == 2
        assert "lies inside of the photos' folder" in err
    code, _, err = align(inputs=(photos / "ann" / "1.jpg",), out=photos / "ann")
    assert (code, "is a photo itself" in err) == (2, True)
    code, _, err = align("--draw", tmp_path / "out")
    assert (code, "--draw and --out are one folder" in err) == (2, True)
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before


def test_nothing_to_work_on(align, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    for inputs in ((tmp_path / "empty",), (tmp_path / "none",), (photos / "bob" / "broken.jpg",)):
        code, _, err = align(inputs=inputs)
        assert code == 2
        assert str(inputs[0]) in err.splitlines()[-1]


def test_landmarks_that_fix_no_transform(align, photos, tmp_path):
    (tmp_path / "landmarks.txt").write_text(f"ann/1.jpg{' 5' * 10}\nann/grey.png {WORDS}\n")
    code, out, err = align(inputs=(photos / "ann",))
    assert code == 0
    assert "1 faces of 2 photos, 1 failed" in out
    assert "1.jpg: the landmarks lie all in one place" in err
    assert files(tmp_path / "out") == ["faces.jsonl", "grey.png"]
