"""The default boxes that forks make, box by box, and how a net's own convolutions tell which are meant."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from support import nets
from support.backends import OPSETS, assert_all, numbers

CELLS, IMAGE = (2, 3), (24, 30)
STEP = (12, 10)


def corners(x, y, width, height):
    return [
        (x - width / 2) / IMAGE[1],
        (y - height / 2) / IMAGE[0],
        (x + width / 2) / IMAGE[1],
        (y + height / 2) / IMAGE[0],
    ]


def cells():
    return [(h, w) for h in range(CELLS[0]) for w in range(CELLS[1])]


def textboxes(least, most, ratios):
    """Each box around the cell's middle, and again around its lower edge."""
    boxes = []
    for h, w in cells():
        x, y, lower = (w + 0.5) * STEP[1], (h + 0.5) * STEP[0], (h + 1.0) * STEP[0]
        shapes = [(least, least), (math.sqrt(least * most),) * 2]
        shapes += [(least * math.sqrt(r), least / math.sqrt(r)) for r in ratios]
        for width, height in shapes:
            boxes += [corners(x, y, width, height), corners(x, lower, width, height)]
    return boxes


def faceboxes(sizes):
    boxes = []
    for h, w in cells():
        x, y = (w + 0.5) * STEP[1], (h + 0.5) * STEP[0]
        for size in sizes:
            steps, pixels = {32: (range(-2, 2), 8), 64: (range(-1, 1), 16)}.get(size, ([0], 0))
            for i in steps:
                for j in steps:
                    boxes.append(corners(x + j * pixels, y + i * pixels, size - 1, size - 1))
    return boxes


def tl_ssd(sizes, ratios, offsets_w, offsets_h):
    boxes = []
    for h, w in cells():
        for right in offsets_w:
            for down in offsets_h:
                for size in sizes:
                    for r in ratios:
                        x, y = (w + right) * STEP[1], (h + down) * STEP[0]
                        boxes.append(corners(x, y, size * math.sqrt(r), size / math.sqrt(r)))
    return boxes


def explicit(pairs):
    return [corners((w + 0.5) * STEP[1], (h + 0.5) * STEP[0], *pair) for h, w in cells() for pair in pairs]


CASES = {
    "denser": (
        "denser_prior_boxes: true min_size: 4 max_size: 9 aspect_ratio: 2 aspect_ratio: 5 flip: false",
        textboxes(4, 9, [2, 5]),
    ),
    "faceboxes": ("faceboxes: true min_size: 32 min_size: 64 min_size: 128", faceboxes([32, 64, 128])),
    "tl_ssd": (
        "min_size: 5 min_size: 8 aspect_ratio: 0.3 flip: false offset_w: 0.2 offset_w: 0.5 offset_w: 0.8 "
        "offset_h: 0.25 offset_h: 0.75",
        tl_ssd([5, 8], [0.3], [0.2, 0.5, 0.8], [0.25, 0.75]),
    ),
    "width": ("width: 3.5 height: 7.25 width: 9 height: 2", explicit([(3.5, 7.25), (9, 2)])),
    "box_width": ("box_width: 3.5 box_height: 7.25 min_size: 3", explicit([(3.5, 7.25)])),
}


def prior_net(tmp_path, parameters, kind="PriorBox", **options):
    text = nets.inputs(x=(1, 2, *CELLS), im=(1, 3, *IMAGE)) + nets.layer(
        kind, "x im", "y", f"prior_box_param {{ {parameters} clip: false variance: 0.1 }}"
    )
    return nets.load(tmp_path, text, **options)


@pytest.mark.parametrize("case", CASES)
def test_fields_of_forks(tmp_path, case):
    parameters, boxes = CASES[case]
    expected = np.stack([np.ravel(boxes), np.full(np.size(boxes), 0.1)])[None]
    net = prior_net(tmp_path, parameters, "PriorBoxClustered" if case == "width" else "PriorBox")
    assert net.blob_shapes["y"] == expected.shape
    assert_all(net, tmp_path, expected, numbers(1, 2, *CELLS), numbers(1, 3, *IMAGE))


def test_the_option(tmp_path):
    for dialect, boxes in (("textboxes", textboxes(4, 9, [2, 0.5])), ("faceboxes", None), ("ssd", None)):
        net = prior_net(tmp_path, "min_size: 4 max_size: 9 aspect_ratio: 2", prior_boxes=dialect)
        found = net.to_torch()(torch.zeros(1, 2, *CELLS), torch.zeros(1, 3, *IMAGE)).numpy()
        if boxes:
            np.testing.assert_allclose(found[0, 0], np.ravel(boxes), 1e-5, 1e-6)
        else:
            assert found.shape == (1, 2, 4 * 4 * 6)
            least = 4 if dialect == "ssd" else 3
            np.testing.assert_allclose((found[0, 0, 2] - found[0, 0, 0]) * IMAGE[1], least, 1e-4)
    with pytest.raises(caffeport.NetError, match="prior_boxes is one of ssd, textboxes, faceboxes, got other"):
        prior_net(tmp_path, "min_size: 4", prior_boxes="other")


REFUSED = {
    "offset_w: 0.5 min_size: 3": "offset_w and offset_h, from 0 to 1",
    "offset_w: 0.5 offset_h: 1.5 min_size: 3": "from 0 to 1",
    "offset_w: 0.5 offset_h: 0.5 min_size: 3": "need aspect ratios, none of them 1",
    "offset_w: 0.5 offset_h: 0.5 min_size: 3 aspect_ratio: 1": "need aspect ratios, none of them 1",
    "width: 3": "a positive height for every width",
}


@pytest.mark.parametrize("parameters", REFUSED)
def test_refused(tmp_path, parameters):
    with pytest.raises(caffeport.NetError, match=rf'"y" \(PriorBox\): .*{REFUSED[parameters]}'):
        prior_net(tmp_path, parameters)


def head(bottom, counts, parameters, classes):
    """SSD's layers behind a feature map: offsets, scores and default boxes, flat."""
    name = f"{bottom}_"
    text = ""
    for part, each in (("loc", 4), ("conf", classes)):
        text += nets.layer(
            "Convolution", bottom, name + part, f"convolution_param {{ num_output: {counts * each} kernel_size: 3 "
            'pad: 1 weight_filler { type: "msra" } bias_filler { type: "gaussian" std: 0.1 } }',
        )  # fmt: skip
        text += nets.layer(
            "Permute", name + part, name + part + "_perm", "permute_param { order: 0 order: 2 order: 3 order: 1 }"
        )
        text += nets.layer("Flatten", name + part + "_perm", name + part + "_flat")
    return text + nets.layer("PriorBox", f"{bottom} data", name + "prior", f"prior_box_param {{ {parameters} }}")


def ssd_text(parameters, counts, classes=3, size=(1, 3, 48, 64), last=""):
    """Write an SSD of two maps, at 1/8 and 1/16; its scores go through Reshape, Softmax and Flatten as in SSD300."""
    text, bottom = nets.inputs(data=size), "data"
    for index, outputs in enumerate((8, 12, 16, 16)):
        text += nets.layer(
            "Convolution", bottom, f"conv{index}", f"convolution_param {{ num_output: {outputs} kernel_size: 3 pad: 1 "
            'stride: 2 weight_filler { type: "msra" } }',
        ) + nets.layer("ReLU", f"conv{index}", f"conv{index}", name=f"relu{index}")  # fmt: skip
        bottom = f"conv{index}"
    for layer, count, own in zip(("conv2", "conv3"), counts, parameters, strict=True):
        text += head(layer, count, own, classes)
    for part, axis in (("loc_flat", 1), ("conf_flat", 1), ("prior", 2)):
        text += nets.layer("Concat", f"conv2_{part} conv3_{part}", f"mbox_{part}", f"concat_param {{ axis: {axis} }}")
    return text + (last or (
        nets.layer("Reshape", "mbox_conf_flat", "scores", "reshape_param { shape { dim: 0 dim: -1 dim: CLASSES } }")
        .replace("CLASSES", str(classes))
        + nets.layer("Softmax", "scores", "shares", "softmax_param { axis: 2 }")
        + nets.layer("Flatten", "shares", "flat", "flatten_param { axis: 1 }")
        + nets.layer(
            "DetectionOutput", "mbox_loc_flat flat mbox_prior", "detection_out",
            f"detection_output_param {{ num_classes: {classes} code_type: CENTER_SIZE keep_top_k: 50 "
            "confidence_threshold: 0.2 nms_param { nms_threshold: 0.45 top_k: 100 } }",
        )
    ))  # fmt: skip


SSD = ("min_size: 10 max_size: 20 aspect_ratio: 2 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2",
       "min_size: 20 max_size: 30 aspect_ratio: 2 aspect_ratio: 3 clip: false step: 16 variance: 0.1 variance: 0.1 "
       "variance: 0.2 variance: 0.2")  # fmt: skip


@pytest.mark.slow
def test_an_ssd_in_onnx_runtime_at_two_sizes(tmp_path):
    """One file, with random weights: torch's boxes at the declared size and at another, for one image and for two."""
    net = nets.load(tmp_path, ssd_text(SSD, (4, 6)))
    for images, height, width in ((1, 48, 64), (2, 80, 48), (1, 16, 16)):
        x = numbers(images, 3, height, width)
        with torch.no_grad():
            expected = net.to_torch()(torch.tensor(x)).numpy()
        assert len(expected[0, 0]) > 5
        assert_all(net, tmp_path, expected, x, opsets=OPSETS if images == 1 else (17,))


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(8, 12), (4, 6)])
def test_textboxes_by_the_convolutions(tmp_path, counts):
    """Twice as many channels as SSD's boxes need: every box twice."""
    text = ssd_text(SSD, counts, classes=2)
    if counts == (4, 6):
        net = nets.load(tmp_path, text)
    else:
        with pytest.warns(
            caffeport.CaffeportWarning, match=r'"conv2_prior" \(PriorBox\).*as in "textboxes".*--prior-boxes ssd'
        ):
            net = nets.load(tmp_path, text)
    assert net.blob_shapes["conv2_prior"] == (1, 2, 4 * counts[0] * 6 * 8)
    assert net.check().ok


@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
def test_a_part_of_a_net_keeps_them(tmp_path):
    """Cut off before the convolutions that tell it, PriorBox goes on with the boxes of the whole net."""
    net = nets.load(tmp_path, ssd_text(SSD, (8, 12), classes=2))
    part = net.cut(outputs=["conv2_prior"])
    assert part.blob_shapes["conv2_prior"] == net.blob_shapes["conv2_prior"]


def test_faceboxes_by_the_convolutions(tmp_path):
    """One layer shows it, by its 21 boxes; the other, whose number is the same in both, follows."""
    text = ssd_text(("min_size: 32 min_size: 64 min_size: 128", "min_size: 20"), (21, 1), classes=2)
    with pytest.warns(caffeport.CaffeportWarning, match='as in "faceboxes"'):
        net = nets.load(tmp_path, text)
    prior = net.to_torch().blobs(torch.zeros(1, 3, 48, 64))["conv3_prior"].numpy()
    plain = nets.load(tmp_path, ssd_text(("min_size: 64", "min_size: 20"), (1, 1), classes=2))
    other = plain.to_torch().blobs(torch.zeros(1, 3, 48, 64))["conv3_prior"].numpy()
    assert prior.shape == other.shape
    assert not np.array_equal(prior, other)


def test_a_choice_that_the_net_rules_out(tmp_path):
    with pytest.raises(caffeport.NetError, match=r"expected 4 numbers for each of"):
        nets.load(tmp_path, ssd_text(SSD, (8, 12), classes=2), prior_boxes="ssd")
