"""The numbers of caffe.proto's fields, for writing nets in binary: BVLC/caffe, src/caffe/proto/caffe.proto.

Of a net's messages and of those below it, the layers of V0 and V1 included. Forks give other messages the same numbers,
so what they add has none here.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

ENUMS: dict[str, dict[str, int]] = {
    "Phase": {"TRAIN": 0, "TEST": 1},
    "DimCheckMode": {"STRICT": 0, "PERMISSIVE": 1},
    "NormalizationMode": {"FULL": 0, "VALID": 1, "BATCH_SIZE": 2, "NONE": 3},
    "VarianceNorm": {"FAN_IN": 0, "FAN_OUT": 1, "AVERAGE": 2},
    "Engine": {"DEFAULT": 0, "CAFFE": 1, "CUDNN": 2},
    "DB": {"LEVELDB": 0, "LMDB": 1},
    "EltwiseOp": {"PROD": 0, "SUM": 1, "MAX": 2},
    "Norm": {"L1": 1, "L2": 2},
    "NormRegion": {"ACROSS_CHANNELS": 0, "WITHIN_CHANNEL": 1},
    "PoolMethod": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2},
    "RoundMode": {"CEIL": 0, "FLOOR": 1},
    "ReductionOp": {"SUM": 1, "ASUM": 2, "SUMSQ": 3, "MEAN": 4},
}  # fmt: skip
"""Names and numbers of an enum's values."""

MESSAGES: dict[str, str] = {
    "NetParameter":
        "name 1 string, input* 3 string, input_shape* 8 BlobShape, input_dim* 4 int32, force_backward 5 bool, "
        "state 6 NetState, debug_info 7 bool, layer* 100 LayerParameter, layers* 2 V1LayerParameter",
    "BlobShape": "dim+ 1 int64",
    "NetState": "phase 1 Phase, level 2 int32, stage* 3 string",
    "LayerParameter":
        "name 1 string, type 2 string, bottom* 3 string, top* 4 string, phase 10 Phase, loss_weight* 5 float, "
        "param* 6 ParamSpec, blobs* 7 BlobProto, propagate_down* 11 bool, include* 8 NetStateRule, exclude* 9 "
        "NetStateRule, transform_param 100 TransformationParameter, loss_param 101 LossParameter, "
        "accuracy_param 102 AccuracyParameter, argmax_param 103 ArgMaxParameter, batch_norm_param 139 "
        "BatchNormParameter, bias_param 141 BiasParameter, clip_param 148 ClipParameter, concat_param 104 "
        "ConcatParameter, contrastive_loss_param 105 ContrastiveLossParameter, convolution_param 106 "
        "ConvolutionParameter, crop_param 144 CropParameter, data_param 107 DataParameter, dropout_param 108 "
        "DropoutParameter, dummy_data_param 109 DummyDataParameter, eltwise_param 110 EltwiseParameter, "
        "elu_param 140 ELUParameter, embed_param 137 EmbedParameter, exp_param 111 ExpParameter, "
        "flatten_param 135 FlattenParameter, hdf5_data_param 112 HDF5DataParameter, hdf5_output_param 113 "
        "HDF5OutputParameter, hinge_loss_param 114 HingeLossParameter, image_data_param 115 "
        "ImageDataParameter, infogain_loss_param 116 InfogainLossParameter, inner_product_param 117 "
        "InnerProductParameter, input_param 143 InputParameter, log_param 134 LogParameter, lrn_param 118 "
        "LRNParameter, memory_data_param 119 MemoryDataParameter, mvn_param 120 MVNParameter, parameter_param "
        "145 ParameterParameter, pooling_param 121 PoolingParameter, power_param 122 PowerParameter, "
        "prelu_param 131 PReLUParameter, python_param 130 PythonParameter, recurrent_param 146 "
        "RecurrentParameter, reduction_param 136 ReductionParameter, relu_param 123 ReLUParameter, "
        "reshape_param 133 ReshapeParameter, scale_param 142 ScaleParameter, sigmoid_param 124 "
        "SigmoidParameter, softmax_param 125 SoftmaxParameter, spp_param 132 SPPParameter, slice_param 126 "
        "SliceParameter, swish_param 147 SwishParameter, tanh_param 127 TanHParameter, threshold_param 128 "
        "ThresholdParameter, tile_param 138 TileParameter, window_data_param 129 WindowDataParameter",
    "ParamSpec": "name 1 string, share_mode 2 DimCheckMode, lr_mult 3 float, decay_mult 4 float",
    "BlobProto":
        "shape 7 BlobShape, data+ 5 float, diff+ 6 float, double_data+ 8 double, double_diff+ 9 double, num 1 "
        "int32, channels 2 int32, height 3 int32, width 4 int32",
    "NetStateRule": "phase 1 Phase, min_level 2 int32, max_level 3 int32, stage* 4 string, not_stage* 5 string",
    "TransformationParameter":
        "scale 1 float, mirror 2 bool, crop_size 3 uint32, mean_file 4 string, mean_value* 5 float, "
        "force_color 6 bool, force_gray 7 bool",
    "LossParameter": "ignore_label 1 int32, normalization 3 NormalizationMode, normalize 2 bool",
    "AccuracyParameter": "top_k 1 uint32, axis 2 int32, ignore_label 3 int32",
    "ArgMaxParameter": "out_max_val 1 bool, top_k 2 uint32, axis 3 int32",
    "BatchNormParameter": "use_global_stats 1 bool, moving_average_fraction 2 float, eps 3 float",
    "BiasParameter": "axis 1 int32, num_axes 2 int32, filler 3 FillerParameter",
    "FillerParameter":
        "type 1 string, value 2 float, min 3 float, max 4 float, mean 5 float, std 6 float, sparse 7 int32, "
        "variance_norm 8 VarianceNorm",
    "ClipParameter": "min 1 float, max 2 float",
    "ConcatParameter": "axis 2 int32, concat_dim 1 uint32",
    "ContrastiveLossParameter": "margin 1 float, legacy_version 2 bool",
    "ConvolutionParameter":
        "num_output 1 uint32, bias_term 2 bool, pad* 3 uint32, kernel_size* 4 uint32, stride* 6 uint32, "
        "dilation* 18 uint32, pad_h 9 uint32, pad_w 10 uint32, kernel_h 11 uint32, kernel_w 12 uint32, "
        "stride_h 13 uint32, stride_w 14 uint32, group 5 uint32, weight_filler 7 FillerParameter, bias_filler "
        "8 FillerParameter, engine 15 Engine, axis 16 int32, force_nd_im2col 17 bool",
    "CropParameter": "axis 1 int32, offset* 2 uint32",
    "DataParameter":
        "source 1 string, batch_size 4 uint32, rand_skip 7 uint32, backend 8 DB, scale 2 float, mean_file 3 "
        "string, crop_size 5 uint32, mirror 6 bool, force_encoded_color 9 bool, prefetch 10 uint32",
    "DropoutParameter": "dropout_ratio 1 float",
    "DummyDataParameter":
        "data_filler* 1 FillerParameter, shape* 6 BlobShape, num* 2 uint32, channels* 3 uint32, height* 4 "
        "uint32, width* 5 uint32",
    "EltwiseParameter": "operation 1 EltwiseOp, coeff* 2 float, stable_prod_grad 3 bool",
    "ELUParameter": "alpha 1 float",
    "EmbedParameter":
        "num_output 1 uint32, input_dim 2 uint32, bias_term 3 bool, weight_filler 4 FillerParameter, "
        "bias_filler 5 FillerParameter",
    "ExpParameter": "base 1 float, scale 2 float, shift 3 float",
    "FlattenParameter": "axis 1 int32, end_axis 2 int32",
    "HDF5DataParameter": "source 1 string, batch_size 2 uint32, shuffle 3 bool",
    "HDF5OutputParameter": "file_name 1 string",
    "HingeLossParameter": "norm 1 Norm",
    "ImageDataParameter":
        "source 1 string, batch_size 4 uint32, rand_skip 7 uint32, shuffle 8 bool, new_height 9 uint32, "
        "new_width 10 uint32, is_color 11 bool, scale 2 float, mean_file 3 string, crop_size 5 uint32, mirror "
        "6 bool, root_folder 12 string",
    "InfogainLossParameter": "source 1 string, axis 2 int32",
    "InnerProductParameter":
        "num_output 1 uint32, bias_term 2 bool, weight_filler 3 FillerParameter, bias_filler 4 "
        "FillerParameter, axis 5 int32, transpose 6 bool",
    "InputParameter": "shape* 1 BlobShape",
    "LogParameter": "base 1 float, scale 2 float, shift 3 float",
    "LRNParameter":
        "local_size 1 uint32, alpha 2 float, beta 3 float, norm_region 4 NormRegion, k 5 float, engine 6 "
        "Engine",
    "MemoryDataParameter": "batch_size 1 uint32, channels 2 uint32, height 3 uint32, width 4 uint32",
    "MVNParameter": "normalize_variance 1 bool, across_channels 2 bool, eps 3 float",
    "ParameterParameter": "shape 1 BlobShape",
    "PoolingParameter":
        "pool 1 PoolMethod, pad 4 uint32, pad_h 9 uint32, pad_w 10 uint32, kernel_size 2 uint32, kernel_h 5 "
        "uint32, kernel_w 6 uint32, stride 3 uint32, stride_h 7 uint32, stride_w 8 uint32, engine 11 Engine, "
        "global_pooling 12 bool, round_mode 13 RoundMode",
    "PowerParameter": "power 1 float, scale 2 float, shift 3 float",
    "PReLUParameter": "filler 1 FillerParameter, channel_shared 2 bool",
    "PythonParameter": "module 1 string, layer 2 string, param_str 3 string, share_in_parallel 4 bool",
    "RecurrentParameter":
        "num_output 1 uint32, weight_filler 2 FillerParameter, bias_filler 3 FillerParameter, debug_info 4 "
        "bool, expose_hidden 5 bool",
    "ReductionParameter": "operation 1 ReductionOp, axis 2 int32, coeff 3 float",
    "ReLUParameter": "negative_slope 1 float, engine 2 Engine",
    "ReshapeParameter": "shape 1 BlobShape, axis 2 int32, num_axes 3 int32",
    "ScaleParameter":
        "axis 1 int32, num_axes 2 int32, filler 3 FillerParameter, bias_term 4 bool, bias_filler 5 "
        "FillerParameter",
    "SigmoidParameter": "engine 1 Engine",
    "SoftmaxParameter": "engine 1 Engine, axis 2 int32",
    "SPPParameter": "pyramid_height 1 uint32, pool 2 PoolMethod, engine 6 Engine",
    "SliceParameter": "axis 3 int32, slice_point* 2 uint32, slice_dim 1 uint32",
    "SwishParameter": "beta 1 float",
    "TanHParameter": "engine 1 Engine",
    "ThresholdParameter": "threshold 1 float",
    "TileParameter": "axis 1 int32, tiles 2 int32",
    "WindowDataParameter":
        "source 1 string, scale 2 float, mean_file 3 string, batch_size 4 uint32, crop_size 5 uint32, mirror "
        "6 bool, fg_threshold 7 float, bg_threshold 8 float, fg_fraction 9 float, context_pad 10 uint32, "
        "crop_mode 11 string, cache_images 12 bool, root_folder 13 string",
    "V1LayerParameter":
        "bottom* 2 string, top* 3 string, name 4 string, include* 32 NetStateRule, exclude* 33 NetStateRule, "
        "type 5 int32, blobs* 6 BlobProto, param* 1001 string, blob_share_mode* 1002 DimCheckMode, "
        "blobs_lr* 7 float, weight_decay* 8 float, loss_weight* 35 float, accuracy_param 27 "
        "AccuracyParameter, argmax_param 23 ArgMaxParameter, concat_param 9 ConcatParameter, "
        "contrastive_loss_param 40 ContrastiveLossParameter, convolution_param 10 ConvolutionParameter, "
        "data_param 11 DataParameter, dropout_param 12 DropoutParameter, dummy_data_param 26 "
        "DummyDataParameter, eltwise_param 24 EltwiseParameter, exp_param 41 ExpParameter, hdf5_data_param 13 "
        "HDF5DataParameter, hdf5_output_param 14 HDF5OutputParameter, hinge_loss_param 29 HingeLossParameter, "
        "image_data_param 15 ImageDataParameter, infogain_loss_param 16 InfogainLossParameter, "
        "inner_product_param 17 InnerProductParameter, lrn_param 18 LRNParameter, memory_data_param 22 "
        "MemoryDataParameter, mvn_param 34 MVNParameter, pooling_param 19 PoolingParameter, power_param 21 "
        "PowerParameter, relu_param 30 ReLUParameter, sigmoid_param 38 SigmoidParameter, softmax_param 39 "
        "SoftmaxParameter, slice_param 31 SliceParameter, tanh_param 37 TanHParameter, threshold_param 25 "
        "ThresholdParameter, window_data_param 20 WindowDataParameter, transform_param 36 "
        "TransformationParameter, loss_param 42 LossParameter, layer 1 V0LayerParameter",
    "V0LayerParameter":
        "name 1 string, type 2 string, num_output 3 uint32, biasterm 4 bool, weight_filler 5 FillerParameter, "
        "bias_filler 6 FillerParameter, pad 7 uint32, kernelsize 8 uint32, group 9 uint32, stride 10 uint32, "
        "pool 11 PoolMethod, dropout_ratio 12 float, local_size 13 uint32, alpha 14 float, beta 15 float, k "
        "22 float, source 16 string, scale 17 float, meanfile 18 string, batchsize 19 uint32, cropsize 20 "
        "uint32, mirror 21 bool, blobs* 50 BlobProto, blobs_lr* 51 float, weight_decay* 52 float, rand_skip "
        "53 uint32, det_fg_threshold 54 float, det_bg_threshold 55 float, det_fg_fraction 56 float, "
        "det_context_pad 58 uint32, det_crop_mode 59 string, new_num 60 int32, new_channels 61 int32, "
        "new_height 62 int32, new_width 63 int32, shuffle_images 64 bool, concat_dim 65 uint32, "
        "hdf5_output_param 1001 HDF5OutputParameter",
}  # fmt: skip
"""``name number type`` of a message's fields; * where a field is repeated, + where it is repeated and packed."""


@dataclass(frozen=True)
class ProtoField:
    """A field: its number, the type of one value (a scalar, or a key of ENUMS or MESSAGES), and how often it stands."""

    name: str
    number: int
    kind: str
    repeated: bool
    packed: bool


@functools.cache
def fields_of(message: str) -> dict[str, ProtoField]:
    """Return the fields of a message by name."""
    return {
        name: ProtoField(name, int(number), kind, bool(mark), mark == "+")
        for name, mark, number, kind in re.findall(r"(\w+)([*+]?) (\d+) (\w+)", MESSAGES[message])
    }


@functools.cache
def numbers_of(message: str) -> dict[int, ProtoField]:
    """Return the fields of a message by number."""
    return {field.number: field for field in fields_of(message).values()}
