"""Shapes of inputs that the caller gives carry to the layer's other tops; guesses that the net rules out are none."""

from __future__ import annotations

import numpy as np
import pytest
from caffeport import CaffeportWarning, NetError
from support import nets, protos

LOSS = nets.inner_product("data", "ip", 2) + nets.layer("SoftmaxWithLoss", "ip label", "loss")


@pytest.mark.parametrize(
    "source",
    [
        'layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "my_lmdb" batch_size: 64 } }',
        """layer { name: "d" type: "ImageData" top: "data" top: "label"
           image_data_param { source: "l.txt" batch_size: 64 new_height: 8 new_width: 8 } }""",
        """layer { name: "d" type: "MemoryData" top: "data" top: "label"
           memory_data_param { batch_size: 64 channels: 3 height: 8 width: 8 } }""",
        'input: "data" input_shape { dim: 64 dim: 3 dim: 8 dim: 8 } input: "label" input_shape { dim: 64 }',
        'layer { name: "d" type: "DummyData" top: "data" top: "label" dummy_data_param { shape { dim: [64, 3, 8, 8] } '
        "shape { dim: 64 } } }",
    ],
)
def test_a_given_batch_is_that_of_the_label_too(tmp_path, source):
    net = nets.load(tmp_path, source + LOSS, input_shapes={"data": (2, 3, 8, 8)})
    assert net.blob_shapes["label"] == (2,) and net.blob_shapes["ip"] == (2, 2)


def test_a_given_label_is_the_batch_of_the_images_too(tmp_path):
    source = """layer { name: "d" type: "MemoryData" top: "data" top: "label"
                memory_data_param { batch_size: 64 channels: 3 height: 8 width: 8 } }"""
    assert nets.load(tmp_path, source + LOSS, input_shapes={"label": (5,)}).blob_shapes["data"] == (5, 3, 8, 8)


def test_a_shape_with_another_first_axis_stays(tmp_path):
    text = """input: "data" input_shape { dim: [1, 3, 8, 8] } input: "rois" input_shape { dim: [7, 5] }
              layer { name: "s" type: "Silence" bottom: "rois" }""" + nets.layer("ReLU", "data", "y")
    net = nets.load(tmp_path, text, input_shapes={"data": (2, 3, 9, 9)})
    assert net.blob_shapes["rois"] == (7, 5) and net.blob_shapes["y"] == (2, 3, 9, 9)


def named(name: str, source: str = "train_lmdb") -> str:
    return f"""layer {{ name: "{name}" type: "Data" top: "data" top: "label"
               data_param {{ source: "{source}" batch_size: 4 }} }}"""


def weights(tmp_path, *arrays):
    return protos.write(tmp_path / "n.caffemodel", protos.net(protos.layer("ip", "InnerProduct", *arrays)))


@pytest.mark.parametrize("data", [named("mnist"), named("d", "examples/cifar10/train_lmdb")])
def test_a_data_set_that_the_weights_rule_out_is_asked_for(tmp_path, data):
    path = weights(tmp_path, np.zeros((2, 32 * 40), np.float32), np.zeros(2, np.float32))
    with pytest.raises(
        NetError, match=r"not known.*; 4x\dx\d\dx\d\d from the name of its data set does not fit.*input_sh"
    ):
        nets.load(tmp_path, data + LOSS, path)
    net = nets.load(tmp_path, data + LOSS, path, input_shapes={"data": (4, 1, 32, 40)})
    assert net.blob_shapes["label"] == (4,)


def test_a_data_set_that_the_layers_rule_out_is_asked_for(tmp_path):
    text = named("mnist") + nets.conv("data", "c", 2, "kernel_size: 40") + nets.inner_product("c", "ip", 2)
    with pytest.raises(NetError, match=r"4x1x28x28 from the name of its data set does not fit"):
        nets.load(tmp_path, text)


def test_a_deploy_net_that_the_weights_rule_out_is_none(tmp_path):
    nets.write(tmp_path, nets.inputs(data=(1, 1, 10, 10)) + nets.inner_product("data", "ip", 2), "deploy.prototxt")
    with pytest.warns(CaffeportWarning, match=r"took 4x1x10x10 from the deploy net"):
        nets.load(tmp_path, named("d") + LOSS)
    path = weights(tmp_path, np.zeros((2, 30 * 20), np.float32), np.zeros(2, np.float32))
    with pytest.raises(NetError, match=r"4x1x10x10 from the deploy net beside it does not fit the net and its weights"):
        nets.load(tmp_path, named("d") + LOSS, path)


def test_a_data_set_that_nothing_rules_out_is_taken(tmp_path):
    with pytest.warns(CaffeportWarning, match=r"took 4x1x28x28 from the name of its data set"):
        nets.load(tmp_path, named("mnist") + LOSS)
