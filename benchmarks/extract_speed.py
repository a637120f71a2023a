"""Features of faces in a zip, of each face and its mirror image: normface.features against OpenCV 4's dnn.

Claim: less time an image than OpenCV, on the same Caffe model, both with two threads and both at their best batch size
of those tried; the features agree within 1e-3 of the largest number.

    python benchmarks/extract_speed.py [MODEL_FOLDER] [FACES.zip] [--faces 256] [--repeats 5] [--json FILE]

MODEL_FOLDER holds MobileFaceNet as mobilefacenet_deploy.prototxt and mobilefacenet.caffemodel; by default that and the
zip of 112x96 faces are LFW's in ../shared beside the repository. The first call makes OpenCV's environment (see
_rivals.py). Every repeat is a process of its own for each program, one after the other in turn; both read the same
zip, and the time counts from the open model to the last feature, decoding included.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

import _rivals
from _measure import Row, cache, parser, report, run

SHARED = Path(__file__).parents[2] / "shared"
BATCHES = (1, 8, 32)
"""Of the rival; ours has its default."""

OURS = """
import sys, json, resource, time, numpy
from normface.data import open_reader
from normface.features import Extractor
prototxt, caffemodel, faces, count, out = sys.argv[1:]
class First:
    labels = None
    def __init__(self, images, count):
        self.read, self.names = images.read, images.names[:count]
    def __len__(self):
        return len(self.names)
images = First(open_reader(faces), int(count))
extractor = Extractor(prototxt, caffemodel, preset="mobilefacenet", mirror="concat", threads=2)
extractor.features_of([images.read(0)])
start = time.perf_counter()
features = extractor.features(images)
seconds = time.perf_counter() - start
numpy.save(out, features)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
print(json.dumps([1000 * seconds / len(images), peak]))
"""
RIVAL = """
import sys, json, resource, time, zipfile, cv2, numpy
prototxt, caffemodel, faces, count, out, batch = sys.argv[1:]
cv2.setNumThreads(2)
net = cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
archive = zipfile.ZipFile(faces)
# In the order of normface.data: by the bytes of the path's parts.
names = sorted((n for n in archive.namelist() if n.endswith(".jpg")), key=lambda name: name.encode().split(b"/"))
def read(name):
    face = cv2.imdecode(numpy.frombuffer(archive.read(name), numpy.uint8), cv2.IMREAD_COLOR)
    return cv2.copyMakeBorder(face, 0, 0, 8, 8, cv2.BORDER_CONSTANT)
def features(faces):
    net.setInput(cv2.dnn.blobFromImages(faces, 1 / 128, mean=(127.5,) * 3, swapRB=True))
    return net.forward().reshape(len(faces), -1).copy()
def both(names):
    faces = [read(name) for name in names]
    return numpy.concatenate([features(faces), features([face[:, ::-1].copy() for face in faces])], axis=1)
batch, names = int(batch), names[:int(count)]
both(names[:batch])
start = time.perf_counter()
rows = [both(names[first : first + batch]) for first in range(0, len(names), batch)]
seconds = time.perf_counter() - start
numpy.save(out, numpy.concatenate(rows))
print(json.dumps([1000 * seconds / len(names), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6]))
"""
DIFFERENCE = """
import sys, numpy
ours, rival = map(numpy.load, sys.argv[1:])
assert ours.shape == rival.shape, f"{ours.shape} and {rival.shape}"
print(abs(ours - rival).max() / abs(rival).max())
"""


def main() -> None:
    arguments = parser(__doc__ or "", repeats=5)
    arguments.add_argument("model", nargs="?", type=Path, default=SHARED / "models" / "mobilefacenet")
    arguments.add_argument("faces", nargs="?", type=Path, default=SHARED / "lfw" / "lfw-112x96.zip")
    arguments.add_argument("--faces", dest="count", type=int, default=256, help="how many of them (default 256)")
    options = arguments.parse_args()
    files: list[str | Path] = [options.model / f"mobilefacenet{end}" for end in ("_deploy.prototxt", ".caffemodel")]
    for path in (*files, options.faces):
        if not Path(path).exists():
            print(f"skipped: {path} is missing; give the model's folder and a zip of faces as arguments")
            return
    common = [*files, options.faces, str(options.count)]
    rival_python = _rivals.environment("opencv") / "python"
    ours: list[list[float]] = []
    rivals: dict[int, list[list[float]]] = {batch: [] for batch in BATCHES}
    notes = []
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        found, other = Path(folder, "ours.npy"), Path(folder, "rival.npy")
        for repeat in range(options.repeats):
            ours.append(json.loads(run([sys.executable, "-c", OURS, *common, found]).output))
            for batch in BATCHES:
                command = [rival_python, "-c", RIVAL, *common, other, str(batch)]
                rivals[batch].append(json.loads(run(command, keep_pythonpath=False).output))
            if repeat == 0:
                difference = float(run([sys.executable, "-c", DIFFERENCE, found, other]).output)
                notes.append(f"features differ by {difference:.1e} of the largest number")
    medians = {batch: statistics.median(one[0] for one in runs) for batch, runs in rivals.items()}
    best = min(medians, key=lambda batch: medians[batch])
    times = ", ".join(f"{batch}: {milliseconds:.1f} ms" for batch, milliseconds in medians.items())
    # Each repeat's pair ran side by side, so that a busy machine slows both.
    ratios = [mine[0] / theirs[0] for mine, theirs in zip(ours, rivals[best], strict=True)]
    notes += [
        f"OpenCV by batch size: {times}",
        f"ratios of the pairs: {', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))}",
        f"peak memory: {statistics.median(one[1] for one in ours):.0f} MB to "
        f"{statistics.median(one[1] for one in rivals[best]):.0f} MB",
        f"rival: {_rivals.versions('opencv')}",
    ]
    rows = [Row("an image and its mirror", "ms", statistics.median(one[0] for one in ours), medians[best], 1)]
    title = f"features of {options.count} faces, MobileFaceNet, two threads"
    report(title, "normface extract", f"OpenCV, batch {best}", rows, notes, options)


if __name__ == "__main__":
    main()
