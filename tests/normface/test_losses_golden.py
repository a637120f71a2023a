"""The losses against the NormFace fork's own numbers (tests/golden/face_layers; float32, on the CPU)."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from normface import losses
from support import golden_cases

RTOL, ATOL = 1e-4, 1e-6  # float32 sums of a few terms, in another order
FORK_EPS = 1e-6  # under the root of every length, in the fork's CPU code


def recorded(name):
    with np.load(golden_cases.GOLDEN / "face_layers" / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def named(prefix):
    return [name for name in golden_cases.cases("face_layers") if name.startswith(prefix)]


def options(case, message):
    """The fields of a layer's message in the recording's text, as Python values."""
    found = re.search(message + r"\{(.*?)\}\s*\}", str(case["prototxt"]))
    assert found, message
    values = {"true": True, "false": False}
    fields = re.findall(r"(\w+)\s*:\s*([\w.+-]+)", found[1])
    return {name: values[text] if text in values else float(text) for name, text in fields}


def tensor(case, key):
    return torch.tensor(case[key])


def labels(case):
    return tensor(case, "data/label").long()


def same(found, expected):
    found = found.detach().numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, RTOL, ATOL)


def test_normalized_softmax():
    """Normalize -> InnerProduct normalize -> Scale with min_value -> SoftmaxWithLoss, forward and backward."""
    case = recorded("scaled_cosine_softmax")
    scale = case["blob_before/cosine_scale/0"].item()
    loss = losses.NormalizedSoftmaxLoss(4, 5, initial_scale=scale, min_scale=0.01, eps=FORK_EPS)
    with torch.no_grad():
        loss.weight.copy_(tensor(case, "blob_before/cosine_layer/0"))
    x = tensor(case, "data/data").requires_grad_()
    value = loss(x, labels(case))
    same(value, case["data/softmax_loss"])
    # The fork's last "cosine" is what came out of Scale, in place.
    same(loss.logits(x), case["data/cosine"])
    value.backward()
    same(x.grad, case["diff/data"])
    same(loss.scale.grad, case["blob_diff/cosine_scale/0"])
    # The fork's gradient is that of the unit rows; ours goes on through their length.
    w, of_unit = case["blob_before/cosine_layer/0"].astype(float), case["blob_diff/cosine_layer/0"].astype(float)
    lengths = np.sqrt((w**2).sum(1, keepdims=True) + FORK_EPS)
    along = (of_unit * w).sum(1, keepdims=True) / lengths
    same(loss.weight.grad, ((of_unit - along * w / lengths) / lengths).astype(np.float32))


def test_center_loss():
    case = recorded("center_loss")
    loss = losses.CenterLoss(4, 5, center_step="fork")
    with torch.no_grad():
        loss.weight.copy_(tensor(case, "blob_before/c/0"))
    x = tensor(case, "data/data").requires_grad_()
    value = loss(x, labels(case))
    same(value, case["data/c"])
    (0.5 * value).backward()
    same(x.grad, case["diff/data"])
    same(loss.weight.grad, case["blob_diff/c/0"])


def of_distances(case, loss):
    """Caffe's layer takes the distances; returns the loss of the recorded ones and their gradient."""
    distances = tensor(case, "data/dist").requires_grad_()
    value = loss.of_distances(distances, labels(case))
    value.backward()
    same(value, case["data/loss"])
    same(distances.grad, case["diff/dist"])


@pytest.mark.parametrize("name", named("general_contrastive"))
def test_c_contrastive(name):
    case = recorded(name)
    given = options(case, "general_contrastive_loss_param")
    of_distances(case, losses.CContrastiveLoss(4, 2, exact_gradient=False, **given))


@pytest.mark.parametrize("name", ["default", "exp", "max_negative_only", "normface"])
def test_the_exact_gradient_of_c_contrastive_is_the_forks_without_thresholds(name):
    case = recorded(f"general_contrastive_{name}")
    of_distances(case, losses.CContrastiveLoss(4, 2, **options(case, "general_contrastive_loss_param")))


@pytest.mark.parametrize("name", named("general_triplet"))
def test_c_triplet(name):
    case = recorded(name)
    given = {"margin": 0.2, "add_center_loss": True, "hardest_only": False}  # Caffe's defaults, where they differ
    given |= options(case, "general_triplet_loss_param")
    of_distances(case, losses.CTripletLoss(4, 2, exact_gradient=False, **given))


def test_the_papers_c_triplet_has_the_forks_gradient():
    of_distances(recorded("general_triplet_hardest_no_center"), losses.CTripletLoss(4, 2))


@pytest.mark.parametrize(("m", "word"), [(1, "single"), (2, "double"), (3, "triple"), (4, "quadruple")])
@pytest.mark.parametrize("kind", ["margin", "large_margin"])
def test_multiplied_angles(kind, m, word):
    """The scores and, for the recorded gradient of them, what comes back: recorded at iteration 100."""
    case = recorded(f"{kind}_inner_product_{word}")
    if kind == "margin":
        loss = losses.SphereFaceLoss(4, 5, m, exact_gradient=False)
    else:
        loss = losses.LargeMarginSoftmaxLoss(4, 5, m)
    with torch.no_grad():
        loss.weight.copy_(tensor(case, "blob_before/m/0"))
        loss.annealing.iteration.fill_(100)
    same(loss.annealing.current(torch.float32).reshape(1), case["data/lambda"])
    x = tensor(case, "data/data").requires_grad_()
    scores = loss.margin_scores(x, loss.weight, labels(case))
    same(scores, case["data/m"])
    scores.backward(tensor(case, "top_diff/m"))
    same(x.grad, case["diff/data"])
    same(loss.weight.grad, case["blob_diff/m/0"])


def test_am_softmax_of_the_fork():
    """LabelSpecificAdd: the label's cosine less the margin, if above it."""
    case = recorded("label_specific_add")
    loss = losses.AMSoftmaxLoss(4, 2, margin=0.35, above_margin_only=True)
    column = labels(case)[:, None]
    lower, slope = loss.psi(tensor(case, "data/cos").gather(1, column), 0.35)
    same(lower, np.take_along_axis(case["data/out"], column.numpy(), 1))
    back = tensor(case, "top_diff/out").gather(1, column) * slope
    same(back, np.take_along_axis(case["diff/cos"], column.numpy(), 1))
    assert (lower == tensor(case, "data/cos").gather(1, column)).any(), "a case below the margin is missing"
