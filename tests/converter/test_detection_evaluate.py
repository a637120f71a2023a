"""Which detections count as right, against a loop that follows the definition and against a real SSD fork."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from support import caffe_trees, nets
from support.caffe_jobs import run_jobs

CLASSES, DETECTIONS, BOXES = 4, 40, 9
SIZES = [(50, 80), (300, 200), (120, 90), (64, 64)]

CASES = {
    "usual": "",
    "threshold": "overlap_threshold: 0.2",
    "difficult": "overlap_threshold: 0.3 evaluate_difficult_gt: false",
    "last-is-background": "overlap_threshold: 0.3 background_label_id: 3",
    "pixels": 'overlap_threshold: 0.3 name_size_file: "SIZES"',
}


def text(parameters, folder):
    (folder / "sizes.txt").write_text("".join(f"name{i} {h} {w}\n" for i, (h, w) in enumerate(SIZES)))
    parameters = parameters.replace("SIZES", str(folder / "sizes.txt"))
    return nets.inputs(found=(1, 1, DETECTIONS, 7), truth=(1, 1, BOXES + 1, 8)) + nets.layer(
        "DetectionEvaluate", "found truth", "y", f"detection_evaluate_param {{ num_classes: {CLASSES} {parameters} }}"
    )


def arrays(seed, background=0):
    """Detections near the boxes and elsewhere, on more images than have boxes; a row of none; scores differ."""
    random = np.random.default_rng(seed)
    labels = [label for label in range(CLASSES) if label != background]
    low = random.random((BOXES, 2)) * 0.5
    corners = np.concatenate([low, low + 0.2 + random.random((BOXES, 2)) * 0.3], 1)
    truth = np.stack([np.array([i // 3, random.choice(labels), 0, *corners[i], i % 4 == 0]) for i in range(BOXES)])
    truth = np.concatenate([truth, np.full((1, 8), -1.0)])
    detections = []
    for score in random.permutation(DETECTIONS) / DETECTIONS:
        box = random.integers(BOXES)
        image, label = (int(truth[box, 0]), truth[box, 1]) if random.random() < 0.8 else (3, random.choice(labels))
        detections.append([image, label, score, *(truth[box, 3:7] + 0.06 * random.standard_normal(4))])
    detections[5] = [-1] * 7
    return np.array(detections, np.float32)[None, None], truth.astype(np.float32)[None, None]


def share(a, b, scale):
    """Intersection over union; in pixels a box has its last row and column, and boxes apart share one pixel."""
    pixel = 0 if scale is None else 1
    if scale is not None:
        a, b = a * scale, b * scale
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    sides = high - low + pixel if (high >= low).all() else np.array([pixel, pixel], float)
    areas = [np.prod(box[2:] - box[:2] + pixel) if (box[2:] >= box[:2]).all() else 0 for box in (a, b)]
    return np.prod(sides) / (sum(areas) - np.prod(sides)) if (sides > 0).all() else 0.0


def reference(found, truth, threshold, difficult_counts, background, sizes):
    boxes = [row for row in truth[0, 0].astype(float) if row[0] >= 0]
    labels = [label for label in range(CLASSES) if label != background]
    rows = []
    for label in labels:
        rows.append([-1, label, sum(b[1] == label and (difficult_counts or not b[7]) for b in boxes), -1, -1])
    detections = [row for row in found[0, 0].astype(float) if row[0] >= 0]
    for turn, image in enumerate(sorted({int(row[0]) for row in detections})):
        for label in sorted({row[1] for row in detections if row[0] == image}):
            mine = [b for b in boxes if b[0] == image and b[1] == label]
            used = set()
            some = [row for row in detections if row[0] == image and row[1] == label]
            for row in sorted(some, key=lambda r: -r[2]) if mine else some:
                height, width = sizes[turn] if sizes else (0, 0)
                scale = np.array([width, height, width, height]) if sizes else None
                shares = [share(row[3:], b[3:7], scale) for b in mine]
                best = int(np.argmax(shares)) if mine else -1
                if not mine or shares[best] < threshold:
                    verdict = (0, 1)
                elif mine[best][7] and not difficult_counts:
                    verdict = (0, 0)
                else:
                    verdict = (0, 1) if best in used else (1, 0)
                    used.add(best)
                rows.append([image, label, row[2], *verdict])
    rows += [[0] * 5] * (len(labels) + DETECTIONS - len(rows))
    return np.array(rows, float)[None, None]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_detection_evaluate(tmp_path, case, seed):
    background = 3 if "background" in CASES[case] else 0
    given = arrays(seed, background)
    net = nets.load(tmp_path, text(CASES[case], tmp_path))
    top = net.to_torch()(*map(torch.tensor, given)).numpy()
    threshold = 0.5 if case == "usual" else 0.2 if case == "threshold" else 0.3
    sizes = SIZES if case == "pixels" else None
    expected = reference(*given, threshold, "difficult" not in case, background, sizes)
    assert top.shape == net.blob_shapes["y"]
    np.testing.assert_allclose(top, expected, 1e-6)
    assert expected[..., 3].max() == 1


@pytest.mark.slow
def test_against_a_real_fork(tmp_path):
    tree = caffe_trees.require("ssd")
    runs = {}
    for case, parameters in CASES.items():
        runs[case] = text(parameters, tmp_path), arrays(20, 3 if "background" in parameters else 0)
    jobs = {
        case: {"kind": "once", "net": layer, "phase": "test", "backward": False, "input/found": given[0],
               "input/truth": given[1]}
        for case, (layer, given) in runs.items()
    }  # fmt: skip
    results = run_jobs(tree, tmp_path, jobs)
    for case, (layer, given) in runs.items():
        top = nets.load(tmp_path, layer).to_torch()(*map(torch.tensor, given)).numpy()
        np.testing.assert_allclose(top, results[case]["data/y"], 1e-6, err_msg=case)


def test_images_go_on_with_the_file(tmp_path):
    """The sizes are those of the images in turn, from one batch to the next."""
    model = nets.load(tmp_path, text(CASES["pixels"], tmp_path)).to_torch()
    given = arrays(1)
    for turn in range(2):
        top = model(*map(torch.tensor, given)).numpy()
        images = len({int(row[0]) for row in given[0][0, 0] if row[0] >= 0})
        sizes = [SIZES[(turn * images + i) % len(SIZES)] for i in range(images)]
        np.testing.assert_allclose(top, reference(*given, 0.3, True, 0, sizes), 1e-6)


def test_cascade_rcnn(tmp_path):
    """Rows with corners before the label, boxes scaled to the file's sizes, detections of label -1 left out."""
    found, truth = (array[0, 0] for array in arrays(2))
    sizes = [(50, 80), (25, 40), (100, 160), (50, 80)]
    found[5] = found[6] * [1, 1, 1, 1, 1, 1, 1]
    found[5, 1] = -1
    pixels = np.array([80, 50, 80, 50], np.float32)
    given = (
        np.concatenate([found[:, :1], found[:, 3:] * pixels, found[:, 1:3]], 1),
        np.concatenate([truth[:, :1], truth[:, 3:7] * pixels, truth[:, 1:3], truth[:, 7:]], 1),
        np.array([[50, 80]] * 4, np.float32),
    )
    (tmp_path / "sizes.txt").write_text("".join(f"n {h} {w}\n" for h, w in sizes))
    layer = nets.inputs(found=given[0].shape, truth=given[1].shape, sizes=(4, 2)) + nets.layer(
        "DetectionEvaluate", "found truth sizes", "y",
        f'detection_evaluate_param {{ num_classes: 4 overlap_threshold: 0.3 name_size_file: "{tmp_path}/sizes.txt" }}',
    )  # fmt: skip
    top = nets.load(tmp_path, layer).to_torch()(*map(torch.tensor, given)).numpy()
    without = np.where(found[:, 1:2] == -1, -1, found)[None, None]
    expected = reference(without, truth[None, None], 0.3, True, 0, sizes)[0, 0][:-1]  # SSD's row for it stays 0
    np.testing.assert_allclose(top, expected[:, :, None, None], 1e-6)


def test_without_the_file(tmp_path):
    net = nets.load(tmp_path, text('name_size_file: "no/such/file"', tmp_path))
    with pytest.warns(caffeport.CaffeportWarning, match='name_size_file "no/such/file" is not here'):
        model = net.to_torch()
    given = arrays(3)
    np.testing.assert_allclose(model(*map(torch.tensor, given)).numpy(), reference(*given, 0.5, True, 0, None), 1e-6)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [("overlap_threshold: 0", "positive overlap_threshold, got 0"), ("", r"the ground truth are \(1, 1, 9, 7\)")],
)
def test_refused(tmp_path, parameters, words):
    layer = text(parameters, tmp_path)
    if not parameters:
        layer = layer.replace(f"dim: {BOXES + 1} dim: 8", f"dim: {BOXES} dim: 7")
    with pytest.raises(caffeport.NetError, match=f'"y" \\(DetectionEvaluate\\): .*{words}'):
        nets.load(tmp_path, layer)


def test_no_onnx(tmp_path):
    with pytest.raises(caffeport.ExportError, match=r'"y" \(DetectionEvaluate\): a metric layer'):
        nets.load(tmp_path, text("", tmp_path)).to_onnx(tmp_path / "n.onnx")
