"""A stand-in for pycaffe: copied to FOLDER/caffe/__init__.py, it does what the few calls of the check need.

It knows Input, Power, ReLU, InnerProduct and EuclideanLoss, inserts splits as Caffe does, and fails as FAKE_CAFFE
(an environment variable) says. FAKE_CAFFE_LOG names a file for the arguments and the text of the net.
"""

# ruff: noqa: E402, F401

import json
import os
import signal
import sys
import time

import numpy as np

assert not {"caffeport", "torch", "onnx"} & set(sys.modules), "the check's script has to do without these"

import scipy.ndimage
import six
import skimage.io
from skimage.transform import resize

__version__ = "9.9"
MODE = os.environ.get("FAKE_CAFFE", "")
LOADED = []


def info(text):
    sys.stderr.write(f"I0131 12:00:00.123456  4242 net.cpp:84] {text}\n")


def check_failed(text):
    """End as glog ends a process: the message, a trace, SIGABRT."""
    sys.stderr.write(f"F0131 12:00:00.123456  4242 fake_layer.cpp:17] Check failed: {text}\n")
    sys.stderr.write("*** Check failure stack trace: ***\n    @     0x7f00  google::LogMessage::Fail()\n")
    sys.stderr.flush()
    os.abort()


def at(place):
    """Fail here, if this is the place and the mode says how."""
    how, _, where = MODE.partition("@")
    if where != place:
        return
    if how == "check":
        check_failed("5 == 7 (5 vs. 7) Not what\nthis layer wants.")
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "exit":
        print("some last words", flush=True)
        os._exit(3)
    elif how == "raise":
        raise RuntimeError("that went wrong")
    elif how == "bad_alloc":
        sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
        sys.stderr.flush()
        os.abort()
    elif how == "hang":
        with open(os.environ["FAKE_CAFFE_LOG"], "w") as log:
            log.write(str(os.getpid()))
        time.sleep(300)


def set_mode_cpu():
    at("import")


class Blob:
    def __init__(self, shape):
        self.data = np.zeros(shape, np.float32)

    @property
    def shape(self):
        return list(self.data.shape)

    def reshape(self, *shape):
        self.data = np.zeros(shape, np.float32)


class Layer:
    def __init__(self, text):
        self.name, self.type = text.text("name"), text.text("type")
        self.bottom, self.top = text.texts("bottom"), text.texts("top")
        self.text, self.blobs = text, []


class Net:
    def __init__(self, path, phase, level=0, stages=None):
        from caffeport.formats import prototxt

        with open(path) as stream:
            text = stream.read()
        if MODE != "hang@running" and "FAKE_CAFFE_LOG" in os.environ:
            with open(os.environ["FAKE_CAFFE_LOG"], "w") as log:
                json.dump({"path": path, "phase": phase, "level": level, "stages": stages, "text": text}, log)
        if MODE == "parse":
            sys.stderr.write(
                "[libprotobuf ERROR google/protobuf/text_format.cc:335] Error parsing text-format caffe.NetParameter: "
                '3:9: Message type "caffe.LayerParameter" has no field named "center_loss_param".\n'
            )
            check_failed(f"ReadProtoFromTextFile(param_file, param) Failed to parse NetParameter file: {path}")
        self.layers, self.blobs, self._tops = [], {}, []
        self._blobs = []
        for entry in prototxt.parse(text).messages("layer"):
            layer = Layer(entry)
            if "lacks " + layer.type == MODE:
                check_failed(
                    f"registry.count(type) == 1 (0 vs. 1) Unknown layer type: {layer.type} (known types: Input, Power)"
                )
            info(f"Creating Layer {layer.name}")
            at("net")
            self.layers.append(layer)
            self._tops.append([self._top(name, layer) for name in layer.top or ["(automatic)"]])
            self._set_up(layer)
            if MODE != "old" and layer.type == "Input":
                split = Layer(entry)
                split.name, split.type = f"{layer.top[0]}_{layer.name}_0_split", "Split"
                self.layers.append(split)
                self._tops.append([])
        self._layer_names = [layer.name for layer in self.layers if MODE != "filtered" or layer.type != "Power"]

    def _top(self, name, layer):
        if name in layer.bottom:
            return self._blobs.index(self.blobs[name])
        self._blobs.append(Blob(()))
        self.blobs[name] = self._blobs[-1]
        return len(self._blobs) - 1

    def _set_up(self, layer):
        if layer.type == "Input":
            for top, shape in zip(layer.top, layer.text.messages("input_param")[0].messages("shape"), strict=True):
                self.blobs[top].reshape(*map(int, shape.texts("dim")))
        if layer.type == "InnerProduct":
            outputs = int(layer.text.messages("inner_product_param")[0].text("num_output"))
            size = self.blobs[layer.bottom[0]].data[0].size
            layer.blobs = [Blob((outputs, size)), Blob((outputs,))]
        self._run(layer)

    def copy_from(self, path):
        from caffeport.formats import caffemodel

        LOADED.append(path)
        at("weights")
        stored = {layer.name: layer.blobs for layer in caffemodel.read(path).layers}
        for layer in self.layers:
            for mine, theirs in zip(layer.blobs, stored.get(layer.name, []), strict=True):
                mine.data[...] = theirs.array()
        if MODE == "misreads" and len(LOADED) > 1:
            next(layer for layer in self.layers if layer.blobs).blobs[1].data += 1

    def reshape(self):
        at("reshape")

    if MODE == "old":

        def forward(self, start, end):
            assert start == end
            self._step(self._layer_names.index(start))

    else:

        def _top_ids(self, index):
            return [] if MODE == "no tops" else self._tops[index]

        def _forward(self, start, end):
            assert start == end
            self._step(start)

    def _step(self, index):
        layer = self.layers[index]
        if layer.type not in ("Input", "Split"):
            at("running")
        self._run(layer)

    def _run(self, layer):
        if layer.type in ("Input", "Split"):
            return
        x = self.blobs[layer.bottom[0]].data
        top = self.blobs[(layer.top or ["(automatic)"])[0]]
        if layer.type == "InnerProduct":
            top.data = x.reshape(len(x), -1) @ layer.blobs[0].data.T + layer.blobs[1].data
        elif layer.type == "ReLU":
            top.data = np.maximum(x, 0)
        elif layer.type == "Power":
            top.data = x * np.float32(layer.text.messages("power_param")[0].text("scale"))
        elif layer.type == "EuclideanLoss":
            top.data = np.float32(((x - self.blobs[layer.bottom[1]].data) ** 2).sum() / (2 * len(x)))
        if "wrong " + layer.name == MODE:
            top.data = top.data + np.float32(0.01)
