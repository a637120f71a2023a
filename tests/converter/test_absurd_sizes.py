"""Whole numbers of absurd size, in every field of every operator: a clear refusal or the right numbers, at once."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator

import caffeport
import caffeport.parity.backends
import numpy as np
import pytest
from caffeport import CaffemodelError, CaffeportError
from caffeport.formats import caffemodel, wire
from caffeport.formats.schema import field_types
from caffeport.operators import builtin
from support import nets

ABSURD = [2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, -1, -(2**31), -(2**63)]
SECONDS = 10  # of processor time; each takes some milliseconds, and the machine may be shared

IMAGE = {"x": (2, 4, 8, 6)}
LABELS = {"x": (4, 3), "y": (4,)}
BOXES = {"x": (1, 16), "y": (1, 12), "z": (1, 2, 16)}
SEQUENCE = {"x": (3, 2, 4), "y": (3, 2)}
REGIONS = {"x": (1, 8, 6, 6), "y": (2, 5)}
FOUND = {"x": (1, 1, 4, 7), "y": (1, 1, 3, 8)}
CELLS = {"x": (2, 16, 4, 5)}
YOLO = {**CELLS, "y": (2, 1, 6, 5)}
BIASES = " ".join(f"biases: {1 + i}" for i in range(10))
VIDEO = {"x": (1, 2, 3, 4, 4)}
MAPS = {"x": (2, 3, 2, 3), "y": (2, 4, 2, 3), "z": (2, 6, 2, 3)}
CONV = "convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 }"
# Operators with whole numbers in their parameters: (bottoms, tops, parameters that make a good net).
GOOD = {
    "Accuracy": (LABELS, 1, ""),
    "AnnotatedData": ({}, 2, "data_param { batch_size: 2 } transform_param { crop_size: 4 }"),
    "ArgMax": (IMAGE, 1, ""),
    "BN": (IMAGE, 1, "bn_param { bn_mode: LEARN }"),
    "BatchNorm": (IMAGE, 1, ""),
    "Bias": (IMAGE, 1, ""),
    "CenterLoss": (LABELS, 1, "center_loss_param { num_output: 3 }"),
    "Concat": ({"x": (2, 3), "y": (2, 3)}, 1, ""),
    "Convolution": (IMAGE, 1, CONV),
    "ConvolutionDepthwise": (IMAGE, 1, CONV),
    "Crop": ({"x": (1, 2, 5, 5), "y": (1, 2, 3, 3)}, 1, "crop_param { axis: 2 offset: 1 }"),
    "Data": ({}, 2, "data_param { batch_size: 2 } transform_param { crop_size: 4 mean_value: [1, 2, 3] }"),
    "Deconvolution": (IMAGE, 1, CONV),
    "DepthwiseConvolution": (IMAGE, 1, CONV),
    "DetectionEvaluate": (FOUND, 1, "detection_evaluate_param { num_classes: 3 }"),
    "DetectionOutput": (BOXES, 1, "detection_output_param { num_classes: 3 nms_param { top_k: 3 } keep_top_k: 2 }"),
    "DenseImageData": ({}, 2, "dense_image_data_param { batch_size: 2 new_height: 4 new_width: 4 }"),
    "DetectionData": ({}, 2, "detection_data_param { batch_size: 2 stride: 4 resize_height: 8 resize_width: 9 }"),
    "DummyData": ({}, 1, "dummy_data_param { num: 2 channels: 3 height: 4 width: 5 }"),
    "Embed": ({"x": (4,)}, 1, "embed_param { num_output: 2 input_dim: 3 }"),
    "EvalData": ({}, 3, "eval_data_param { batch_size: 2 resize_height: 8 resize_width: 9 }"),
    "Flatten": (IMAGE, 1, ""),
    "FocalLoss": (LABELS, 1, ""),
    "GlobalLSEMargin": (LABELS, 1, ""),
    "HDF5Data": ({}, 1, "hdf5_data_param { batch_size: 2 }"),
    "Im2col": (IMAGE, 1, "convolution_param { kernel_size: 3 stride: 2 pad: 1 }"),
    "ImageData": ({}, 2, "image_data_param { batch_size: 2 new_height: 4 new_width: 4 }"),
    **dict.fromkeys(
        ("ImageLabelmapData", "ImageSegData", "WindowSegData"),
        ({}, 2, "image_data_param { batch_size: 2 new_height: 4 new_width: 4 }"),
    ),
    "InfogainLoss": ({"x": (4, 3), "y": (4,), "z": (3, 3)}, 1, ""),
    "InnerDistance": ({"x": (4, 3)}, 1, "inner_distance_param { num_output: 3 }"),
    "InnerProduct": (IMAGE, 1, "inner_product_param { num_output: 3 }"),
    "Input": ({}, 1, "input_param { shape { dim: 2 dim: 3 } }"),
    "InterClass": (LABELS, 1, "inter_class_param { num_output: 3 alpha_stepvalue: 5 }"),
    "Interp": (IMAGE, 1, "interp_param { zoom_factor: 2 }"),
    "LRN": (IMAGE, 1, "lrn_param { local_size: 3 }"),
    "LSTM": (SEQUENCE, 1, "recurrent_param { num_output: 3 }"),
    "LabelSpecificAdd": (LABELS, 1, ""),
    "LabelSpecificAffine": (LABELS, 1, ""),
    "LabelSpecificMargin": (LABELS, 1, ""),
    "LabelSpecificRescale": (LABELS, 1, ""),
    "LargeMarginInnerProduct": (LABELS, 1, "largemargin_inner_product_param { num_output: 3 }"),
    "MarginInnerProduct": (LABELS, 1, "margin_inner_product_param { num_output: 3 }"),
    "MemoryData": ({}, 2, "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }"),
    "MultiBoxLoss": ({**BOXES, "w": (1, 1, 3, 8)}, 1, "multibox_loss_param { num_classes: 3 sample_size: 3 }"),
    "Normalize": (IMAGE, 1, ""),
    "PReLU": (IMAGE, 1, ""),
    "PSROIPooling": (REGIONS, 1, "psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }"),
    "Parameter": ({}, 1, "parameter_param { shape { dim: 2 dim: 3 } }"),
    "Permute": (IMAGE, 1, "permute_param { order: 0 order: 2 }"),
    "PixelShuffle": (IMAGE, 1, "pixel_shuffle_param { upscale_factor: 2 }"),
    "Pooling": (IMAGE, 1, "pooling_param { kernel_size: 3 stride: 2 pad: 1 }"),
    "PriorBox": ({"x": (1, 2, 3, 3), "y": (1, 3, 9, 9)}, 1, "prior_box_param { min_size: 2 }"),
    "PriorBoxClustered": ({"x": (1, 2, 3, 3), "y": (1, 3, 9, 9)}, 1, "prior_box_param { width: 2 height: 3 }"),
    "RNN": (SEQUENCE, 1, "recurrent_param { num_output: 3 }"),
    "ROIPooling": (REGIONS, 1, "roi_pooling_param { pooled_h: 2 pooled_w: 2 }"),
    "RangeLoss": (LABELS, 1, ""),
    "RankHardLoss": (LABELS, 1, "rank_hard_loss_param { pair_size: 2 }"),
    "Reduction": (IMAGE, 1, ""),
    "RegionLoss": (YOLO, 1, f"region_loss_param {{ num_class: 3 num: 2 {BIASES} }}"),
    "Reorg": (IMAGE, 1, "reorg_param { stride: 2 }"),
    "Reshape": (IMAGE, 1, "reshape_param { shape { dim: 2 dim: -1 } }"),
    "RingLoss": ({"x": (4, 3)}, 1, "ring_loss_param { radius_filler { value: 1 } }"),
    "SPP": (IMAGE, 1, "spp_param { pyramid_height: 2 }"),
    "Scale": (IMAGE, 1, ""),
    "ShuffleChannel": (IMAGE, 1, "shuffle_channel_param { group: 2 }"),
    "Slice": (IMAGE, 2, ""),
    "Softmax": (IMAGE, 1, ""),
    "SoftmaxWithLoss": (LABELS, 1, ""),
    "Tile": (IMAGE, 1, "tile_param { tiles: 2 }"),
    "Upsample": (IMAGE, 1, "upsample_param { scale: 2 }"),
    "WindowData": ({}, 2, "window_data_param { batch_size: 2 } transform_param { crop_size: 4 }"),
    "YoloDetectionOutput": (CELLS, 1, f"yolo_detection_output_param {{ num_classes: 3 num_box: 2 {BIASES} }}"),
    "YoloSeg": ({"x": (2, 3, 4, 5), "y": (2, 3, 4, 5)}, 1, "yolo_seg_param { num_class: 3 }"),
    "Yolov3": (YOLO, 1, f"yolov3_param {{ num_class: 3 num: 2 {BIASES} mask: 0 mask: 3 }}"),
    "Yolov3DetectionOutput": (
        CELLS,
        1,
        f"yolov3_detection_output_param {{ num_classes: 3 num_box: 2 mask_group_num: 1 anchors_scale: 16 {BIASES} "
        "mask: 0 mask: 3 }",
    ),
    "VideoData": ({}, 2, "video_data_param { batch_size: 2 new_length: 3 new_height: 4 new_width: 4 }"),
    "VideoWithVoxelTruthData": ({}, 2, "image_data_param { batch_size: 2 new_length: 3 new_height: 4 new_width: 4 }"),
    # Of forks.
    **{
        kind: ({"x": (1, 2, 4, 4), "y": (1, 4, 3, 3)}, 1, f"{field} {{ kernel_size: 2 }}")
        for kind, field in (("AttPooling", "att_pooling_param"), ("PwAttend", "pw_attend_param"))
    },
    "BatchToSpaceND": (IMAGE, 1, "batch_to_space_nd_param { block_shape: 2 crops: 1 crops: 1 }"),
    "BroadcastTo": ({"x": (2, 1)}, 1, "broadcast_to_param { shape: 3 shape: 2 shape: 4 }"),
    "ContinuationIndicator": ({}, 1, "continuation_indicator_param { time_step: 3 batch_size: 2 }"),
    "ConvLSTM": (
        {"x": (2, 1, 2, 3, 3), "y": (2, 1)},
        1,
        "lstm_conv_param { num_output: 2 kernel_size: 3 pad: 1 }",
    ),
    "Convolution3D": (VIDEO, 1, "convolution3d_param { num_output: 2 kernel_size: 2 kernel_depth: 2 }"),
    "CtcLoss": ({"x": (3, 2, 4), "y": (2, 2)}, 1, "ctc_loss_param { alphabet_size: 4 time_step: 3 }"),
    "Correlation": (
        {"x": (1, 2, 4, 4), "y": (1, 2, 4, 4)},
        1,
        "correlation_param { kernel_size: 1 max_displacement: 1 pad: 1 }",
    ),
    "CropCenter": (IMAGE, 1, "crop_center_param { crop_size: 0 crop_size: 0 crop_size: 1 crop_size: 1 }"),
    "Deconvolution3D": (VIDEO, 1, "convolution3d_param { num_output: 2 kernel_size: 2 kernel_depth: 2 }"),
    "DepthToSpace": (IMAGE, 1, 'depth_to_space_param { block_size: 2 data_format: "NCHW" }'),
    "EltwiseAccuracy": ({"x": (2, 3, 2, 2), "y": (2, 1, 2, 2)}, 1, ""),
    "ExpandDimsND": (IMAGE, 1, "expand_dims_nd_param { axis: 1 }"),
    "Gather": (IMAGE, 1, "gather_param { indices: 1 shape: 1 axis: 1 }"),
    "Local": (IMAGE, 1, "local_param { num_output: 2 kernel_size: 2 }"),
    "LogSoftmax": (IMAGE, 1, ""),
    "Lstm": ({"x": (3, 2, 4)}, 1, "lstm_param { num_output: 3 }"),
    "MirrorPad": ({"x": (3,)}, 1, 'mirror_pad_param { paddings: 1 paddings: 2 mode: "REFLECT" }'),
    "MultiStageMeanfield": (
        {"x": (1, 2, 3, 3), "y": (1, 2, 3, 3), "z": (1, 3, 3, 3)},
        1,
        "multi_stage_meanfield_param { num_iterations: 2 theta_alpha: 3 theta_beta: 1 theta_gamma: 3 }",
    ),
    "Mul": ({"x": (2, 3)}, 1, "mul_param { mul_shape: 3 }"),
    "NdConvolution": (VIDEO, 1, "convolution_param { num_output: 2 kernel_shape { dim: 2 dim: 2 dim: 2 } }"),
    "NdPooling": (VIDEO, 1, "pooling_param { kernel_shape { dim: 2 dim: 2 dim: 2 } }"),
    "NoiseTolerantFR": (
        {"x": (2, 3), "y": (2, 3), "z": (2,)},
        1,
        "noise_tolerant_fr_param { bins: 20 slide_batch_num: 2 }",
    ),
    "Pad": ({"x": (3,)}, 1, "pad_param { paddings: 1 paddings: 2 }"),
    "Piece": ({"x": (3,)}, 1, "piece_param { begin: 1 size: 2 }"),
    "Pooling3D": (VIDEO, 1, "pooling3d_param { kernel_size: 2 kernel_depth: 2 }"),
    **{f"Reduce{kind}": (IMAGE, 1, "") for kind in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2")},
    "ReLU": (IMAGE, 1, ""),
    "Resample": (IMAGE, 1, "resample_param { height: 5 width: 7 }"),
    "ResizeBilinear": (IMAGE, 1, 'resize_bilinear_param { data_format: "NCHW" output_height: 5 output_width: 7 }'),
    "ResizeNearestNeighbor": (IMAGE, 1, 'resize_nearest_neighbor_param { data_format: "NCHW" output_height: 5 }'),
    "Reverse": (IMAGE, 1, "reverse_param { axis: 1 }"),
    "SpaceToBatchND": (IMAGE, 1, "space_to_batch_nd_param { block_shape: 2 paddings: 1 paddings: 1 }"),
    "SpaceToDepth": (IMAGE, 1, 'space_to_depth_param { block_size: 2 data_format: "NCHW" }'),
    "Squeeze": ({"x": (3, 1)}, 1, "squeeze_param { axis: 1 }"),
    "Stack": ({"x": (3, 1), "y": (3, 1)}, 1, "stack_param { axis: 1 }"),
    "StridedSlice": (IMAGE, 1, "strided_slice_param { begin: 0 end: 2 strides: 1 }"),
    "TileND": ({"x": (3,)}, 1, "tile_nd_param { multiples: 2 }"),
    "Transpose": ({"x": (3, 2)}, 1, "transpose_param { dim: 1 dim: 0 }"),
    "Unstack": ({"x": (3, 2)}, 2, "unstack_param { axis: 1 }"),
    "Unpooling": (IMAGE, 1, "unpooling_param { kernel_size: 2 stride: 2 unpool_size: 16 }"),
    "UpsampleDarknet": (IMAGE, 1, "upsample_darknet_param { stride: 2 }"),
    # Of two stage detectors.
    "BoxAnnotatorOHEM": (
        {"x": (4, 5), "y": (4, 1), "z": (4, 1), "w": (4, 8)},
        2,
        "box_annotator_ohem_param { roi_per_img: 2 }",
    ),
    "BoxGroupOutput": (
        {"x": (2, 3, 2, 3), "y": (2, 4, 2, 3)},
        2,
        "box_group_output_param { box_group_param { field_h: 9 field_w: 7 stride: 8 } }",
    ),
    "BoxOutput": ({"x": (1, 6, 2, 3)}, 2, "box_output_param { field_h: 9 field_w: 7 downsample_rate: 8 }"),
    "DetectionAccuracy": (
        {"x": (2, 7, 2, 3), "y": (2, 6, 2, 3)},
        2,
        "detection_accuracy_param { cls_num: 3 field_h: 9 field_w: 7 downsample_rate: 8 }",
    ),
    "DetectionGroupAccuracy": (
        MAPS,
        2,
        "detection_group_accuracy_param { cls_num: 3 field_h: 9 field_w: 7 stride: 8 }",
    ),
    "DetectionGroupLoss": (MAPS, 1, "detection_group_loss_param { cls_num: 3 field_h: 9 field_w: 7 stride: 8 }"),
    "DetectionLoss": (
        {"x": (2, 7, 2, 3), "y": (2, 6, 2, 3)},
        1,
        "detection_loss_param { cls_num: 3 field_h: 9 field_w: 7 downsample_rate: 8 }",
    ),
    "FrcnnOutput": ({"x": (4, 3), "y": (4, 12), "z": (4, 5), "w": (1, 2)}, 1, "frcnn_output_param { max_det_num: 5 }"),
    "HardMining": ({"x": (4, 1), "y": (4, 5)}, 1, "hard_mining_param { num_roi_per_image: 2 num_image: 1 }"),
    "ImageGtData": (
        {},
        2,
        "image_gt_data_param { batch_size: 2 resize_height: 16 resize_width: 24 downsample_rate: 8 }",
    ),
    "MaskResize": (IMAGE, 1, "mask_resize_param { output_height: 5 output_width: 7 }"),
    "Proposal": (
        {"x": (1, 4, 3, 4), "y": (1, 8, 3, 4), "z": (1, 3)},
        2,
        "proposal_param { ratio: 1 scale: 1 scale: 2 }",
    ),
    "ProposalTarget": (
        {"x": (4, 5), "y": (2, 8)},
        7,
        "proposal_target_param { cls_num: 3 batch_size: 6 img_width: 200 img_height: 200 }",
    ),
    "ROIAlign": (REGIONS, 1, "roi_pooling_param { pooled_h: 2 pooled_w: 2 }"),
    "ROIWarping": (REGIONS, 1, "roi_warping_param { pooled_h: 2 pooled_w: 2 }"),
    "SoftmaxWithLossOHEM": (LABELS, 1, ""),
}
TORCH_ONLY = {
    "Accuracy", "BoxAnnotatorOHEM", "CenterLoss", "CtcLoss", "DetectionAccuracy", "DetectionEvaluate",
    "DetectionGroupAccuracy", "DetectionGroupLoss", "DetectionLoss", "EltwiseAccuracy", "HardMining", "InfogainLoss",
    "LargeMarginInnerProduct", "MarginInnerProduct", "MultiBoxLoss", "MultiStageMeanfield", "ProposalTarget",
    "RegionLoss", "SoftmaxWithLoss", "SoftmaxWithLossOHEM", "YoloSeg", "Yolov3",
    "FocalLoss", "InterClass", "RangeLoss", "RankHardLoss", "RingLoss",
}  # fmt: skip
"""Layers without an ONNX form: the check has nothing with which to compare a net of one of them."""
NEEDS_A_SHAPE = {"Data", "HDF5Data", "WindowData"}  # which a database has, and Caffe's file


def whole_fields(schema: type, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every field that is a whole number, through messages."""
    for name, (kind, _) in field_types(schema).items():
        if dataclasses.is_dataclass(kind):
            yield from whole_fields(kind, (*before, name))
        elif kind is int:
            yield (*before, name)


def with_field(parameters: str, path: tuple[str, ...], value: int) -> str:
    """The parameters with one field set, in place of what they say of it."""
    message, *names = path
    field = f"{names[-1]}: {value}"
    for name in reversed(names[:-1]):
        field = f"{name} {{ {field} }}"
    inside = re.search(rf"\b{message} \{{((?:[^{{}}]|\{{[^{{}}]*\}})*)\}}", parameters)
    rest = re.sub(rf"\b{names[0]}(: -?[\w.]+| \{{[^{{}}]*\}})", "", inside.group(1)) if inside else ""
    others = parameters.replace(inside.group(), "") if inside else parameters
    return f"{message} {{ {rest} {field} }} {others}"


def text_of(kind: str, parameters: str) -> str:
    bottoms, tops, _ = GOOD[kind]
    return nets.inputs(**bottoms) + nets.layer(
        kind, " ".join(bottoms), " ".join(f"t{i}" for i in range(tops)), parameters, "absurd"
    )


def run(net: caffeport.Net) -> None:
    """Torch gives the declared shapes, and ONNX Runtime the same numbers, where the net goes that far."""
    made = caffeport.parity.backends.run_torch(net, net.sample_inputs())
    for value in net.values:
        shape, axis = made[value.key].shape, value.layer.op.varying_axis
        if axis is None:
            assert shape == value.shape
        else:  # as many rows as there are detections or proposals
            assert (
                len(shape) == len(value.shape)
                and np.delete(shape, axis).tolist() == np.delete(value.shape, axis).tolist()
            )
    kinds = {layer.type for layer in net.layers if layer.op.role.value != "data"}
    if kinds & TORCH_ONLY:
        with pytest.raises(CaffeportError, match=r'^nothing could be compared: layer "absurd" \(\w+\): torch only'):
            caffeport.check(net)
    elif kinds:
        assert caffeport.check(net).ok


def shapes_of(net: caffeport.Net) -> list[tuple[int, ...]]:
    return [*net.blob_shapes.values(), *(param.shape for param in net.params)]


@pytest.mark.slow
def test_every_operator_with_whole_numbers_is_here():
    missing = {kind for kind, cls in builtin().items() for schema in cls.schemas.values() if list(whole_fields(schema))}
    assert missing - set(GOOD) == set()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")  # some sizes allow no other batch
@pytest.mark.parametrize("kind", GOOD)
def test_a_clear_refusal_or_the_right_numbers(tmp_path, kind):
    phase = "train" if kind.endswith("Loss") else "test"
    if kind not in NEEDS_A_SHAPE:
        run(nets.load(tmp_path, text_of(kind, GOOD[kind][2]), phase=phase))
    for message, schema in builtin()[kind].schemas.items():
        for path in whole_fields(schema):
            for value in ABSURD:
                parameters = with_field(GOOD[kind][2], (message, *path), value)
                start = time.process_time()
                try:
                    net = nets.load(tmp_path, text_of(kind, parameters), phase=phase)
                    if all(np.prod(shape, dtype=float) < 10**6 for shape in shapes_of(net)):
                        run(net)
                except CaffeportError as error:
                    assert "absurd" in str(error) or "ONNX" in str(error), parameters
                assert time.process_time() - start < SECONDS, parameters


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("huge", "usual"),
    [
        ("kernel_size: 3 stride: 2147483647", "kernel_size: 3 stride: 40"),
        ("kernel_size: 2 stride: 1000000000 pad: 1", "kernel_size: 2 stride: 40 pad: 1"),
        ("kernel_size: 2147483647 stride: 2147483647", "kernel_h: 7 kernel_w: 6"),
        ("kernel_size: 2147483647 stride: 2147483647 pad: 3", "kernel_h: 13 kernel_w: 12 pad: 3"),
    ],
)
def test_a_window_beyond_the_image(tmp_path, method, huge, usual):
    """By Caffe's formula a kernel is cut at the padded image, and a second window lies wherever beyond it."""
    text = nets.inputs(x=(2, 3, 7, 6))
    for name, window in (("huge", huge), ("usual", usual)):
        text += nets.layer("Pooling", "x", name, f"pooling_param {{ pool: {method} {window} }}")
    net = nets.load(tmp_path, text)
    assert net.blob_shapes["huge"] == net.blob_shapes["usual"]
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 6)).astype(np.float32)
    made = caffeport.parity.backends.run_torch(net, {"x": x})
    np.testing.assert_allclose(made["huge"], made["usual"], rtol=1e-6)
    assert caffeport.check(net, {"x": x}).ok


@pytest.mark.parametrize("size", [5, 7, 31, 2**31 - 1])
@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
@pytest.mark.parametrize("beta", [0.75, -0.5])
def test_a_norm_over_more_than_there_is(tmp_path, size, region, beta):
    text = nets.inputs(x=(2, 4, 3, 5))
    text += nets.layer(
        "LRN", "x", "y", f"lrn_param {{ local_size: {size} alpha: 3 beta: {beta} norm_region: {region} }}"
    )
    net = nets.load(tmp_path, text)
    x = np.random.default_rng(0).standard_normal((2, 4, 3, 5)).astype(np.float32)
    axes = (1,) if region == "ACROSS_CHANNELS" else (2, 3)
    half, squares, total = (size - 1) // 2, x.astype(float) ** 2, np.zeros(x.shape)
    for place in np.ndindex(*x.shape):  # the definition
        window = tuple(
            slice(max(i - half, 0), i + half + 1) if axis in axes else slice(i, i + 1) for axis, i in enumerate(place)
        )
        total[place] = squares[window].sum()
    expected = x * (1 + 3 / float(size) ** len(axes) * total) ** -beta
    np.testing.assert_allclose(caffeport.parity.backends.run_torch(net, {"x": x})["y"], expected, rtol=1e-5)
    assert caffeport.check(net, {"x": x}).ok


@pytest.mark.parametrize("height", [2**31, 2**62])
def test_a_pyramid_without_end(tmp_path, height):
    with pytest.raises(
        CaffeportError, match=r'layer "absurd" \(SPP\): a bottom of 8x6 is too small for 8x8 bins, level 4'
    ):
        nets.load(tmp_path, text_of("SPP", f"spp_param {{ pyramid_height: {height} }}"))


@pytest.mark.parametrize(
    ("kind", "parameters", "problem"),
    [
        ("Input", "input_param { shape { " + "dim: 4611686018427387904 " * 3000 + "} }", "would have 3000 axes"),
        (
            "Reshape",
            "reshape_param { shape { " + "dim: 9223372036854775807 " * 3000 + "} }",
            "expected 32 dims at most",
        ),
        ("PriorBox", "prior_box_param { min_size: 2 " + "aspect_ratio: 2.5 " * 3000 + "}", "too many for one cell"),
        ("Convolution", CONV.replace("4", "9" * 5000), "num_output.*whole number, got '9{40}\\.\\.\\.9{10}'$"),
        ("Convolution", CONV.replace("4", "0x" + "9" * 5000), "num_output.*whole number, got '0x9"),
        ("Convolution", CONV.replace("4", "0" + "7" * 5000), "num_output.*whole number, got '07"),
        (
            "Pooling",
            "pooling_param { pool: " + "9" * 5000 + " kernel_size: 2 }",
            "pool.* one of MAX, AVE, STOCHASTIC, AVE_EXC_PAD, AVE_TF, got",
        ),
    ],
)
def test_long_texts_of_one_number(tmp_path, kind, parameters, problem):
    with pytest.raises(CaffeportError, match=problem) as caught:
        nets.load(tmp_path, text_of(kind, parameters))
    assert len(str(caught.value)) < 3200


def test_what_no_memory_holds(tmp_path, monkeypatch):
    """Sizes that Caffe allows, and that a machine with little memory cannot give."""
    monkeypatch.setattr(caffeport.memory, "available", lambda: 2.0**30)
    text = nets.inputs(x=(1, 1)) + nets.inner_product("x", "fc", 2**30)
    net = nets.load(tmp_path, text)  # show works
    with pytest.raises(CaffeportError, match=r'layer "fc": filling its blob 0 \(1073741824x1\) would take 12\.9 GB'):
        net.to_torch()
    with pytest.raises(CaffeportError, match=r'comparing net .* largest blob is "fc" .* GB of memory, and 1\.1 GB are'):
        caffeport.check(net)
    net = nets.load(tmp_path, nets.inputs(x=(2**30,)) + nets.layer("ReLU", "x", "y"))
    with pytest.raises(CaffeportError, match=r'layer "x" \(Input\): a random input 1073741824 would take 12\.9 GB'):
        net.sample_inputs()


def test_a_shape_in_very_many_parts(tmp_path):
    """protobuf merges the messages of one field; a list that grew by copying took minutes for 800 KB."""
    axis = wire.delimited(7, wire.delimited(1, wire.varint(1)))
    path = tmp_path / "n.caffemodel"
    blob = axis * 200_000 + wire.delimited(5, np.ones(1, "<f4").tobytes())
    path.write_bytes(wire.delimited(100, wire.delimited(1, b"fc") + wire.delimited(7, blob)))
    start = time.process_time()
    with pytest.raises(
        CaffemodelError, match=r'blob 0 of layer "fc" is corrupt: its shape is (1x){32}\.\.\., more than'
    ):
        caffemodel.read(path)
    assert time.process_time() - start < SECONDS
    blob = axis * 3 + wire.delimited(5, np.ones(1, "<f4").tobytes())
    path.write_bytes(wire.delimited(100, wire.delimited(1, b"fc") + wire.delimited(7, blob)))
    assert caffemodel.read(path).layers[0].blobs[0].shape == (1, 1, 1)


def test_many_datasets_that_hold_nothing(tmp_path):
    """Each may be as large as HDF5 could pack into the file, but not all of them."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "n.caffemodel.h5"
    with h5py.File(path, "w") as file:
        for index in range(50):
            file.create_dataset(f"data/fc/{index}", shape=(10**7,), dtype="f4")
    assert 10**7 < 1032 * path.stat().st_size < 50 * 10**7
    with pytest.raises(CaffemodelError, match="more than the file can hold"):
        caffemodel.read(path)


def test_long_names_and_words_in_messages(tmp_path):
    text = nets.inputs(x=(1, 2)) + nets.layer("R" * 10**6, "x", "y", name="n" * 10**6)
    start = time.process_time()
    with pytest.raises(CaffeportError, match="WindowData") as caught:  # the end of the list of what is known
        nets.load(tmp_path, text)
    assert time.process_time() - start < SECONDS and len(str(caught.value)) < 3200


def test_a_message_is_one_line_whatever_the_names(tmp_path):
    text = nets.inputs(x=(1, 2)) + nets.layer("Poo\\nling\\033[31m", "x", "y")
    with pytest.raises(CaffeportError, match=r"unknown type \"Poo\\nling\\x1b\[31m\"") as caught:
        nets.load(tmp_path, text)
    assert str(caught.value).isprintable()
