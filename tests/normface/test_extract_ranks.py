"""normface extract as torchrun starts it: a file for each process, which together are what one would write."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from normface.errors import NormfaceError
from normface.features import load_features
from normface.features.share import Place, place_of
from support.command_line import refused, said
from support.linear_faces import HEIGHT, WIDTH, linear_faces

IMAGES, SIZE = 11, 3


@pytest.fixture
def call(tmp_path):
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        path = tmp_path / "faces" / f"p{number // 4}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    net = linear_faces(tmp_path)
    return ("extract", net.prototxt, net.caffemodel, "--data", tmp_path / "faces", "--mean", "128", "--device", "cpu")


def as_rank(monkeypatch, rank: int, size: int = SIZE) -> None:
    for name, value in (("RANK", rank), ("WORLD_SIZE", size), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", size)):
        monkeypatch.setenv(name, str(value))


def test_the_shards_are_what_one_process_writes(call, tmp_path, capsys, monkeypatch):
    assert said(capsys, *call, "--out", tmp_path / "all.npz")[0] == 0
    for rank in (2, 0, 1):
        as_rank(monkeypatch, rank)
        assert said(capsys, *call, "--out", tmp_path / "f.npz")[0] == 0
    assert not (tmp_path / "f.npz").exists()
    files = sorted(tmp_path.glob("f-*.npz"))
    assert [path.name for path in files] == [f"f-0000{rank}-of-00003.npz" for rank in range(3)]
    whole, parts = load_features(tmp_path / "all.npz"), [load_features(path) for path in files]
    assert [name for part in parts for name in part.names] == whole.names
    np.testing.assert_allclose(np.concatenate([part.features for part in parts]), whole.features, rtol=1e-5, atol=1e-5)
    assert [part.identity(row) for part in parts for row in range(len(part))] == [
        whole.identity(row) for row in range(IMAGES)
    ]
    assert [part.identities for part in parts] == [["p0"], ["p0", "p1"], ["p1", "p2"]]


def test_a_rank_goes_on_alone(call, tmp_path, capsys, monkeypatch):
    """What is not read yet, image 6, is damaged: the second of three stops there, and goes on when it is whole."""
    path = tmp_path / "faces" / "p1" / "06.png"
    whole = path.read_bytes()
    path.write_bytes(b"junk")
    as_rank(monkeypatch, 1)
    call = (*call, "--batch-size", "1")
    assert "06.png" in refused(capsys, *call, "--out", tmp_path / "f.npz")
    assert (tmp_path / "f-00001-of-00003.npz.part").is_dir() and not list(tmp_path.glob("f-*.npz"))
    path.write_bytes(whole)
    assert said(capsys, *call, "--out", tmp_path / "f.npz")[0] == 0
    assert load_features(tmp_path / "f-00001-of-00003.npz").names == [f"p0/0{3}.png"] + [
        f"p1/0{n}.png" for n in (4, 5, 6)
    ]
    for rank in (0, 2):
        as_rank(monkeypatch, rank)
        assert said(capsys, *call, "--out", tmp_path / "f.npz")[0] == 0


def test_more_processes_than_images(call, tmp_path, capsys, monkeypatch):
    as_rank(monkeypatch, 0, 12)
    assert "holds 11 images for 12 processes; start fewer" in refused(capsys, *call, "--out", tmp_path / "f.npz")


def test_places():
    assert place_of({}) == Place()
    assert place_of({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}) == Place(3, 4, 1, 2)
    parts = [Place(rank, 7).part(100) for rank in range(7)]
    assert [number for part in parts for number in part] == list(range(100))
    assert {len(part) for part in parts} == {14, 15}
    for environment in ({"RANK": "1"}, {"RANK": "4", "WORLD_SIZE": "4"}, {"RANK": "x", "WORLD_SIZE": "4"}):
        with pytest.raises(NormfaceError, match="is no place of a process among several"):
            place_of(environment)
