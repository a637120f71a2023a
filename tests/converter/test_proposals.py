"""Region proposals, against loops that follow the Python and C++ layers box by box."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import OPSETS, run_file

KINDS = ["Python:ProposalLayer", "Python:SSH.layers.proposal_layer.ProposalLayer", "Proposal"]
KINDS += ["Python:pylayer.proposal_layer.ProposalLayer"]  # the same in the TEST phase
RTOL, ATOL = 1e-5, 1e-3  # pixels: float32 corners of some hundred pixels


def anchors(base, ratios, scales, half_up=False):
    """One anchor after the other, as generate_anchors makes them."""

    def rounded(x):
        return math.floor(x + 0.5) if half_up else round(x)  # Python's round takes halves to the even number

    boxes = []
    for ratio in ratios:
        width = rounded(math.sqrt(base * base / ratio))
        height = rounded(width * ratio)
        for scale in scales:
            center = 0.5 * (base - 1)
            half = 0.5 * (width * scale - 1), 0.5 * (height * scale - 1)
            boxes.append([center - half[0], center - half[1], center + half[0], center + half[1]])
    return boxes


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def decoded(scores, deltas, info, boxes, stride):
    """[(box, score)] of all anchors by row, column and anchor, clipped to the image."""
    count = len(boxes)
    every = []
    for h in range(scores.shape[2]):
        for w in range(scores.shape[3]):
            for a, (x1, y1, x2, y2) in enumerate(boxes):
                dx, dy, dw, dh = deltas[0, 4 * a : 4 * a + 4, h, w].astype(np.float64)
                width, height = x2 - x1 + 1, y2 - y1 + 1
                cx = dx * width + x1 + w * stride + 0.5 * width
                cy = dy * height + y1 + h * stride + 0.5 * height
                half = 0.5 * math.exp(dw) * width, 0.5 * math.exp(dh) * height
                corners = cx - half[0], cy - half[1], cx + half[0], cy + half[1]
                limits = (info[1] - 1, info[0] - 1) * 2
                clipped = [max(min(c, m), 0) for c, m in zip(corners, limits, strict=True)]
                every.append((clipped, float(scores[0, count + a, h, w])))
    return every


def best(candidates, pre, post, threshold):
    """The kept (box, score), best first; a stable sort, so that equal scores stay in order."""
    candidates = sorted(candidates, key=lambda pair: -pair[1])[: pre or None]
    kept = []
    for box, score in candidates:
        if threshold is None or all(iou(box, other) <= threshold for other, _ in kept):
            kept.append((box, score))
    return kept[: post or None]


def python_proposals(scores, deltas, info, boxes, stride, least, pre, post, threshold):
    info = info.ravel().astype(np.float64)
    every = decoded(scores, deltas, info, boxes, stride)
    least *= info[2]
    return best([(b, s) for b, s in every if b[2] - b[0] + 1 >= least and b[3] - b[1] + 1 >= least],
                pre, post, threshold)  # fmt: skip


def cpp_proposals(scores, deltas, info, boxes, stride, least, pre, post, threshold):
    info = info.ravel().astype(np.float64)
    every = decoded(scores, deltas, info, boxes, stride)
    wide, high = least * (info[3] if len(info) > 3 else info[2]), least * info[2]
    scored = [(b, s * (b[2] - b[0] + 1 >= wide and b[3] - b[1] + 1 >= high)) for b, s in every]
    return best(scored, pre, post, threshold)


def rows(kept):
    boxes = np.array([[0, *box] for box, _ in kept], np.float64).reshape(-1, 5)
    return boxes, np.array([score for _, score in kept])


def proposal_net(tmp_path, layer, count, info=3, **options):
    text = nets.inputs(s=(1, 2 * count, 4, 6), d=(1, 4 * count, 4, 6), info=(1, info)) + layer
    return nets.load(tmp_path, text, **options)


def python_layer(param_str, module="rpn.proposal_layer"):
    words = f'module: "{module}" layer: "ProposalLayer" param_str: "{param_str}"'
    return nets.layer("Python", "s d info", "rois scores", f"python_param {{ {words} }}")


def arrays(count, height, width, info, seed=0):
    random = np.random.default_rng(seed)
    scores = random.permutation(2 * count * height * width).reshape(1, 2 * count, height, width) / 1000
    scores[0, count, 0] = 0.5  # some are equal
    deltas = random.standard_normal((1, 4 * count, height, width)) * 0.3
    return [np.asarray(array, np.float32) for array in (scores, deltas, [info])]


def assert_proposals(net, tmp_path, inputs, kept, score_axes=2, opsets=OPSETS):
    boxes, scores = rows(kept)
    scores = scores.reshape((-1, 1)[:score_axes]) if score_axes == 2 else scores
    model = net.to_torch()
    results = [{name: top.numpy() for name, top in model(*map(torch.tensor, inputs)).items()}]
    for opset in opsets:
        net.to_onnx(tmp_path / "n.onnx", opset=opset)
        results.append(run_file(tmp_path / "n.onnx", dict(zip(net.inputs, inputs, strict=True))))
    for result in results:
        assert result["rois"].shape == boxes.shape and result["scores"].shape == scores.shape
        np.testing.assert_allclose(result["rois"], boxes, RTOL, ATOL)
        np.testing.assert_allclose(result["scores"], scores, 1e-6)


SETTINGS = {
    "defaults": ("'feat_stride': 16", 16, [0.5, 1, 2], [8, 16, 32], 16),
    "scales": ("{'feat_stride': 8, 'scales': [1, 2], 'ratios': [1,]}", 16, [1], [1, 2], 8),
    "tuple": ("'feat_stride': 16\\n'scales': !!python/tuple [4, 8]", 16, [0.5, 1, 2], [4, 8], 16),
    "yaml": ("feat_stride: 4\\nscales: [0.5, 3]\\nratios: [0.3, 1]\\nbase_size: 9", 9, [0.3, 1], [0.5, 3], 4),
}


@pytest.mark.filterwarnings("ignore:.*fixes the batch size")
@pytest.mark.parametrize(("param_str", "base", "ratios", "scales", "stride"), SETTINGS.values(), ids=SETTINGS)
def test_python_proposals(tmp_path, param_str, base, ratios, scales, stride):
    boxes = anchors(base, ratios, scales)
    net = proposal_net(tmp_path, python_layer(param_str), len(boxes))
    most = min(300, 24 * len(boxes))
    assert net.blob_shapes["rois"] == (most, 5) and net.blob_shapes["scores"] == (most, 1)
    for height, width, info in ((4, 6, (70, 90, 1)), (3, 9, (200.5, 150, 0.4)), (4, 6, (30, 30, 3))):
        inputs = arrays(len(boxes), height, width, info)
        kept = python_proposals(*inputs, boxes, stride, 16, 6000, 300, 0.7)
        assert_proposals(net, tmp_path, inputs, kept)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fixes the batch size")
def test_the_configuration_is_layer_options(tmp_path):
    options = {"rpn_pre_nms_top_n": 40, "rpn_post_nms_top_n": 12, "rpn_nms_thresh": 0.5, "rpn_min_size": 4}
    boxes = anchors(16, [0.5, 1, 2], [8, 16, 32])
    net = proposal_net(tmp_path, python_layer("'feat_stride': 16"), 9, layer_options=options)
    assert net.blob_shapes["rois"] == (12, 5)
    inputs = arrays(9, 4, 6, (70, 90, 1))
    assert_proposals(net, tmp_path, inputs, python_proposals(*inputs, boxes, 16, 4, 40, 12, 0.5))
    train = proposal_net(tmp_path, python_layer("'feat_stride': 16"), 9, phase="train")
    assert train.layer("rois").op.selection((1, 3)).post_top_n == 2000
    everything = proposal_net(
        tmp_path, python_layer("'feat_stride': 16"), 9, layer_options={"rpn_post_nms_top_n": 0, "rpn_pre_nms_top_n": 0}
    )
    assert everything.blob_shapes["rois"] == (9 * 24, 5)
    assert_proposals(everything, tmp_path, inputs, python_proposals(*inputs, boxes, 16, 16, 0, 0, 0.7))


@pytest.mark.filterwarnings("ignore:.*fixes the batch size")
def test_ssh_gives_its_best_without_suppression(tmp_path):
    layer = python_layer("{'feat_stride': 8,'scales': [1,2], 'ratios':[1,]}", "SSH.layers.proposal_layer")
    boxes = anchors(16, [1], [1, 2])
    net = proposal_net(tmp_path, layer, 2, layer_options={"n_dets_per_module": 20, "anchor_min_size": 2})
    inputs = arrays(2, 4, 6, (40, 50, 1))
    assert_proposals(net, tmp_path, inputs, python_proposals(*inputs, boxes, 8, 2, 20, 0, None))
    inputs[2][:] = 40, 50, 1000  # all too small
    for found in (
        net.to_torch()(*map(torch.tensor, inputs)),
        run_file(tmp_path / "n.onnx", dict(zip(net.inputs, inputs, strict=True))),
    ):
        np.testing.assert_array_equal(found["rois"], [[0, 0, 0, 16, 16]])
        assert tuple(found["scores"].shape) == (0, 1)


@pytest.mark.filterwarnings("ignore:.*fixes the batch size")
@pytest.mark.parametrize("info", [(70, 90, 1.5), (70, 90, 1.2, 2.4, 1, 1)])
def test_cpp_proposals(tmp_path, info):
    """With a ratio whose height, 7 * 5.5, is rounded up here and to the even number in Python."""
    text = "ratio: 0.5 ratio: 5.5 scale: 2 scale: 8 min_size: 24 pre_nms_topn: 60 post_nms_topn: 25 nms_thresh: 0.6"
    layer = nets.layer("Proposal", "s d info", "rois scores", f"proposal_param {{ {text} }}")
    boxes = anchors(16, [0.5, 5.5], [2, 8], half_up=True)
    assert boxes != anchors(16, [0.5, 5.5], [2, 8])
    net = proposal_net(tmp_path, layer, 4, len(info))
    assert net.blob_shapes["rois"] == (25, 5) and net.blob_shapes["scores"] == (25,)
    for height, width in ((4, 6), (2, 3)):
        inputs = arrays(4, height, width, info)
        kept = cpp_proposals(*inputs, boxes, 16, 24, 60, 25, 0.6)
        assert any(score == 0 for _, score in cpp_proposals(*inputs, boxes, 16, 24, 0, 0, 0.6))
        assert_proposals(net, tmp_path, inputs, kept, score_axes=1)


def test_scales_in_pixels(tmp_path):
    """Half widths of caffe-windows: 0.5 int(w scale / base - 1 + 0.5), the ratio's sides not rounded."""
    layer = nets.layer("Proposal", "s d info", "rois", "proposal_param { ratio: 0.5 scale: 32 scale: 75 }")
    net = proposal_net(tmp_path, layer, 2, layer_options={"proposal_scale_in_pixels": 1})
    width = 16 / math.sqrt(0.5)
    expected = [[int(side * scale / 16 - 0.5) + 1 for side in (width, width * 0.5)] for scale in (32, 75)]
    np.testing.assert_array_equal(net.layer("rois").op.anchors.sizes, expected)


def test_a_proposal_that_no_backend_rounds(tmp_path):
    """Boxes on whole pixels whose overlap is 0.7 exactly stay, and one that shares a pixel more goes."""
    module = proposal_net(tmp_path, python_layer("'feat_stride': 16"), 9).to_torch()
    from caffeport.to_torch.modules.proposals import overlaps
    from caffeport.to_torch.modules.suppression import not_suppressed

    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 6], [0, 0, 9, 7]])
    assert not_suppressed(boxes, 0.7, overlaps).tolist() == [0, 1]
    assert "9 anchors" in repr(module)


@pytest.mark.parametrize(
    ("param_str", "options", "message"),
    [
        ("{'scales': [8]}", {}, "expected feat_stride in param_str"),
        ("{'feat_stride': 16, 'scale': [8]}", {}, 'param_str has the setting "scale", which is not known'),
        ("{'feat_stride': 16, 'scales': [0]}", {}, "expected positive numbers as scales"),
        ("{'feat_stride': 16, 'scales': 'many'}", {}, "expected positive numbers as scales"),
        ("feat_stride 16", {}, "param_str is no dictionary of settings"),
        ("{'feat_stride': 16, 'scales': [8]}", {}, r"expected scores \(1, 6, H, W\)"),
        ("'feat_stride': 16", {"rpn_post_nms_topn": 3}, r'"rpn_post_nms_topn".*did you mean "rpn_post_nms_top_n"'),
        ("'feat_stride': 16", {"rpn_post_nms_top_n": 3.5}, "rpn_post_nms_top_n expects a whole number"),
        ("'feat_stride': 16", {"rpn_nms_thresh": "x"}, "rpn_nms_thresh expects a number"),
    ],
)
def test_what_proposals_refuse(tmp_path, param_str, options, message):
    with pytest.raises(caffeport.NetError, match=message):
        proposal_net(tmp_path, python_layer(param_str), 9, layer_options=options)


def test_the_cascades_proposals_are_for_testing(tmp_path):
    layer = python_layer("{'feat_stride': 16, 'use_clip': 0}", "pylayer.proposal_layer")
    assert proposal_net(tmp_path, layer, 9).blob_shapes["rois"] == (216, 5)
    with pytest.raises(caffeport.NetError, match=r"its gradient to the boxes.*load the TEST phase"):
        proposal_net(tmp_path, layer, 9, phase="train")


def test_one_image_at_a_time(tmp_path):
    """A batch of several is refused where Caffe refuses it: when the layer runs."""
    text = nets.inputs(s=(2, 18, 4, 6), d=(2, 36, 4, 6), info=(1, 3)) + python_layer("'feat_stride': 16")
    net = nets.load(tmp_path, text)
    assert net.blob_shapes["rois"] == (216, 5)
    with pytest.raises(caffeport.CaffeportError, match="proposals are made for one image at a time, got a batch of 2"):
        net.to_torch()(torch.zeros(2, 18, 4, 6), torch.zeros(2, 36, 4, 6), torch.ones(1, 3))
    with pytest.raises(caffeport.ExportError, match=r'layer "rois" \(Python\).*one image at a time'):
        net.to_onnx(tmp_path / "n.onnx")
    one = proposal_net(tmp_path, python_layer("'feat_stride': 16"), 9)
    with pytest.raises(caffeport.CaffeportError, match=r'"s" has the shape 2x18x4x6, expected 1x18x4x6'):
        one.to_torch()(torch.zeros(2, 18, 4, 6), torch.zeros(2, 36, 4, 6), torch.ones(1, 3))


def test_options_on_the_command_line(tmp_path, capsys):
    from caffeport.cli.main import main

    proposal_net(tmp_path, python_layer("'feat_stride': 16"), 9)
    path = str(tmp_path / "net.prototxt")
    assert main(["show", path, "--layer-option", "rpn_post_nms_top_n=7", "--json"]) == 0
    assert '"rois"' in capsys.readouterr().out
    for text, message in (("rpn_post_nms_top_n", "expects NAME=NUMBER"), ("rpn=3", 'names "rpn"')):
        assert main(["show", path, "--layer-option", text]) == 2
        assert message in capsys.readouterr().err
