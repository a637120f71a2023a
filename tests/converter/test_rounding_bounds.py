"""The bounds of roundings, operator by operator: they hold for every error within those of the inputs, and are not far
from what some errors reach. What an operator makes of numbers is onnx's own reference implementation, in float64."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from caffeport.parity.parts import reads
from caffeport.rounding.bound_graph import BoundGraph
from caffeport.rounding.quantised import CUT
from caffeport.rounding.rules import LIKELY, MOVING, RULES
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

UNIT, LEAST = 2.0**-11, 2.0**-25
"""float16's unit roundoff, and half of its smallest step."""
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.standard_normal(shape)


def above_0(*shape):
    return RANDOM.uniform(0.2, 3, shape)


def ints(*values):
    return np.array(values, np.int64)


X = normal(2, 3, 4, 5)
CASES = {
    # operator: (inputs, attributes, how near to the bound some errors have to come)
    "Abs": ([X], {}, 0.9),
    "Add": ([X, normal(3, 1, 1)], {}, 0.9),
    "AveragePool": ([X], {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}, 0.3),
    "BatchNormalization": ([X, normal(3), normal(3), normal(3), above_0(3)], {"epsilon": 1e-3}, 0.3),
    "Cast": ([X], {"to": 1}, 0.9),
    "Clip": ([X, np.array(-0.5), np.array(0.7)], {}, 0.3),
    "Compress": ([X, np.array([True, False, True])], {"axis": 1}, 0.9),
    "Concat": ([X, normal(2, 1, 4, 5)], {"axis": 1}, 0.9),
    "Conv": ([X, normal(4, 3, 3, 3), normal(4)], {"pads": [1, 1, 1, 1]}, 0.2),
    "ConvTranspose": ([X, normal(3, 2, 2, 2), normal(2)], {"strides": [2, 2]}, 0.3),
    "CumSum": ([X, np.array(1, np.int64)], {}, 0.5),
    "DepthToSpace": ([normal(1, 4, 2, 2)], {"blocksize": 2}, 0.9),
    "Div": ([X, above_0(2, 3, 4, 5)], {}, 0.8),
    "Einsum": ([normal(2, 3), normal(3, 4)], {"equation": "ij,jk->ik"}, 0.3),
    "Elu": ([X], {"alpha": 1.3}, 0.9),
    "Erf": ([X], {}, 0.9),
    "Exp": ([X], {}, 0.9),
    "Expand": ([normal(3, 1), ints(2, 3, 4)], {}, 0.9),
    "Flatten": ([X], {}, 0.9),
    "Gather": ([X, ints(1, 0)], {"axis": 2}, 0.9),
    "GatherElements": ([normal(3, 4), np.array([[0, 1, 2, 0]], np.int64)], {}, 0.9),
    "GatherND": ([normal(3, 4), np.array([[1], [2]], np.int64)], {}, 0.9),
    "Gemm": ([normal(2, 5), normal(3, 5), normal(3)], {"transB": 1}, 0.3),
    "GlobalAveragePool": ([X], {}, 0.2),
    "GlobalMaxPool": ([X], {}, 0.5),
    "HardSigmoid": ([X], {}, 0.9),
    "Identity": ([X], {}, 0.9),
    "LRN": ([X], {"size": 3, "alpha": 0.5, "beta": 0.75, "bias": 1.5}, 0.3),
    "LeakyRelu": ([X], {"alpha": 0.2}, 0.9),
    "Log": ([above_0(3, 4)], {}, 0.9),
    "LogSoftmax": ([normal(2, 3)], {}, 0.3),
    "MatMul": ([normal(2, 5), normal(5, 3)], {}, 0.3),
    "Max": ([X, normal(2, 3, 4, 5)], {}, 0.5),
    "MaxPool": ([X], {"kernel_shape": [2, 2]}, 0.5),
    "Mean": ([X, normal(2, 3, 4, 5)], {}, 0.4),
    "Min": ([X, normal(2, 3, 4, 5)], {}, 0.5),
    "Mul": ([X, normal(3, 1, 1)], {}, 0.9),
    "Neg": ([X], {}, 0.9),
    "PRelu": ([X, normal(3, 1, 1)], {}, 0.8),
    "Pad": ([X, ints(0, 0, 1, 0, 0, 0, 0, 2)], {}, 0.9),
    "Pow": ([above_0(3, 4), np.array(1.7)], {}, 0.8),
    "Reciprocal": ([above_0(3, 4)], {}, 0.9),
    "ReduceL1": ([X, ints(1)], {}, 0.5),
    "ReduceL2": ([X, ints(1)], {}, 0.3),
    "ReduceLogSumExp": ([X, ints(1)], {}, 0.2),
    "ReduceMax": ([X, ints(1)], {}, 0.5),
    "ReduceMean": ([X, ints(1)], {}, 0.5),
    "ReduceMin": ([X, ints(1)], {}, 0.1),
    "ReduceSum": ([X, ints(1)], {}, 0.5),
    "Relu": ([X], {}, 0.9),
    "Reshape": ([X, ints(0, -1)], {}, 0.9),
    "Resize": ([X, None, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}, 0.5),
    "ReverseSequence": ([normal(4, 2), ints(3, 4)], {"batch_axis": 1, "time_axis": 0}, 0.9),
    "ScatterElements": ([normal(3, 3), np.array([[0, 2, 1]], np.int64), normal(1, 3)], {}, 0.9),
    "ScatterND": ([normal(4, 2), np.array([[1], [3]], np.int64), normal(2, 2)], {}, 0.9),
    "Selu": ([X], {}, 0.9),
    "Sigmoid": ([X], {}, 0.9),
    "Sin": ([X], {}, 0.5),
    "Cos": ([X], {}, 0.5),
    "Slice": ([X, ints(1), ints(3), ints(2)], {}, 0.9),
    "Softmax": ([normal(2, 4)], {}, 0.1),
    "Softplus": ([X], {}, 0.9),
    "Softsign": ([X], {}, 0.5),
    "SpaceToDepth": ([X[:, :, :, :4]], {"blocksize": 2}, 0.9),
    "Split": ([X, ints(1, 2)], {"axis": 1}, 0.9),
    "Sqrt": ([above_0(3, 4)], {}, 0.9),
    "Squeeze": ([normal(1, 3, 4), ints(0)], {}, 0.9),
    "Sub": ([X, normal(3, 1, 1)], {}, 0.9),
    "Sum": ([X, normal(2, 3, 4, 5), normal(5)], {}, 0.7),
    "Tanh": ([X], {}, 0.5),
    "Tile": ([X, ints(1, 2, 1, 1)], {}, 0.9),
    "Transpose": ([X], {"perm": [0, 2, 3, 1]}, 0.9),
    "Unsqueeze": ([X, ints(0)], {}, 0.9),
    "Where": ([RANDOM.random((3, 4)) < 0.5, normal(3, 4), normal(3, 4)], {}, 0.9),
}
ELSEWHERE = {"QuantizeLinear", "DequantizeLinear", "Dropout"}  # tests of their own; Dropout has no seedless form here


def test_every_rule_has_a_case():
    assert CASES.keys() | ELSEWHERE == RULES.keys()


def bounds(node, inputs, rounded):
    """(the outputs, their bounds) of a node whose inputs ``rounded`` go through float16 first."""
    nodes, graph_inputs, feed = [], [], {}
    for name, array in inputs.items():
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        feed[name] = array
        graph_inputs.append(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        )
        if name in rounded:
            nodes.append(helper.make_node("Cast", [name], [f"{name}/half"], to=10))
            nodes.append(helper.make_node("Cast", [f"{name}/half"], [f"{name}/rounded"], to=1))
    again = onnx.NodeProto()
    again.CopyFrom(node)
    again.input[:] = [f"{name}/rounded" if name in rounded else name for name in node.input]
    nodes.append(again)
    graph = helper.make_graph(nodes, "g", graph_inputs, [helper.make_empty_tensor_value_info(n) for n in node.output])
    return run_bounds(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), feed)


def run_bounds(model, feed):
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {entry.name: entry.type.tensor_type.elem_type for entry in [*graph.input, *graph.value_info, *graph.output]}
    types |= {entry.name: entry.data_type for entry in graph.initializer}
    g = BoundGraph(model, types, RULES, MOVING)
    for node in model.graph.node:
        g.follow(node, list(reads(node)))
    outputs = [entry.name for entry in model.graph.output]
    assert not g.unbounded
    names = [*outputs, *(g.errors[name] for name in outputs)]
    model.graph.node.extend(g.nodes)
    model.graph.initializer.extend(g.constants)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(names, feed)
    return results[: len(outputs)], results[len(outputs) :]


def exactly(node, inputs):
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), None)
        for name, a in inputs.items()
    ]
    graph = helper.make_graph([node], "g", values, [helper.make_empty_tensor_value_info(name) for name in node.output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return ReferenceEvaluator(model).run(None, inputs)


@pytest.mark.parametrize("kind", CASES)
def test_no_errors_of_the_inputs_lead_beyond_the_bound(kind):
    arrays, attributes, near = CASES[kind]
    if kind == "Cast":
        attributes = {"to": 11}  # the reference's own digits
    inputs = {f"x{i}": array for i, array in enumerate(arrays) if array is not None}
    rounded = {name for name, array in inputs.items() if array.dtype == np.float64}
    outputs = [f"y{i}" for i in range(2 if kind == "Split" else 1)]
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    node = helper.make_node(kind, names, outputs, **attributes)
    ran = helper.make_node(kind, names, outputs, **CASES[kind][1])
    results, limits = bounds(ran, inputs, rounded)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = {name: a.astype(np.float16).astype(np.float64) if name in rounded else a for name, a in inputs.items()}
        exact = exactly(node, stored)
        reach = [np.zeros(limit.shape) for limit in limits]
        for _ in range(200):
            moved = dict(stored)
            for name in rounded:
                error = UNIT * np.abs(stored[name]) + LEAST
                moved[name] = stored[name] + error * RANDOM.choice([-1.0, 1.0], stored[name].shape)
            for place, array in enumerate(exactly(node, moved)):
                assert limits[place].shape == array.shape == results[place].shape
                apart = np.abs(array - exact[place])
                float32 = 4 * 2.0**-24 * np.maximum(np.abs(exact[place]), 1)  # in which the bounds are computed
                assert (apart <= 1.002 * limits[place] + float32).all()
                reach[place] = np.maximum(reach[place], apart)
    share = max(float((apart / np.maximum(limit, 1e-12)).max()) for apart, limit in zip(reach, limits, strict=True))
    assert share >= near


def test_a_sum_of_products_has_highams_bound():
    """|W||e| of the inputs, and what rounding the weights adds, u |W|(|x| + |e|): section 3.1 of his book."""
    w, x = normal(3, 7).astype(np.float16), normal(2, 7).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["w"], ["W"], to=1),
        helper.make_node("Gemm", ["x", "W"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [2, 7])], [helper.make_tensor_value_info("y", 1, [2, 3])],
        [numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    _, (limit,) = run_bounds(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), {"x": x}
    )
    expected = np.abs(x.astype(np.float64)) @ (UNIT * np.abs(w.astype(np.float64)) + LEAST).T
    np.testing.assert_allclose(limit, expected, rtol=2.1 * UNIT)


def quantised_net(x, weights, low=-2.0, high=3.0):
    """A Gemm of QDQ form over x in 255 steps from low to high, its weights in 127 for each column."""
    step = (high - low) / 255
    scale = np.abs(weights).max(0) / 127
    stored = [
        numpy_helper.from_array(np.float32(step), "step"),
        numpy_helper.from_array(np.uint8(round(-low / step)), "zero"),
        numpy_helper.from_array(np.rint(weights / scale).astype(np.int8), "q"),
        numpy_helper.from_array(scale.astype(np.float32), "scale"),
        numpy_helper.from_array(np.zeros(len(scale), np.int8), "zeros"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["x8"]),
        helper.make_node("DequantizeLinear", ["x8", "step", "zero"], ["x32"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zeros"], ["w32"], axis=1),
        helper.make_node("MatMul", ["x32", "w32"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", x.shape), ("y", [len(x), weights.shape[1]]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), step, scale


@pytest.mark.parametrize("count", [9, 2000])
def test_8_bits_are_off_by_half_a_step(count):
    """Of inputs |W| step / 2; of weights the lesser of |x| scale / 2 and 8 standard deviations by Hoeffding."""
    x = RANDOM.uniform(-2, 3, (3, count)).astype(np.float32)
    weights = normal(count, 4)
    model, step, scale = quantised_net(x, weights)
    (y,), (limit,) = run_bounds(model, {"x": x})
    reach = np.abs(np.rint(x / step) * step) + step / 2
    rounded = np.rint(weights / scale) * scale
    most = reach @ np.broadcast_to(scale / 2, weights.shape)
    likely = 8 * np.sqrt((reach**2) @ np.broadcast_to((scale / 2) ** 2, weights.shape))
    assert LIKELY == 8 and (count > 64) == bool((likely < most).all())
    expected = np.broadcast_to(step / 2 * np.abs(rounded).sum(0), most.shape) + np.minimum(most, likely)
    np.testing.assert_allclose(limit, expected, rtol=1e-3)
    assert (np.abs(y - x.astype(np.float64) @ weights) <= limit).all()


def test_what_lies_beyond_the_range_counts_while_it_is_little():
    def limit(first, count=1):
        changed = x.copy()
        changed[0, :count] = first
        _, (bound,) = run_bounds(quantised_net(x, np.eye(2000)[:, :1])[0], {"x": changed})
        return bound[0, 0]

    x = RANDOM.uniform(-2, 3, (1, 2000)).astype(np.float32)
    assert limit(3.5) - limit(3.0) == pytest.approx(0.5, abs=0.02)  # 3 is the end, to half a step
    wide = np.concatenate([np.full(1000, 30.0), x[0, 1000:]])
    assert np.sqrt(((wide - np.minimum(wide, 3)) ** 2).mean() / (wide**2).mean()) > CUT
    assert limit(30.0, 1000) == pytest.approx(limit(3.0, 1000), abs=0.02)  # the range is wrong, and excuses nothing


@pytest.mark.parametrize(
    ("kind", "arrays", "attributes"),
    [
        ("ArgMax", [X], {}),
        ("TopK", [X, ints(2)], {}),
        ("Round", [X], {}),
        ("Resize", [X, None, np.array([1, 1, 2, 2], np.float32)], {"mode": "cubic"}),
        ("Cast", [X], {"to": 7}),
    ],
)
def test_what_jumps_has_no_bound(kind, arrays, attributes):
    inputs = {f"x{i}": array for i, array in enumerate(arrays) if array is not None}
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    node = helper.make_node(kind, names, ["y"] if kind != "TopK" else ["y", "places"], **attributes)
    with pytest.raises(AssertionError):
        bounds(node, inputs, {"x0"})
