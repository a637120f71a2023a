"""Real Caffe as a backend of ``caffeport.check``: every blob that torch and ONNX Runtime give, against its own.

NORMFACE_PYCAFFE=FOLDER (what PYTHONPATH would need) runs these tests with another Caffe than the one that is built
from this repository, NORMFACE_PYCAFFE_INTERPRETER with another Python; face layers that it lacks are skipped then.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import caffeport
import numpy as np
import pytest
import torch
from caffeport.formats import prototxt
from support import caffe_trees, golden_cases, nets

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
RTOL, ATOL = 1e-5, 1e-6  # float32, sums of up to some hundred terms in another order

# That fixes the batch size, or that a layer's weights are its filler's, is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")


@pytest.fixture(scope="module")
def caffe(request):
    """Where real Caffe is: its ``pythonpath`` and the ``interpreter`` it is built for."""
    other = os.environ.get("NORMFACE_PYCAFFE")
    if other:
        interpreter = os.environ.get("NORMFACE_PYCAFFE_INTERPRETER", sys.executable)
        return SimpleNamespace(pythonpath=other, interpreter=interpreter)
    return request.getfixturevalue("pycaffe")


@pytest.fixture(scope="module")
def face_caffe(caffe, tmp_path_factory):
    """The same, with the face layers."""
    if "NORMFACE_PYCAFFE" in os.environ:
        net = nets.load(tmp_path_factory.mktemp("flip"), nets.inputs(x=(1, 1, 2, 2)) + nets.layer("Flip", "x", "y"))
        try:
            check(net, caffe)
        except caffeport.CaffeportError as error:
            pytest.skip(str(error))
    return caffe


def run(net, caffe, inputs=None, backends=("torch", "onnx", "caffe"), **options) -> caffeport.parity.report.Report:
    where = {"caffe_python": caffe.pythonpath, "caffe_interpreter": caffe.interpreter}
    return caffeport.check(net, inputs, backends=backends, rtol=RTOL, atol=ATOL, **where, **options)


def assert_good(rows: list[caffeport.parity.report.Row]) -> None:
    """Every blob is compared with Caffe's, and none is beyond the tolerance."""
    for row in rows:
        assert row.ok, row
        assert (row.baseline == "caffe" and len(row.errors) > 0) or row.note == "random while training", row


def check(*arguments, **options) -> caffeport.parity.report.Report:
    """As run; the report has to be a good one."""
    report = run(*arguments, **options)
    assert_good(report.rows)
    assert report.ok, report.summary
    return report


def merged(folder: str, phase: str, tmp_path: Path) -> tuple[caffeport.Net, dict[str, np.ndarray]]:
    """All recorded cases of a folder side by side in one net, so that Caffe is started once, and their inputs.

    A case's name and a slash stand before the names of its layers, blobs and shared weights.
    """
    text, inputs, weights = prototxt.Message(), {}, {}
    for name in golden_cases.cases(folder):
        case = golden_cases.load(folder, name, tmp_path, phase)
        for layer in case.net.message.messages("layer"):
            for message, fields in [
                (layer, ("name", "bottom", "top")),
                *((p, ("name",)) for p in layer.messages("param")),
            ]:
                for field in message.fields:
                    if field.name in fields:
                        field.value.text = f"{name}/{field.value.text}"
            text.add("layer", layer)
        inputs |= {f"{name}/{blob}": array for blob, array in case.inputs.items()}
        weights |= {f"{name}/{layer.name}": layer.blobs for layer in case.net.layers if layer.params}
    return nets.load(tmp_path, str(text), phase=phase).with_weights(weights), inputs


def of_case(report: caffeport.parity.report.Report, name: str) -> list[caffeport.parity.report.Row]:
    rows = [row for row in [*report.rows, *report.exported] if row.layer.startswith(f"{name}/")]
    assert rows
    return rows


@pytest.fixture(scope="module")
def ops(caffe, tmp_path_factory):
    net, inputs = merged("ops", "test", tmp_path_factory.mktemp("ops"))
    return run(net, caffe, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", golden_cases.cases("ops"))
def test_layers_of_caffe(name, ops):
    assert_good(of_case(ops, name))


@pytest.fixture(scope="module")
def faces(face_caffe, tmp_path_factory):
    """(as in the TEST phase, as in the TRAIN phase)"""
    net, inputs = merged("face_layers", "train", tmp_path_factory.mktemp("faces"))
    return run(net, face_caffe, inputs), run(net, face_caffe, inputs, ("torch", "caffe"), training=True)


@pytest.mark.parametrize("name", golden_cases.cases("face_layers"))
@pytest.mark.parametrize("phase", [0, 1], ids=["test", "train"])
def test_face_layers(name, phase, faces):
    assert_good(of_case(faces[phase], name))


OWN_FIELDS = (
    nets.inputs(data=(4, 6), label=(4,))
    + nets.layer("Normalize", "data", "n", "normalize_param { eps: 0.5 }")
    + nets.layer("Flatten", "n", "x")
    + nets.inner_product("x", "ip", 5, "bias_term: false normalize: true normalize_eps: 0.5")
    + nets.layer(
        "InnerDistance",
        "x label",
        "d",
        "inner_distance_param { num_output: 5 normalize: true normalize_eps: 0.5 update_center_only: true "
        'exact_gradient: true weight_filler { type: "gaussian" } }',
    )
    + nets.layer("LabelSpecificAdd", "ip label", "add", "label_specific_add_param { bias: -0.1 transform_test: true }")
    + nets.layer(
        "LabelSpecificMargin",
        "ip label",
        "margin",
        "label_specific_margin_param { margin_base: 20 margin_max: 15 margin_on_test: true }",
    )
    + nets.layer(  # theta + m is beyond pi for most samples
        "LabelSpecificMargin",
        "ip label",
        "beyond",
        "label_specific_margin_param { margin_base: 100 gamma: 0 margin_on_test: true }",
    )
    + nets.layer(
        "LabelSpecificMargin",
        "ip label",
        "first_version",
        "label_specific_margin_param { margin_base: 100 gamma: 0 margin_on_test: true exact_gradient: false }",
    )
    + nets.layer(
        "MarginInnerProduct",
        "x label",
        "psi",
        "margin_inner_product_param { num_output: 5 type: TRIPLE exact_gradient: true "
        'weight_filler { type: "xavier" } }',
    )
    + nets.layer("CenterLoss", "x label", "c", "center_loss_param { num_output: 5 center_step: PAPER }")
    + nets.layer("GeneralContrastiveLoss", "d label", "g", "general_contrastive_loss_param { exact_gradient: true }")
    + nets.layer("GeneralTripletLoss", "d label", "t", "general_triplet_loss_param { exact_gradient: true }")
)


def test_fields_of_this_project(tmp_path, face_caffe):
    """What no fork has: the text as it stands means the same to both, in either phase."""
    report = check(nets.load(tmp_path, OWN_FIELDS), face_caffe)
    assert "ran net.prototxt with" in report.caffe
    net = nets.load(tmp_path, OWN_FIELDS, phase="train")
    check(net, face_caffe, backends=("torch", "caffe"), training=True)


@pytest.fixture(scope="module")
def ssd(tmp_path_factory):
    """The layers of SSD, in a Caffe that has them."""
    if "NORMFACE_PYCAFFE" in os.environ:
        pytest.skip("NORMFACE_PYCAFFE is taken for a Caffe without SSD's layers")
    net, inputs = merged("ssd", "test", tmp_path_factory.mktemp("ssd"))
    return run(net, caffe_trees.require("ssd"), inputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", golden_cases.cases("ssd"))
def test_layers_of_ssd(name, ssd):
    assert_good(of_case(ssd, name))


@pytest.mark.parametrize("name", [name for name in golden_cases.cases("ops") if name.startswith("batchnorm")])
def test_layers_that_differ_in_training(name, tmp_path, caffe):
    case = golden_cases.load("ops", name, tmp_path, "train")
    check(case.net, caffe, case.inputs, ("torch", "caffe"), training=True)


def test_the_example_with_any_batch_size(caffe):
    net = caffeport.load(DIGITS / "deploy.prototxt", DIGITS / "digits_center.caffemodel")
    x = np.load(DIGITS / "digits_center_blobs.npz")["data"]
    for batch in (1, 3, len(x)):
        report = check(net, caffe, x[:batch])
        assert report.rows[0].shape[0] == batch
    assert "ran deploy.prototxt with digits_center.caffemodel, and reads the same weights from" in report.caffe
    assert [row.blob for row in report.rows][:2] == ["conv1a@conv1a", "conv1a"]


def test_a_tuned_model_back_in_caffe(caffe, tmp_path):
    """Caffe loads what caffeport wrote after a step of training, and gives the trained model's outputs."""
    net = caffeport.load(DIGITS / "deploy.prototxt", DIGITS / "digits_center.caffemodel")
    model = net.to_torch()
    recorded = np.load(DIGITS / "digits_center_blobs.npz")
    x = torch.tensor(recorded["data"])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(x).square().mean().backward()
    optimizer.step()
    net.with_weights(model).save(tmp_path / "tuned.caffemodel", prototxt=tmp_path / "tuned.prototxt")
    tuned = caffeport.load(tmp_path / "tuned.prototxt", tmp_path / "tuned.caffemodel")
    report = check(tuned, caffe, x)
    assert "ran tuned.prototxt with tuned.caffemodel, and reads the same weights from" in report.caffe
    with torch.no_grad():
        made = {"data": x.numpy()} | {key: blob.numpy() for key, blob in model.blobs(x).items() if "@" not in key}
    report = run(tuned, caffe, backends=["caffe"], reference=made)
    assert report.ok and report.rows[-1].baseline == "reference"
    assert np.abs(made["fc5"] - recorded["fc5"]).max() > 1e-3


V1 = (
    'name: "old" input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8\n'
    'layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" convolution_param { num_output: 4 '
    f"kernel_size: 3 {nets.GAUSS} }} }}\n"
    'layers { name: "relu" type: RELU bottom: "conv" top: "conv" }\n'
    'layers { name: "ip" type: INNER_PRODUCT bottom: "conv" top: "ip" inner_product_param { num_output: 5 '
    f"{nets.GAUSS} }} }}\n"
)
SPLITS = (
    nets.inputs(data=(2, 3, 6, 6))
    + nets.conv("data", "a", 4)
    + nets.layer("ReLU", "a", "a", name="relu_a")
    + nets.layer("Scale", "a", "a", 'scale_param { filler { type: "gaussian" } }', "scale_a")
    + nets.layer("TanH", "a", "b")
    + nets.layer("Sigmoid", "a", "c")
    + nets.layer("Eltwise", "a b c", "sum")
    + nets.layer("Concat", "sum data", "all")
    + nets.layer("AbsVal", "data", "d")
    + nets.layer("Silence", "d", "", "", "quiet")
)
SHARED = (
    nets.inputs(left=(2, 6), right=(3, 6), turned=(2, 4))
    + nets.layer(
        "InnerProduct", "left", "x", f'param {{ name: "w" }} inner_product_param {{ num_output: 4 {nets.GAUSS} }}'
    )
    + nets.layer(
        "InnerProduct", "right", "y", 'param { name: "w" } inner_product_param { num_output: 4 bias_term: false }'
    )
    + nets.layer(
        "InnerProduct",
        "turned",
        "z",
        'param { name: "w" share_mode: PERMISSIVE } inner_product_param { num_output: 6 bias_term: false }',
    )
)
RECURRENT = (
    nets.inputs(x=(5, 2, 4), cont=(5, 2))
    + nets.layer("LSTM", "x cont", "h", f"recurrent_param {{ num_output: 3 {nets.GAUSS} }}")
    + nets.layer("RNN", "h cont", "o", f"recurrent_param {{ num_output: 2 {nets.GAUSS} }}")
)


@pytest.mark.parametrize(
    "text", [nets.SMALL, V1, SPLITS, SHARED, RECURRENT], ids=["small", "v1", "splits", "shared", "recurrent"]
)
def test_whole_nets(text, tmp_path, caffe):
    nets.load(tmp_path, text).save(tmp_path / "net.caffemodel")
    net = caffeport.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    report = check(net, caffe)
    assert "ran net.prototxt with net.caffemodel, and reads the same weights" in report.caffe


def train_net(tmp_path) -> caffeport.Net:
    """Two data layers of one name, a stage, dropout, a layer that the weights lack, two losses and an accuracy."""
    data = (
        'data_param { source: "nowhere" batch_size: %d } transform_param { crop_size: 8 mean_value: 1 mean_value: 2 }'
    )
    text = nets.layer("Data", "", "data label", f"include {{ phase: TRAIN }} {data % 4}")
    text += nets.layer("Data", "", "data label", f"include {{ phase: TEST }} {data % 2}")
    text += nets.conv("data", "conv", 4)
    text += nets.layer("BatchNorm", "conv", "conv", name="bn")
    text += nets.layer("PReLU", "conv", "conv", "include { stage: 'prelu' }".replace("'", '"'), name="prelu")
    text += nets.inner_product("conv", "fc", 5)
    text += nets.layer("SoftmaxWithLoss", "fc label", "loss", "loss_weight: 0.5")
    text += nets.layer("Dropout", "fc", "drop")
    text += nets.layer("SoftmaxWithLoss", "drop label", "drop_loss")
    text += nets.layer("Accuracy", "fc label", "accuracy", "include { phase: TEST }")
    net = nets.load(tmp_path, text, phase="test")
    statistics = [2 * np.arange(4), 2 * np.arange(1, 5), np.array([2])]  # as if of two batches
    net.with_weights({"bn": statistics}).save(tmp_path / "net.caffemodel")
    return caffeport.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel", "train", ["prelu"])


def test_a_train_net(tmp_path, caffe):
    net = train_net(tmp_path)
    blobs = ["conv@conv", "conv@bn", "conv", "fc", "loss", "drop", "drop_loss"]
    report = check(net, caffe)
    assert [row.blob for row in report.rows] == blobs
    assert "ran caffeport's text of net.prototxt with" in report.caffe
    report = check(net, caffe, backends=("torch", "caffe"), training=True)
    assert [row.blob for row in report.rows if not row.errors] == ["drop", "drop_loss"]
    report = check(caffeport.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel"), caffe)
    assert [row.layer for row in report.rows][-1] == "accuracy"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            nets.inputs(data=(2, 4))
            + nets.layer("TanH", "data", "x")
            + nets.layer("Exp", "x", "y")
            + nets.layer("ReLU", "x", "x", name="late"),
            r"""refuses this net when setting up layer "late" \(ReLU\): Top blob 'x' produced by multiple sources;""",
        ),
        (
            nets.inputs(data=(2, 3, 4, 4)) + nets.layer("Interp", "data", "x", "interp_param { height: 8 width: 8 }"),
            r'cannot parse net.prototxt: .*"caffe.LayerParameter" has no field named "interp_param"; its caffe.proto',
        ),
        (
            nets.inputs(data=(2, 3, 4, 4)) + nets.layer("HardSwish", "data", "x"),
            r'layer "x" \(HardSwish\): this Caffe has no layer type "HardSwish"; use the fork that has it',
        ),
    ],
)
def test_what_caffe_refuses(text, problem, tmp_path, caffe):
    with pytest.raises(caffeport.CaffeportError, match=problem):
        check(nets.load(tmp_path, text), caffe)


def test_what_caffe_refuses_while_it_runs(tmp_path, caffe):
    net = nets.load(tmp_path, nets.inputs(data=(2, 4), index=(2,)) + nets.layer("BatchReindex", "data index", "x"))
    wrong = {"data": np.zeros((2, 4)), "index": np.array([0, 7])}
    problem = r'when running layer "x" \(BatchReindex\): Check failed: .* greater than batch size'
    with pytest.raises(caffeport.CaffeportError, match=problem):
        check(net, caffe, wrong, ("onnx", "caffe"))
