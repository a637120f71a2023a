"""Python layers: an operator stands for one by its class, or by its module and class."""

from __future__ import annotations

import ast

import caffeport
import numpy as np
import pytest
import torch
from caffeport import Operator, UnknownLayerError, layer_type
from support import nets

X = nets.inputs(x=(2, 3))


def python(module: str, name: str, param_str: str = "", bottom: str = "x") -> str:
    words = f'module: "{module}" layer: "{name}" param_str: "{param_str}"'
    return nets.layer("Python", bottom, "y", f"python_param {{ {words} }}")


class Times(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


@layer_type("Python:TimesLayer")
class TimesLayer(Operator):
    """factor * x, the factor as the text's Python dictionary says."""

    factor = 1.0

    def setup(self):
        text = self.context.messages["python_param"].param_str
        self.factor = ast.literal_eval(text)["factor"] if text else self.factor

    def module(self, bottoms):
        return Times(self.factor)

    def onnx(self, g, *x):
        return g.op("Mul", x[0], g.const(np.float32(self.factor)))


@layer_type("Python:mine.times.TimesLayer")
class TenTimes(TimesLayer):
    """10 * x"""

    factor = 10.0


@layer_type("Python")
class AnyPython(TimesLayer):
    """5 * x"""

    factor = 5.0


def factor(tmp_path, text: str, *custom: type[Operator]) -> float:
    net = nets.load(tmp_path, X + text, custom_layers=custom)
    assert net.layer("y").type == "Python"
    assert net.check().ok
    return float(net.to_torch()(torch.ones(2, 3))[0, 0])


def test_a_class_is_chosen_by_name_and_module_wins(tmp_path):
    both = (TimesLayer, TenTimes, AnyPython)
    assert factor(tmp_path, python("other", "TimesLayer", "{'factor': 3}"), *both) == 3
    assert factor(tmp_path, python("other", "TimesLayer"), *both) == 1
    assert factor(tmp_path, python("mine.times", "TimesLayer"), *both) == 10
    assert factor(tmp_path, python("mine.times", "Else"), *both) == 5
    assert factor(tmp_path, python("mine.times", "TimesLayer"), TimesLayer) == 1


def test_python_param_is_a_field_that_any_layer_may_have(tmp_path):
    text = nets.layer("ReLU", "x", "y", 'python_param { module: "m" layer: "L" share_in_parallel: true }')
    assert nets.load(tmp_path, X + text).blob_shapes["y"] == (2, 3)
    with pytest.raises(caffeport.PrototxtError, match=r'python_param has no field "modul" \(did you mean "module"\?\)'):
        nets.load(tmp_path, X + python("m", "L").replace("module", "modul"), custom_layers=[AnyPython])


def test_another_class_is_unknown(tmp_path):
    with pytest.raises(
        UnknownLayerError, match=r"""layer "y" is a Python layer whose class "TimesLayr" of module "mine.times" is"""
    ):
        nets.load(tmp_path, X + python("mine.times", "TimesLayr"), custom_layers=[TimesLayer])
