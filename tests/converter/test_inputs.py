"""Where the shapes of inputs come from when a train net leaves them to a database that is not at hand."""

from __future__ import annotations

import time
import warnings

import caffeport
import numpy as np
import pytest
from caffeport import CaffeportWarning, NetError
from support import nets, protos

MESSAGES = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}


def data(transform: str = "", extra: str = "batch_size: 4", kind: str = "Data", source: str = "train_lmdb") -> str:
    message = f'{MESSAGES[kind]} {{ source: "{source}" {extra} }}'
    return nets.layer(kind, "", "data label", f"{message} transform_param {{ {transform} }}", "faces")


CONV = nets.conv("data", "conv1", 2, "kernel_size: 3 stride: 2")
BODY = CONV + nets.inner_product("conv1", "fc", 5) + nets.layer("SoftmaxWithLoss", "fc label", "loss")


def weights(tmp_path, channels: int, size: int):
    """Return the blobs that Caffe would have stored for BODY, trained on square images of that size."""
    inner = 2 * ((size - 3) // 2 + 1) ** 2
    layers = (
        protos.layer("conv1", "Convolution", np.zeros((2, channels, 3, 3), np.float32), np.zeros(2, np.float32)),
        protos.layer("fc", "InnerProduct", np.zeros((5, inner), np.float32), np.zeros(5, np.float32)),
    )
    return protos.write(tmp_path / "n.caffemodel", protos.net(*layers))


def load(tmp_path, text, *rest, **options):
    return nets.load(tmp_path, text, *rest, phase="train", **options)


@pytest.mark.parametrize(
    ("channels", "size", "found"),
    # With stride 2 a size and the next one end in the same blobs; a usual size comes first, then the smaller.
    [(3, 28, 28), (1, 28, 28), (3, 227, 227), (1, 112, 112), (4, 300, 299), (6, 37, 37), (2, 38, 37), (3, 512, 511)],
)
def test_the_weights_decide(tmp_path, channels, size, found):
    note = (
        r'layer "faces" \(Data\) does not say the shape of "data": took 4x.* from the weights; input_shapes sets anot'
    )
    with pytest.warns(CaffeportWarning, match=note):
        net = load(tmp_path, data() + BODY, weights(tmp_path, channels, size))
    assert net.blob_shapes["data"] == (4, channels, found, found)
    assert net.blob_shapes["label"] == (4,)
    assert (net.inputs, net.outputs) == (["data", "label"], ["loss"])


def test_sizes_too_small_for_the_net_do_not_fit(tmp_path):
    text = data() + nets.conv("data", "conv1", 2, "kernel_size: 21") + nets.inner_product("conv1", "fc", 5)
    arrays = [np.zeros(shape, np.float32) for shape in ((2, 3, 21, 21), (2,), (5, 2 * 20 * 20), (5,))]
    layers = protos.layer("conv1", "Convolution", *arrays[:2]), protos.layer("fc", "InnerProduct", *arrays[2:])
    with pytest.warns(CaffeportWarning, match=r"took 4x3x40x40 from the weights"):
        load(tmp_path, text, protos.write(tmp_path / "n.caffemodel", protos.net(*layers)))


def test_what_the_text_says_narrows_the_choice(tmp_path):
    path = weights(tmp_path, 3, 40)
    with pytest.warns(CaffeportWarning, match=r"took 4x3x40x40 from the weights"):
        load(tmp_path, data("crop_size: 40") + BODY, path)
    with pytest.warns(CaffeportWarning, match=r"took 4x3x39x39 from the weights"):
        load(tmp_path, data("mean_value: [1, 2, 3]") + BODY, path)
    with pytest.raises(NetError, match=r"not known.*; 4x3x64x64 from colour images does not fit the net and its weig"):
        load(tmp_path, data("crop_size: 64") + BODY, path)


def test_weights_that_fit_any_size_decide_nothing(tmp_path):
    with pytest.raises(NetError, match=r'the shape of input "data" is not known \(its source "train_lmdb" is not at h'):
        load(tmp_path, data() + CONV, weights(tmp_path, 3, 28))


@pytest.mark.parametrize(("source", "shape"), [("x/MNIST_train_lmdb", "1x28x28"), ("cifar10_db", "3x32x32")])
def test_the_name_of_a_data_set(tmp_path, source, shape):
    with pytest.warns(CaffeportWarning, match=f"took 4x{shape} from the name of its data set"):
        load(tmp_path, data(source=source) + BODY)


DEPLOY = nets.inputs(other=(1, 2), data=(1, 3, 20, 16)) + CONV + nets.inner_product("conv1", "fc", 5)


def test_a_deploy_net_in_the_same_folder(tmp_path):
    nets.write(tmp_path, "not { a net", "a.prototxt")
    nets.write(tmp_path, DEPLOY.replace("dim: 20", "dim: x"), "b.prototxt")
    nets.write(tmp_path, DEPLOY.replace("dim: 20", "dim: 0x" + "f" * 400), "c.prototxt")
    nets.write(tmp_path, 'base_lr: 1 input: "data" input_dim: [1, 9, 9, 9]', "solver.prototxt")
    with pytest.raises(NetError, match=r"is not known"):
        load(tmp_path, data() + BODY)
    nets.write(tmp_path, DEPLOY, "deploy.prototxt")
    with pytest.warns(CaffeportWarning, match=r"took 4x3x20x16 from the deploy net beside it"):
        net = load(tmp_path, data() + BODY)
    assert net.blob_shapes["data"] == (4, 3, 20, 16)  # the train net's own batch
    header = 'input: "data" input_dim: [1, 3, 20, 16]' + CONV + nets.inner_product("conv1", "fc", 5)
    nets.write(tmp_path, header, "deploy.prototxt")
    with pytest.warns(CaffeportWarning, match=r"took 4x3x20x16 from the deploy net"):
        load(tmp_path, data() + BODY)


def test_a_deploy_net_that_does_not_match_is_passed_over(tmp_path):
    nets.write(tmp_path, nets.inputs(data=(1, 3, 20, 16)) + nets.conv("data", "x", 1), "deploy.prototxt")
    with pytest.raises(NetError, match=r"is not known"):  # another net
        load(tmp_path, data() + BODY)
    nets.write(tmp_path, DEPLOY, "deploy.prototxt")
    with pytest.raises(NetError, match=r"is not known"):  # another number of channels than the mean has
        load(tmp_path, data("mean_value: [1, 2]") + BODY)
    nets.write(
        tmp_path, nets.inputs(data=(1, 3, 0, 16)) + CONV + nets.inner_product("conv1", "fc", 5), "deploy.prototxt"
    )
    with pytest.raises(NetError, match=r'layer "faces" \(Data\): input "data" would have the shape 4x3x0x16'):
        load(tmp_path, data() + BODY)


def test_unknown_shapes_are_refused_with_the_way_out(tmp_path):
    problem = (
        r'layer "faces" \(Data\): the shape of input "data" is not known \(its source "train_lmdb" is not at hand\): '
        r"give it \(input_shapes=\{'data': \(N, C, H, W\)\}, or --input-shape data=NxCxHxW\)"
    )
    with pytest.raises(NetError, match=problem):
        load(tmp_path, data() + BODY)
    given = {"data": (2, 3, 24, 20), "label": (2,)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = load(tmp_path, data() + BODY, input_shapes=given)
    assert {name: net.blob_shapes[name] for name in net.inputs} == given
    for text in ('layer { name: "in" type: "Input" top: "x" }', 'input: "x"', 'layer { type: "HDF5Data" top: "x" }'):
        with pytest.raises(NetError, match=r'the shape of input "x" is not known: give it'):
            nets.load(tmp_path, text + nets.layer("ReLU", "x", "y"))


@pytest.mark.parametrize("shape", [(10**12, 3, 24, 20), (0, 3, 24, 20), (2, -3, 24, 20)])
def test_absurd_shapes_given(tmp_path, shape):
    with pytest.raises(NetError, match=r'layer "faces" \(Data\): input "data" would have the shape'):
        load(tmp_path, data() + BODY, input_shapes={"data": shape})


def test_absurd_batch_in_the_text(tmp_path):
    with pytest.raises(NetError, match=r'input "label" would have the shape 10{12}: more than the 2\^31 - 1'):
        load(tmp_path, data("crop_size: 24", extra="batch_size: 1000000000000") + BODY)
    with pytest.raises(
        NetError, match=r'input "data" would have the shape 2000000000x3x24x24: more than the 2\^31 - 1'
    ):
        load(tmp_path, data("crop_size: 24", extra="batch_size: 2000000000") + BODY)


def test_given_shapes_replace_declared_ones_and_make_inputs_of_fragments(tmp_path):
    net = nets.load(tmp_path, DEPLOY, input_shapes={"data": [5, 3, 9, 9]})
    assert net.blob_shapes["conv1"] == (5, 2, 4, 4)
    fragment = nets.layer("ReLU", "feature", "feature") + nets.inner_product("feature", "fc", 2)
    net = nets.load(tmp_path, fragment, input_shapes={"feature": (7, 3)})
    assert (net.inputs, net.blob_shapes) == (["feature"], {"feature": (7, 3), "fc": (7, 2)})
    with pytest.raises(
        NetError, match=r'input_shapes names "dat", which is no input of this net \(did you mean "data"'
    ):
        nets.load(tmp_path, DEPLOY, input_shapes={"dat": (5, 3, 9, 9)})
    with pytest.raises(NetError, match=r'input_shapes names "conv1", which is no input of this net'):
        nets.load(tmp_path, DEPLOY, input_shapes={"conv1": (5, 3, 9, 9)})


DATA_LAYERS = {
    "grey images": (data("", "batch_size: 2 new_height: 5 new_width: 6 is_color: false", "ImageData"), (2, 1, 5, 6)),
    "cropped images": (data("crop_size: 4", "new_height: 5 new_width: 6", "ImageData"), (1, 3, 4, 4)),
    "windows": (data("crop_size: 7", "batch_size: 3", "WindowData"), (3, 3, 7, 7)),
    "mean of every channel": (data("crop_size: 4 mean_value: 1 mean_value: 2", "batch_size: 3"), (3, 2, 4, 4)),
    "old crop in the data message": (data("mean_value: [1, 2, 3]", "batch_size: 3 crop_size: 4"), (3, 3, 4, 4)),
    "memory": (
        nets.layer("MemoryData", "", "data label", "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5}"),
        (2, 3, 4, 5),
    ),
    "dummy, one shape for all": (
        nets.layer("DummyData", "", "data label", "dummy_data_param { shape { dim: [2, 3] } }"),
        (2, 3),
    ),
    "dummy, as it was": (
        nets.layer(
            "DummyData",
            "",
            "label data",
            "dummy_data_param { num: [1, 2] channels: [1, 3] height: [1, 4] width: [1, 5] }",
        ),
        (2, 3, 4, 5),
    ),
}


@pytest.mark.parametrize(("layer", "shape"), DATA_LAYERS.values(), ids=DATA_LAYERS)
def test_data_layers_become_inputs(tmp_path, layer, shape):
    net = load(tmp_path, layer + nets.layer("ReLU", "data", "y"))
    assert net.blob_shapes["data"] == net.blob_shapes["y"] == shape
    assert set(net.inputs) == {"data", "label"}


def test_preprocessing_stays_readable(tmp_path):
    layer = data("scale: 0.0078125 mean_value: [104, 117, 123] mirror: true crop_size: 8")
    found = load(tmp_path, layer + nets.layer("ReLU", "data", "y")).preprocessing
    assert list(found) == ["data"]
    assert (found["data"].scale, found["data"].mean_value, found["data"].mirror) == (1 / 128, [104, 117, 123], True)
    assert nets.load(tmp_path, DEPLOY).preprocessing == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*works in place:caffeport.CaffeportWarning")  # 150 convolutions do
def test_the_search_is_quick_in_a_deep_net(tmp_path):
    deep = CONV + "".join(nets.conv("conv1", "conv1", 2).replace('name: "conv1"', f'name: "c{i}"') for i in range(150))
    arrays = [np.zeros((2, 2, 3, 3), np.float32), np.zeros(2, np.float32)]
    stored = protos.make("NetParameter").FromString(weights(tmp_path, 3, 301).read_bytes())
    stored.layer.extend(protos.layer(f"c{i}", "Convolution", *arrays) for i in range(150))
    path = protos.write(tmp_path / "n.caffemodel", stored)
    start = time.process_time()
    with pytest.warns(CaffeportWarning, match=r"took 4x3x301x301 from the weights"):
        load(tmp_path, data() + deep + nets.inner_product("conv1", "fc", 5), path)
    assert time.process_time() - start < 30


def test_a_label_of_another_phases_data_layer_alone_is_asked_for(tmp_path):
    """The Data layer of the train phase makes the images too, which the test phase has from an Input of its own."""
    text = nets.layer("Data", "", "data label", "include { phase: TRAIN }", "faces")
    text += nets.layer("Input", "", "data", "input_param { shape { dim: 2 dim: 3 } } include { phase: TEST }", "input")
    text += nets.layer("Eltwise", "data other", "sum").replace("other", "label")
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffeportWarning)
        assert caffeport.load(path).blob_shapes["label"] == (2, 3)  # an Eltwise's bottoms have one shape
