"""What is folded into which layer of an ONNX file, and that every blob that is left in it has the net's numbers."""

from __future__ import annotations

import caffeport
import numpy as np
import onnx
import pytest
from support import nets

CHANNELS = 'scale_param { bias_term: true filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" std: 1 } }'
RELU = nets.layer("ReLU", "y", "r")


def bn(bottom, top):
    return nets.layer("BatchNorm", bottom, top)


def scale(bottom, top):
    return nets.layer("Scale", bottom, top, CHANNELS)


def drawn(net):
    """Return the net with statistics in its BatchNorms."""
    draw = np.random.default_rng(3)
    for param in net.params:
        if param.name in ("mean", "variance", "scale_factor"):
            low = 0.5 if param.name != "mean" else -1.0
            param.data = draw.uniform(low, 1.5, param.shape).astype(np.float32)
    return net


def exported(folder, text, **options):
    """Return (the kinds of nodes, the names of what they make), after the written file has been proven by torch."""
    net = drawn(nets.load(folder, text))
    path = folder / "n.onnx"
    net.to_onnx(path, **options)
    report = caffeport.check(net, onnx=path)
    assert report.ok, report.summary
    nodes = onnx.load(str(path)).graph.node
    return [node.op_type for node in nodes], [name for node in nodes for name in node.output]


IMAGE = nets.inputs(x=(2, 4, 9, 8))


@pytest.mark.parametrize(
    ("name", "front", "reader", "kinds"),
    [
        ("a convolution", bn("x", "b") + scale("b", "s"), nets.conv("s", "y", 6, "kernel_size: 3"), ["Conv"]),
        ("groups", bn("x", "b") + scale("b", "s"), nets.conv("s", "y", 6, "kernel_size: 3 group: 2"), ["Conv"]),
        ("depthwise", scale("x", "s"), nets.conv("s", "y", 4, "kernel_size: 3 group: 4"), ["Conv"]),
        ("no bias", scale("x", "s"), nets.conv("s", "y", 6, "kernel_size: 3 bias_term: false"), ["Conv"]),
        ("padding", bn("x", "b") + scale("b", "s"), nets.conv("s", "y", 6), ["BatchNormalization", "Conv"]),
        (
            "padding, no shift",
            nets.layer("Power", "x", "s", "power_param { scale: 0.25 }"),
            nets.conv("s", "y", 6),
            ["Conv"],
        ),
        (
            "padding, a shift",
            nets.layer("Power", "x", "s", "power_param { scale: 0.25 shift: 1 }"),
            nets.conv("s", "y", 6),
            ["Mul", "Add", "Conv"],
        ),
        (
            "a transpose",
            scale("x", "s"),
            nets.layer("Deconvolution", "s", "y", f"convolution_param {{ num_output: 6 kernel_size: 3 {nets.GAUSS} }}"),
            ["Mul", "Add", "ConvTranspose"],
        ),
        ("an inner product", bn("x", "b") + scale("b", "s"), nets.inner_product("s", "y", 6), ["Flatten", "Gemm"]),
        (
            "an inner product, transposed",
            bn("x", "b"),
            nets.inner_product("b", "y", 6, "transpose: true"),
            ["Flatten", "Gemm"],
        ),
    ],
)
def test_into_the_layer_after(name, front, reader, kinds, tmp_path):
    assert exported(tmp_path, IMAGE + front + reader + RELU)[0] == [*kinds, "Relu"]


def test_two_readers_or_an_output_between_stand_against_it(tmp_path):
    two = IMAGE + scale("x", "s") + nets.conv("s", "y", 6, "kernel_size: 3") + RELU
    assert exported(tmp_path, two, outputs=["r", "s"])[0] == ["Mul", "Add", "Conv", "Relu"]
    more = two + nets.layer("AbsVal", "s", "a")
    assert exported(tmp_path, more)[0].count("Mul") == 1


def test_a_shift_that_would_cost_precision_stays(tmp_path):
    front = nets.layer("Power", "x", "s", "power_param { scale: 1 shift: -1000 }")
    assert exported(tmp_path, IMAGE + front + nets.conv("s", "y", 6, "kernel_size: 3"))[0] == ["Add", "Conv"]


def test_through_concat(tmp_path):
    text = IMAGE + nets.conv("x", "a", 6) + scale("a", "a2") + nets.conv("x", "b", 3)
    text += nets.layer("Concat", "a2 b", "c") + bn("c", "d") + scale("d", "e") + nets.layer("ReLU", "e", "r")
    kinds, names = exported(tmp_path, text)
    assert sorted(kinds) == ["Concat", "Conv", "Conv", "Relu"]
    assert {"e", "r"} <= set(names) and not {"a", "a2", "b", "c", "d"} & set(names)


def test_through_concat_within_concat(tmp_path):
    text = IMAGE + "".join(nets.conv("x", top, count) for top, count in (("a", 2), ("b", 3), ("c", 5)))
    text += nets.layer("Concat", "a b", "ab") + nets.layer("Concat", "ab c", "abc") + bn("abc", "d")
    kinds, names = exported(tmp_path, text)
    assert sorted(kinds) == ["Concat", "Concat", "Conv", "Conv", "Conv"]
    assert not {"a", "b", "c", "ab", "abc"} & set(names)


@pytest.mark.parametrize("outputs", [["r"], ["r", "a"]])
def test_not_through_concat_if_one_part_cannot_take_it(outputs, tmp_path):
    other = nets.layer("ReLU", "x", "b") if outputs == ["r"] else nets.conv("x", "b", 4)
    text = IMAGE + nets.conv("x", "a", 6) + other
    text += nets.layer("Concat", "a b", "c") + bn("c", "d") + scale("d", "e") + nets.layer("ReLU", "e", "r")
    kinds, names = exported(tmp_path, text, outputs=outputs)
    assert kinds.count("BatchNormalization") == 1 and "Mul" not in kinds  # Scale goes into BatchNorm
    assert {"a", "b", "c", "e"} <= set(names)


def test_a_blob_twice_in_a_concat_stays(tmp_path):
    text = IMAGE + nets.conv("x", "a", 3) + nets.layer("Concat", "a a", "c") + scale("c", "e")
    assert exported(tmp_path, text)[0] == ["Conv", "Concat", "Mul", "Add"]


def test_through_slice(tmp_path):
    text = IMAGE + nets.conv("x", "a", 7) + nets.layer("Slice", "a", "p q", "slice_param { slice_point: 3 }")
    text += bn("q", "d") + scale("d", "e") + nets.layer("ReLU", "e", "r") + nets.layer("AbsVal", "p", "s")
    kinds, names = exported(tmp_path, text)
    assert sorted(kinds) == ["Abs", "Conv", "Relu", "Split"]
    assert {"p", "e", "r", "s"} <= set(names) and not {"a", "q", "d"} & set(names)


def test_through_slice_of_a_concat(tmp_path):
    text = IMAGE + nets.conv("x", "a", 3) + nets.conv("x", "b", 4) + nets.layer("Concat", "a b", "c")
    text += nets.layer("Slice", "c", "p q", "slice_param { slice_point: 2 }") + scale("q", "e") + scale("p", "f")
    kinds, names = exported(tmp_path, text)
    assert sorted(kinds) == ["Concat", "Conv", "Conv", "Split"]
    assert {"e", "f"} <= set(names) and not {"a", "b", "c", "p", "q"} & set(names)


def test_along_another_axis_nothing_goes_through(tmp_path):
    text = IMAGE + nets.conv("x", "a", 3) + nets.conv("x", "b", 3)
    text += nets.layer("Concat", "a b", "c", "concat_param { axis: 2 }") + scale("c", "e")
    assert exported(tmp_path, text)[0] == ["Conv", "Conv", "Concat", "Mul", "Add"]


def test_nothing_is_folded_without_fold(tmp_path):
    text = IMAGE + bn("x", "b") + scale("b", "s") + nets.conv("s", "y", 6, "kernel_size: 3")
    kinds, names = exported(tmp_path, text, fold=False)
    assert kinds == ["BatchNormalization", "Mul", "Add", "Conv"] and names[-1] == "y"


def test_dropout_that_scales_when_deployed(tmp_path):
    text = IMAGE + nets.conv("x", "a", 6) + nets.layer("Dropout", "a", "d", "dropout_param { scale_train: false }")
    assert exported(tmp_path, text)[0] == ["Conv"]
