"""Landmarks files: every form that is read, how photos find theirs, and what is refused, with its line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from normface.alignment import read_landmarks
from normface.errors import DataError

TEN = [10, 20, 30, 21, 20.5, 30, 12, 40, 28, 41]
POINTS = np.array(TEN, float).reshape(1, 5, 2)
WORDS = " ".join(map(str, TEN))


@pytest.mark.parametrize(
    "text",
    [
        f"a/b.jpg {WORDS}\n",
        f"# made by hand\n\na/b.jpg\t{WORDS.replace(' ', chr(9))}\r\n",
        f"path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\na/b.jpg,{WORDS.replace(' ', ',')}\n",
        f"photo left right nose\n./a/b.jpg; {WORDS.replace(' ', '; ')};\n",
        f"\ufeffa\\b.jpg {WORDS}",
        json.dumps({"a/b.jpg": TEN}),
        json.dumps({"a/b.jpg": POINTS[0].tolist()}),
        json.dumps({"a/b.jpg": POINTS.tolist()}),
        json.dumps([{"photo": "a/b.jpg", "landmarks": TEN}]),
        json.dumps({"path": "a/b.jpg", "landmarks": TEN}),
        json.dumps({"settings": {}}) + "\n" + json.dumps({"photo": "a/b.jpg", "faces": [{"landmarks": TEN}]}) + "\n",
        json.dumps({"photo": "c.jpg", "error": "?"}) + "\n" + json.dumps({"photo": "a/b.jpg", "landmarks": TEN}),
    ],
)
def test_every_form(tmp_path, text):
    path = tmp_path / "landmarks"
    path.write_text(text, encoding="utf-8")
    found = read_landmarks(path)
    assert list(found) == ["a/b.jpg"]
    np.testing.assert_array_equal(found["a/b.jpg"], POINTS)


def test_spaces_in_a_path_and_two_faces_in_a_photo(tmp_path):
    path = tmp_path / "landmarks.txt"
    path.write_text(f"my photos/A B.jpg {WORDS}\nmy photos/A B.jpg {WORDS}\nplain.jpg {WORDS}\n")
    found = read_landmarks(path)
    assert {name: len(faces) for name, faces in found.items()} == {"my photos/A B.jpg": 2, "plain.jpg": 1}


def test_how_a_photo_finds_its_landmarks(tmp_path):
    path = tmp_path / "landmarks.txt"
    path.write_text(
        "".join(f"{name} {WORDS}\n" for name in ("/data/a/1.jpg", "b/1.jpg", "c/1.jpg", "x/c/1.jpg", "2.jpg"))
    )
    found = read_landmarks(path)
    assert [len(found.of(name)) for name in ("a/1.jpg", "b/1.jpg", "/full/b/1.jpg", "in/2.jpg")] == [1, 1, 1, 1]
    assert len(found.of("d/1.jpg")) == len(found.of("22.jpg")) == len(found.of("3.jpg")) == 0
    assert len(found.of("c/1.jpg")) == 1  # the very name comes first
    with pytest.raises(DataError, match=r"1\.jpg could be .* give longer paths"):
        found.of("1.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no landmarks; expected lines"),
        ("path x1 y1\n", "holds no landmarks"),
        (f"a.jpg {WORDS}\nb.jpg 1 2 3\n", r"landmarks:2: expected a path and ten numbers .* got: b.jpg 1 2 3"),
        ("a.jpg 1 2 3 4\n", r"landmarks:1: expected a path and ten numbers"),
        (f"a.jpg {WORDS}\nb.jpg {WORDS[:-2]} x\n", "landmarks:2"),
        (f"{WORDS}\n", "landmarks:1"),
        (f"a.jpg {WORDS.replace('41', 'nan')}\n", "landmarks:1: a landmark is no finite number"),
        (f"a.jpg {WORDS.replace('41', '1e999')}\n", "no finite number"),
        ("{", "is no JSON"),
        ('{"a": 1}\n{"b"', "landmarks:2: is no JSON"),
        ("[" * 100000, "nested too deeply|is no JSON"),
        ("[1]", r'entry 1: expected \{"photo"'),
        ('[{"photo": "a.jpg"}]', 'entry 1: expected "photo" and "landmarks", got photo'),
        ('{"a.jpg": [1, 2]}', r'"a.jpg": landmarks are five points \(x, y\), got an array of shape \(2,\)'),
        ('{"a.jpg": {"x": 1}}', "landmarks are five points"),
        ('{"a.jpg": [[1, 2], [3]]}', "landmarks are five points"),
        ('{"a.jpg": []}', "holds no landmarks"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, text, message):
    path = tmp_path / "landmarks"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_landmarks(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: No such file"):
        read_landmarks(tmp_path / "none.txt")
    with pytest.raises(DataError, match="is a folder; expected a file"):
        read_landmarks(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match="is no text file"):
        read_landmarks(tmp_path / "binary")
