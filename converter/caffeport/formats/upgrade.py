"""Old nets to today's format: V0 and V1 layers, input headers, moved fields.

The rules are those of Caffe's ``upgrade_proto.cpp``, applied to the text. In weights files only
names, types and blobs matter, so they need no more than the two tables of type names.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ..errors import CaffeportWarning, PrototxtError, did_you_mean, quoted
from .prototxt import Field, Message, Scalar

_V1_ENUM = {
    "ABSVAL": (35, "AbsVal"), "ACCURACY": (1, "Accuracy"), "ARGMAX": (30, "ArgMax"), "BNLL": (2, "BNLL"),
    "CONCAT": (3, "Concat"), "CONTRASTIVE_LOSS": (37, "ContrastiveLoss"), "CONVOLUTION": (4, "Convolution"),
    "DATA": (5, "Data"), "DECONVOLUTION": (39, "Deconvolution"), "DROPOUT": (6, "Dropout"),
    "DUMMY_DATA": (32, "DummyData"), "EUCLIDEAN_LOSS": (7, "EuclideanLoss"), "ELTWISE": (25, "Eltwise"),
    "EXP": (38, "Exp"), "FLATTEN": (8, "Flatten"), "HDF5_DATA": (9, "HDF5Data"), "HDF5_OUTPUT": (10, "HDF5Output"),
    "HINGE_LOSS": (28, "HingeLoss"), "IM2COL": (11, "Im2col"), "IMAGE_DATA": (12, "ImageData"),
    "INFOGAIN_LOSS": (13, "InfogainLoss"), "INNER_PRODUCT": (14, "InnerProduct"), "LRN": (15, "LRN"),
    "MEMORY_DATA": (29, "MemoryData"), "MULTINOMIAL_LOGISTIC_LOSS": (16, "MultinomialLogisticLoss"),
    "MVN": (34, "MVN"), "POOLING": (17, "Pooling"), "POWER": (26, "Power"), "RELU": (18, "ReLU"),
    "SIGMOID": (19, "Sigmoid"), "SIGMOID_CROSS_ENTROPY_LOSS": (27, "SigmoidCrossEntropyLoss"),
    "SILENCE": (36, "Silence"), "SOFTMAX": (20, "Softmax"), "SOFTMAX_LOSS": (21, "SoftmaxWithLoss"),
    "SPLIT": (22, "Split"), "SLICE": (33, "Slice"), "TANH": (23, "TanH"), "WINDOW_DATA": (24, "WindowData"),
    "THRESHOLD": (31, "Threshold"),
}  # fmt: skip
_WORDS = {"prelu": "PReLU", "roi": "ROI", "elu": "ELU", "selu": "SeLU", "spp": "SPP", "lstm": "LSTM", "rnn": "RNN",
          "bn": "BN", "bnll": "BNLL", "lrn": "LRN", "mvn": "MVN", "relu": "ReLU", "tanh": "TanH", "hdf5": "HDF5",
          "crf": "CRF", "psroi": "PSROI"}  # fmt: skip
"""Words of forks' V1 types that their V2 names do not write with one capital."""

V1_TYPES = {name: v2 for name, (_, v2) in _V1_ENUM.items()}
V1_TYPES_BY_NUMBER = dict(_V1_ENUM.values())

V0_TYPES = {
    "accuracy": "Accuracy", "bnll": "BNLL", "concat": "Concat", "conv": "Convolution", "data": "Data",
    "dropout": "Dropout", "euclidean_loss": "EuclideanLoss", "flatten": "Flatten", "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output", "im2col": "Im2col", "images": "ImageData", "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct", "lrn": "LRN", "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling", "relu": "ReLU", "sigmoid": "Sigmoid", "softmax": "Softmax", "softmax_loss": "SoftmaxWithLoss",
    "split": "Split", "tanh": "TanH", "window_data": "WindowData",
}  # fmt: skip

# V0 kept every parameter in one flat message: {V0 field: {V2 type: (message, field)}}.
_CONV, _IP, _POOL = ("convolution_param", "inner_product_param", "pooling_param")
_WEIGHTED = {"Convolution": _CONV, "InnerProduct": _IP}
_DATA_PARAM = {
    "Data": "data_param",
    "HDF5Data": "hdf5_data_param",
    "ImageData": "image_data_param",
    "WindowData": "window_data_param",
}
_DATA_MESSAGES = ("data_param", "image_data_param", "window_data_param")


def _everywhere(messages: dict[str, str], name: str) -> dict[str, tuple[str, str]]:
    return {kind: (message, name) for kind, message in messages.items()}


_TRANSFORM = dict.fromkeys(V0_TYPES.values(), "transform_param")  # Caffe moves these whatever the type
_V0_FIELDS: dict[str, dict[str, tuple[str, str]]] = {
    "num_output": _everywhere(_WEIGHTED, "num_output"),
    "biasterm": _everywhere(_WEIGHTED, "bias_term"),
    "weight_filler": _everywhere(_WEIGHTED, "weight_filler"),
    "bias_filler": _everywhere(_WEIGHTED, "bias_filler"),
    "pad": _everywhere({"Convolution": _CONV, "Pooling": _POOL}, "pad"),
    "kernelsize": _everywhere({"Convolution": _CONV, "Pooling": _POOL}, "kernel_size"),
    "group": _everywhere({"Convolution": _CONV}, "group"),
    "stride": _everywhere({"Convolution": _CONV, "Pooling": _POOL}, "stride"),
    "pool": _everywhere({"Pooling": _POOL}, "pool"),
    "dropout_ratio": _everywhere({"Dropout": "dropout_param"}, "dropout_ratio"),
    "local_size": _everywhere({"LRN": "lrn_param"}, "local_size"),
    "alpha": _everywhere({"LRN": "lrn_param"}, "alpha"),
    "beta": _everywhere({"LRN": "lrn_param"}, "beta"),
    "k": _everywhere({"LRN": "lrn_param"}, "k"),
    "source": _everywhere({**_DATA_PARAM, "InfogainLoss": "infogain_loss_param"}, "source"),
    "scale": _everywhere(_TRANSFORM, "scale"),
    "meanfile": _everywhere(_TRANSFORM, "mean_file"),
    "batchsize": _everywhere(_DATA_PARAM, "batch_size"),
    "cropsize": _everywhere(_TRANSFORM, "crop_size"),
    "mirror": _everywhere(_TRANSFORM, "mirror"),
    "rand_skip": _everywhere({"Data": "data_param", "ImageData": "image_data_param"}, "rand_skip"),
    "shuffle_images": _everywhere({"ImageData": "image_data_param"}, "shuffle"),
    "new_height": _everywhere({"ImageData": "image_data_param"}, "new_height"),
    "new_width": _everywhere({"ImageData": "image_data_param"}, "new_width"),
    "concat_dim": _everywhere({"Concat": "concat_param"}, "concat_dim"),
    "det_fg_threshold": _everywhere({"WindowData": "window_data_param"}, "fg_threshold"),
    "det_bg_threshold": _everywhere({"WindowData": "window_data_param"}, "bg_threshold"),
    "det_fg_fraction": _everywhere({"WindowData": "window_data_param"}, "fg_fraction"),
    "det_context_pad": _everywhere({"WindowData": "window_data_param"}, "context_pad"),
    "det_crop_mode": _everywhere({"WindowData": "window_data_param"}, "crop_mode"),
    "hdf5_output_param": {"HDF5Output": ("", "hdf5_output_param")},
    "new_num": {},
    "new_channels": {},
}


def upgrade(net: Message, known_types: Iterable[str] = ()) -> Message:
    """Return the net as V2 text: ``layer`` messages only, inputs as Input layers. Changes ``net`` in place.

    known_types: V2 types of forks, to spell those V1 types as they do that BVLC's enum lacks.
    """
    spelled = {name.lower(): name for name in known_types}
    if net.has("layers"):
        if net.has("layer"):
            raise PrototxtError(f'{net.where()}: a net has either "layer" or "layers" entries, not both')
        _from_v0(net)
        for entry in net.fields:
            if entry.name == "layers":
                entry.name = "layer"
                _from_v1(_message(net, entry), spelled)
    for entry in net.named("layer"):
        layer = _message(net, entry)
        names = [field.name for field in layer.fields]
        if not set(names).isdisjoint(_DATA_MESSAGES):
            _move_transform_fields(layer)
        if names.count("param") == 3 and layer.text("type") == "BatchNorm":
            for spec in layer.messages("param"):  # the statistics are not the solver's to change
                spec.remove("lr_mult", "decay_mult")
                spec.add("lr_mult", 0)
                spec.add("decay_mult", 0)
    _input_header(net)
    return net


_SOLVER_TYPES = {
    "SGD": "SGD", "NESTEROV": "Nesterov", "ADAGRAD": "AdaGrad", "RMSPROP": "RMSProp", "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}  # fmt: skip
"""The types in the order of the old enum's numbers."""


def upgrade_solver(solver: Message) -> Message:
    """Return the solver with its type as a string and the nets it holds as V2. Changes ``solver`` in place."""
    for entry in solver.named("solver_type"):
        if solver.has("type"):
            raise PrototxtError(f'{solver.where(entry)}: give either "solver_type" or "type", not both')
        name = entry.value.text if isinstance(entry.value, Scalar) else ""
        if name.isdecimal() and int(name[:9]) < len(_SOLVER_TYPES):
            name = list(_SOLVER_TYPES)[int(name[:9])]
        if name not in _SOLVER_TYPES:
            near = did_you_mean(name, _SOLVER_TYPES)
            raise PrototxtError(f"{solver.where(entry)}: unknown solver_type {quoted(name)[1:-1]}{near}")
        entry.name, entry.value = "type", Scalar(_SOLVER_TYPES[name], "string")
    for name in ("net_param", "train_net_param", "test_net_param"):
        for net in solver.messages(name):
            upgrade(net)
    return solver


def _message(owner: Message, entry: Field) -> Message:
    if not isinstance(entry.value, Message):
        raise PrototxtError(f'{owner.where(entry)}: "{entry.name}" expects a message {{ ... }}')
    return entry.value


def _child(layer: Message, name: str) -> Message:
    messages = layer.messages(name)
    if messages:
        return messages[-1]
    entry = layer.add(name, Message(source=layer.source, line=layer.line, column=layer.column))
    assert isinstance(entry.value, Message)
    return entry.value


def _from_v0(net: Message) -> None:
    """Unfold ``layers { layer { ... } bottom top }``, folding padding layers into their successor."""
    padding: dict[str, tuple[str, list[Field]]] = {}  # top of a padding layer: (its bottom, the pad)
    fields = []
    for entry in net.fields:
        if entry.name != "layers" or not _message(net, entry).messages("layer"):
            fields.append(entry)
            continue
        layer = _message(net, entry)
        inner = layer.messages("layer")[-1]
        layer.remove("layer")
        kind = inner.text("type")
        for field in layer.named("bottom"):
            if isinstance(field.value, Scalar) and field.value.text in padding:
                if kind not in ("conv", "pool"):
                    raise PrototxtError(f"{layer.where(field)}: a padding layer may only feed a conv or pool layer")
                bottom, pad = padding[field.value.text]
                field.value = Scalar(bottom, "string")
                inner.remove("pad")
                inner.fields.extend(pad)
        for top in layer.texts("top"):
            padding.pop(top, None)  # the blob is this layer's from here on
        if kind == "padding":
            bottoms, tops = layer.texts("bottom"), layer.texts("top")
            if len(bottoms) != 1 or len(tops) != 1:
                raise PrototxtError(f"{layer.where()}: a padding layer has one bottom and one top")
            padding[tops[0]] = (bottoms[0], inner.named("pad"))
            continue
        if kind not in V0_TYPES:
            raise PrototxtError(
                f'{inner.where()}: unknown V0 layer type "{kind}"{did_you_mean(kind, [*V0_TYPES, "padding"])}'
            )
        _unfold_v0(layer, inner, V0_TYPES[kind])
        fields.append(entry)
    net.fields = fields


def _unfold_v0(layer: Message, inner: Message, kind: str) -> None:
    for field in inner.fields:
        if field.name in ("name", "blobs", "blobs_lr", "weight_decay"):
            layer.fields.append(field)
        elif field.name == "type":
            layer.add("type", next(v1 for v1, v2 in V1_TYPES.items() if v2 == kind))
        elif field.name not in _V0_FIELDS:
            raise PrototxtError(
                f'{inner.where(field)}: a V0 layer has no field "{field.name}"{did_you_mean(field.name, _V0_FIELDS)}'
            )
        elif kind not in _V0_FIELDS[field.name]:
            warnings.warn(
                f'{inner.where(field)}: "{field.name}" means nothing in a V0 layer of type "{inner.text("type")}"; '
                "as in Caffe it is passed over",
                CaffeportWarning,
                stacklevel=5,
            )
        else:
            message, name = _V0_FIELDS[field.name][kind]
            target = _child(layer, message) if message else layer
            target.fields.append(Field(name, field.value, field.line, field.column))


def v1_type(name: str, spelled: Mapping[str, str] = MappingProxyType({})) -> str | None:
    """Return the V2 name of a V1 type: its enum's name or number, a fork's in CamelCase; None for what can be neither.

    spelled: {a V2 name in lower case: the name}, for types such as ROI_POOLING that CamelCase alone would misspell.
    """
    if name in V1_TYPES:
        return V1_TYPES[name]
    if name.isdecimal():
        return V1_TYPES_BY_NUMBER.get(int(name[:9]))
    words = name.lower().split("_")
    return spelled.get("".join(words)) or "".join(map(_capital, words)) or None


def _capital(word: str) -> str:
    return _WORDS.get(word) or re.sub(r"\d[a-z]$", lambda end: end[0].upper(), word.capitalize())  # Convolution3D


def _from_v1(layer: Message, spelled: Mapping[str, str]) -> None:
    for entry in layer.named("type"):
        if not isinstance(entry.value, Scalar):
            raise PrototxtError(f'{layer.where(entry)}: "type" expects a value')
        if entry.value.kind == "string":
            continue  # a V2 type in a "layers" entry: Caffe refuses it, but its meaning is plain
        name = entry.value.text
        v2 = v1_type(name, spelled)
        if v2 is None:
            raise PrototxtError(
                f"{layer.where(entry)}: unknown V1 layer type {quoted(name)[1:-1]}{did_you_mean(name, V1_TYPES)}"
            )
        entry.value = Scalar(v2, "string")
    specs: list[Message] = []

    def spec(index: int) -> Message:
        while len(specs) <= index:
            specs.append(Message(source=layer.source, line=layer.line, column=layer.column))
        return specs[index]

    renamed = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}
    for old, new in renamed.items():
        if old == "param" and layer.messages("param"):
            continue  # already V2's
        for index, field in enumerate(layer.remove(old)):
            spec(index).fields.append(Field(new, field.value, field.line, field.column))
    for built in specs:
        layer.add("param", built)


def _move_transform_fields(layer: Message) -> None:
    """Move scale, mean_file, crop_size and mirror, which stood in the data layer's own message once."""
    for message in [message for name in _DATA_MESSAGES for message in layer.messages(name)]:
        moved = message.remove("scale", "mean_file", "crop_size", "mirror")
        if moved:
            transform = _child(layer, "transform_param")
            transform.remove(*(field.name for field in moved))  # the old place wins in Caffe
            transform.fields.extend(moved)


def _input_header(net: Message) -> None:
    """Turn ``input: "data" input_dim: 1 ...`` into an Input layer at the top."""
    names = net.remove("input")
    dims, shapes = net.remove("input_dim"), net.remove("input_shape")
    if not names:
        return
    if dims and shapes:
        raise PrototxtError(f'{net.where(dims[0])}: give either "input_dim" or "input_shape", not both')
    if dims and len(dims) != 4 * len(names):
        raise PrototxtError(
            f"{net.where(dims[0])}: {len(names)} inputs need {4 * len(names)} input_dim entries, got {len(dims)}"
        )
    if shapes and len(shapes) not in (1, len(names)):
        raise PrototxtError(
            f"{net.where(shapes[0])}: {len(names)} inputs need as many input_shape entries, got {len(shapes)}"
        )
    layer = Message(source=net.source, line=names[0].line, column=names[0].column)
    layer.add("name", "input", quoted=True)
    layer.add("type", "Input", quoted=True)
    parameters = Message(source=net.source, line=layer.line, column=layer.column)
    for index, name in enumerate(names):
        layer.fields.append(Field("top", name.value, name.line, name.column))
        if dims:
            shape = Message(source=net.source, line=dims[0].line, column=dims[0].column)
            for dim in dims[4 * index : 4 * index + 4]:
                shape.fields.append(Field("dim", dim.value, dim.line, dim.column))
            parameters.add("shape", shape)
        elif shapes:
            shape_field = shapes[index if len(shapes) > 1 else 0]
            parameters.fields.append(Field("shape", shape_field.value, shape_field.line, shape_field.column))
    layer.add("input_param", parameters)
    net.fields.insert(0, Field("layer", layer, layer.line, layer.column))
