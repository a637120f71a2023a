"""The blobs that real Caffe's data layers give: ``python pycaffe_feed.py FOLDER``, with pycaffe on PYTHONPATH.

Every FOLDER/NAME.prototxt that starts with ``# PHASE BATCHES`` gives NAME.npz, ``BLOB/K`` for each of its batches.
"""

import sys
from pathlib import Path

import caffe
import numpy as np

for path in sorted(Path(sys.argv[1]).glob("*.prototxt")):
    phase, batches = path.read_text().split("\n")[0][2:].split()
    caffe.set_random_seed(1)
    net = caffe.Net(str(path), caffe.TRAIN if phase == "train" else caffe.TEST)
    result = {}
    for number in range(int(batches)):
        net.forward()
        for name, blob in net.blobs.items():
            result[f"{name}/{number}"] = blob.data.copy()
    np.savez(str(path.with_suffix(".npz")), **result)
