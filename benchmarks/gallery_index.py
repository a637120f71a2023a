"""LFW among ten million random faces: the index's size, its time to build and to search, and what it finds.

The gallery is LFW's faces by MobileFaceNet (../shared/models, ../shared/lfw; 128 numbers, mirror sum), but one of each
person of two images or more, who are the probes, and distractors: directions at random on the sphere, whose cosines
with a face stay within about 0.45. Exact search goes through all features in NumPy, in float32. One run takes the
machine for an hour, so that nothing is repeated; files go below $NORMFACE_CACHE and are kept between runs.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import time
from pathlib import Path

import numpy as np
from _measure import cache
from normface.data import open_reader
from normface.features import Extractor, Features, load_features, save_features
from normface.recognise import IndexedGallery, build_index

SHARED = Path(__file__).parents[2] / "shared"
SHARD = 1_000_000
BLOCK = 1 << 16


def lfw(limit: int | None) -> tuple[Features, Features]:
    """(gallery, probes): one face of each person of two or more is a probe."""
    path = cache() / f"gallery_index-lfw-{limit or 'all'}.npz"
    if not path.exists():
        net = SHARED / "models/mobilefacenet"
        extractor = Extractor(
            net / "mobilefacenet_deploy.prototxt", net / "mobilefacenet.caffemodel", preset="mobilefacenet",
            mirror="sum", threads=2,
        )  # fmt: skip
        images = open_reader(SHARED / "lfw/lfw-112x96.zip")
        count = min(limit or len(images), len(images))
        rows = np.concatenate([
            extractor.features_of([images.read(index) for index in range(start, min(start + 256, count))])
            for start in range(0, count, 256)
        ])  # fmt: skip
        save_features(path, Features(rows, images.names[:count], images.labels[:count], images.identities))
    known = load_features(path)
    assert known.labels is not None
    _, first, counts = np.unique(known.labels, return_index=True, return_counts=True)
    probes = np.zeros(len(known), bool)
    probes[first[counts > 1]] = True
    return part(known, ~probes), part(known, probes)


def part(known: Features, mask: np.ndarray) -> Features:
    assert known.labels is not None
    names = [name for name, own in zip(known.names, mask, strict=True) if own]
    return Features(known.features[mask], names, known.labels[mask], known.identities)


def written(gallery: Features, distractors: int, folder: Path) -> list[Path]:
    """The features files of the gallery and of the distractors, as ``normface extract`` would leave them."""
    folder.mkdir(exist_ok=True)
    paths = [folder / "lfw.npz"]
    save_features(paths[0], gallery)
    for number, start in enumerate(range(0, distractors, SHARD)):
        count = min(SHARD, distractors - start)
        paths.append(folder / f"distractors-{number:03d}-{count}.npz")
        if not paths[-1].exists():
            rows = (
                np.random.default_rng([17, number]).normal(size=(count, gallery.features.shape[1])).astype(np.float32)
            )
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            save_features(paths[-1], Features(rows, [f"distractor {row}" for row in range(start, start + count)]))
    return paths


def exact_search(paths: list[Path], probes: np.ndarray) -> tuple[np.ndarray, float]:
    """(number (N,) of each probe's nearest, milliseconds a probe), reading the files not counted."""
    best, rows = np.full(len(probes), -np.inf), np.zeros(len(probes), np.int64)
    first, seconds = 0, 0.0
    units = probes / np.linalg.norm(probes, axis=1, keepdims=True)
    for path in paths:
        features = load_features(path).features
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        start = time.perf_counter()
        for place in range(0, len(features), BLOCK):
            scores = units @ features[place : place + BLOCK].T
            nearest = scores.argmax(1)
            cosines = scores[np.arange(len(units)), nearest]
            better = cosines > best
            best[better], rows[better] = cosines[better], nearest[better] + first + place
        seconds += time.perf_counter() - start
        first += len(features)
    return rows, 1000 * seconds / len(probes)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--distractors", type=int, default=10_000_000, help="random faces (default ten million)")
    arguments.add_argument("--faces", type=int, metavar="N", help="LFW's first N faces (default all)")
    arguments.add_argument("--kind", choices=("ivf-pq", "hnsw"), default="ivf-pq")
    arguments.add_argument("--recall", type=float, default=0.99, help="the recall to reach (default 0.99)")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    options = arguments.parse_args()
    gallery, probes = lfw(options.faces)
    paths = written(gallery, options.distractors, cache() / "gallery_index")
    index = cache() / "gallery_index.index"
    shutil.rmtree(index, ignore_errors=True)
    start = time.perf_counter()
    built = build_index(index, paths, kind=options.kind, queries=probes, recall=options.recall, progress=True)
    seconds = time.perf_counter() - start
    opened = IndexedGallery(index)
    opened.nearest(probes.features[:32], 1)  # the first search reads the disk
    start = time.perf_counter()
    found = [opened.nearest(one, 1)[0][0] for one in probes.features]
    milliseconds = 1000 * (time.perf_counter() - start) / len(probes)
    truth, exact_milliseconds = exact_search(paths, probes.features)
    names = gallery.names
    persons = [gallery.identity(row) if row < len(names) else None for row in truth.tolist()]
    right = [probes.identity(row) for row in range(len(probes))]
    figures = {
        "faces": len(opened),
        "probes": len(probes),
        "kind": built.choice.words if built.choice else "",
        "looked_at": built.manifest.pieces[0].effort,
        "index_megabytes": sum(file.stat().st_size for file in index.rglob("*") if file.is_file()) / 1e6,
        "codes_megabytes": sum(file.stat().st_size for file in index.rglob("lists.bin")) / 1e6,
        "build_seconds": seconds,
        "milliseconds_a_query": milliseconds,
        "exact_milliseconds_a_query_of_many": exact_milliseconds,
        "recall_told": built.manifest.recall[0].at_1,
        "same_face_as_exact": float(np.mean([
            match.name == (names[row] if row < len(names) else f"distractor {row - len(names)}")
            for match, row in zip(found, truth.tolist(), strict=True)
        ])),
        "right_person_exact": float(np.mean([a == b for a, b in zip(persons, right, strict=True)])),
        "right_person_index": float(np.mean([a.identity == b for a, b in zip(found, right, strict=True)])),
    }  # fmt: skip
    print(f"LFW and {options.distractors:,} distractors, Python {platform.python_version()}")
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):36}{value:.5g}" if isinstance(value, float) else f"{name:36}{value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
