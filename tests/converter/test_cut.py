"""A part of a net as a Net of its own: the same numbers, in every backend, in both phases, and from its own files."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
import torch
from caffeport.graph.net import Net
from support import nets

IN_PLACE = nets.layer("ReLU", "conv1", "conv1", name="relu1")
BRANCHES = (
    nets.inputs(data=(2, 3, 8, 8))
    + nets.conv("data", "conv1", 4)
    + nets.layer("BatchNorm", "conv1", "conv1", name="bn1")
    + IN_PLACE
    + nets.conv("conv1", "conv2", 4)
    + nets.layer("Eltwise", "conv1 conv2", "sum", "eltwise_param { operation: SUM }")
    + nets.layer("Slice", "sum", "left right", "slice_param { axis: 1 slice_point: 1 }", "slice")
    + nets.inner_product("right", "fc", 5)
)
TRAINING = (
    'layer { name: "data" type: "MemoryData" top: "data" top: "label" include { phase: TRAIN }\n'
    "  memory_data_param { batch_size: 6 channels: 3 height: 8 width: 8 } transform_param { scale: 0.5 } }\n"
    'layer { name: "data" type: "Input" top: "data" include { phase: TEST }\n'
    "  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n"
    + nets.conv("data", "conv1", 4)
    + nets.layer("ReLU", "conv1", "conv1", name="relu1")
    + nets.layer("Dropout", "conv1", "drop", "dropout_param { dropout_ratio: 0.5 }")
    + nets.inner_product("drop", "fc", 5)
    + nets.layer("SoftmaxWithLoss", "fc label", "loss", "include { phase: TRAIN } loss_weight: 3")
)


@pytest.fixture
def net(tmp_path) -> Net:
    return caffeport.load(nets.write(tmp_path, BRANCHES), seed=3)


def run(net: Net, *arrays: np.ndarray, outputs: list[str] | None = None) -> dict[str, np.ndarray]:
    with torch.no_grad():
        result = net.to_torch(outputs=outputs).eval()(*(torch.from_numpy(array) for array in arrays))
    names = outputs or net.outputs
    return {name: result[name].numpy() if isinstance(result, dict) else result.numpy() for name in names}


def image(net: Net) -> np.ndarray:
    return net.sample_inputs(5)[net.inputs[0]]


def test_up_to_a_blob_behind_its_in_place_layers(net):
    part = net.cut(outputs=["conv1"])
    assert (part.inputs, part.outputs) == (["data"], ["conv1"])
    assert [layer.name for layer in part.layers] == ["data", "conv1", "bn1", "relu1"]
    expected = run(net, image(net), outputs=["conv1"])["conv1"]
    np.testing.assert_array_equal(run(part, image(net))["conv1"], expected)
    assert (expected >= 0).all() and (expected == 0).any()  # it is behind the ReLU


def test_between_two_blobs(net):
    x = image(net)
    middle = run(net, x, outputs=["sum"])["sum"]
    part = net.cut(["fc"], ["sum"])
    assert (part.inputs, part.outputs, part.blob_shapes["sum"]) == (["sum"], ["fc"], (2, 4, 8, 8))
    np.testing.assert_array_equal(run(part, middle)["fc"], run(net, x, outputs=["fc"])["fc"])


def test_several_inputs_in_the_order_they_are_named(net):
    x = image(net)
    blobs = run(net, x, outputs=["conv1", "conv2"])
    part = net.cut("sum", ["conv2", "conv1"])
    assert part.inputs == ["conv2", "conv1"] and part.outputs == ["sum"]
    np.testing.assert_array_equal(run(part, blobs["conv2"], blobs["conv1"])["sum"], blobs["conv1"] + blobs["conv2"])


def test_outputs_that_are_read_further_on_and_nothing_but_outputs(net):
    """Caffe gives out what nothing reads: an inner output needs a copy, and the Slice's other top an end."""
    x = image(net)
    names = ["conv1", "conv2", "right"]
    part = net.cut(names)
    assert part.outputs == names and part.inputs == ["data"]
    expected, results = run(net, x, outputs=names), run(part, x)
    for name in names:
        np.testing.assert_array_equal(results[name], expected[name])


def test_a_part_converts_checks_and_comes_back_from_its_files(net, tmp_path):
    part = net.cut(["conv1", "fc"])
    report = part.check(image(net))
    assert report.ok and {row.blob for row in report.rows} >= {"conv1", "fc"}
    onnx = tmp_path / "part.onnx"
    with pytest.warns(caffeport.WeightsWarning):
        part.to_onnx(onnx)
    session = pytest.importorskip("onnxruntime").InferenceSession(onnx)
    assert [output.name for output in session.get_outputs()] == ["conv1", "fc"]
    part.save(tmp_path / "part.caffemodel", prototxt=tmp_path / "part.prototxt")
    again = caffeport.load(tmp_path / "part.prototxt", tmp_path / "part.caffemodel")
    assert (again.inputs, again.outputs, again.name) == (part.inputs, part.outputs, net.name)
    for name, array in run(again, image(net)).items():
        np.testing.assert_array_equal(array, run(net, image(net), outputs=["conv1", "fc"])[name])


def test_a_part_has_the_numbers_without_a_copy_and_params_of_its_own(net):
    net.layer("conv1").params[0].data = np.arange(108).reshape(4, 3, 3, 3)
    part = net.cut(["fc"])
    mine, whole = part.layer("conv1").params[0], net.layer("conv1").params[0]
    assert mine is not whole and np.shares_memory(mine.data, whole.data) and not mine.from_filler
    assert part.layer("fc").params[0].from_filler and part.has_random_weights
    np.testing.assert_array_equal(part.layer("fc").blobs[0], net.layer("fc").blobs[0])
    whole.data = np.zeros(whole.shape)
    mine_before = mine.data.copy()
    mine.data = np.ones(mine.shape)
    assert (mine_before == np.arange(108).reshape(4, 3, 3, 3)).all() and (whole.data == 0).all()


def test_weights_of_a_file_and_where_they_are_from(net, tmp_path):
    net.save(tmp_path / "whole.caffemodel")
    loaded = caffeport.load(nets.write(tmp_path, BRANCHES), tmp_path / "whole.caffemodel")
    part = loaded.cut(["conv2"])
    assert part.weights_source == str(tmp_path / "whole.caffemodel")
    for param, source in zip(part.params, loaded.params, strict=False):
        np.testing.assert_array_equal(param.data, source.data)


def test_a_blob_whose_owner_is_cut_off(tmp_path):
    """Fillers fill a shared blob by its owner; a sharer alone has the same numbers, in its own shape, and rates."""
    first = "param { name: 'w' lr_mult: 0 } inner_product_param { num_output: 4 bias_term: false }"
    second = (
        "param { name: 'w' share_mode: PERMISSIVE } "
        "convolution_param { num_output: 4 kernel_size: 1 bias_term: false weight_filler { type: 'xavier' } }"
    )
    text = nets.inputs(data=(2, 6), map=(1, 6, 3, 3)) + nets.layer(
        "InnerProduct",
        "data",
        "a",
        first.replace("bias_term: false", "bias_term: false weight_filler { type: 'xavier' }"),
    )
    whole = nets.load(tmp_path, text + nets.layer("Convolution", "map", "b", second))
    part = whole.cut(["b"])
    (param,) = part.params
    assert part.inputs == ["map"] and param.shape == (4, 6, 1, 1) and param.lr_mult == 0
    np.testing.assert_array_equal(param.data.ravel(), whole.params[0].data.ravel())
    assert np.ptp(param.data) > 0


def test_a_training_net_in_both_phases(tmp_path):
    path = nets.write(tmp_path, TRAINING)
    train = caffeport.load(path, phase="train")
    x = train.sample_inputs(0)
    part = train.cut(["loss"], ["conv1", "label"])
    assert (part.inputs, part.outputs, part.phase) == (["conv1", "label"], ["loss"], train.phase)
    assert part.blob_shapes["conv1"] == (6, 4, 8, 8)
    assert [layer.name for layer in part.layers[2:]] == ["drop", "fc", "loss"]
    torch.manual_seed(0)
    model = train.to_torch(outputs=["loss"])
    whole = model.loss({"loss": model(*(torch.from_numpy(x[name]) for name in train.inputs))})
    torch.manual_seed(0)
    tail, conv1 = part.to_torch(), run(train, x["data"], x["label"], outputs=["conv1"])["conv1"]
    result = tail(torch.from_numpy(conv1), torch.from_numpy(x["label"]))
    assert tail.loss({"loss": result}).item() == pytest.approx(whole.item(), rel=1e-6)  # three times the loss, in both
    assert tail.loss({"loss": result}).item() == pytest.approx(3 * result.item(), rel=1e-6)
    part.save(tmp_path / "tail.caffemodel", prototxt=tmp_path / "tail.prototxt")
    assert "include" not in (tmp_path / "tail.prototxt").read_text()
    assert caffeport.load(tmp_path / "tail.prototxt", tmp_path / "tail.caffemodel", "train").outputs == ["loss"]
    deploy = caffeport.load(path).cut(["drop"])
    assert (deploy.inputs, deploy.blob_shapes["data"]) == (["data"], (1, 3, 8, 8))


def test_only_the_read_top_of_a_data_layer_becomes_an_input(tmp_path):
    part = nets.load(tmp_path, TRAINING, phase="train").cut(["fc"])
    assert part.inputs == ["data"] and part.layers[0].type == "Input" and part.preprocessing == {}


def test_other_input_shapes(net):
    part = net.cut(["conv2"], input_shapes={"data": (1, 3, 12, 20)})
    assert part.blob_shapes["conv2"] == (1, 4, 12, 20)
    with pytest.raises(caffeport.NetError, match=r'names "dat", which is no input of the part.*mean "data"'):
        net.cut(["conv2"], input_shapes={"dat": (1, 3, 12, 20)})


def test_an_input_of_the_net_that_is_overwritten_is_taken_as_it_is_fed(tmp_path):
    whole = nets.load(
        tmp_path,
        nets.inputs(data=(1, 2))
        + nets.layer("Power", "data", "data", "power_param { shift: 1 }", "plus")
        + nets.layer("Power", "data", "double", "power_param { scale: 2 }"),
    )
    x = np.array([[1, -4]], np.float32)
    for inputs in (None, ["data"]):
        part = whole.cut(["double"], inputs)
        np.testing.assert_array_equal(run(part, x)["double"], 2 * (x + 1))
    np.testing.assert_array_equal(run(whole.cut(["data"]), x)["data"], x + 1)
    with pytest.raises(caffeport.NetError, match='"data" is read further on, and is an input of the part'):
        whole.cut(["data", "double"])


@pytest.mark.parametrize(
    ("outputs", "inputs", "words"),
    [
        (["fc6"], None, r'outputs names "fc6", which is no blob of this net \(did you mean "fc"\?\)'),
        (["fc"], ["summ"], r'inputs names "summ", which is no blob of this net \(did you mean "sum"\?\)'),
        ([], None, "outputs names no blob"),
        (["fc"], [], "inputs names no blob"),
        (["data"], None, '"data" is an input of the part, and so no output of it'),
        (["sum"], ["sum"], '"sum" is an input of the part'),
        (["conv1"], ["sum"], '"sum" is not on the way to "conv1"; choose a blob before it'),
        (["fc"], ["sum", "conv1"], 'inputs names "conv1", which is not on the way to "fc"'),
        (["sum"], ["conv2"], '"sum" also reads "conv1", which is made before it and not from "conv2": choose'),
    ],
)
def test_one_clear_line(net, outputs, inputs, words):
    with pytest.raises(caffeport.NetError, match=words) as caught:
        net.cut(outputs, inputs)
    assert "\n" not in str(caught.value)


def test_a_blob_that_is_read_before_and_behind_its_in_place_layer(tmp_path):
    # In Caffe both layers would read what the ReLU left; texts have this order only where nobody minds.
    text = nets.inputs(data=(1, 3, 4, 4)) + nets.conv("data", "conv1", 4) + nets.conv("conv1", "early", 2)
    text += IN_PLACE + nets.conv("conv1", "late", 2)
    whole = nets.load(tmp_path, text + nets.layer("Concat", "early late", "both"))
    with pytest.raises(caffeport.NetError, match=r'layer "conv1" \(Convolution\) makes on the way to "both"'):
        whole.cut(["both"], ["data", "conv1"])
