"""DetectionOutput's numbers in the bottoms and orders of RefineDet and of Synopsys' fork, against SSD's own order."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
from support import nets
from support.backends import OPSETS, assert_all, numbers
from support.detections import detection_inputs, detections

CLASSES = 4
PARAMETERS = (
    f"num_classes: {CLASSES} code_type: CENTER_SIZE confidence_threshold: 0.4 keep_top_k: 8 "
    "nms_param { nms_threshold: 0.45 top_k: 9 }"
)


def layer(bottoms, parameters):
    shapes = {f"b{i}": bottom.shape for i, bottom in enumerate(bottoms)}
    text = nets.inputs(**shapes)
    return text + nets.layer(
        "DetectionOutput", " ".join(shapes), "y", f"detection_output_param {{ {PARAMETERS} {parameters} }}"
    )


def expected(loc, conf, prior, background=0):
    return detections(loc, conf, prior, CLASSES, True, background, 9, 0.45, 1.0, 8, np.float32(0.4))


MAPS = [(3, 4), (2, 1), (1, 4), (2, 2), (1, 1), (2, 3)]  # ratios and cells of six feature maps


def cut(maps, images, seed):
    """(SSD's three blobs, then scores, offsets and priors of every map apart: images, cells, ratios, numbers)."""
    priors = sum(ratios * cells for ratios, cells in maps)
    loc, conf, prior = detection_inputs(images, priors, CLASSES, True, seed)
    start, parts = 0, []
    for ratios, cells in maps:
        end = start + ratios * cells
        parts.append(
            [
                conf.reshape(images, priors, CLASSES)[:, start:end].reshape(images, cells, ratios, CLASSES),
                loc.reshape(images, priors, 4)[:, start:end].reshape(images, cells, ratios, 4),
                prior.reshape(2, priors, 4)[:, start:end].reshape(2, cells, ratios, 4),
            ]
        )
        start = end
    return (loc, conf, prior), parts


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_feature_maps_apart(tmp_path, apart, seed):
    """13 bottoms, or 18 with the priors of each map."""
    whole, parts = cut(MAPS, 2, seed)
    conf = [part[0].reshape(2, -1) for part in parts]
    loc = [part[1].reshape(2, -1) for part in parts]
    prior = [part[2].reshape(1, 2, -1) for part in parts] if apart else [whole[2]]
    net = nets.load(tmp_path, layer([*conf, *loc, *prior], ""))
    assert_all(net, tmp_path, expected(*whole), *conf, *loc, *prior, opsets=OPSETS if seed == 0 else (17,))
    assert net.check().ok


def test_seven_maps(tmp_path):
    whole, parts = cut([*MAPS, (1, 2)], 1, 3)
    conf, loc = [part[0].reshape(1, -1) for part in parts], [part[1].reshape(1, -1) for part in parts]
    net = nets.load(tmp_path, layer([*conf, *loc, whole[2]], "nbottom: 7"))
    assert len(net.inputs) == 15
    assert_all(net, tmp_path, expected(*whole), *conf, *loc, whole[2])


def by_ratio(parts):
    """Return the three blobs of SSD with the boxes of a map by ratio, then by cell; the variances stay."""
    conf = np.concatenate([p[0].transpose(0, 2, 1, 3).reshape(len(p[0]), -1) for p in parts], 1)
    loc = np.concatenate([p[1].transpose(0, 2, 1, 3).reshape(len(p[1]), -1) for p in parts], 1)
    corners = np.concatenate([p[2][0].transpose(1, 0, 2).ravel() for p in parts])
    variances = np.concatenate([p[2][1].ravel() for p in parts])
    return loc, conf, np.stack([corners, variances])[None]


@pytest.mark.parametrize("images", [1, 2])
def test_as_the_convolutions_give_them(tmp_path, images):
    """no_permute: scores (N, C, ratios, cells), offsets (N, ratios 4, 1, cells), priors as PriorBox makes them."""
    whole, parts = cut(MAPS[:2], images, 4)
    conf = [part[0].transpose(0, 3, 2, 1) for part in parts]
    loc = [part[1].transpose(0, 2, 3, 1).reshape(images, -1, 1, part[1].shape[1]) for part in parts]
    net = nets.load(tmp_path, layer([*conf, *loc, whole[2]], "nbottom: 2 no_permute: true"))
    assert_all(net, tmp_path, expected(*by_ratio(parts)), *conf, *loc, whole[2], opsets=(13, 17))


@pytest.mark.parametrize("apart", [False, True])
def test_ratios_together(tmp_path, apart):
    """ratio_permute: numbers (N, C, boxes) with a ratio's boxes together; priors apart are (2, 4, boxes) each."""
    whole, parts = cut(MAPS[:2], 2, 5)
    conf = [part[0].transpose(0, 3, 2, 1).reshape(2, -1) for part in parts]
    loc = [part[1].transpose(0, 3, 2, 1).reshape(2, -1) for part in parts]
    prior = [whole[2]]
    if apart:
        prior = [part[2].transpose(0, 3, 2, 1).reshape(1, 2, -1) for part in parts]
    net = nets.load(tmp_path, layer([*conf, *loc, *prior], "nbottom: 2 ratio_permute: true ratio0: 3 ratio1: 2"))
    assert_all(net, tmp_path, expected(*by_ratio(parts)), *conf, *loc, *prior, opsets=(17,))


@pytest.mark.parametrize("moved", [False, True])
def test_refinedet(tmp_path, moved):
    """A first stage's scores leave priors to the background, its offsets move the others first."""
    loc, conf, prior = detection_inputs(2, 20, CLASSES, True, 6)
    arm, move = numbers(2, 40, seed=1), 0.5 * numbers(2, 80, seed=2)
    bottoms = [loc, conf, prior, arm, *([move] if moved else [])]
    net = nets.load(tmp_path, layer(bottoms, "objectness_score: 0.3"))
    scores = conf.reshape(2, 20, CLASSES).copy()
    scores[arm.reshape(2, 20, 2)[..., 1] < 0.3] = np.eye(CLASSES)[0]
    if not moved:
        assert_all(net, tmp_path, expected(loc, scores.reshape(2, -1), prior), *bottoms)
        return
    rows = []
    for image in range(2):  # each has priors of its own
        corners, variance = prior.reshape(2, -1, 4).astype(float)
        offsets = move[image].reshape(-1, 4) * variance
        size, center = corners[:, 2:] - corners[:, :2], (corners[:, 2:] + corners[:, :2]) / 2
        middle, half = center + offsets[:, :2] * size, size * np.exp(offsets[:, 2:]) / 2
        own = np.stack([np.concatenate([middle - half, middle + half], 1), variance]).reshape(1, 2, -1)
        found = expected(loc[image : image + 1], scores[image].reshape(1, -1), own)[0, 0]
        rows += [[image, *row[1:]] for row in found if row[1] >= 0]
    assert_all(net, tmp_path, np.array(rows)[None, None], *bottoms)


def test_an_image_to_draw_on(tmp_path):
    loc, conf, prior = detection_inputs(1, 20, CLASSES, True, 7)
    image = numbers(1, 3, 8, 8)
    net = nets.load(tmp_path, layer([loc, conf, prior, image], ""))
    assert_all(net, tmp_path, expected(loc, conf, prior), loc, conf, prior, image, opsets=())


REFUSED = [
    (7, "", "expected 3 to 5 bottoms, 2 nbottom . 1 or 3 nbottom, with nbottom 6, got 7"),
    (5, "", "the first stage's scores are"),
    (6, "nbottom: 2 no_permute: true", "no_permute needs the priors in one bottom"),
    (5, "nbottom: 2 ratio_permute: true ratio0: 0", "ratio_permute needs share_location, positive ratios"),
]


@pytest.mark.parametrize(("count", "parameters", "words"), REFUSED)
def test_refused(tmp_path, count, parameters, words):
    bottoms = [*detection_inputs(1, 20, CLASSES, True, 0), *([numbers(1, 8)] * (count - 3))]
    with pytest.raises(caffeport.NetError, match=rf'"y" \(DetectionOutput\): .*{words}'):
        nets.load(tmp_path, layer(bottoms, parameters))
