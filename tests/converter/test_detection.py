"""SSD's boxes beyond what is recorded of them, against loops that follow SSD's code box by box."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from caffeport.to_torch.file import save_torch
from support import nets
from support.backends import OPSETS, assert_all, numbers
from support.detections import detection_inputs, detections


def prior_boxes(cells, image, steps, sizes, ratios, offset):
    """One box after the other, as SSD's layer makes them. ``sizes``: (min, max or None)."""
    boxes = []
    for h in range(cells[0]):
        for w in range(cells[1]):
            x, y = (w + offset) * steps[1], (h + offset) * steps[0]
            for least, most in sizes:
                shapes = [(least, least)] + ([(math.sqrt(least * most),) * 2] if most else [])
                shapes += [(least * math.sqrt(r), least / math.sqrt(r)) for r in ratios]
                for width, height in shapes:
                    boxes += [(x - width / 2) / image[1], (y - height / 2) / image[0]]
                    boxes += [(x + width / 2) / image[1], (y + height / 2) / image[0]]
    return np.array(boxes)


@pytest.mark.parametrize(
    ("text", "image", "steps", "sizes", "ratios"),
    [
        ("min_size: 4.9 max_size: 9.9 aspect_ratio: 2 aspect_ratio: 0.5", (24, 30), (12, 10), [(4, 9)], [2, 0.5]),
        ("min_size: 4 min_size: 7 flip: false aspect_ratio: 3 aspect_ratio: 1 aspect_ratio: 3",
         (24, 30), (12, 10), [(4, None), (7, None)], [3]),
        ("min_size: 4 max_size: 5 min_size: 6 max_size: 8 img_size: 100 step: 7",
         (100, 100), (7, 7), [(4, 5), (6, 8)], []),
        ("min_size: 4 img_h: 50 img_w: 60 step_h: 3 step_w: 4 aspect_ratio: 2",
         (50, 60), (3, 4), [(4, None)], [2, 0.5]),
    ],
)  # fmt: skip
def test_prior_box(tmp_path, text, image, steps, sizes, ratios):
    text = nets.inputs(x=(1, 2, 2, 3), im=(1, 3, 24, 30)) + nets.layer(
        "PriorBox", "x im", "y", f"prior_box_param {{ {text} clip: false offset: 0.25 variance: 1 variance: 2 "
        "variance: 3 variance: 4 }"
    )  # fmt: skip
    boxes = prior_boxes((2, 3), image, steps, sizes, ratios, 0.25)
    expected = np.stack([boxes, np.tile([1, 2, 3, 4], len(boxes) // 4)])[None]
    net = nets.load(tmp_path, text)
    assert_all(net, tmp_path, expected, numbers(1, 2, 2, 3), numbers(1, 3, 24, 30))
    larger = net.to_torch()(torch.zeros(1, 2, 4, 3), torch.zeros(1, 3, 24, 30))
    assert larger.shape == (1, 2, 2 * len(boxes))


CASES = {
    "usual": {},
    "class-boxes": {"shared": False},
    "no-limits": {"top_k": -1, "keep": -1},
    "no-background": {"background": -1, "keep": 5},
    "last-is-background": {"background": 3, "shared": False},
    "few": {"top_k": 2, "keep": 3},
    "nothing-overlaps-too-much": {"threshold": 1.5, "keep": -1},
    "no-overlap-allowed": {"threshold": 0.0},
    "eta-without-effect": {"eta": 0.5, "threshold": 0.5},
    "most-below-confidence": {"confidence": 0.97},
    "nothing": {"confidence": 1.0},
}


def detection_net(tmp_path, images, priors, classes=4, shared=True, background=0, top_k=9, threshold=0.45, eta=1.0,
                  keep=8, confidence=0.4):  # fmt: skip
    located = priors * 4 * (1 if shared else classes)
    text = nets.inputs(loc=(images, located), conf=(images, priors * classes), prior=(1, 2, priors * 4))
    text += nets.layer(
        "DetectionOutput", "loc conf prior", "y",
        f"detection_output_param {{ num_classes: {classes} share_location: {str(shared).lower()} "
        f"background_label_id: {background} nms_param {{ nms_threshold: {threshold} top_k: {top_k} eta: {eta} }} "
        f"code_type: CENTER_SIZE keep_top_k: {keep} confidence_threshold: {confidence} }}",
    )  # fmt: skip
    return nets.load(tmp_path, text)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("seed", range(3))
def test_detection_output(tmp_path, case, seed):
    values = {"shared": True, "background": 0, "top_k": 9, "threshold": 0.45, "eta": 1.0, "keep": 8,
              "confidence": 0.4, **case}  # fmt: skip
    net = detection_net(tmp_path, 2, 20, **case)
    for images in (2, 1, 3):  # the ONNX file leaves the batch free
        arrays = detection_inputs(images, 20, 4, values["shared"], seed)
        expected = detections(*arrays, 4, **{**values, "confidence": np.float32(values["confidence"])})
        assert_all(net, tmp_path, expected, *arrays, opsets=OPSETS if seed == 0 else (17,))


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.3, 0.95])
def test_detection_output_with_many_boxes(tmp_path, threshold):
    net = detection_net(tmp_path, 1, 700, threshold=threshold, top_k=-1, keep=-1, confidence=0)
    arrays = detection_inputs(1, 700, 4, True, 0)
    expected = detections(*arrays, 4, True, 0, -1, threshold, 1.0, -1, 0)
    assert_all(net, tmp_path, expected, *arrays, opsets=(17,))


def test_detection_output_with_eta(tmp_path):
    """A threshold that falls while boxes are kept: in torch; ONNX has no such suppression and says so."""
    net = detection_net(tmp_path, 2, 30, threshold=0.9, eta=0.8, top_k=-1, keep=-1)
    arrays = detection_inputs(2, 30, 4, True, 0)
    expected = detections(*arrays, 4, True, 0, -1, 0.9, 0.8, -1, np.float32(0.4))
    assert expected.shape != detections(*arrays, 4, True, 0, -1, 0.9, 1.0, -1, np.float32(0.4)).shape
    assert_all(net, tmp_path, expected, *arrays, opsets=())
    with pytest.raises(caffeport.ExportError, match=r'"y" \(DetectionOutput\).*eta.*set eta to 1.*outputs='):
        net.to_onnx(tmp_path / "n.onnx")


def test_detection_output_in_check(tmp_path):
    assert detection_net(tmp_path, 2, 20).check().ok


@pytest.mark.slow
def test_a_program_of_torch_export_is_refused_in_a_sentence(tmp_path, capfd):
    """torch itself prints its whole graph, and knows nothing of the layer."""
    net = detection_net(tmp_path, 2, 20)
    with pytest.raises(caffeport.ExportError, match=r'"y" \(DetectionOutput\): gives as many rows as .*--output BLOB'):
        save_torch(net, tmp_path / "n.pt2")
    assert capfd.readouterr().err == ""


def test_detections_that_caffe_would_write_to_files(tmp_path):
    save = 'save_output_param { output_directory: "out" label_map_file: "a" name_size_file: "b" }'
    text = nets.inputs(loc=(1, 8), conf=(1, 6), prior=(1, 2, 8)) + nets.layer(
        "DetectionOutput", "loc conf prior", "y", f"detection_output_param {{ num_classes: 3 {save} }}"
    )
    with pytest.warns(caffeport.CaffeportWarning, match='not written to "out"'):
        nets.load(tmp_path, text)
