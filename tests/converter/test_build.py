"""From text to a net by net.cpp's rules: which layers stay, how they join, what they share, and what is refused."""

from __future__ import annotations

import gc
import itertools

import caffeport
import pytest
from caffeport import CaffeportWarning, NetError, Operator, PrototxtError, UnknownLayerError, layer_type
from support import nets

X = nets.inputs(x=(2, 3, 6, 5))


def relu(bottom: str, top: str, extra: str = "", name: str = "") -> str:
    return nets.layer("ReLU", bottom, top, extra, name)


def kept(tmp_path, rules: str, text: str = X, **state) -> bool:
    net = nets.load(tmp_path, text + relu("x", "always") + relu("x", "y", rules), **state)
    return "y" in net.blobs


RULES = [
    # rules, state, does the layer stay
    ("", {}, True),
    ("include { phase: TEST }", {}, True),
    ("include { phase: TRAIN }", {}, False),
    ("include { phase: TRAIN }", {"phase": "train"}, True),
    ("include { phase: 0 }", {"phase": "train"}, True),
    ("include { }", {}, True),
    ("exclude { }", {}, False),
    ("exclude { phase: TRAIN }", {}, True),
    ("exclude { phase: TEST }", {}, False),
    ("include { phase: TRAIN } include { phase: TEST }", {}, True),  # any of them
    ("include { phase: TRAIN } include { stage: 'a' }", {}, False),
    ("exclude { phase: TRAIN } exclude { stage: 'a' }", {}, True),  # none of them
    ("exclude { phase: TRAIN } exclude { stage: 'a' }", {"stages": ["a"]}, False),
    ("include { stage: 'a' }", {}, False),
    ("include { stage: 'a' }", {"stages": "a"}, True),
    ("include { stage: 'a' stage: 'b' }", {"stages": ["a"]}, False),  # all stages of a rule
    ("include { stage: 'a' stage: 'b' }", {"stages": ["b", "c", "a"]}, True),
    ("include { stage: 'a' } include { stage: 'b' }", {"stages": ["b"]}, True),
    ("include { not_stage: 'a' }", {}, True),
    ("include { not_stage: 'a' }", {"stages": ["a"]}, False),
    ("include { not_stage: 'a' not_stage: 'b' }", {"stages": ["b"]}, False),  # none of the not_stages
    ("include { stage: 'a' not_stage: 'b' }", {"stages": ["a"]}, True),
    ("include { stage: 'a' not_stage: 'b' }", {"stages": ["a", "b"]}, False),
    ("exclude { not_stage: 'a' }", {"stages": ["a"]}, True),
    ("include { min_level: 1 }", {}, False),
    ("include { min_level: 1 }", {"level": 1}, True),
    ("include { max_level: 1 }", {"level": 1}, True),
    ("include { max_level: 1 }", {"level": 2}, False),
    ("include { min_level: -1 max_level: 0 }", {}, True),
    ("include { min_level: 2 max_level: 3 phase: TEST }", {"level": 3}, True),
    ("include { min_level: 2 max_level: 3 phase: TRAIN }", {"level": 3}, False),
]


@pytest.mark.parametrize(("rules", "state", "stays"), RULES)
def test_rules(tmp_path, rules, state, stays):
    assert kept(tmp_path, rules, **state) is stays


def test_the_state_in_the_text_counts_too(tmp_path):
    state = "state { phase: TRAIN level: 3 stage: 'a' }"
    assert kept(tmp_path, "include { stage: 'a' stage: 'b' }", state + X, stages=["b"])
    assert kept(tmp_path, "include { min_level: 3 }", state + X)
    assert kept(tmp_path, "include { phase: TEST }", state + X)  # Caffe too lets the caller's phase win


def test_include_and_exclude_are_refused_in_layers_that_would_go(tmp_path):
    with pytest.raises(PrototxtError, match=r'net\.prototxt:3:7: layer "y" has include and exclude rules; give one'):
        kept(tmp_path, "include { phase: TRAIN } exclude { phase: TEST }", text=X)


def test_two_layers_of_one_name_for_two_phases(tmp_path):
    text = X + nets.layer("ReLU", "x", "y", "include { phase: TRAIN }", "a")
    text += nets.layer("TanH", "x", "y", "include { phase: TEST }", "a")
    assert nets.load(tmp_path, text).layer("a").type == "TanH"
    assert nets.load(tmp_path, text, phase="train").layer("a").type == "ReLU"


def test_in_place_chains_are_single_assignment(tmp_path):
    text = X + nets.conv("x", "c", 3) + relu("c", "c", name="r1") + nets.layer("TanH", "c", "c", name="t")
    text += relu("c", "d") + relu("c", "c", name="r2")
    net = nets.load(tmp_path, text)
    conv, first, tanh, d, last = (net.layer(name).outputs[0] for name in ("c", "r1", "t", "d", "r2"))
    reads = [net.layer(name).inputs[0] for name in ("r1", "t", "d", "r2")]
    assert reads == [conv, first, tanh, tanh]  # the latest top of that name before the layer
    assert [value.name for value in (conv, first, tanh, last)] == ["c"] * 4
    assert [value.key for value in net.values] == ["x", "c@c", "c@r1", "c@t", "d", "c"]
    assert net.outputs == ["c", "d"] and net.output_values == [last, d]


def test_outputs_are_what_nobody_reads_sorted_by_name(tmp_path):
    names = ["b", "a", "Z", "c10", "c9", "é"]
    net = nets.load(tmp_path, X + nets.inputs(w=(1, 1)) + "".join(relu("x", name) for name in names))
    assert net.inputs == ["x", "w"]
    assert net.outputs == ["Z", "a", "b", "c10", "c9", "é"]
    silent = nets.load(tmp_path, X + relu("x", "a") + relu("x", "b") + 'layer { type: "Silence" bottom: "b" }')
    assert silent.outputs == ["a"]


def test_split_layers_in_the_text(tmp_path):
    text = X + nets.layer("Split", "x", "x_0 x_1 x_2") + nets.layer("Eltwise", "x_0 x_1", "y") + relu("x_2", "z")
    net = nets.load(tmp_path, text)
    assert net.outputs == ["y", "z"] and net.blob_shapes["x_1"] == (2, 3, 6, 5)


def tied(first: str, second: str, mode: str = "") -> str:
    """Two inner products, of 12 and ``second`` numbers, with one weight."""
    param = 'param {{ name: "w" {} }}'
    return (
        nets.inputs(a=(1, 6), b=(1, 4))
        + nets.layer("InnerProduct", "a", "ya", param.format(first) + ip(2))
        + nets.layer("InnerProduct", "b", "yb", param.format(mode) + ip(int(second)))
    )


def ip(outputs: int) -> str:
    return f"inner_product_param {{ num_output: {outputs} bias_term: false }}"


def test_shared_blobs(tmp_path):
    net = nets.load(tmp_path, tied("", "3", "share_mode: PERMISSIVE"))
    (param,) = net.params
    assert (param.layer, param.shape) == ("ya", (2, 6))
    assert [net.layer(name).blobs[0].shape for name in ("ya", "yb")] == [(2, 6), (3, 4)]
    with pytest.raises(NetError, match=r'"yb" .*: shares blob 0 \(3x4\) as "w" with layer "ya" \(2x6\); the shapes'):
        nets.load(tmp_path, tied("", "3"))
    with pytest.raises(NetError, match=r"\(3x4\) .* \(2x6\); the shapes differ"):  # the sharer's mode counts
        nets.load(tmp_path, tied("share_mode: PERMISSIVE", "3", "share_mode: STRICT"))
    with pytest.raises(NetError, match=r"shares blob 0 \(4x4\)"):  # PERMISSIVE still counts the numbers
        nets.load(tmp_path, tied("", "4", "share_mode: PERMISSIVE"))


SHARED = "share_mode: PERMISSIVE "


def test_learning_rates_of_shared_blobs(tmp_path):
    """Net::AppendParam: whoever states one, states it for all; two that differ are refused."""
    for first, second in itertools.permutations(["", "lr_mult: 0 decay_mult: 3"]):
        (param,) = nets.load(tmp_path, tied(first, "3", SHARED + second)).params
        assert (param.lr_mult, param.decay_mult) == (0, 3)
    (param,) = nets.load(tmp_path, tied("", "3", SHARED)).params
    assert (param.lr_mult, param.decay_mult) == (1, 1)
    with pytest.raises(NetError, match=r'"yb" .*as "w" with layer "ya", but their decay_mult differ \(2 and 1\)'):
        nets.load(tmp_path, tied("decay_mult: 1", "3", SHARED + "decay_mult: 2"))


LABELS = nets.inputs(f=(4, 5), label=(4,))


def test_loss_weights(tmp_path):
    text = LABELS + nets.layer("SoftmaxWithLoss", "f label", "loss prob") + nets.layer("Accuracy", "f label", "acc")
    text += nets.layer("SoftmaxWithLoss", "f label", "aux", "loss_weight: 0.3") + relu("f", "r", "loss_weight: 2")
    net = nets.load(tmp_path, text, phase="train")
    weights = {layer.name: layer.loss_weights for layer in net.layers[2:]}
    assert weights == {"loss": [1, 0], "acc": [0], "aux": [0.3], "r": [2]}
    with pytest.raises(NetError, match=r'layer "loss" has 1 tops but 2 loss_weight entries'):
        nets.load(tmp_path, LABELS + nets.layer("SoftmaxWithLoss", "f label", "loss", "loss_weight: [1, 0]"))


def test_a_loss_layer_needs_no_top(tmp_path):
    text = LABELS + 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" loss_weight: 2 }'
    net = nets.load(tmp_path, text, phase="train")
    assert net.outputs == ["l"] and net.blob_shapes["l"] == () and net.layer("l").loss_weights == [2]


@layer_type("Doubler", "ReLU")
class Doubler(Operator):
    """A user's layer, under a name of its own and in place of a built-in one."""

    def top_shapes(self, bottoms):
        return [(*bottoms[0][:-1], 2 * bottoms[0][-1])]


def test_custom_layers_win_over_built_in_ones(tmp_path):
    text = X + nets.layer("Doubler", "x", "y") + relu("y", "z")
    assert nets.load(tmp_path, text, custom_layers=[Doubler]).blob_shapes["z"] == (2, 3, 6, 20)
    with pytest.raises(UnknownLayerError, match=r'layer "y" has the unknown type "Doubler".*custom_layers=\[\.\.\.\]'):
        nets.load(tmp_path, text)
    for wrong in (Operator, object, "Doubler"):
        with pytest.raises(NetError, match=r"custom_layers expects Operator subclasses marked with @layer_type"):
            nets.load(tmp_path, text, custom_layers=[wrong])


def test_unknown_fields_may_be_allowed(tmp_path):
    text = "extra: 1 " + X + relu("x", "y", "mine { deep: 1 } relu_param { slope: 2 negative_slope: 3 }")
    with pytest.raises(PrototxtError, match=r'net\.prototxt:1:1: a net has no field "extra".*, allow unknown fields'):
        nets.load(tmp_path, text)
    with pytest.warns(CaffeportWarning) as notes:
        net = nets.load(tmp_path, text, allow_unknown_fields=True)
    assert [str(note.message).rpartition("/")[2] for note in notes] == [
        'net.prototxt:1:1: ignored the unknown field "extra" of a net',
        'net.prototxt:2:53: ignored the unknown field "mine" of layer "y"',
        'net.prototxt:2:83: ignored the unknown field "slope" of relu_param',
    ]
    assert net.layer("y").op.p.negative_slope == 3


def test_blobs_written_into_the_text(tmp_path):
    blob = "blobs { shape { dim: 1 dim: 2 } data: [3, 4] }"
    text = nets.inputs(x=(1, 2)) + nets.layer("InnerProduct", "x", "y", ip(1) + "{}")
    net = nets.load(tmp_path, text.replace("{}", blob))
    assert net.layer("y").blobs[0].tolist() == [[3, 4]]
    for blobs, problem in ((blob * 2, r"has 1 blobs, but 2 in its text"), ("blobs { data: 1 }", r"1x2, but .* 1 numb")):
        with pytest.raises(NetError, match=problem):
            nets.load(tmp_path, text.replace("{}", blobs))


HUGE = 10**12
REFUSED = {
    "missing bottom": (relu("y", "z"), r'bottom "y" of layer "z" is made by no layer; if it is an input, give its sha'),
    "nearest bottom": (
        nets.conv("x", "conv1_1", 1) + relu("conv1_l", "z"),
        r'net\.prototxt:3:7: bottom "conv1_l" of layer "z" is made by no layer \(did you mean "conv1_1"\?\); if it is '
        r"an input, give its shape \(input_shapes=\{'conv1_l': \(\.\.\.\)\}, or --input-shape conv1_l=\.\.\.\)",
    ),
    "cycle": (relu("b", "a") + relu("a", "b"), r'"b" of layer "a" is made only later, by layer "b": a cycle, or'),
    "in place of nothing": (relu("a", "a") * 2, r'"a" of layer "a" is made by no layer; if it is an input, give'),
    "top twice": (relu("x", "y", name="p") + relu("x", "y", name="q"), r'"q" makes .* "y", which layer "p" made'),
    "top of an input": (relu("x", "y") + nets.layer("TanH", "y", "x", name="t"), r'"t" makes .* "x", which layer "x"'),
    "in place at another index": (relu("x", "y") + nets.layer("Eltwise", "x y", "y", name="e"), r"top 0 and bottom 0"),
    "one layer's top twice": (nets.layer("Split", "x", "a a"), r'layer "a" names the same top twice'),
    "unknown layer": (nets.layer("Convolutoin", "x", "y"), r'the unknown type "Convolutoin" \(did you mean "Convolu'),
    "no type": ('layer { name: "n" }', r'net\.prototxt:2:7: layer "n" has no type'),
    "unknown field": (relu("x", "y", "bottm: 1"), r'"y" has an unknown field "bottm" \(did you mean "bottom"\?\)'),
    "unknown message": (relu("x", "y", "rely_param { }"), r'field "rely_param" \(did you mean "relu_param"\?\)'),
    "unknown parameter": (
        nets.conv("x", "y", 1, "kernel_siz: 3"),
        r'net\.prototxt:2:\d+: convolution_param has no field "kernel_siz" \(did you mean "kernel_size"\?\); to read',
    ),
    "another layer's message": (relu("x", "y", "lrn_param { size: 1 }"), r'lrn_param has no field "size"'),
    "message twice": (relu("x", "y", "relu_param { } relu_param { }"), r'"relu_param" is given twice'),
    "scalar for a message": (relu("x", "y", "relu_param: 1"), r'"relu_param" expects a message \{ \.\.\. \}'),
    "too few bottoms": ('layer { name: "r" type: "ReLU" top: "r" }', r'"r" \(ReLU\): expected 1 bottom blobs, got 0'),
    "too many tops": (nets.layer("ReLU", "x", "a b"), r'layer "a" \(ReLU\): expected 1 top blobs, got 2'),
    "too many params": (relu("x", "y", "param { }"), r'layer "y" \(ReLU\): has 0 blobs, but 1 param entries'),
    "bottoms differ": (nets.conv("x", "c", 2) + nets.layer("Eltwise", "x c", "e"), r"2x3x6x5 and 2x2x6x5"),
    "too small": (nets.conv("x", "c", 1, "kernel_size: 9"), r'"c" \(Convolution\): a kernel of .* does not fit'),
    "huge num_output": (nets.inner_product("x", "f", HUGE), r'"f" .* would have the shape 2x10{12}: more than the'),
    "huge weight": (nets.inner_product("x", "f", 10**9), r"would have the shape .*1000000000.*more than the 2\^31 - 1"),
    "beyond int64": (nets.inner_product("x", "f", 10**19), r'"num_output" expects a whole number, got \'10{19}\''),
    "huge input": (nets.inputs(y=(HUGE, HUGE)), r'input "y" would have the shape 10{12}x10{12}: more than the 2\^31'),
    "negative dim": (nets.inputs(y=(1, -3)), r'layer "y" \(Input\): input "y" would have the shape 1x-3'),
    "zero dim": (nets.inputs(y=(0, 3)), r'input "y" would have the shape 0x3: the input is too small, or'),
    "zero outputs": (nets.inner_product("x", "f", 0), r'layer "f" \(InnerProduct\)'),
    "solver": ('base_lr: 0.1 net: "train.prototxt"', r'prototxt:2:1: "base_lr" belongs to a solver; expected the'),
}  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_refusals(tmp_path, text, problem):
    with pytest.raises(caffeport.CaffeportError, match=problem):
        nets.load(tmp_path, X + text)


def test_nets_without_layers(tmp_path):
    with pytest.raises(
        PrototxtError, match=r"net\.prototxt: holds no layers; expected the text of a net \(\.prototxt\)"
    ):
        nets.load(tmp_path, 'name: "n"')
    with pytest.raises(NetError, match=r"net\.prototxt: no layer is left in the TEST phase"):
        nets.load(tmp_path, relu("x", "y", "include { phase: TRAIN }"))


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ({"phase": "deploy"}, r'phase is "test" or "train", got "deploy"'),
        ({"bn": "std"}, r'bn is "variance" or "inverse_std", got "std"'),
    ],
)
def test_wrong_options(tmp_path, option, problem):
    with pytest.raises(NetError, match=problem):
        nets.load(tmp_path, X + relu("x", "y"), **option)


def test_the_collector_is_as_it_was_after_loading(tmp_path):
    nets.load(tmp_path, nets.inputs(data=(1, 3)) + nets.layer("ReLU", "data", "y"))
    assert gc.isenabled()
    with pytest.raises(caffeport.CaffeportError):
        nets.load(tmp_path, "layer {")
    assert gc.isenabled()
    gc.disable()
    try:
        nets.load(tmp_path, nets.inputs(data=(1, 3)) + nets.layer("ReLU", "data", "y"))
        assert not gc.isenabled()
    finally:
        gc.enable()
