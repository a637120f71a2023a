"""Two-stage detectors: one ONNX file from an image of any size to its boxes, suppression included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import nets
from support.backends import OPSETS, run_file

RTOL, ATOL = 1e-4, 1e-4  # float32 in two backends, boxes of some hundred pixels
SIZES = ((128, 160), (96, 224), (48, 48))


def relu(name):
    return nets.layer("ReLU", name, name, name=f"{name}_relu")


def backbone():
    """Write a map of stride 16 with 12 channels, and the RPN with 9 anchors on it."""
    text = nets.inputs(data=(1, 3, 128, 160), im_info=(1, 3))
    bottom = "data"
    for index in range(4):
        text += nets.conv(bottom, f"conv{index}", 12) + relu(f"conv{index}")
        bottom = f"pool{index}"
        text += nets.layer("Pooling", f"conv{index}", bottom, "pooling_param { kernel_size: 2 stride: 2 }")
    text += nets.conv(bottom, "rpn", 16) + relu("rpn")
    text += nets.conv("rpn", "rpn_cls_score", 18, "kernel_size: 1")
    text += nets.layer(
        "Convolution", "rpn", "rpn_bbox_pred",
        'convolution_param { num_output: 36 kernel_size: 1 weight_filler { type: "gaussian" std: 0.0005 } }',
    )  # fmt: skip
    text += nets.layer("Reshape", "rpn_cls_score", "score2", "reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } }")
    text += nets.layer("Softmax", "score2", "prob2")
    return text + nets.layer(
        "Reshape", "prob2", "rpn_cls_prob", "reshape_param { shape { dim: 0 dim: 18 dim: -1 dim: 0 } }"
    )


PROPOSALS = nets.layer(
    "Python", "rpn_cls_prob rpn_bbox_pred im_info", "rois",
    'python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" '
    "param_str: \"{'feat_stride': 16, 'scales': [2, 4, 8]}\" }",
)  # fmt: skip


def faster_rcnn():
    text = backbone() + PROPOSALS
    text += nets.layer(
        "ROIPooling", "pool3 rois", "pool5", "roi_pooling_param { pooled_w: 3 pooled_h: 3 spatial_scale: 0.0625 }"
    )
    text += nets.inner_product("pool5", "fc6", 20) + relu("fc6")
    text += nets.layer("Dropout", "fc6", "fc6", name="drop6")
    text += nets.inner_product("fc6", "cls_score", 5) + nets.inner_product("fc6", "bbox_pred", 20)
    return text + nets.layer("Softmax", "cls_score", "cls_prob")


def r_fcn():
    text = backbone() + PROPOSALS
    for name, outputs in (("cls", 5), ("bbox", 8)):
        text += nets.conv("pool3", f"rfcn_{name}", 9 * outputs, "kernel_size: 1")
        text += nets.layer(
            "PSROIPooling", f"rfcn_{name} rois", f"{name}_rois",
            f"psroi_pooling_param {{ spatial_scale: 0.0625 output_dim: {outputs} group_size: 3 }}",
        )  # fmt: skip
        text += nets.layer(
            "Pooling", f"{name}_rois", f"{name}_ave", "pooling_param { pool: AVE kernel_size: 3 stride: 3 }"
        )
    text += nets.layer("Softmax", "cls_ave", "cls_prob_pre")
    text += nets.layer("Reshape", "cls_prob_pre", "cls_prob", "reshape_param { shape { dim: -1 dim: 5 } }")
    return text + nets.layer("Reshape", "bbox_ave", "bbox_pred", "reshape_param { shape { dim: -1 dim: 8 } }")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fixes the batch size", "ignore:.*random weights")
@pytest.mark.parametrize("text", [faster_rcnn(), r_fcn()], ids=["faster-rcnn", "r-fcn"])
def test_one_file_for_any_size(tmp_path, text):
    net = nets.load(tmp_path, text, layer_options={"rpn_post_nms_top_n": 60})
    outputs = ["rois", "cls_prob", "bbox_pred"]
    model = net.to_torch(outputs=outputs)
    for opset in OPSETS:
        net.to_onnx(tmp_path / f"{opset}.onnx", opset=opset, outputs=outputs)
    counts = set()
    for seed, (height, width) in enumerate(SIZES):
        random = np.random.default_rng(seed)
        feed = {"data": random.standard_normal((1, 3, height, width)).astype(np.float32),
                "im_info": np.array([[height, width, 1.3]], np.float32)}  # fmt: skip
        with torch.no_grad():
            expected = model(*(torch.tensor(feed[name]) for name in net.inputs))
        counts.add(len(expected["rois"]))
        for opset in OPSETS:
            found = run_file(tmp_path / f"{opset}.onnx", feed)
            for name in outputs:
                assert found[name].shape == tuple(expected[name].shape)
                np.testing.assert_allclose(found[name], expected[name].numpy(), RTOL, ATOL)
    assert 60 in counts and min(counts) < 60  # as many as were asked for, and fewer


@pytest.mark.filterwarnings("ignore:.*fixes the batch size", "ignore:.*random weights")
def test_no_proposal_at_all(tmp_path):
    net = nets.load(tmp_path, faster_rcnn())
    feed = {"data": np.zeros((1, 3, 128, 160), np.float32), "im_info": np.array([[128, 160, 99]], np.float32)}
    assert net.to_torch()(*map(torch.tensor, feed.values()))["cls_prob"].shape == (0, 5)
    net.to_onnx(tmp_path / "n.onnx")
    assert run_file(tmp_path / "n.onnx", feed)["cls_prob"].shape == (0, 5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fixes the batch size")
def test_check_compares_every_blob(tmp_path):
    report = nets.load(tmp_path, faster_rcnn()).check()
    assert report.ok and {row.blob for row in report.rows} >= {"rois", "pool5", "cls_prob"}


@pytest.mark.filterwarnings("ignore:.*random weights")
def test_regions_are_an_input_of_any_number(tmp_path):
    text = nets.inputs(x=(1, 3, 9, 11), rois=(1, 5)) + nets.layer(
        "ROIPooling", "x rois", "y", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }"
    )
    net = nets.load(tmp_path, text + nets.inner_product("y", "fc", 3))
    exported = net.to_onnx(tmp_path / "n.onnx")
    assert exported.inputs == ["x", "rois"]
    random = np.random.default_rng(0)
    for images, regions, height in ((1, 7, 9), (2, 3, 20)):
        corners = np.sort(random.integers(0, 9, (2, regions, 2)), 0)
        boxes = np.concatenate([random.integers(0, images, (regions, 1)), *corners], 1)
        feed = {"x": random.standard_normal((images, 3, height, 11)), "rois": boxes}
        feed = {name: array.astype(np.float32) for name, array in feed.items()}
        expected = net.to_torch()(*map(torch.tensor, feed.values())).detach().numpy()
        np.testing.assert_allclose(run_file(tmp_path / "n.onnx", feed)["fc"], expected, RTOL, ATOL)


@pytest.mark.parametrize("phase", ["test", "train"])
def test_dropout_that_scales_in_testing(tmp_path, phase):
    """Fast R-CNN's scale_train: false: the mask alone in training, the share that it keeps in testing."""
    layer = nets.layer("Dropout", "x", "y", "dropout_param { dropout_ratio: 0.75 scale_train: false }")
    net = nets.load(tmp_path, nets.inputs(x=(50, 40)) + layer, phase=phase)
    x = np.random.default_rng(0).random((50, 40)).astype(np.float32) + 1
    torch.manual_seed(0)
    found = net.to_torch()(torch.tensor(x)).numpy()
    if phase == "test":
        np.testing.assert_allclose(found, x * 0.25, 1e-6)
        net.to_onnx(tmp_path / "n.onnx")
        np.testing.assert_allclose(run_file(tmp_path / "n.onnx", {"x": x})["y"], x * 0.25, 1e-6)
        return
    kept = found != 0
    np.testing.assert_allclose(found[kept], x[kept], 1e-6)
    assert abs(kept.mean() - 0.25) < 0.04  # four standard deviations of 2,000 draws
