"""Operators of the user's own, and forks' fields, in the commands that read nets."""

from __future__ import annotations

import numpy as np
import pytest
from caffeport import PrototxtError, UnknownLayerError
from normface.cli.main import main
from normface.data.caffe import input_shapes
from normface.errors import DataError
from normface.features import Extractor
from normface.solver import Solver
from support import nets, protos

OPERATOR = '''
import caffeport
import torch


class Twice(torch.nn.Module):
    def forward(self, x):
        return 2 * x


@caffeport.layer_type("Twice")
class TwiceLayer(caffeport.Operator):
    """2 x"""

    def module(self, bottoms):
        return Twice()

    def onnx(self, g, *x):
        return g.op("Add", x[0], x[0])
'''
TEXT = nets.inputs(data=(1, 3, 4, 4)) + nets.inner_product("data", "fc", 2) + nets.layer("Twice", "fc", "y")


@pytest.fixture
def folder(tmp_path):
    weight = np.ones((2, 48), np.float32) / 48
    stored = protos.net(protos.layer("fc", "InnerProduct", weight, np.zeros(2, np.float32)))
    protos.write(tmp_path / "n.caffemodel", stored)
    nets.write(tmp_path, TEXT)
    nets.write(tmp_path, OPERATOR, "mine.py")
    return tmp_path


def test_features_of_a_net_with_an_operator_of_ones_own(folder):
    own = {"mean": 0, "scale": 1, "rgb": False, "fit": "exact"}
    model = (folder / "net.prototxt", folder / "n.caffemodel")
    with pytest.raises(UnknownLayerError, match=r'unknown type "Twice".*--layers MY\.py'):
        Extractor(*model, **own)
    extractor = Extractor(*model, **own, custom_layers=folder / "mine.py")
    features = extractor.features_of([np.full((4, 4, 3), 3, np.uint8)])
    np.testing.assert_allclose(features, [[6, 6]], rtol=1e-6)  # the mean of all pixels, twice, in float32


SOLVER = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 1 net: "train.prototxt"'
TRAIN = TEXT + nets.inputs(label=(1,)) + nets.layer("SoftmaxWithLoss", "y label", "loss")


def test_a_solver_takes_the_file(folder):
    nets.write(folder, TRAIN, "train.prototxt")
    solver = Solver(nets.write(folder, SOLVER, "solver.prototxt"), custom_layers=folder / "mine.py")
    losses = solver.step({"data": np.ones((1, 3, 4, 4), np.float32), "label": np.zeros(1, np.float32)})
    assert losses["loss"] > 0


@pytest.mark.parametrize("command", ["train", "finetune", "extract", "search"])
def test_the_commands_have_the_option(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--layers MY.py" in capsys.readouterr().out


def test_who_reads_the_data_refuses_what_it_would_ignore(tmp_path):
    text = nets.layer("Data", "", "data label", 'data_param { source: "x" batch_size: 2 rows: 3 }', "in")
    with pytest.raises(PrototxtError, match=r'data_param has no field "rows"'):
        input_shapes(nets.write(tmp_path, text))
    lists = nets.write(tmp_path, "a.png 1\n", "list.txt")
    fields = f'image_data_param {{ source: "{lists}" batch_size: 1 }} transform_param {{ crop_h: 3 }}'
    with pytest.raises(DataError, match=r'layer "in" \(ImageData\): sets crop_h, which is not done here'):
        input_shapes(nets.write(tmp_path, nets.layer("ImageData", "", "data label", fields, "in")))
