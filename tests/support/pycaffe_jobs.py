"""Run jobs in real Caffe: ``python pycaffe_jobs.py FOLDER``, with pycaffe on PYTHONPATH.

Every FOLDER/NAME.job.npz is a job and gives NAME.result.npz. Keys of a job: ``kind``, ``net`` (text), and
- "once": a forward and a backward pass. ``phase``; ``input/BLOB``; ``weight/LAYER/I``; ``top_diff/BLOB``.
  Result: ``data/BLOB``, ``diff/BLOB``, ``blob/LAYER/I``, ``blob_diff/LAYER/I``.
- "train": as many iterations as the inputs have. ``solver`` (text without its net); ``input/BLOB`` (T, ...);
  ``weight/LAYER/I``. Result: ``loss/BLOB`` (T, ...) of every output, ``blob/LAYER/I`` at the end.
  In place of inputs ``memory/data`` and ``memory/label``: all samples of ``steps`` iterations, one after another, for
  the net's MemoryData layer; an iteration takes iter_size batches of them. ``snapshot``: also write one at the end,
  ``PREFIX_iter_T.caffemodel`` and ``.solverstate``, and with ``restore`` start from such a state.
  ``weights_hdf5``: then load these weights, since a restored HDF5 state's own are read as binary ones by this Caffe.
- "published": "train", with what the text lacks put in: its data layers and undefined bottoms become inputs of the
  shapes of ``input/BLOB``. Undefined bottoms without one are an error. Without a loss (a deploy net): one forward pass.
With ``start`` a training's result has ``net``, the text it used, and ``start/LAYER/I``, the blobs before it, as well.
It knows nothing of this project, so that what it reports is Caffe's own.
"""

import sys
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

DATA_LAYERS = ("Data", "ImageData", "HDF5Data", "MemoryData", "AnnotatedData")


def group(job, prefix):
    return {key[len(prefix) + 1 :]: job[key] for key in job if key.startswith(prefix + "/")}


def set_weights(net, job):
    for key, array in group(job, "weight").items():
        layer, index = key.rsplit("/", 1)
        net.params[layer][int(index)].data[...] = array


def weights(net, result, prefix, diff=False):
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            result[f"{prefix}/{layer}/{i}"] = (blob.diff if diff else blob.data).copy()


def once(job, scratch):
    path = scratch / "net.prototxt"
    path.write_text(str(job["net"]))
    net = caffe.Net(str(path), caffe.TRAIN if str(job["phase"]) == "train" else caffe.TEST)
    set_weights(net, job)
    for name, array in group(job, "input").items():
        net.blobs[name].data[...] = array
    net.forward()
    result = {"data/" + name: blob.data.copy() for name, blob in net.blobs.items()}
    for name, array in group(job, "top_diff").items():
        net.blobs[name].diff[...] = array
    if bool(job["backward"]):
        net._backward(len(net.layers) - 1, 0)
    result.update({"diff/" + name: blob.diff.copy() for name, blob in net.blobs.items()})
    weights(net, result, "blob")
    weights(net, result, "blob_diff", diff=True)
    return result


def train(job, scratch):
    path = scratch / "net.prototxt"
    path.write_text(str(job["net"]))
    lines = [line for line in str(job["solver"]).splitlines() if not line.startswith("net:")]
    solver_path = scratch / "solver.prototxt"
    solver_path.write_text("\n".join(lines) + f'\nnet: "{path}"\nsolver_mode: CPU\n')
    solver = caffe.get_solver(str(solver_path))
    set_weights(solver.net, job)
    inputs = group(job, "input")
    if "memory/data" in job:
        solver.net.set_input_arrays(job["memory/data"], job["memory/label"])
    if "restore" in job:
        solver.restore(str(job["restore"]))
    if "weights_hdf5" in job:
        solver.net.load_hdf5(str(job["weights_hdf5"]))
    result = {}
    if "start" in job:
        result["net"] = job["net"]
        weights(solver.net, result, "start")
    losses = {name: [] for name in solver.net.outputs}
    for step in range(int(job["steps"]) if "steps" in job else len(next(iter(inputs.values())))):
        for name, array in inputs.items():
            solver.net.blobs[name].data[...] = array[step]
        solver.step(1)
        for name, values in losses.items():
            values.append(solver.net.blobs[name].data.copy())
    if "snapshot" in job:
        solver.snapshot()
    result.update({"loss/" + name: np.array(values) for name, values in losses.items()})
    weights(solver.net, result, "blob")
    return result


def published(job, scratch):
    """Return the text, parsed by this tree's own protobuf classes; then data layers out, inputs in."""
    net = caffe_pb2.NetParameter()
    text_format.Merge(str(job["net"]), net)
    inputs = group(job, "input")
    kept = {key: array for key, array in job.items() if key == "start" or key.startswith("weight/")}
    message = caffe_pb2.NetParameter()
    message.name = net.name
    message.force_backward = net.force_backward
    wanted = list(net.input)
    known = set(wanted)
    layers = []
    for layer in net.layer:
        phases = [rule.phase for rule in layer.include if rule.HasField("phase")]
        if layer.type in DATA_LAYERS or (phases and caffe_pb2.TRAIN not in phases):
            continue
        if layer.type == "Input":  # of a deploy net, for a hundred images
            layer.input_param.shape[0].dim[0] = 2
        layers.append(layer)
        for name in layer.bottom:  # a layer may be in place on a blob that the text does not make
            if name not in known:
                wanted.append(name)
                known.add(name)
        known.update(layer.top)
    for name in wanted:
        layer = message.layer.add(name="input_" + name, type="Input", top=[name])
        layer.input_param.shape.add().dim.extend(inputs[name].shape[1:])
    for layer in layers:
        message.layer.add().CopyFrom(layer)
    feed = {"input/" + name: inputs[name] for name in wanted}
    trains = any("Loss" in layer.type for layer in layers)
    job = {"net": text_format.MessageToString(message), "solver": job["solver"], "phase": "test", **feed}
    if trains:
        job.update(kept)
        return train(job, scratch)
    job.update({key: array[0] for key, array in feed.items()}, backward=False)
    return once(job, scratch)


def main():
    folder = Path(sys.argv[1])
    for path in sorted(folder.glob("*.job.npz")):
        with np.load(str(path)) as stored:
            job = {key: stored[key] for key in stored.files}
        print("job", path.name, flush=True)
        caffe.set_random_seed(1701)
        result = {"once": once, "train": train, "published": published}[str(job["kind"])](job, folder)
        np.savez(str(path).replace(".job.npz", ".result.npz"), **result)


if __name__ == "__main__":
    main()
