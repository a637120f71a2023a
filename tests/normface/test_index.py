"""An index of a large gallery: what it finds against an exact search in float64, what is added, merged and stopped."""

from __future__ import annotations

import math

import numpy as np
import pytest
from normface.errors import DataError, NormfaceError
from normface.features import Features, save_features
from normface.recognise import Gallery, add_to_index, build_index, merge_indexes, open_gallery
from normface.recognise.index import building, choose, coding
from normface.recognise.index.choice import hnsw_bytes

pytest.importorskip("faiss", reason="an index needs faiss: pip install faiss-cpu")

ROWS, DIMENSION, PEOPLE = 2400, 30, 400
"""30 is no multiple of what a byte of a code stands for, so that features are filled up with zeros."""
HALF = 2.0**-11
"""The relative error of a number in float16, and so, by Cauchy's inequality, of a cosine of unit vectors."""


def faces(rows: int = ROWS, seed: int = 0) -> Features:
    """People with a direction each, and faces around it."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, PEOPLE, rows)
    centres = np.random.default_rng(99).normal(size=(PEOPLE, DIMENSION))
    features = centres[labels] + 0.5 * random.normal(size=(rows, DIMENSION))
    features *= random.uniform(0.1, 20, (rows, 1))  # lengths do not count
    names = [f"{seed}/{row}.jpg" for row in range(rows)]
    return Features(features.astype(np.float32), names, labels, [f"é{number}" for number in range(PEOPLE)], {"a": 1})


def part(known: Features, rows: slice) -> Features:
    assert known.labels is not None
    return Features(known.features[rows], known.names[rows], known.labels[rows], known.identities, known.settings)


def cosines(probes: np.ndarray, features: np.ndarray) -> np.ndarray:
    """(N, M), in float64."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (np.float64(probes), np.float64(features)))
    return a @ b.T


@pytest.fixture
def shards(tmp_path):
    known = faces()
    (tmp_path / "shards").mkdir()
    for number, start in enumerate(range(0, ROWS, 800)):
        suffix = ".npz"
        save_features(tmp_path / "shards" / f"{number}{suffix}", part(known, slice(start, start + 800)))
    return tmp_path / "shards"


@pytest.mark.parametrize("kind", ["ivf-pq", "hnsw"])
def test_the_recall_told_is_that_of_an_exact_search(kind, shards, tmp_path):
    queries, known = faces(300, seed=5), faces()
    built = build_index(tmp_path / "index", [shards], kind=kind, queries=queries, recall=0.9)
    gallery = open_gallery(tmp_path / "index")
    found = gallery.nearest(queries.features, 10)
    exact = cosines(queries.features, known.features)
    order = np.argsort(-exact, axis=1)[:, :10]
    first = [one[0].name == known.names[row[0]] for one, row in zip(found, order, strict=True)]
    (recall,) = built.manifest.recall
    assert recall.queries == 300 and recall.faces == ROWS and recall.held_out == "probes that were given"
    assert recall.at_1 == pytest.approx(np.mean(first), abs=1e-9) and recall.at_1 >= 0.9
    of_ten = [
        len({match.name for match in one} & {known.names[place] for place in row})
        for one, row in zip(found, order, strict=True)
    ]
    assert recall.at_10 == pytest.approx(np.sum(of_ten) / 3000, abs=1e-9)
    rows = {name: row for row, name in enumerate(known.names)}
    for number, matches in enumerate(found):
        assert len(matches) == 10
        for match in matches:
            row = rows[match.name]
            assert match.score == pytest.approx(exact[number, row], abs=HALF)
            assert match.identity == known.identity(row)


@pytest.mark.parametrize("kind", ["ivf-pq", "hnsw"])
def test_a_face_of_the_gallery_is_held_out_of_its_own_search(kind, shards, tmp_path):
    """Random faces are nearest to themselves: only without themselves is the recall below what all lists give."""
    built = build_index(tmp_path / "index", [shards], kind=kind, held_out=200, recall=1.0)
    (recall,) = built.manifest.recall
    assert recall.held_out == "held-out faces of its own" and recall.queries == 200
    gallery = open_gallery(tmp_path / "index")
    truth = building.Shards([shards]).samples([200, 0], 0)[0]
    known = faces()
    exact = cosines(truth[0], known.features)
    assert np.allclose(exact[np.arange(200), truth[1]], 1, atol=1e-6)
    exact[np.arange(200), truth[1]] = -2
    found = gallery.search(truth[0], 11)[1]
    others = [next(row for row in one if row != own) for one, own in zip(found, truth[1], strict=True)]
    assert recall.at_1 == pytest.approx(np.mean(others == exact.argmax(1)), abs=1e-9)


@pytest.mark.parametrize("kind", ["ivf-pq", "hnsw"])
def test_an_index_that_was_not_measured_looks_at_enough(kind, shards, tmp_path):
    """One list, or the candidates that were asked for, found half of the nearest faces."""
    queries, known = faces(300, seed=5), faces()
    built = build_index(tmp_path / "index", [shards], kind=kind, held_out=0)
    assert built.manifest.recall == []
    nearest = open_gallery(tmp_path / "index").nearest(queries.features, 1)
    exact = cosines(queries.features, known.features).argmax(1)
    told = [known.names.index(matches[0].name) for matches in nearest]
    assert np.mean(np.array(told) == exact) > 0.9


def test_without_features_the_codes_alone_estimate(shards, tmp_path):
    build_index(tmp_path / "index", [shards], kind="ivf-pq", exact=False)
    gallery = open_gallery(tmp_path / "index")
    assert not list((tmp_path / "index").rglob("features.npy"))
    known = faces()
    found = gallery.nearest(known.features[:50], 1)
    rows = {name: row for row, name in enumerate(known.names)}
    errors = [
        one[0].score - cosines(known.features[[i]], known.features[[rows[one[0].name]]])[0, 0]
        for i, one in enumerate(found)
    ]
    assert 0 < np.abs(errors).mean() < 0.1


@pytest.mark.parametrize("kind", ["ivf-pq", "hnsw"])
def test_faces_are_added_without_a_rebuild(kind, shards, tmp_path):
    index = tmp_path / "index"
    build_index(index, [shards], kind=kind)
    before = {path: path.read_bytes() for path in index.rglob("*.*") if path.name != "index.json"}
    more = faces(700, seed=8)
    save_features(tmp_path / "more.npz", more)
    built = add_to_index(index, [tmp_path / "more.npz"])
    assert all(path.read_bytes() == raw for path, raw in before.items())
    gallery = open_gallery(index)
    assert len(gallery) == ROWS + 700 == built.manifest.rows and len(gallery.pieces) == 2
    for known in (faces(), more):
        for name, (match,) in zip(known.names[:40], gallery.nearest(known.features[:40], 1), strict=True):
            assert match.name == name and match.score == pytest.approx(1, abs=HALF)
    assert [one.faces for one in gallery.recall] == [ROWS]
    assert f"{ROWS + 700:,} faces by faiss, {kind}: nearest face found for " in gallery.words
    assert f"among {ROWS:,} faces" in gallery.words


def test_many_small_pieces_become_one(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "JOINED_FROM", 3)
    build_index(tmp_path / "index", [shards], kind="ivf-pq")
    known = faces(30, seed=8)
    for number in range(3):
        save_features(tmp_path / "more.npz", part(known, slice(10 * number, 10 * number + 10)))
        built = add_to_index(tmp_path / "index", [tmp_path / "more.npz"])
        assert len(built.manifest.pieces) == 2
    assert [piece.rows for piece in built.manifest.pieces] == [ROWS, 30]
    folders = sorted(path.name for path in (tmp_path / "index").glob("piece-*"))
    assert folders == sorted(piece.folder for piece in built.manifest.pieces)
    found = open_gallery(tmp_path / "index").nearest(known.features, 1)
    assert [one[0].name for one in found] == known.names
    assert [one[0].identity for one in found] == [known.identity(row) for row in range(30)]


def test_merging(shards, tmp_path):
    """Two of one quantiser become one piece, one of another stays; the answers are those of the parts, merged."""
    build_index(tmp_path / "a", [shards], kind="ivf-pq")
    save_features(tmp_path / "more.npz", faces(1500, seed=8))
    build_index(tmp_path / "b", [tmp_path / "more.npz"], kind="hnsw")
    save_features(
        tmp_path / "other.npz", Features(faces(40, seed=9).features, [f"o{i}" for i in range(40)], settings={"a": 1})
    )
    add_to_index(tmp_path / "a", [tmp_path / "other.npz"])
    merged = merge_indexes(tmp_path / "all", [tmp_path / "a", tmp_path / "b"])
    assert sorted((piece.kind, piece.rows) for piece in merged.manifest.pieces) == [
        ("hnsw", 1500),
        ("ivf-pq", ROWS + 40),
    ]
    assert [one.faces for one in merged.manifest.recall] == [ROWS, 1500]
    probes = faces(60, seed=11).features
    parts = [open_gallery(tmp_path / name).nearest(probes, 5) for name in "ab"]
    for found, *own in zip(open_gallery(tmp_path / "all").nearest(probes, 5), *parts, strict=True):
        expected = sorted((match for one in own for match in one), key=lambda match: -match.score)[:5]
        assert [(match.name, match.identity) for match in found] == [(match.name, match.identity) for match in expected]
    assert open_gallery(tmp_path / "all").nearest(faces(40, seed=9).features, 1)[7][0].identity is None
    assert not (tmp_path / "all.part").exists()


@pytest.mark.parametrize("kind", ["ivf-pq", "hnsw"])
def test_a_stopped_build_goes_on(kind, shards, tmp_path, monkeypatch):
    whole = build_index(tmp_path / "whole", [shards], kind=kind)
    calls = []
    write = coding.write_stored

    def stops(folder, *rest, **more):
        calls.append(folder)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(folder, *rest, **more)

    monkeypatch.setattr(coding, "write_stored", stops)
    with pytest.raises(KeyboardInterrupt):
        build_index(tmp_path / "index", [shards], kind=kind)
    assert not (tmp_path / "index").exists() and (tmp_path / "index.part").is_dir()
    built = build_index(tmp_path / "index", [shards], kind=kind)
    assert built.continued_from == 2 and len(calls) == 4
    assert not (tmp_path / "index.part").exists()
    one, other = built.manifest.recall[0], whole.manifest.recall[0]
    assert (one.at_1, one.at_10, one.queries) == (other.at_1, other.at_10, other.queries)
    if kind == "ivf-pq":  # a graph is linked by several threads, in no order
        for name in ("lists.bin", "sizes.npy", "features.npy", "names.npy"):
            a, b = (next((tmp_path / index).rglob(name)).read_bytes() for index in ("whole", "index"))
            assert a == b, name


def test_what_fails_leaves_the_index_as_it_was(shards, tmp_path):
    build_index(tmp_path / "index", [shards], kind="ivf-pq")
    before = {path: path.read_bytes() for path in (tmp_path / "index").rglob("*.*")}
    save_features(tmp_path / "wide.npz", Features(np.ones((3, 31), np.float32), ["a", "b", "c"]))
    save_features(
        tmp_path / "other.npz", Features(np.ones((3, 30), np.float32), ["a", "b", "c"], settings={"mirror": "max"})
    )
    save_features(
        tmp_path / "mirror.npz", Features(np.ones((3, 30), np.float32), ["a", "b", "c"], settings={"mirror": "sum"})
    )
    for added, message in (
        (["wide.npz"], "wide.npz: its features have 31 numbers, those of .*index 30"),
        (
            ["other.npz", "mirror.npz"],
            "mirror.npz: its features were made differently than those of .*mirror max there",
        ),
        (["no.npz"], "no.npz: no such file"),
        (["other.npz", "other.npz"], "other.npz: is named twice"),
    ):
        with pytest.raises(DataError, match=message):
            add_to_index(tmp_path / "index", [tmp_path / name for name in added])
    assert {path: path.read_bytes() for path in (tmp_path / "index").rglob("*.*")} == before
    with pytest.raises(NormfaceError, match="index: is there already; add to it"):
        build_index(tmp_path / "index", [shards])
    with pytest.raises(NormfaceError, match="shards: is there, and no index"):
        add_to_index(shards, [tmp_path / "other.npz"])
    (tmp_path / "mine.part").mkdir()
    (tmp_path / "mine.part" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"mine.part: is no unfinished index; move it away"):
        build_index(tmp_path / "mine", [shards])
    assert (tmp_path / "mine.part" / "thesis.txt").read_text() == "years of work"


def test_the_kind_and_its_parameters():
    million = choose(1_000_000, 128, memory=2 * 10**9)
    # float16 features, 64 links of four bytes below and 32/31 above, and 12 bytes of bookkeeping
    assert million.kind == "hnsw" and million.memory == round(1e6 * (256 + 4 * (64 + 32 / 31) + 12))
    assert hnsw_bytes(1_000_000, 128) == million.memory
    ten = choose(10_000_000, 128, memory=12 * 10**9)
    assert (ten.kind, ten.lists, ten.parts, ten.sub_dimension) == (
        "ivf-pq",
        2 ** round(math.log2(2e7**0.5 * 2**0.5)),
        32,
        4,
    )
    assert ten.memory == 10_000_000 * (32 + 8) + 4 * ten.lists * 128
    hundred = choose(100_000_000, 512, memory=4 * 10**9)
    assert (hundred.kind, hundred.parts, hundred.sub_dimension) == ("ivf-pq", 16, 32) and hundred.memory < 4e9
    assert choose(5000, 128, kind="ivf-pq").lists == 5000 // 39
    for options, message in (
        ({"kind": "flat"}, 'kind "flat" is unknown; known: ivf-pq, hnsw'),
        ({"kind": "hnsw", "memory": 10**6}, r"takes 0.0\d+ GB, and 0.001 GB are allowed \(--memory\)"),
        ({"kind": "ivf-pq", "rows": 500}, "500 faces are too few to learn codes of; 1024 are the least"),
    ):
        with pytest.raises(NormfaceError, match=message):
            choose(options.pop("rows", 100_000), 128, **options)


def test_a_small_gallery_stays_exact(tmp_path):
    save_features(tmp_path / "g.npz", faces(50))
    assert isinstance(open_gallery(tmp_path / "g.npz"), Gallery)
    with pytest.raises(DataError, match=r"is a folder without index.json"):
        open_gallery(tmp_path)


def test_few_faces_and_more_asked_for_than_there_are(tmp_path):
    save_features(tmp_path / "g.npz", faces(3))
    build_index(tmp_path / "index", [tmp_path / "g.npz"], held_out=0)
    gallery = open_gallery(tmp_path / "index")
    assert [len(one) for one in gallery.nearest(faces(2, seed=3).features, 9)] == [3, 3]
    assert gallery.words.endswith("3 faces by faiss, hnsw: its recall was not measured")
    with pytest.raises(NormfaceError, match="leave --no-faiss out"):
        open_gallery(tmp_path / "index", use_faiss=False)
