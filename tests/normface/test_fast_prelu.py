"""PReLU rewritten for ONNX Runtime: the same numbers, everything else of the model left as it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from normface.fast_prelu import with_fast_prelu
from onnx import helper, numpy_helper

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((2, 4, 5, 3)).astype(np.float32) * 10


def save(path, nodes, slopes, opset=17, inputs=(), x=X, **options):
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    ends = [[helper.make_tensor_value_info(name, kind, x.shape) for name in ("x", *inputs)]]
    ends.append([helper.make_tensor_value_info("y", kind, x.shape)])
    constants = [numpy_helper.from_array(np.asarray(value, x.dtype), name) for name, value in slopes.items()]
    graph = helper.make_graph(nodes, "g", *ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, {"told": "this"})
    onnx.save(model, path, **options)
    return path


def prelu(x="x", y="y", slope="a"):
    return helper.make_node("PRelu", [x, slope], [y])


def run(model, **inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


SLOPES = {
    "a channel": DRAW.uniform(-0.5, 2, (4, 1, 1)),
    "shared": np.array([0.25]),
    "scalar": np.array(0.25),
    "an element": DRAW.uniform(-1, 3, (4, 5, 3)),
}


@pytest.mark.parametrize("slope", SLOPES.values(), ids=list(SLOPES))
def test_the_same_numbers(tmp_path, slope):
    path = save(tmp_path / "m.onnx", [prelu()], {"a": slope})
    made = with_fast_prelu(path)
    expected = np.where(X > 0, X, X * np.asarray(slope, np.float32))
    assert {node.op_type for node in onnx.load_from_string(made).graph.node} == {"Mul", "Relu", "Add"}
    # a x + (1 - a) x for x: three roundings, of numbers up to 3 x.
    np.testing.assert_allclose(run(made, x=X), expected, rtol=1e-6)
    assert run(made, x=X).shape == X.shape


def test_half_precision(tmp_path):
    half = X.astype(np.float16)
    made = with_fast_prelu(save(tmp_path / "m.onnx", [prelu()], {"a": SLOPES["a channel"]}, x=half))
    found = run(made, x=half)
    assert found.dtype == np.float16
    expected = np.where(half > 0, half, half * SLOPES["a channel"].astype(np.float16))
    np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=5e-3)  # 10 bits, three roundings


def test_several_that_share_a_slope_and_one_that_is_computed(tmp_path):
    nodes = [prelu("x", "p"), helper.make_node("Abs", ["p"], ["q"]), prelu("q", "r", "q"), prelu("r", "y")]
    path = save(tmp_path / "m.onnx", nodes, {"a": SLOPES["a channel"]})
    made = onnx.load_from_string(with_fast_prelu(path))
    onnx.checker.check_model(made)
    assert [node.op_type for node in made.graph.node].count("PRelu") == 1
    assert "a" not in [one.name for one in made.graph.initializer]
    assert {entry.key: entry.value for entry in made.metadata_props} == {"told": "this"}
    np.testing.assert_allclose(run(made.SerializeToString(), x=X), run(str(path), x=X), rtol=1e-6)


def test_names_that_the_model_has_already(tmp_path):
    """As an unfolded Scale and the PReLU that works in place on its blob have them, and worse."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["p"], name="y/Mul"),
        helper.make_node("Neg", ["p"], ["fast_prelu_1/whole"], name="y/Add"),
        helper.make_node("Add", ["fast_prelu_1/whole", "x"], ["fast_prelu_1/rest"], name="fast_prelu_1/sum"),
        prelu("fast_prelu_1/rest", "y", "fast_prelu_1/slope"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"fast_prelu_1/slope": SLOPES["a channel"]})
    made = with_fast_prelu(path)
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(run(made, x=X), run(str(path), x=X), rtol=1e-6)


def test_what_is_left_alone(tmp_path):
    slope = {"a": SLOPES["a channel"]}
    paths = [
        save(tmp_path / "without.onnx", [helper.make_node("Relu", ["x"], ["y"])], slope),
        save(tmp_path / "old.onnx", [prelu()], slope, opset=8),
        save(tmp_path / "given.onnx", [prelu()], {}, inputs=("a",)),
        save(tmp_path / "default.onnx", [prelu()], {"a": np.zeros(X.shape)}, inputs=("a",)),
        save(
            tmp_path / "outside.onnx", [prelu()], slope, save_as_external_data=True, location="w.bin", size_threshold=0
        ),
        tmp_path / "damaged.onnx",
    ]
    paths[-1].write_bytes(b"no model")
    for path in paths:
        assert with_fast_prelu(path) == str(path)


def test_without_onnx(tmp_path, monkeypatch):
    path = save(tmp_path / "m.onnx", [prelu()], {"a": SLOPES["shared"]})
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert with_fast_prelu(path) == str(path)
