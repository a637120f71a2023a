"""The files of an index, cut short and changed in all ways: one line, bounded memory, and never a crash of faiss."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from normface.errors import DataError
from normface.features import Features, save_features
from normface.recognise import build_index, open_gallery
from support.bounded_reads import Reading, readings
from support.command_line import refused, said

pytest.importorskip("faiss", reason="an index needs faiss: pip install faiss-cpu")

MEGABYTES = 200
"""What faiss itself sets aside for a search of these 1,100 faces, and their 200 kB; what the files declare is more."""


@pytest.fixture(scope="module")
def indexes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("indexes")
    random = np.random.default_rng(0)
    known = Features(random.normal(size=(1100, 32)).astype(np.float32), [f"face {row}" for row in range(1100)])
    known.labels, known.identities = np.arange(1100) // 4, [f"person {number}" for number in range(275)]
    save_features(folder / "g.npz", known)
    for kind in ("ivf-pq", "hnsw"):
        build_index(folder / kind, [folder / "g.npz"], kind=kind, held_out=50)
    return folder


def changes(raw: bytes, random: np.random.Generator) -> dict[str, bytes]:
    """A file's content, damaged: {how: bytes}."""
    noise = bytearray(raw)
    for place in random.integers(0, len(raw), 40):
        noise[place] = random.integers(0, 256)
    return {
        "empty": b"",
        "half": raw[: len(raw) // 2],
        "short": raw[:-1],
        "long": raw + b"\0",
        "ones": raw[:128] + b"\xff" * len(raw[128:]),
        "large": raw[:128] + b"\x7f" * len(raw[128:]),
        "zeros": raw[:128] + b"\0" * len(raw[128:]),
        "noise": bytes(noise),
        "random": raw[:128] + random.bytes(max(0, len(raw) - 128)),
        "shape": raw.replace(b"(1100,", b"(1099,").replace(b"(275,", b"(999999999999,"),
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory by Linux's /proc")
@pytest.mark.parametrize("kind", ["ivf-pq", "hnsw"])
def test_damaged_files(kind, indexes, tmp_path):
    random = np.random.default_rng(1)
    wanted: list[tuple[str, Path]] = []
    for path in sorted(file for file in (indexes / kind).rglob("*") if file.is_file()):
        for how, raw in changes(path.read_bytes(), random).items():
            copy = tmp_path / f"{path.stem}-{how}"
            shutil.copytree(indexes / kind, copy)
            target = copy / path.relative_to(indexes / kind)
            target.write_bytes(raw)
            wanted.append(("index", target))
    found: list[Reading] = readings(wanted)
    bad = [
        (path.parts[-3:], one)
        for (_, path), one in zip(wanted, found, strict=True)
        if one.error not in ("", "DataError") or "\n" in one.message or one.megabytes > MEGABYTES
    ]
    assert not bad
    cut = [one for (_, path), one in zip(wanted, found, strict=True) if {"-half", "-empty", "-short", "-long"} & {
        path.relative_to(tmp_path).parts[0][-5:], path.relative_to(tmp_path).parts[0][-6:]
    }]  # fmt: skip
    assert len(cut) > 20 and all(one.error == "DataError" for one in cut)


def test_a_link_out_of_the_graph(indexes, tmp_path):
    """faiss would follow it: to a face that is not there, and to one that is not in the link's level."""
    shutil.copytree(indexes / "hnsw", tmp_path / "index")
    (path,) = (tmp_path / "index").rglob("neighbours.npy")
    levels = np.load(path.with_name("levels.npy"))
    whole = np.load(path)
    place = int(np.argmax(levels > 1))
    upper = 32 * int(np.sum(levels[:place] + 1)) + 64
    for where, link in ((5, 1100), (5, -2), (upper, int(np.argmax(levels == 1)))):
        links = whole.copy()
        links[where] = link
        np.save(path, links)
        with pytest.raises(DataError, match=r"neighbours.npy: has links to faces that are not there"):
            open_gallery(tmp_path / "index")
    np.save(path, whole)
    assert len(open_gallery(tmp_path / "index")) == 1100


def test_what_a_manifest_may_say(indexes, tmp_path):
    shutil.copytree(indexes / "ivf-pq", tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    content = json.loads(path.read_text())
    piece = content["pieces"][0]
    for changed in (
        content | {"format": "normface index 9"},
        content | {"dimension": True},
        content | {"dimension": 10**15},
        content | {"pieces": []},
        content | {"pieces": [piece | {"folder": "../../etc"}]},
        content | {"pieces": [piece | {"trained": "trained-../../../../etc"}]},
        content | {"pieces": [piece | {"rows": 1e3}]},
        content | {"pieces": [piece | {"effort": -1}]},
        content | {"pieces": [piece | {"more": 1}]},
        content | {"recall": [content["recall"][0] | {"at_1": "all"}]},
        content | {"settings": []},
        [],
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(DataError, match=r"index\.json: "):
            open_gallery(tmp_path / "index")


class TestCommand:
    def test_build_add_merge(self, indexes, tmp_path, capsys):
        call = ("index", indexes / "g.npz", "--out", tmp_path / "i", "--kind", "ivf-pq", "--held-out", "30")
        code, out, _ = said(capsys, *call)
        lines = out.splitlines()
        assert code == 0 and lines[0].startswith(f"wrote {tmp_path / 'i'}: 1,100 faces of 32 numbers, 0.")
        assert lines[1].startswith("IVF-PQ, 28 lists, 8 bytes a face of 4 numbers each; a search looks at ")
        assert lines[2].startswith("nearest face found for ") and "among 1,100 faces, measured 20" in lines[2]
        code, out, _ = said(capsys, "index", indexes / "g.npz", "--out", tmp_path / "i", "--add", "--json")
        content = json.loads(out)
        assert (code, content["faces"], content["dimension"], len(content["pieces"])) == (0, 2200, 32, 2)
        assert content["bytes"] == sum(file.stat().st_size for file in (tmp_path / "i").rglob("*") if file.is_file())
        call = ("index", tmp_path / "i", indexes / "hnsw", "--out", tmp_path / "all", "--merge")
        code, out, _ = said(capsys, *call)
        assert code == 0 and out.startswith(f"wrote {tmp_path / 'all'}: 3,300 faces of 32 numbers in 2 pieces, ")

    def test_errors(self, indexes, tmp_path, capsys):
        gallery, out = indexes / "g.npz", ("--out", tmp_path / "x")
        for arguments, message in (
            ((tmp_path / "no.npz", *out), "no.npz: no such file"),
            ((gallery, "--out", tmp_path / "no" / "x"), "no does not exist"),
            ((gallery, *out, "--add"), "x/index.json: No such file or directory"),
            ((gallery, *out, "--add", "--recall", "0.9"), "--recall: is for building an index"),
            ((gallery, *out, "--memory", "-1"), "--memory -1: expected more than 0 GB"),
            ((gallery, *out, "--recall", "2"), "recall 2.0 and 1000 held-out faces: expected up to 1"),
            ((gallery, *out, "--kind", "hnsw", "--no-exact"), "a graph walks over the features themselves"),
            ((gallery, *out, "--merge"), "merging takes two indexes or more"),
        ):
            assert message in refused(capsys, "index", *arguments)
        assert not (tmp_path / "x").exists() and not (tmp_path / "x.part").exists()
