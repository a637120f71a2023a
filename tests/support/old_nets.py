"""Nets in Caffe's forms of 2013 (V0) and 2014 (V1), written for the tests: most fields of each, and weights as text."""

from __future__ import annotations


def numbers(count: int, start: float = 0.5) -> str:
    return "\n".join(f"data: {start + index / 7:.9g}" for index in range(count))


def blob(num: int, channels: int, height: int, width: int) -> str:
    count = num * channels * height * width
    return f"blobs {{ num: {num} channels: {channels} height: {height} width: {width} {numbers(count, -num)} }}"


V0 = """
name: "v0 net"
input: "data" input_dim: [2, 3, 12, 12]
input: "label" input_dim: [2, 1, 1, 1]
force_backward: true
layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
layers { layer { name: "conv1" type: "conv" num_output: 4 kernelsize: 3 stride: 1 group: 1 biasterm: true
    weight_filler { type: "gaussian" std: 0.01 } bias_filler { type: "constant" value: 0.1 }
    blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0 WEIGHTS1 }
  bottom: "pad1" top: "conv1" }
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
layers { layer { name: "norm1" type: "lrn" local_size: 3 alpha: 0.0001 beta: 0.75 k: 2 } bottom: "conv1" top: "norm1" }
layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 3 stride: 2 pad: 1 } bottom: "norm1" top: "pool1" }
layers { layer { name: "split" type: "split" } bottom: "pool1" top: "a" top: "b" }
layers { layer { name: "cat" type: "concat" concat_dim: 1 } bottom: "a" bottom: "b" top: "cat" }
layers { layer { name: "flat" type: "flatten" } bottom: "cat" top: "flat" }
layers { layer { name: "ip" type: "innerproduct" num_output: 2 biasterm: true WEIGHTS2 } bottom: "flat" top: "ip" }
layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.3 } bottom: "ip" top: "ip" }
layers { layer { name: "out" type: "softmax" } bottom: "ip" top: "prob" }
layers { layer { name: "loss" type: "softmax_loss" } bottom: "ip" bottom: "label" }
"""

V0_DATA = """
layers { layer { name: "d" type: "data" source: "s" scale: 0.5 meanfile: "m" batchsize: 8 cropsize: 10 mirror: true
  rand_skip: 3 } top: "data" top: "label" }
layers { layer { name: "i" type: "images" source: "l" batchsize: 8 shuffle_images: true new_height: 7 new_width: 6
  rand_skip: 1 } top: "im" top: "il" }
layers { layer { name: "w" type: "window_data" source: "w" batchsize: 8 det_fg_threshold: 0.6 det_bg_threshold: 0.4
  det_fg_fraction: 0.3 det_context_pad: 16 det_crop_mode: "square" cropsize: 9 } top: "wd" top: "wl" }
layers { layer { name: "h" type: "hdf5_data" source: "h" batchsize: 4 } top: "hd" }
layers { layer { name: "t" type: "tanh" } bottom: "hd" top: "t" }
layers { layer { name: "s" type: "sigmoid" } bottom: "t" top: "s" }
layers { layer { name: "o" type: "hdf5_output" hdf5_output_param { file_name: "o.h5" } } bottom: "s" bottom: "il" }
"""

V1 = """
name: "v1 net"
state { phase: TEST level: 1 stage: "x" }
layers { name: "d" type: DATA top: "data" top: "label" data_param { source: "train" backend: LMDB batch_size: 64
    scale: 0.0039 mean_file: "m.binaryproto" crop_size: 12 mirror: true } include { phase: TRAIN stage: "big" } }
layers { name: "e" type: IMAGE_DATA top: "images" image_data_param { source: "l" scale: 2 new_height: 4 }
  transform_param { mean_value: 3 scale: 7 } include { phase: TRAIN } }
layers { name: "in" type: DUMMY_DATA top: "x" dummy_data_param { data_filler { type: "uniform" min: -1 } num: 2
    channels: 3 height: 12 width: 12 } }
layers { bottom: "x" top: "conv1" name: "conv1" type: CONVOLUTION blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  weight_decay: 0 param: "w" param: "b" blob_share_mode: PERMISSIVE convolution_param { num_output: 4 kernel_size: 3
    stride: 1 pad: 1 weight_filler { type: "xavier" } engine: CAFFE } WEIGHTS1 }
layers { bottom: "conv1" top: "conv1" name: "relu1" type: RELU relu_param { negative_slope: 0.1 } }
layers { bottom: "conv1" top: "pool1" name: "pool1" type: POOLING pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layers { bottom: "pool1" top: "ip" name: "ip" type: INNER_PRODUCT inner_product_param { num_output: 2 } WEIGHTS2 }
layers { bottom: "ip" top: "p" name: "p" type: POWER power_param { power: 2 scale: -0.25 shift: 1e-7 } }
layers { bottom: "p" top: "a" top: "b" name: "slice" type: SLICE slice_param { slice_dim: 1 slice_point: 1 } }
layers { bottom: "a" bottom: "b" top: "sum" name: "sum" type: ELTWISE eltwise_param { operation: SUM coeff: 1
    coeff: -1.5 } }
layers { bottom: "sum" bottom: "b" top: "loss" name: "loss" type: EUCLIDEAN_LOSS loss_weight: 0.3 }
layers { bottom: "sum" name: "hush" type: SILENCE exclude { min_level: 2 not_stage: "y" } }
"""

SOLVER = """
net: "train_val.prototxt"
base_lr: 0.01  # the first
solver_type: ADAGRAD
lr_policy: "step" stepvalue: 100 stepvalue: 200
"""


def without_weights(text: str) -> str:
    return text.replace("WEIGHTS1", "").replace("WEIGHTS2", "")


def with_weights(text: str) -> str:
    """Put blobs into the text, whose numbers are too many to go through the parser one by one."""
    inputs = 8 * 8 * 8 if "v0 net" in text else 4 * 6 * 6
    filled = text.replace("WEIGHTS1", blob(4, 3, 3, 3) + blob(1, 1, 1, 4))
    return filled.replace("WEIGHTS2", blob(1, 1, 2, inputs) + blob(1, 1, 1, 2))
