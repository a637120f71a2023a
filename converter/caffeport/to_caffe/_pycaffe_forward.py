"""A forward pass in real Caffe, layer by layer: ``python _pycaffe_forward.py FOLDER``, with pycaffe on PYTHONPATH.

``caffe_process`` runs a copy of this file with the interpreter that pycaffe was built for. So it knows nothing of
caffeport, torch or onnx, and needs no more than Python 3.6, numpy (1 or 2) and pycaffe.

FOLDER/job.json: ``net`` (path of the text), ``phase`` (0 TRAIN, 1 TEST), ``level``, ``stages``;
    ``weights``: paths; the pass is made with the first, and every other has to hold the same numbers;
    ``inputs``: {blob: its key in FOLDER/inputs.npz}; each also says its blob's shape;
    ``layers``: [{"name", "blobs", "tops": [[blob, key], ...]}, ...] in the order of the net, data layers left out.
FOLDER/tops.npz: {key: what that layer put into that top}. Of a blob that is worked on in place every version is
    there, since each layer is run by itself and its tops are kept before the next one runs.
FOLDER/result.json: ``version`` of Caffe; ``differ``: [layer, blob] pairs (numbers) that another weights file has
    otherwise; or ``error`` and ``kind``.
Lines "@caffeport STAGE NUMBER" on stdout say what is going on, for the case that Caffe ends the process.
"""

# ruff: noqa: B905  (zip has no strict= before Python 3.10)
# Annotations that Python 3.6 cannot evaluate stand in quotes.

import importlib
import json
import os
import sys
import types
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

NOT_NEEDED = ("six", "scipy", "scipy.ndimage", "skimage", "skimage.io", "skimage.transform")
"""pycaffe imports these, for reading images and for methods that are not called here."""


class UnlikeError(Exception):
    """Caffe's net is unlike caffeport's; the text becomes the user's error."""


class StandIn(types.ModuleType):
    """A module that has every name, each of them None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def say(stage: str, number: int = 0) -> None:
    print(f"@caffeport {stage} {number}", flush=True)


def import_caffe() -> Any:
    # Caffe's generated protobuf code is often too old for the C++ implementation, which moreover may share
    # libprotobuf with libcaffe and then abort because caffe.proto is registered twice.
    os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    for name in NOT_NEEDED:
        try:
            importlib.import_module(name)
        except Exception:  # absent, or broken (built for another numpy)
            sys.modules[name] = StandIn(name)
    import caffe

    return caffe


def positions(names: "list[str]", layers: "list[dict[str, Any]]") -> "list[int]":
    """Return where caffeport's layers are among Caffe's, which has split layers, and inputs, in between."""
    places, start = [], 0
    for layer in layers:
        if layer["name"] not in names[start:]:
            raise UnlikeError(f'Caffe leaves out layer "{layer["name"]}" of this net')
        places.append(names.index(layer["name"], start))
        start = places[-1] + 1
    return places


def feed(net: Any, inputs: "dict[str, Any]") -> None:
    for name, array in inputs.items():
        if name not in net.blobs:
            raise UnlikeError(f'Caffe\'s net has no input "{name}"')
        if tuple(net.blobs[name].shape) != array.shape:
            net.blobs[name].reshape(*array.shape)
    say("reshape")
    net.reshape()
    for name, array in inputs.items():
        net.blobs[name].data[...] = array


def top_blobs(net: Any, index: int, names: "list[str]") -> "list[Any]":
    """The tops of a layer; by number, since an automatic top (of a loss) has no name of its own."""
    if hasattr(net, "_top_ids"):
        return [net._blobs[number] for number in net._top_ids(index)]
    return [net.blobs[name] for name in names]


def run_layer(net: Any, index: int) -> None:
    if hasattr(net, "_forward"):
        net._forward(index, index)
    else:
        name = net._layer_names[index]
        net.forward(start=name, end=name)


def blobs_of(net: Any, places: "list[int]", layers: "list[dict[str, Any]]") -> "Iterator[tuple[int, int, Any]]":
    """(layer, blob, its array) of everything that caffeport takes for a weight."""
    for number, (place, layer) in enumerate(zip(places, layers)):
        blobs = net.layers[place].blobs
        if layer["blobs"] and len(blobs) != layer["blobs"]:
            raise UnlikeError(
                f'layer "{layer["name"]}" has {len(blobs)} blobs in Caffe, but {layer["blobs"]} in caffeport'
            )
        for index in range(layer["blobs"]):
            yield number, index, blobs[index].data


def checksums(net: Any, places: "list[int]", layers: "list[dict[str, Any]]") -> "dict[tuple[int, int], int]":
    return {(number, index): zlib.crc32(array.tobytes()) for number, index, array in blobs_of(net, places, layers)}


def run(job: "dict[str, Any]", folder: str) -> "dict[str, Any]":
    import numpy as np

    say("import")
    caffe = import_caffe()
    caffe.set_mode_cpu()
    say("net")
    rules = {name: job[name] for name in ("level", "stages") if job[name]}  # older pycaffes have neither
    net = caffe.Net(job["net"], job["phase"], **rules)
    layers = job["layers"]
    names = list(net._layer_names)
    places = positions(names, layers)
    own = dict(zip(places, layers))
    first, *others = job["weights"]
    say("weights", 0)
    net.copy_from(first)
    numbers = checksums(net, places, layers)

    with np.load(os.path.join(folder, "inputs.npz"), allow_pickle=False) as stored:
        feed(net, {name: stored[key] for name, key in job["inputs"].items()})
    with zipfile.ZipFile(os.path.join(folder, "tops.npz"), "w", allowZip64=True) as archive:
        for index in range(len(names)):
            say("layer", places.index(index) if index in own else -1)
            run_layer(net, index)
            tops = own[index]["tops"] if index in own else []
            blobs = top_blobs(net, index, [name for name, _ in tops])
            if len(blobs) < len(tops):
                raise UnlikeError(
                    f'layer "{names[index]}" has {len(blobs)} tops in Caffe, but {len(tops)} in caffeport'
                )
            for (_, key), blob in zip(tops, blobs):
                with archive.open(key + ".npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asarray(blob.data), allow_pickle=False)

    differ: set[tuple[int, int]] = set()
    for number, path in enumerate(others, 1):
        for _, _, array in blobs_of(net, places, layers):
            array[...] = np.nan  # what the file leaves out must not look right
        say("weights", number)
        net.copy_from(path)
        sums = checksums(net, places, layers)
        differ.update(which for which in numbers if numbers[which] != sums[which])
    return {"version": str(getattr(caffe, "__version__", "")), "differ": sorted(differ)}


def main(folder: str) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # Caffe's fatal errors abort
    except Exception:
        pass  # no such thing on Windows
    with open(os.path.join(folder, "job.json")) as stream:
        job = json.load(stream)
    try:
        result = run(job, folder)
    except UnlikeError as error:
        result = {"kind": "net", "error": str(error)}
    except ImportError as error:
        result = {"kind": "import", "error": f"{type(error).__name__}: {error}", "module": error.name or ""}
    except MemoryError:
        result = {"kind": "memory", "error": "not enough memory"}
    except Exception as error:
        result = {"kind": type(error).__name__, "error": f"{type(error).__name__}: {error}"}
    result["python"] = "{}.{}".format(*sys.version_info)
    with open(os.path.join(folder, "result.json"), "w") as stream:
        json.dump(result, stream)


if __name__ == "__main__":
    main(sys.argv[1])
