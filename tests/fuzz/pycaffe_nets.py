"""Run nets in real Caffe, each in its own process: ``python pycaffe_nets.py FOLDER``, with pycaffe on PYTHONPATH.

Every FOLDER/NAME.job.npz is a "once" job of tests/support/pycaffe_jobs.py and gives NAME.forward.npz (``data/BLOB``)
and NAME.backward.npz (``diff/BLOB``, ``blob_diff/LAYER/I``), as far as Caffe comes: what it cannot do ends its process,
and NAME.log has its words. FOLDER/known.json lists the types of this Caffe and the fields of their messages.
It knows nothing of this project, so that what it reports is Caffe's own.
"""

import json
import os
import signal
import sys
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import pycaffe_jobs as jobs

SECONDS = 20


def known():
    """Return the layer types, and {field of LayerParameter: names of its message's fields}."""
    messages = {
        field.name: sorted(inner.name for inner in field.message_type.fields)
        for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields
        if field.message_type is not None
    }
    return {"types": sorted(caffe.layer_type_list()), "fields": messages}


def run(path):
    with np.load(str(path)) as stored:
        job = {key: stored[key] for key in stored.files}
    name = str(path).replace(".job.npz", "")
    text = Path(name + ".prototxt")
    text.write_text(str(job["net"]))
    caffe.set_random_seed(1701)
    net = caffe.Net(str(text), caffe.TRAIN if str(job["phase"]) == "train" else caffe.TEST)
    jobs.set_weights(net, job)
    for blob, array in jobs.group(job, "input").items():
        net.blobs[blob].data[...] = array
    net.forward()
    np.savez(name + ".forward.npz", **{"data/" + blob: value.data for blob, value in net.blobs.items()})
    for blob, array in jobs.group(job, "top_diff").items():
        net.blobs[blob].diff[...] = array
    net._backward(len(net.layers) - 1, 0)
    result = {"diff/" + blob: value.diff for blob, value in net.blobs.items()}
    jobs.weights(net, result, "blob_diff", diff=True)
    np.savez(name + ".backward.npz", **result)


def main():
    folder = Path(sys.argv[1])
    (folder / "known.json").write_text(json.dumps(known()))
    for path in sorted(folder.glob("*.job.npz")):
        child = os.fork()
        if child == 0:
            log = os.open(str(path).replace(".job.npz", ".log"), os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            signal.alarm(SECONDS)
            run(path)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
