"""caffe.proto as far as the tests need it, in Google's own protobuf: an encoder and parser independent of caffeport's.

Field numbers are those of BVLC/caffe's caffe.proto, and NVIDIA/caffe's for the raw data.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# name, "*" for repeated or "+" for repeated and packed, number, type
_MESSAGES = {
    "NetParameter": "name 1 string, layers* 2 V1LayerParameter, input* 3 string, input_dim* 4 int32,"
    "force_backward 5 bool, state 6 NetState, input_shape* 8 BlobShape, layer* 100 LayerParameter",
    "NetState": "phase 1 Phase, level 2 int32, stage* 3 string",
    "LayerParameter": "name 1 string, type 2 string, bottom* 3 string, top* 4 string, loss_weight* 5 float,"
    "param* 6 ParamSpec, blobs* 7 BlobProto, phase 10 Phase, propagate_down* 11 bool,"
    "convolution_param 106 ConvolutionParameter, inner_product_param 117 InnerProductParameter,"
    "pooling_param 121 PoolingParameter, power_param 122 PowerParameter",
    "ParamSpec": "name 1 string, lr_mult 3 float, decay_mult 4 float",
    "ConvolutionParameter": "num_output 1 uint32, bias_term 2 bool, pad* 3 uint32, kernel_size* 4 uint32",
    "InnerProductParameter": "num_output 1 uint32, bias_term 2 bool, axis 5 int32",
    "PoolingParameter": "pool 1 PoolMethod, kernel_size 2 uint32",
    "PowerParameter": "power 1 float, scale 2 float, shift 3 float",
    "V1LayerParameter": "layer 1 V0LayerParameter, bottom* 2 string, top* 3 string, name 4 string, type 5 int32,"
    "blobs* 6 BlobProto, blobs_lr* 7 float, weight_decay* 8 float, param* 1001 string",
    "V0LayerParameter": "name 1 string, type 2 string, num_output 3 uint32, biasterm 4 bool, blobs* 50 BlobProto,"
    "blobs_lr* 51 float",
    "BlobShape": "dim+ 1 int64",
    "BlobProto": "num 1 int32, channels 2 int32, height 3 int32, width 4 int32, data+ 5 float, diff+ 6 float,"
    "shape 7 BlobShape, double_data+ 8 double, double_diff+ 9 double, raw_data_type 10 int32, raw_data 12 bytes",
}
_ENUMS = {"Phase": {"TRAIN": 0, "TEST": 1}, "PoolMethod": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2}}


@cache
def _classes(packed: bool) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, members in _ENUMS.items():
        # An enum of its own scope each: protobuf's members would collide otherwise.
        scope = file.message_type.add(name=f"{name}Scope")
        enum = scope.enum_type.add(name=name)
        for member, number in members.items():
            enum.value.add(name=member, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for title, label, number, kind in re.findall(r"(\w+)([*+]?) (\d+) (\w+)", fields):
            field = message.field.add(name=title, number=int(number), label=3 if label else 1)
            if kind in _MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".caffe.{kind}"
            elif kind in _ENUMS:
                field.type, field.type_name = field.TYPE_ENUM, f".caffe.{kind}Scope.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
            field.options.packed = packed and label == "+"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in _MESSAGES}


def make(message: str, packed: bool = True, /, **fields: Any) -> Any:
    """Make a message of that type; ``packed=False`` for one with a tag before every number, as old writers did it."""
    return _classes(packed)[message](**fields)


def net(*layers: Any, packed: bool = True, **fields: Any) -> Any:
    """Make a NetParameter of ``layer`` messages."""
    return make("NetParameter", packed, layer=layers, **fields)


def layer(name: str, kind: str, *arrays: np.ndarray, packed: bool = True, **fields: Any) -> Any:
    """Make a LayerParameter with these blobs."""
    return make("LayerParameter", packed, name=name, type=kind, blobs=[blob(a, packed) for a in arrays], **fields)


def blob(array: np.ndarray, packed: bool = True) -> Any:
    """Make a BlobProto as Caffe writes it: a shape (none for a 0-D blob) and floats."""
    shape = make("BlobShape", packed, dim=array.shape)
    return make("BlobProto", packed, shape=shape, data=array.reshape(-1).tolist())


def write(path: Path, message: Any) -> Path:
    """Write the message's bytes to a file; returns the path."""
    path.write_bytes(message.SerializeToString())
    return path
