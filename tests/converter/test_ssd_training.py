"""SSD's loss against a loop that follows its definition, and against a real SSD fork."""

from __future__ import annotations

import itertools
import math

import caffeport
import numpy as np
import pytest
import torch
from support import caffe_trees, nets
from support.caffe_jobs import run_jobs

PRIORS, CLASSES = 24, 4

CASES = {
    "usual": "code_type: CENTER_SIZE",
    "corner": "code_type: CORNER neg_pos_ratio: 1 loc_weight: 2",
    "corner-size": "code_type: CORNER_SIZE overlap_threshold: 0.3 neg_overlap: 0.2",
    "in-target": "code_type: CENTER_SIZE encode_variance_in_target: true",
    "l2": "code_type: CENTER_SIZE loc_loss_type: L2",
    "bipartite": "code_type: CENTER_SIZE match_type: BIPARTITE",
    "no-mining": "code_type: CENTER_SIZE mining_type: NONE do_neg_mining: false",
    "hard": "code_type: CENTER_SIZE mining_type: HARD_EXAMPLE sample_size: 7",
    "hard-suppressed": "code_type: CENTER_SIZE mining_type: HARD_EXAMPLE sample_size: 9 use_prior_for_nms: true "
    "nms_param { nms_threshold: 0.4 top_k: 20 }",
    "negatives-suppressed": "code_type: CENTER_SIZE neg_pos_ratio: 4 nms_param { nms_threshold: 0.3 top_k: 15 }",
    "nothing-left": "code_type: CENTER_SIZE nms_param { nms_threshold: 0.3 }",
    "logistic": "code_type: CENTER_SIZE conf_loss_type: LOGISTIC",
    "logistic-no-mining": "code_type: CENTER_SIZE conf_loss_type: LOGISTIC mining_type: NONE",
    "logistic-background": "code_type: CENTER_SIZE conf_loss_type: LOGISTIC background_label_id: 3",
    "no-difficult": "code_type: CENTER_SIZE use_difficult_gt: false",
    "boundary": "code_type: CORNER ignore_cross_boundary_bbox: true",
    "boundary-hard": "code_type: CORNER ignore_cross_boundary_bbox: true mining_type: HARD_EXAMPLE sample_size: 12",
    "inside": "code_type: CORNER bp_inside: true",
    "inside-prediction": "code_type: CORNER bp_inside: true use_prior_for_matching: false",
    "matched-by-prediction": "code_type: CENTER_SIZE use_prior_for_matching: false",
    "class-boxes": "code_type: CENTER_SIZE share_location: false mining_type: NONE",
    "class-boxes-by-prediction": "code_type: CENTER_SIZE share_location: false mining_type: NONE "
    "use_prior_for_matching: false",
    "last-is-background": "code_type: CENTER_SIZE background_label_id: 3",
}
NORMALIZATIONS = ("", "normalization: FULL", "normalization: BATCH_SIZE", "normalization: NONE", "normalize: false")


def fields(parameters: str) -> dict[str, str]:
    """Find the field of each name in the text, nested ones too."""
    words = parameters.replace("{", " ").replace("}", " ").split()
    return {words[i][:-1]: words[i + 1] for i in range(len(words) - 1) if words[i].endswith(":")}


def text(parameters, images, boxes, normalization="", shared=True, classes=CLASSES, trained=False):
    """``trained``: with a layer (by 1) before offsets and scores that makes Caffe go back to them."""
    located = PRIORS * 4 * (1 if shared else classes)
    front, suffix = "", "_in" if trained else ""
    shapes = {f"loc{suffix}": (images, located), f"conf{suffix}": (images, PRIORS * classes)}
    text = nets.inputs(**shapes, prior=(1, 2, PRIORS * 4), truth=(1, 1, boxes, 8))
    if trained:
        front = "".join(
            nets.layer("Scale", f"{x}_in", x, "scale_param { axis: 0 num_axes: 0 }") for x in ("loc", "conf")
        )
    return text + front + nets.layer(
        "MultiBoxLoss", "loc conf prior truth", "loss",
        f"multibox_loss_param {{ num_classes: {classes} {parameters} }} loss_param {{ {normalization} }} "
        f"propagate_down: true propagate_down: true propagate_down: false propagate_down: false",
    )  # fmt: skip


def arrays(seed, images=3, shared=True, background=0):
    """Offsets, scores, priors and ground truth: the last image has none, and a row says nothing."""
    random = np.random.default_rng(seed)
    low = random.random((PRIORS, 2)) * 0.7 - 0.05
    corners = np.concatenate([low, low + 0.1 + random.random((PRIORS, 2)) * 0.4], 1)
    prior = np.stack([corners.ravel(), np.tile([0.1, 0.1, 0.2, 0.2], PRIORS)])[None]
    loc = random.standard_normal((images, PRIORS * 4 * (1 if shared else CLASSES)))
    conf = 2 * random.standard_normal((images, PRIORS * CLASSES))
    labels = [label for label in range(CLASSES) if label != background]
    rows = []
    for image in range(images - 1):
        for index in range(3):
            near = corners[random.integers(PRIORS)] + 0.05 * random.standard_normal(4)
            near[2:] = np.maximum(near[2:], near[:2] + 0.05)
            rows.append([image, random.choice(labels), index, *near, index == 2])
    rows.insert(2, [-1] * 8)
    return [x.astype(np.float32) for x in (loc, conf, prior, np.array(rows, float)[None, None])]


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def encode(box, prior, variance, code, in_target):
    box, prior = np.asarray(box), np.asarray(prior)
    size = prior[2:] - prior[:2]
    if code == "CORNER":
        offsets = box - prior
    elif code == "CORNER_SIZE":
        offsets = (box - prior) / np.tile(size, 2)
    else:
        move = ((box[:2] + box[2:]) / 2 - (prior[:2] + prior[2:]) / 2) / size
        offsets = np.concatenate([move, np.log((box[2:] - box[:2]) / size)])
    return offsets if in_target else offsets / variance


def decode(offsets, prior, variance, code, in_target):
    offsets = np.asarray(offsets) * (1 if in_target else variance)
    size = prior[2:] - prior[:2]
    if code == "CORNER":
        return prior + offsets
    if code == "CORNER_SIZE":
        return prior + offsets * np.tile(size, 2)
    center = offsets[:2] * size + (prior[:2] + prior[2:]) / 2
    half = np.exp(offsets[2:]) * size / 2
    return np.concatenate([center - half, center + half])


def match(boxes, candidates, p):
    """(index, largest overlap) of every candidate: first the best pair of all, again and again."""
    index, largest = [-1] * len(candidates), [0.0] * len(candidates)
    pairs = {}
    for i, candidate in enumerate(candidates):
        if p.get("ignore_cross_boundary_bbox") == "true" and (min(candidate) < 0 or max(candidate) > 1):
            index[i] = -2
            continue
        for j, box in enumerate(boxes):
            shared = overlap(candidate, box[3:7])
            if shared > 1e-6:
                pairs[i, j] = shared
                largest[i] = max(largest[i], shared)
    left = set(range(len(boxes)))
    while left:
        open_pairs = {key: shared for key, shared in pairs.items() if index[key[0]] == -1 and key[1] in left}
        if not open_pairs:
            break
        i, j = max(open_pairs, key=open_pairs.get)
        index[i], largest[i] = j, pairs[i, j]
        left.remove(j)
    if p.get("match_type") != "BIPARTITE":
        for i in range(len(candidates)):
            close = {j: pairs[i, j] for j in range(len(boxes)) if (i, j) in pairs}
            if index[i] == -1 and close and max(close.values()) >= float(p.get("overlap_threshold", 0.5)):
                index[i] = max(close, key=close.get)
    return index, largest


def class_loss(scores, label):
    most = max(scores)
    return math.log(sum(math.exp(s - most) for s in scores)) + most - scores[label]


def logistic_loss(scores, target):
    return sum(max(s, 0) - s * t + math.log1p(math.exp(-abs(s))) for s, t in zip(scores, target, strict=True))


def suppress(order, boxes, threshold, top_k):
    """Keep each box that overlaps none kept before by more than the threshold."""
    order, indices = order[: top_k if top_k > -1 else None], []
    for i in order:
        sides = boxes[i][2:] - boxes[i][:2]
        if min(sides) < 0 or sides[0] * sides[1] < 1e-5:
            continue
        if all(overlap(boxes[i], boxes[j]) <= threshold for j in indices):
            indices.append(i)
    return indices


def reference(loc, conf, prior, truth, parameters, normalization=""):
    """Compute the loss, image by image and prior by prior, in the order of the definition."""
    p = fields(parameters)
    shared, background = p.get("share_location") != "false", int(p.get("background_label_id", 0))
    code, in_target = p.get("code_type", "CORNER"), p.get("encode_variance_in_target") == "true"
    logistic, mining = p.get("conf_loss_type") == "LOGISTIC", p.get("mining_type", "MAX_NEGATIVE")
    images = len(loc)
    corners, variance = prior.astype(float).reshape(2, -1, 4)
    loc = loc.astype(float).reshape(images, PRIORS, -1, 4)
    conf = conf.astype(float).reshape(images, PRIORS, CLASSES)
    rows = truth.astype(float).reshape(-1, 8)
    targets = np.full(conf.size, float(background))  # of LOGISTIC without mining
    offset_loss, score_loss, matched = 0.0, 0.0, 0
    for image in range(images):
        boxes = [row for row in rows if row[0] == image and not (p.get("use_difficult_gt") == "false" and row[7])]

        def predicted(c, image=image):
            pairs = zip(loc[image, :, c], corners, variance, strict=True)
            return [decode(offsets, *rest, code, in_target) for offsets, *rest in pairs]

        matches = {}  # {class, or -1: (index, overlap)}
        classes = [-1] if shared else [c for c in range(CLASSES) if c != background]
        if boxes and p.get("use_prior_for_matching") == "false":
            for c in classes:
                mine = [j for j, box in enumerate(boxes) if c in (-1, box[1])]
                index, largest = match([boxes[j] for j in mine], predicted(max(c, 0)), p)
                matches[c] = [mine[j] if j >= 0 else j for j in index], largest
        elif boxes:
            index, largest = match(boxes, corners, p)
            for c in classes:
                matches[c] = [j if c == -1 or (j >= 0 and boxes[j][1] == c) else -1 for j in index], largest

        def offset_errors(m, j, c, image=image, boxes=boxes):
            guess = loc[image, m, max(c, 0)].copy()
            goal = encode(boxes[j][3:7], corners[m], variance[m], code, in_target)
            if p.get("bp_inside") == "true":
                box = corners[m]
                if p.get("use_prior_for_matching") == "false":
                    box = decode(guess, corners[m], variance[m], code, in_target)
                guess = np.where((box < 0) | (box > 1), goal, guess)
            error = (guess - goal) / (variance[m] if in_target else 1)
            if p.get("loc_loss_type") == "L2":
                return sum(error**2) / 2
            return sum(e * e / 2 if abs(e) < 1 else abs(e) - 0.5 for e in error)

        negatives = []
        if boxes and mining != "NONE":
            index, largest = matches[-1]
            losses = []
            for m, j in enumerate(index):
                label = int(boxes[j][1]) if j >= 0 else background
                one_hot = [float(c == label) for c in range(CLASSES)]
                losses.append(logistic_loss(conf[image, m], one_hot) if logistic else class_loss(conf[image, m], label))
            if mining == "HARD_EXAMPLE":
                losses = [
                    loss + (offset_errors(m, index[m], -1) if index[m] >= 0 else 0) for m, loss in enumerate(losses)
                ]
                eligible, most = list(range(PRIORS)), int(p["sample_size"])
            else:
                limit = float(p.get("neg_overlap", 0.5))
                eligible = [m for m in range(PRIORS) if index[m] == -1 and largest[m] < limit]
                most = int(sum(j >= 0 for j in index) * float(p.get("neg_pos_ratio", 3)))
            order = sorted(eligible, key=lambda m: -losses[m])
            if "nms_threshold" in p:
                candidates = corners if p.get("use_prior_for_nms") == "true" else predicted(0)
                order = suppress(order, candidates, float(p["nms_threshold"]), int(p.get("top_k", 0)))
            selected = set(order[:most])
            for m in range(PRIORS):
                if index[m] >= 0 and mining == "HARD_EXAMPLE" and m not in selected:
                    index[m] = -1
                elif index[m] == -1 and m in selected:
                    negatives.append(m)
        labels = {m: [] for m in range(PRIORS)}
        for c, (index, _) in matches.items():
            for m, j in enumerate(index):
                if j >= 0:
                    matched += 1
                    offset_loss += offset_errors(m, j, c)
                    labels[m].append(int(boxes[j][1]))
        for m in range(PRIORS):
            if mining == "NONE" and logistic:
                for label in labels[m]:
                    targets[image * PRIORS + m * CLASSES + label] = 1  # as Caffe counts
            elif labels[m] or m in negatives or mining == "NONE":
                label = labels[m][-1] if labels[m] else background
                target = np.full(CLASSES, float(background))
                target[label] = 1
                score_loss += logistic_loss(conf[image, m], target) if logistic else class_loss(conf[image, m], label)
    if mining == "NONE" and logistic:
        score_loss = logistic_loss(conf.ravel(), targets)
    mode = fields(normalization)
    mode = "BATCH_SIZE" if mode.get("normalize") == "false" else mode.get("normalization", "VALID")
    divisor = {"VALID": matched, "FULL": images * PRIORS, "BATCH_SIZE": images, "NONE": 1}[mode]
    return (float(p.get("loc_weight", 1)) * offset_loss + score_loss) / max(1, divisor)


def prepared(parameters, seed):
    p = fields(parameters)
    shared = p.get("share_location") != "false"
    return shared, arrays(seed, shared=shared, background=int(p.get("background_label_id", 0)))


@pytest.mark.parametrize("parameters", CASES.values(), ids=CASES)
@pytest.mark.parametrize("seed", range(3))
def test_loss(tmp_path, parameters, seed):
    shared, given = prepared(parameters, seed)
    normalization = NORMALIZATIONS[seed]
    net = nets.load(tmp_path, text(parameters, 3, 7, normalization, shared=shared), phase="train")
    loss = net.to_torch()(*map(torch.tensor, given))
    assert loss.shape == ()
    np.testing.assert_allclose(float(loss), reference(*given, parameters, normalization), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("parameters", CASES.values(), ids=CASES)
def test_gradients(tmp_path, parameters):
    """By finite differences, where no offset lies at a kink: matches and mining are constants in between."""
    shared, given = prepared(parameters, 5)
    if "HARD" in parameters or "by-prediction" in parameters:
        given[0] *= 0.5
    net = nets.load(tmp_path, text(parameters, 3, 7, shared=shared), phase="train", exact_gradients=True)
    model = net.to_torch().double()
    inputs = [torch.tensor(x).double() for x in given]
    for x in inputs[:2]:
        x.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: model(a, b, *inputs[2:]), inputs[:2], eps=1e-7, atol=1e-5)


def test_agnostic(tmp_path):
    given = arrays(0)
    conf = given[1].reshape(3, PRIORS, CLASSES)[:, :, :2].reshape(3, -1)
    layer = text("code_type: CENTER_SIZE map_object_to_agnostic: true", 3, 7, classes=2)
    net = nets.load(tmp_path, layer, phase="train")
    one_class = given[3].copy()
    one_class[..., 1] = np.where(one_class[..., 0] >= 0, 1, -1)
    model = net.to_torch()
    losses = [float(model(*map(torch.tensor, (given[0], conf, given[2], rows)))) for rows in (given[3], one_class)]
    assert losses[0] == losses[1]


def test_no_match_at_all(tmp_path):
    """No ground truth: the loss is 0 and has gradients of 0, or with all negatives theirs."""
    given = arrays(0)
    given[3] = np.full((1, 1, 1, 8), -1, np.float32)
    for parameters, positive in (("", False), ("mining_type: NONE", True)):
        net = nets.load(tmp_path, text(parameters, 3, 1), phase="train")
        inputs = [torch.tensor(x).requires_grad_() for x in given[:2]]
        loss = net.to_torch()(*inputs, *map(torch.tensor, given[2:]))
        loss.backward()
        assert (loss.item() > 0) is positive
        assert (float(inputs[1].grad.abs().sum()) > 0) is positive
        assert float(inputs[0].grad.abs().sum()) == 0


def test_propagate_down(tmp_path):
    """A loss whose bottom takes no gradient is not in the sum, as in the definition."""
    given = arrays(1)
    both = text("code_type: CENTER_SIZE", 3, 7)
    values = []
    for first, second in (("true", "true"), ("false", "true"), ("true", "false")):
        changed = both.replace(
            "propagate_down: true propagate_down: true", f"propagate_down: {first} propagate_down: {second}"
        )
        values.append(float(nets.load(tmp_path, changed, phase="train").to_torch()(*map(torch.tensor, given))))
    np.testing.assert_allclose(values[0], values[1] + values[2], 1e-6)
    assert min(values) > 0.1


REFUSED = {
    "num_classes: 0": "num_classes of 1 or more",
    "mining_type: NONE do_neg_mining: true": "do_neg_mining is true, but mining_type is NONE",
    "share_location: false": "mining needs share_location",
    "background_label_id: 9": "background_label_id 9 is none of 4 classes",
    "map_object_to_agnostic: true": "knows one class beside",
    "mining_type: HARD_EXAMPLE sample_size: 0": "positive sample_size",
}


@pytest.mark.parametrize("parameters", REFUSED)
def test_refused(tmp_path, parameters):
    layer = text(parameters, 3, 7)
    if "num_classes" in parameters:
        layer = layer.replace(f"num_classes: {CLASSES} ", "")
    with pytest.raises(caffeport.NetError, match=f'"loss" \\(MultiBoxLoss\\): .*{REFUSED[parameters]}'):
        nets.load(tmp_path, layer, phase="train")


def test_refused_labels(tmp_path):
    net = nets.load(tmp_path, text("", 3, 7), phase="train")
    for label, words in ((0, "the background's label"), (4, "beyond 4 classes")):
        given = arrays(0)
        given[3][0, 0, 0, 1] = label
        with pytest.raises(Exception, match=words):
            net.to_torch()(*map(torch.tensor, given))


def test_annotated_data(tmp_path):
    """Its tops are inputs: the images', and ground truth of as many rows as a batch has boxes."""
    for parameters, truth in (("", (1, 1, 5, 8)), ("annotated_data_param { yolo_data_type: 1 }", (5, 1, 300, 5))):
        layer = nets.layer(
            "AnnotatedData", "", "data label",
            "transform_param { crop_size: 30 mean_value: 1 mean_value: 2 mean_value: 3 } "
            f'data_param {{ source: "trainval_lmdb" batch_size: 5 backend: LMDB }} {parameters} '
            "annotated_data_param { batch_sampler { sampler { min_scale: 0.3 max_scale: 1 } sample_constraint { "
            'min_jaccard_overlap: 0.5 } max_sample: 1 max_trials: 50 } label_map_file: "labelmap_voc.prototxt" }'
            if not parameters else
            f"transform_param {{ crop_size: 30 }} data_param {{ batch_size: 5 }} {parameters}",
        )  # fmt: skip
        net = nets.load(tmp_path, layer, phase="train")
        assert net.blob_shapes == {"data": (5, 3, 30, 30), "label": truth}
        assert net.inputs == ["data", "label"]


def test_samples_train(tmp_path):
    """The net makes itself inputs that its loss can take."""
    net = nets.load(tmp_path, text("code_type: CENTER_SIZE", 3, 3), phase="train")
    sample = net.sample_inputs(0)
    assert float(net.to_torch()(*(torch.tensor(np.asarray(sample[name])) for name in net.inputs))) > 0


@pytest.mark.slow
def test_against_a_real_fork(tmp_path):
    """Loss and gradients of every case and normalization, in one process of the SSD fork."""
    tree = caffe_trees.require("ssd")
    jobs, runs = {}, {}
    for index, ((case, parameters), seed) in enumerate(itertools.product(CASES.items(), range(2))):
        normalization = NORMALIZATIONS[index % len(NORMALIZATIONS)]
        shared, given = prepared(parameters, 10 + seed)
        name = f"{case}-{seed}"
        layer = text(parameters, 3, 7, normalization, shared=shared, trained=True)
        jobs[name] = {"kind": "once", "net": layer, "phase": "train", "backward": True}
        blobs = ("loc_in", "conf_in", "prior", "truth")
        jobs[name].update({f"input/{blob}": x for blob, x in zip(blobs, given, strict=True)})
        runs[name] = text(parameters, 3, 7, normalization, shared=shared), given
    results = run_jobs(tree, tmp_path, jobs)
    for name, (layer, given) in runs.items():
        inputs = [torch.tensor(x).requires_grad_(i < 2) for i, x in enumerate(given)]
        loss = nets.load(tmp_path, layer, phase="train").to_torch()(*inputs)
        loss.backward()
        np.testing.assert_allclose(loss.item(), results[name]["data/loss"], 1e-5, err_msg=name)
        for i, blob in enumerate(("loc", "conf")):
            # Sums of some dozen float32 terms.
            np.testing.assert_allclose(
                inputs[i].grad.numpy(), results[name][f"diff/{blob}"], 1e-4, 1e-6, err_msg=f"{name} {blob}"
            )
