"""Layers of types that nothing knows: what is said of them, the operators that a user gives, data layers among them."""

from __future__ import annotations

import json
import re
import runpy
import warnings

import caffeport
import pytest
from caffeport import CaffeportWarning, NetError, UnknownLayerError
from caffeport.cli.main import main
from support import nets

X = nets.inputs(x=(2, 3))
POOLY = nets.layer(
    "Pooly", "x", "y", 'pooly_param { size: 3 mode: FAST size: 4 ratio: .5 inner { word: "a" } on: true }'
)
PYTHON = nets.layer(
    "Python", "x", "y", 'python_param { module: "rpn.mine" layer: "MyLayer" param_str: "{\'stride\': 16}" }'
)
OPERATOR = '''
import caffeport
import torch


@caffeport.layer_type({})
class Mine(caffeport.Operator):
    """x"""

    def module(self, bottoms):
        return torch.nn.Identity()

    def onnx(self, g, *x):
        return g.op("Identity", x[0])
'''


def refusal(tmp_path, text: str, **options) -> str:
    with pytest.raises(UnknownLayerError) as caught:
        nets.load(tmp_path, text, **options)
    words = str(caught.value)
    assert "\n" not in words
    return words.removeprefix(f"{tmp_path}/")


def test_the_type_is_told_before_its_fields_with_its_place_and_blobs(tmp_path):
    words = refusal(tmp_path, X + POOLY)
    assert words.startswith(
        'net.prototxt:2:7: layer "y" has the unknown type "Pooly" (did you mean "Pooling"?); it reads "x", makes "y", '
        "with pooly_param { size, mode, ratio, inner, on }; to add it, write an operator (caffeport show NET --stub "
        "begins one) and give it: --layers MY.py, custom_layers=[...]; known: AbsVal, "
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refusal(tmp_path, X + POOLY, allow_unknown_fields=True) == words


def test_the_other_unknown_types_are_named_too(tmp_path):
    words = refusal(tmp_path, X + POOLY + nets.layer("Zwei", "y", "z") + PYTHON.replace('"y"', '"w"'))
    assert '(unknown as well: "Zwei", "rpn.mine.MyLayer"); to add it' in words


def test_a_python_layer_is_told_by_module_and_class(tmp_path):
    words = refusal(tmp_path, X + PYTHON)
    assert words.startswith(
        'net.prototxt:2:7: layer "y" is a Python layer whose class "MyLayer" of module "rpn.mine" is not at hand; '
        'it reads "x", makes "y", with param_str "{\'stride\': 16}"; to add it, write an operator'
    )
    assert "did you mean" not in words


def test_fields_of_layers_of_another_phase_are_not_looked_at(tmp_path):
    other = nets.layer("Pooly", "x", "z", "pooly_param { } loss_param { mine: 1 } include { phase: TRAIN }")
    assert nets.load(tmp_path, X + other + nets.layer("ReLU", "x", "y")).outputs == ["y"]


def data(kind: str, tops: str, extra: str = "") -> str:
    return nets.layer(kind, "", tops, extra, "in")


def test_an_unknown_layer_without_bottoms_becomes_inputs(tmp_path):
    text = data("LmdbOfMine", "data boxes", 'lmdb_param { source: "db" batch_size: 8 crop_size: 9 words: 3 }')
    text += nets.layer("ReLU", "data", "y") + nets.layer("ReLU", "boxes", "z")
    with pytest.raises(NetError) as caught:
        nets.load(tmp_path, text)
    assert str(caught.value).removeprefix(f"{tmp_path}/") == (
        'net.prototxt:1:7: layer "in" (LmdbOfMine): the type "LmdbOfMine" is unknown, so that what it makes are '
        'inputs; the shape of input "data" is not known (its source "db" is not at hand): give it '
        "(input_shapes={'data': (N, C, H, W)}, or --input-shape data=NxCxHxW); its text says batch_size 8, crop_size 9"
    )
    with pytest.raises(NetError, match=r"give it \(input_shapes=\{'boxes': \(N, \.\.\.\)\}, or --input-shape boxes=Nx"):
        nets.load(tmp_path, text, input_shapes={"data": (8, 3, 9, 9)})
    net = nets.load(tmp_path, text, input_shapes={"data": (8, 3, 9, 9), "boxes": (8, 4)})
    assert (net.inputs, net.outputs) == (["data", "boxes"], ["y", "z"])
    assert net.check().ok


def test_a_python_data_layer_too(tmp_path):
    text = data("Python", "data label", 'python_param { module: "voc" layer: "Reader" param_str: "{}" }')
    text += nets.inner_product("data", "fc", 5) + nets.layer("SoftmaxWithLoss", "fc label", "loss")
    with pytest.raises(
        NetError, match=r'\(Python\): its Python class "Reader" of module "voc" is not at hand, so that'
    ):
        nets.load(tmp_path, text, phase="train")
    note = r'\(Python\) does not say the shape of "label": took 4 from layer "loss" \(SoftmaxWithLoss\), which reads it'
    with pytest.warns(CaffeportWarning, match=note):
        net = nets.load(tmp_path, text, phase="train", input_shapes={"data": (4, 3, 8, 8)})
    assert net.blob_shapes["label"] == (4,)


@pytest.mark.parametrize(
    ("loss", "predictions", "label"),
    [
        ("SoftmaxWithLoss", (4, 7), (4,)),
        ("SoftmaxWithLoss", (4, 7, 3, 2), (4, 1, 3, 2)),
        ("EuclideanLoss", (4, 10), (4, 10)),
        ("SigmoidCrossEntropyLoss", (4, 1, 6, 6), (4, 1, 6, 6)),
        ("HingeLoss", (4, 7), (4,)),
    ],
)
def test_a_label_has_the_shape_that_its_loss_demands(tmp_path, loss, predictions, label):
    text = nets.inputs(f=predictions) + data("HDF5Data", "label") + nets.layer(loss, "f label", "loss")
    with pytest.warns(CaffeportWarning, match=r"from layer \"loss\" .*, which reads it; input_shapes sets another"):
        net = nets.load(tmp_path, text, phase="train")
    assert net.blob_shapes["label"] == label


def test_a_label_that_nothing_decides_is_asked_for(tmp_path):
    text = data("HDF5Data", "a b") + nets.layer("EuclideanLoss", "a b", "loss")
    with pytest.raises(NetError, match=r'the shape of input "a" is not known'):
        nets.load(tmp_path, text, phase="train")
    with pytest.raises(NetError, match=r'the shape of input "b" is not known'):
        nets.load(tmp_path, data("HDF5Data", "a b") + nets.layer("ReLU", "a", "c"), input_shapes={"a": (2, 3)})


def test_a_file_of_operators(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = nets.write(tmp_path, OPERATOR.format('"Pooly", "Python:MyLayer"'), "mine.py")
    for given in (path, str(path), [path]):
        text = nets.inputs(x=(2, 3)) + nets.layer("Pooly", "x", "y") + PYTHON.replace('"y"', '"z"')
        assert nets.load(tmp_path, text, custom_layers=given).outputs == ["y", "z"]
    nets.write(tmp_path, text)
    for command in ("show", "check"):
        assert main([command, "net.prototxt", "--layers", "mine.py"]) == 0
        assert main([command, "net.prototxt"]) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1\ny = = 2\n", r"mine\.py:2: SyntaxError: invalid syntax"),
        ("x = 1\n\ny = 1 / 0\n", r"mine\.py:3: ZeroDivisionError: division by zero"),
        ("def f():\n    import nowhere_at_all\n\nf()\n", r"mine\.py:2: ModuleNotFoundError: No module named 'nowhere"),
        ("x = 1\n", r"mine\.py: defines no Operator subclass marked with @layer_type\(\.\.\.\)"),
        ("x = '\\0'\n\0", r"mine\.py(:\d+)?: (SyntaxError|ValueError): source code .*null bytes"),
    ],
)
def test_a_file_that_fails_tells_the_line(tmp_path, text, problem):
    path = nets.write(tmp_path, text, "mine.py")
    with pytest.raises(NetError, match=problem):
        nets.load(tmp_path, X + POOLY, custom_layers=path)
    with pytest.raises(NetError, match=r"none\.py: no such file; custom_layers expects Operator subclasses marked"):
        nets.load(tmp_path, X + POOLY, custom_layers="none.py")


STUB = X + POOLY + PYTHON.replace('"y"', '"z"') + nets.layer("OddLoss", "x y", "l", 'odd_param { f: "\\"\\n" }')


def test_the_stub_loads_and_refuses_until_it_is_written(tmp_path, capsys):
    path = nets.write(tmp_path, STUB + 'layer { type: "Da\\"ta\\n" bottom: "x" top: "q" }')
    assert main(["show", str(path), "--stub"]) == 0
    stub = nets.write(tmp_path, capsys.readouterr().out, "mine.py")
    names = runpy.run_path(str(stub))
    assert names["Pooly"].types == ("Pooly",) and names["MyLayer"].types == ("Python:rpn.mine.MyLayer",)
    assert names["OddLoss"].role.name == "LOSS" and names["Data"].types == ('Da"ta\\n',)
    fields = names["PoolyParam"].__annotations__
    kinds = {"size": "list[int]", "mode": "Word | None", "ratio": "float | None", "on": "bool | None"}
    assert fields == {**kinds, "inner": "Inner | None"}
    text = STUB.partition('layer { name: "z"')[0]
    with pytest.raises(NetError, match=r'layer "y" \(Pooly\): its top_shapes is not written yet'):
        nets.load(tmp_path, text, custom_layers=stub)
    written = stub.read_text().replace('self.fail("its top_shapes is not written yet")', "return [bottoms[0]]")
    net = nets.load(tmp_path, text, custom_layers=nets.write(tmp_path, written, "mine.py"))
    assert net.layer("y").op.p.size == [3, 4] and net.layer("y").op.p.inner.word == "a"


def test_a_net_without_unknown_types_has_no_stub(tmp_path, capsys):
    assert main(["show", str(nets.write(tmp_path, X + nets.layer("ReLU", "x", "y"))), "--stub"]) == 2
    assert "every layer's type is known" in capsys.readouterr().err


def test_ignored_fields_are_told_in_json_too(tmp_path, capsys):
    path = nets.write(tmp_path, X + nets.layer("ReLU", "x", "y", "mine: 3"))
    assert main(["show", str(path), "--allow-unknown-fields", "--json"]) == 0
    out, err = capsys.readouterr()
    (note,) = json.loads(out)["notes"]
    assert re.search(r'net\.prototxt:2:\d+: ignored the unknown field "mine" of layer "y"$', note) and note in err


NO_EFFECT = """
default_forward_type: FLOAT16 default_backward_math: FLOAT mem_param { optimize_train: true } engine: "MKLDNN"
layer { name: "in" type: "Data" top: "data" top: "label"
  data_param { batch_size: 2 cache: true shuffle: true threads: 4 }
  transform_param { crop_size: 4 use_gpu_transform: true } forward_type: FLOAT16 }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" engine: "CAFFE" quantization_param { bw_layer_in: 8 }
  convolution_param { num_output: 1 kernel_size: 3 conv_algos_override: "1,-1,-1" cudnn_convolution_algo_seeker: GET } }
"""


def test_fields_that_change_no_number_are_passed_over(tmp_path):
    with pytest.warns(CaffeportWarning) as notes:
        net = nets.load(tmp_path, NO_EFFECT, phase="train")
    assert net.blob_shapes["c"] == (2, 1, 2, 2)
    assert ["colour images" in str(note.message) for note in notes] == [True]


def test_unknown_fields_of_data_layers_are_told_and_passed_over(tmp_path):
    text = data(
        "MemoryData", "data label", "memory_data_param { batch_size: 2 channels: 1 height: 3 width: 3 colour: 1 }"
    )
    with pytest.warns(CaffeportWarning, match=r'ignored the unknown field "colour" of memory_data_param'):
        assert nets.load(tmp_path, text).blob_shapes["data"] == (2, 1, 3, 3)
    with pytest.raises(caffeport.PrototxtError, match=r'transform_param has no field "rotate"'):
        nets.load(tmp_path, X + nets.layer("ReLU", "x", "y", "transform_param { rotate: 3 }"))


def predictions(**outputs: int) -> str:
    return nets.inputs(f=(4, 6)) + "".join(nets.inner_product("f", name, width) for name, width in outputs.items())


def labels_of(tmp_path, text: str) -> dict[str, tuple[int, ...]]:
    with pytest.warns(
        CaffeportWarning, match=r'does not say the shape of "label": took .*, which reads it; input_shap'
    ):
        net = nets.load(tmp_path, text, phase="train")
    return {value.name: value.shape for value in net.values if value.name.startswith(("label", "a", "b"))}


@pytest.mark.parametrize("points", ["slice_point: 1", "slice_point: [1] axis: 1", ""])
def test_labels_that_a_slice_takes_apart(tmp_path, points):
    text = (
        predictions(fa=3, fb=5)
        + data("HDF5Data", "label")
        + nets.layer("Slice", "label", "a b", f"slice_param {{ {points} }}")
    )
    text += nets.layer("SoftmaxWithLoss", "fa a", "l1") + nets.layer("SoftmaxWithLoss", "fb b", "l2")
    assert labels_of(tmp_path, text) == {"label": (4, 2), "a": (4, 1), "b": (4, 1)}


def test_targets_of_several_widths_that_a_slice_takes_apart(tmp_path):
    fields = "slice_param { slice_point: 1 slice_point: 5 }"
    text = predictions(fa=3, fb=4, fc=10) + data("HDF5Data", "label") + nets.layer("Slice", "label", "a b c", fields)
    text += nets.layer("SoftmaxWithLoss", "fa a", "l1") + nets.layer("EuclideanLoss", "fc c", "l3")
    assert labels_of(tmp_path, text) == {"label": (4, 15), "a": (4, 1), "b": (4, 4)}
    with pytest.raises(NetError, match=r'the shape of input "label" is not known'):
        nets.load(tmp_path, text.replace("slice_point: 1 slice_point: 5", "axis: 1"), phase="train")


def test_slice_points_that_contradict_the_losses(tmp_path):
    fields = "slice_param { slice_point: 2 }"
    text = predictions(fa=3, fb=4) + data("HDF5Data", "label") + nets.layer("Slice", "label", "a b", fields)
    text += nets.layer("EuclideanLoss", "fa a", "l1") + nets.layer("EuclideanLoss", "fb b", "l2")
    with pytest.warns(CaffeportWarning), pytest.raises(NetError, match=r'"l1" \(EuclideanLoss\): expected bottoms of'):
        nets.load(tmp_path, text, phase="train")


def test_a_data_layer_with_several_numbers_an_image(tmp_path):
    start = nets.layer(
        "Data",
        "",
        "data label",
        "data_param { batch_size: 4 } transform_param { crop_size: 8 mean_value: [1, 2, 3] }",
        "in",
    )
    start += nets.inner_product("data", "f", 10)
    assert labels_of(tmp_path, start + nets.layer("EuclideanLoss", "f label", "loss"))["label"] == (4, 10)
    text = start + nets.layer("Slice", "label", "a b") + nets.inner_product("data", "g", 3)
    text += nets.layer("SigmoidCrossEntropyLoss", "f a", "l1") + nets.layer("SoftmaxWithLoss", "g b", "l2")
    assert labels_of(tmp_path, text.replace('top: "b"', 'top: "b" slice_param { slice_point: 10 }'))["label"] == (4, 11)
    assert nets.load(tmp_path, start + nets.layer("SoftmaxWithLoss", "f label", "l"), phase="train").blob_shapes[
        "label"
    ] == (4,)
    with pytest.raises(NetError, match=r'"loss" \(EuclideanLoss\): expected bottoms of one size'):
        given = {"data": (4, 3, 8, 8), "label": (4,)}
        nets.load(tmp_path, start + nets.layer("EuclideanLoss", "f label", "loss"), phase="train", input_shapes=given)


def test_a_wide_label_rules_no_size_of_the_images_out(tmp_path):
    start = nets.layer("Data", "", "data label", "data_param { batch_size: 4 } transform_param { crop_size: 8 }", "in")
    text = start + nets.inner_product("data", "f", 10) + nets.layer("EuclideanLoss", "f label", "loss")
    with pytest.warns(CaffeportWarning) as notes:
        net = nets.load(tmp_path, text, phase="train")
    assert (net.blob_shapes["data"], net.blob_shapes["label"], len(notes)) == ((4, 3, 8, 8), (4, 10), 2)


def test_what_another_phase_makes_is_an_input(tmp_path):
    fields = "data_param { batch_size: 4 } transform_param { crop_size: 8 mean_value: [1, 2, 3] }"
    start = nets.layer("Data", "", "data label", f"{fields} include {{ phase: TRAIN }}", "train-data")
    targets = nets.layer("Pooly", "data", "aims", "include { phase: TRAIN }")
    text = start + targets + nets.inner_product("data", "f", 10) + nets.layer("EuclideanLoss", "f aims", "loss")
    with pytest.warns(CaffeportWarning) as notes:
        net = nets.load(tmp_path, text)
    told = [str(note.message) for note in notes]
    assert told[0].endswith(
        'bottom "data" of layer "f" is made by layer "train-data" (Data), which this phase leaves out; it is an input '
        "here"
    )
    assert 'bottom "aims" of layer "loss" is made by layer "aims" (Pooly)' in told[1] and "took 4x10 from" in told[2]
    assert net.inputs == ["data", "label", "aims"] and len(told) == 3
    assert [net.blob_shapes[name] for name in net.inputs] == [(4, 3, 8, 8), (4,), (4, 10)]
    with pytest.warns(CaffeportWarning):
        given = nets.load(tmp_path, text, input_shapes={"data": (2, 3, 8, 8)})
    assert given.inputs == ["data", "aims"] and given.blob_shapes["aims"] == (2, 10)
    with pytest.raises(NetError, match=r'bottom "dat" of layer "g" is made by no layer \(did you mean "data"\?\)'):
        nets.load(
            tmp_path,
            text.partition("layer {")[0]
            + start
            + X
            + nets.inner_product("x", "data", 2)
            + nets.inner_product("dat", "g", 10),
        )


def test_of_several_resizes_the_first_counts(tmp_path):
    several = " ".join(f"resize_param {{ height: {size} width: {size} }}" for size in (9, 7))
    fields = f"data_param {{ batch_size: 2 }} transform_param {{ mean_value: [1, 2, 3] {several} }}"
    net = nets.load(tmp_path, nets.layer("Data", "", "data", fields))
    assert net.blob_shapes["data"] == (2, 3, 9, 9)


def test_targets_are_masked_and_sliced_before_their_loss(tmp_path):
    text = nets.inputs(f=(2, 3, 5, 4)) + nets.conv("f", "boxes", 4) + nets.conv("f", "cover", 1)
    text += data("Python", "label", 'python_param { module: "m" layer: "L" }')
    text += nets.layer(
        "Slice", "label", "a b size block", "slice_param { slice_point: 1 slice_point: 5 slice_point: 9 }"
    )
    product = "eltwise_param { operation: PROD }"
    text += nets.layer("Eltwise", "b size", "aims", product) + nets.layer("ReLU", "aims", "aims", name="r")
    text += nets.layer("Eltwise", "boxes block", "masked", product)
    text += nets.layer("SigmoidCrossEntropyLoss", "cover a", "l1") + nets.layer("EuclideanLoss", "masked aims", "l2")
    with pytest.warns(CaffeportWarning, match=r'took 2x13x5x4 from layer "a" \(Slice\), which reads it'):
        net = nets.load(tmp_path, text, phase="train")
    shapes = {name: net.blob_shapes[name] for name in ("label", "a", "b", "size", "block", "aims", "masked")}
    assert shapes == {"label": (2, 13, 5, 4), "a": (2, 1, 5, 4)} | dict.fromkeys(
        shapes.keys() - {"label", "a"}, (2, 4, 5, 4)
    )


def test_a_recurrent_layer_demands_its_marks(tmp_path):
    text = (
        nets.inputs(x=(3, 2, 4))
        + data("HDF5Data", "cont")
        + nets.layer("LSTM", "x cont", "y", "recurrent_param { num_output: 5 }")
    )
    with pytest.warns(CaffeportWarning, match=r'took 3x2 from layer "y" \(LSTM\), which reads it'):
        assert nets.load(tmp_path, text).blob_shapes["cont"] == (3, 2)


def test_a_text_for_training_only_loads_in_test(tmp_path):
    """As Cascade R-CNN's: what ProposalTarget makes is an input of its shape, and DecodeBBox's truth is passed over."""
    text = nets.inputs(p=(6, 5), g=(1, 8), d=(128, 8)) + nets.layer(
        "ProposalTarget", "p g", "rois labels aims inside outside truth",
        "include { phase: TRAIN } proposal_target_param { cls_num: 3 }", "t",
    )  # fmt: skip
    text += nets.layer("DecodeBBox", "d rois truth", "y")
    with pytest.warns(CaffeportWarning) as notes:
        net = nets.load(tmp_path, text)
    assert "its third bottom is for the TRAIN phase, and is passed over" in str(notes[-1].message)
    assert net.inputs == ["p", "g", "d", "rois", "truth"] and net.blob_shapes["y"] == (128, 5, 1, 1)


def test_a_layer_says_what_it_demands(tmp_path):
    text = nets.inputs(x=(3, 2, 4, 5)) + data("HDF5Data", "mask") + nets.layer("MaskPooling", "x mask", "y")
    with pytest.warns(CaffeportWarning, match=r'took 3x1x4x5 from layer "y" \(MaskPooling\), which reads it'):
        assert nets.load(tmp_path, text).blob_shapes["mask"] == (3, 1, 4, 5)
