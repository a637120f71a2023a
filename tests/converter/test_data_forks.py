"""The sizes that data layers of forks tell, and those that follow from a size that is given."""

from __future__ import annotations

import pytest
from caffeport import CaffeportWarning, NetError
from support import nets

MEANS = "mean_value: [104, 117, 123]"
RESIZE = "resize_param { prob: 1 resize_mode: WARP height: 30 width: 20 interp_mode: LINEAR interp_mode: AREA }"


def shapes(tmp_path, kind: str, tops: str, fields: str, **inputs) -> list[tuple[int, ...]]:
    net = nets.load(tmp_path, nets.layer(kind, "", tops, fields, "in"), input_shapes=inputs)
    return [net.blob_shapes[name] for name in net.inputs]


@pytest.mark.parametrize(
    ("kind", "tops", "fields", "expected"),
    [
        ("ImageSegData", "d l s", "image_data_param { batch_size: 2 label_type: PIXEL new_height: 9 new_width: 8 }",
         [(2, 3, 9, 8), (2, 1, 9, 8), (2, 1, 1, 2)]),
        ("WindowSegData", "d l", "image_data_param { batch_size: 2 new_height: 9 new_width: 8 is_label_color: true } "
         "transform_param { crop_size: 5 }", [(2, 3, 5, 5), (2, 3, 5, 5)]),
        ("ImageLabelmapData", "d l", "image_data_param { is_color: false new_height: 9 new_width: 8 normalize: true }",
         [(1, 1, 9, 8), (1, 1, 9, 8)]),
        ("DenseImageData", "d l", "dense_image_data_param { batch_size: 4 new_height: 16 new_width: 32 "
         "label_divide_factor: 8 }", [(4, 3, 16, 32), (4, 1, 2, 4)]),
        ("VideoData", "d l", "video_data_param { batch_size: 5 new_length: 16 new_height: 9 new_width: 8 }",
         [(5, 3, 16, 9, 8), (5,)]),
        ("VideoData", "d l", "image_data_param { batch_size: 5 new_length: 8 } transform_param { crop_size: 6 }",
         [(5, 3, 8, 6, 6), (5,)]),
        ("VideoData", "d l", "video_data_param { batch_size: 5 new_length: 5 num_segments: 3 modality: FLOW } "
         "transform_param { crop_size: 6 }", [(5, 30, 6, 6), (5, 1, 1, 1)]),
        ("VideoData", "d l", "video_data_param { batch_size: 5 new_length: 1 num_segments: 3 modality: RGB "
         "new_height: 9 new_width: 8 }", [(5, 9, 9, 8), (5, 1, 1, 1)]),
        ("VideoData", "d l", f"video_data_param {{ video_type: WEBCAM }} data_param {{ batch_size: 5 }} "
         f"transform_param {{ {RESIZE} }}", [(5, 3, 30, 20), (5,)]),
        ("DetectionData", "d a b g", "detection_data_param { batch_size: 2 stride: 4 stride: 8 resize_width: 20 "
         "resize_height: 30 output_gt_boxes: true }", [(2, 3, 30, 20), (2, 6, 8, 5), (2, 6, 4, 3), (1, 8, 1, 1)]),
        ("DetectionData", "d a", "detection_data_param { stride: 8 short_size: 16 long_size: 32 crop_short_size: 8 "
         "crop_long_size: 24 }", [(1, 3, 24, 8), (1, 6, 3, 1)]),
        ("EvalData", "d g s", "eval_data_param { batch_size: 1 short_size: 16 long_size: 32 }",
         [(1, 3, 32, 16), (1, 8, 1, 1), (1, 2, 1, 1)]),
    ],
)  # fmt: skip
def test_the_text_decides(tmp_path, kind, tops, fields, expected):
    assert shapes(tmp_path, kind, tops, fields) == expected


@pytest.mark.parametrize(
    ("kind", "tops", "fields", "given", "expected"),
    [
        ("Data", "d l", "data_param { batch_size: 64 }", (2, 3, 8, 8), [(2,)]),
        ("ImageData", "d l", "image_data_param { batch_size: 64 new_height: 9 new_width: 9 }", (2, 3, 8, 8), [(2,)]),
        ("MemoryData", "d l", "memory_data_param { batch_size: 9 channels: 1 height: 1 width: 1 }", (2, 1, 1, 1),
         [(2,)]),
        ("ImageSegData", "d l s", "image_data_param { }", (2, 3, 8, 9), [(2, 1, 8, 9), (2, 1, 1, 2)]),
        ("VideoWithVoxelTruthData", "d t", "image_data_param { num_truth_channels: 2 }", (1, 3, 4, 8, 9),
         [(1, 2, 4, 8, 9)]),
        ("DetectionData", "d a", "detection_data_param { stride: 4 short_size: 8 long_size: 16 }", (2, 3, 12, 10),
         [(2, 6, 3, 3)]),
        ("DummyData", "d l", "dummy_data_param { shape { dim: 9 } shape { dim: 7 } }", (2,), [(7,)]),
    ],
)  # fmt: skip
def test_a_given_size_carries_to_the_other_tops(tmp_path, kind, tops, fields, given, expected):
    assert shapes(tmp_path, kind, tops, fields, d=given) == [given, *expected]


def test_the_batch_of_a_label_carries_to_the_images(tmp_path):
    fields = "data_param { batch_size: 64 } transform_param { crop_size: 8 mean_value: [1, 2, 3] }"
    assert shapes(tmp_path, "Data", "d l", fields, l=(2,)) == [(2, 3, 8, 8), (2,)]


def test_a_shape_of_another_rank_changes_nothing_else(tmp_path):
    fields = "image_data_param { batch_size: 3 new_height: 9 new_width: 8 }"
    assert shapes(tmp_path, "ImageSegData", "d l", fields, d=(5,)) == [(5,), (3, 1, 9, 8)]


def test_sizes_of_files_are_asked_for(tmp_path):
    text = nets.layer("ImageLabelmapData", "", "d l", f"transform_param {{ {MEANS} }}", "in")
    text += nets.layer("EuclideanLoss", "d d", "loss")
    with pytest.raises(NetError, match=r'the shape of input "d" is not known: give it \(input_shapes=\{\'d\': \(N, C'):
        nets.load(tmp_path, text)


def test_a_clip_of_no_known_length_has_sixteen_frames(tmp_path):
    fields = "image_data_param { num_truth_channels: 2 crop_size: 8 }"
    with pytest.warns(CaffeportWarning, match=r"took 1x3x16x8x8 from colour clips of 16 frames"):
        assert shapes(tmp_path, "VideoWithVoxelTruthData", "d t", fields) == [(1, 3, 16, 8, 8), (1, 2, 16, 8, 8)]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        (RESIZE, (30, 20)),
        (f"{RESIZE} crop_size: 5", (5, 5)),
        (f"{RESIZE} crop_h: 6 crop_w: 7", (6, 7)),
        ("crop_height: 6 crop_width: 7", (6, 7)),
        (RESIZE.replace("WARP", "FIT_LARGE_SIZE_AND_PAD"), (30, 20)),
    ],
)
def test_transform_fields_of_ssd_give_the_size(tmp_path, fields, size):
    more = "noise_param { prob: .1 } distort_param { hue_prob: .5 } expand_param { prob: .5 } emit_constraint { }"
    text = f"data_param {{ batch_size: 8 }} transform_param {{ {MEANS} {fields} {more} }}"
    assert shapes(tmp_path, "Data", "d l", text) == [(8, 3, *size), (8,)]


def test_a_resize_that_keeps_the_ratio_gives_no_size(tmp_path):
    fields = RESIZE.replace("WARP", "FIT_SMALL_SIZE")
    with pytest.raises(NetError, match=r'the shape of input "d" is not known'):
        shapes(tmp_path, "Data", "d l", f"data_param {{ batch_size: 8 }} transform_param {{ {MEANS} {fields} }}")


def test_detection_data_counts_its_tops(tmp_path):
    fields = "detection_data_param { stride: 4 resize_width: 20 resize_height: 30 }"
    with pytest.raises(NetError, match=r'"in" \(DetectionData\): its text makes 2 tops .*, but 3 are named'):
        shapes(tmp_path, "DetectionData", "d a b", fields)


def test_pairs_of_a_known_data_set(tmp_path):
    text = nets.layer("Data", "", "pair sim", 'data_param { source: "mnist_pairs" batch_size: 8 }', "in")
    slices = nets.layer("Slice", "pair", "a b", "slice_param { slice_dim: 1 slice_point: 1 }")
    with pytest.warns(CaffeportWarning, match=r"took 8x2x28x28 from the name of its data set"):
        assert nets.load(tmp_path, text + slices).blob_shapes["a"] == (8, 1, 28, 28)
