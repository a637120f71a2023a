"""Old nets in today's words; what Caffe's upgrade_proto.cpp makes of them, written out by hand."""

from __future__ import annotations

import caffeport
import pytest
from caffeport import PrototxtError
from caffeport.formats import prototxt
from caffeport.formats.prototxt import Message
from caffeport.formats.upgrade import upgrade
from support import nets


def flat(message: Message) -> list:
    """Return a message as nested lists, in its own order, without places."""
    return [(f.name, flat(f.value) if isinstance(f.value, Message) else f.value.text) for f in message.fields]


def normal(message: Message) -> list:
    """As flat, with the fields of a message sorted by name; repeated ones keep their order."""

    def sort(fields: list) -> list:
        return sorted(
            ((name, sort(value) if isinstance(value, list) else value) for name, value in fields), key=lambda f: f[0]
        )

    return sort(flat(message))


def assert_upgrades(old: str, new: str) -> None:
    assert normal(upgrade(prototxt.parse(old))) == normal(prototxt.parse(new))


def test_v2_stays_as_it_is():
    text = nets.SMALL
    assert flat(upgrade(prototxt.parse(text))) == flat(prototxt.parse(text))


V1 = """
name: "old"
layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
         param: "w" blob_share_mode: PERMISSIVE convolution_param { num_output: 3 kernel_size: 2 }
         include { phase: TRAIN } }
layers { bottom: "c" top: "c" name: "r" type: RELU exclude { stage: "a" } }
layers { bottom: "c" bottom: "label" name: "l" type: SOFTMAX_LOSS loss_weight: 0.5 loss_param { ignore_label: 1 } }
layers { name: "n" type: 15 bottom: "c" top: "n" weight_decay: 3 lrn_param { local_size: 3 } }
"""
V1_AS_V2 = """
name: "old"
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
        param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        convolution_param { num_output: 3 kernel_size: 2 } include { phase: TRAIN } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" exclude { stage: "a" } }
layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" loss_weight: 0.5 loss_param { ignore_label: 1 } }
layer { name: "n" type: "LRN" bottom: "c" top: "n" param { decay_mult: 3 } lrn_param { local_size: 3 } }
"""


def test_v1():
    assert_upgrades(V1, V1_AS_V2)


def test_a_v1_layer_with_words_of_v2():
    """Caffe refuses it, but what it means is plain."""
    assert_upgrades(
        'layers { type: "ReLU" param { lr_mult: 2 } } layers { type: TANH }',
        'layer { type: "ReLU" param { lr_mult: 2 } } layer { type: "TanH" }',
    )


# V1LayerParameter.Operator of caffe.proto, and UpgradeV1LayerType.
V1_TYPES = """
35 ABSVAL AbsVal, 1 ACCURACY Accuracy, 30 ARGMAX ArgMax, 2 BNLL BNLL, 3 CONCAT Concat,
37 CONTRASTIVE_LOSS ContrastiveLoss, 4 CONVOLUTION Convolution, 5 DATA Data, 39 DECONVOLUTION Deconvolution,
6 DROPOUT Dropout, 32 DUMMY_DATA DummyData, 7 EUCLIDEAN_LOSS EuclideanLoss, 25 ELTWISE Eltwise, 38 EXP Exp,
8 FLATTEN Flatten, 9 HDF5_DATA HDF5Data, 10 HDF5_OUTPUT HDF5Output, 28 HINGE_LOSS HingeLoss, 11 IM2COL Im2col,
12 IMAGE_DATA ImageData, 13 INFOGAIN_LOSS InfogainLoss, 14 INNER_PRODUCT InnerProduct, 15 LRN LRN,
29 MEMORY_DATA MemoryData, 16 MULTINOMIAL_LOGISTIC_LOSS MultinomialLogisticLoss, 34 MVN MVN, 17 POOLING Pooling,
26 POWER Power, 18 RELU ReLU, 19 SIGMOID Sigmoid, 27 SIGMOID_CROSS_ENTROPY_LOSS SigmoidCrossEntropyLoss,
36 SILENCE Silence, 20 SOFTMAX Softmax, 21 SOFTMAX_LOSS SoftmaxWithLoss, 22 SPLIT Split, 33 SLICE Slice,
23 TANH TanH, 24 WINDOW_DATA WindowData, 31 THRESHOLD Threshold
"""


def test_every_v1_type_by_name_and_number():
    rows = [row.split() for row in V1_TYPES.split(",")]
    assert len(rows) == 39
    for number, name, v2 in rows:
        assert_upgrades(f"layers {{ type: {name} }} layers {{ type: {number} }}", f'layer {{ type: "{v2}" }}' * 2)


V0 = """
input: "x" input_dim: 1 input_dim: 4 input_dim: 8 input_dim: 8
layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 stride: 2 pad: 1 group: 2 biasterm: true
                 blobs_lr: 1 blobs_lr: 2 weight_decay: 0 weight_filler { type: "xavier" } } bottom: "x" top: "c" }
layers { layer { name: "r" type: "relu" } bottom: "c" top: "c" }
layers { layer { name: "p" type: "pool" pool: AVE kernelsize: 2 stride: 2 } bottom: "c" top: "p" }
layers { layer { name: "n" type: "lrn" local_size: 3 alpha: 0.1 beta: 0.5 k: 2 } bottom: "p" top: "n" }
layers { layer { name: "d" type: "dropout" dropout_ratio: 0.3 } bottom: "n" top: "n" }
layers { layer { name: "i" type: "innerproduct" num_output: 2 biasterm: false bias_filler { value: 1 } }
         bottom: "n" top: "i" }
layers { layer { name: "k" type: "concat" concat_dim: 1 } bottom: "i" bottom: "i" top: "k" }
layers { layer { name: "s" type: "softmax" } bottom: "k" top: "s" }
"""
V0_AS_V2 = """
layer { name: "input" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 dim: 8 dim: 8 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { lr_mult: 1 decay_mult: 0 } param { lr_mult: 2 }
        convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 group: 2 bias_term: true
                            weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "n" type: "LRN" bottom: "p" top: "n" lrn_param { local_size: 3 alpha: 0.1 beta: 0.5 k: 2 } }
layer { name: "d" type: "Dropout" bottom: "n" top: "n" dropout_param { dropout_ratio: 0.3 } }
layer { name: "i" type: "InnerProduct" bottom: "n" top: "i"
        inner_product_param { num_output: 2 bias_term: false bias_filler { value: 1 } } }
layer { name: "k" type: "Concat" bottom: "i" bottom: "i" top: "k" concat_param { concat_dim: 1 } }
layer { name: "s" type: "Softmax" bottom: "k" top: "s" }
"""


def test_v0(tmp_path):
    assert_upgrades(V0, V0_AS_V2)
    net = nets.load(tmp_path, V0)
    assert net.blob_shapes["c"] == (1, 4, 4, 4) and net.blob_shapes["s"] == (1, 4)
    assert [(param.lr_mult, param.decay_mult) for param in net.layer("i").params] == [(1, 1)]
    assert [(param.lr_mult, param.decay_mult) for param in net.layer("c").params] == [(1, 0), (2, 1)]


def test_v0_data_layers():
    old = """
    layers { layer { name: "d" type: "data" source: "db" scale: 0.5 meanfile: "m" batchsize: 2 cropsize: 3 mirror: true
                     rand_skip: 4 } top: "x" top: "y" }
    layers { layer { name: "i" type: "images" source: "l" shuffle_images: true new_height: 5 new_width: 6 batchsize: 1 }
             top: "a" }
    layers { layer { name: "w" type: "window_data" source: "w" det_fg_threshold: 0.6 det_bg_threshold: 0.4
                     det_fg_fraction: 0.2 det_context_pad: 16 det_crop_mode: "square" } top: "b" }
    layers { layer { name: "h" type: "hdf5_output" hdf5_output_param { file_name: "f" } } bottom: "x" }
    """
    new = """
    layer { name: "d" type: "Data" top: "x" top: "y" data_param { source: "db" batch_size: 2 rand_skip: 4 }
            transform_param { scale: 0.5 mean_file: "m" crop_size: 3 mirror: true } }
    layer { name: "i" type: "ImageData" top: "a"
            image_data_param { source: "l" shuffle: true new_height: 5 new_width: 6 batch_size: 1 } }
    layer { name: "w" type: "WindowData" top: "b" window_data_param { source: "w" fg_threshold: 0.6 bg_threshold: 0.4
            fg_fraction: 0.2 context_pad: 16 crop_mode: "square" } }
    layer { name: "h" type: "HDF5Output" bottom: "x" hdf5_output_param { file_name: "f" } }
    """
    assert_upgrades(old, new)


def pad(bottom: str, top: str, amount: str = "pad: 2") -> str:
    return f'layers {{ layer {{ name: "pad" type: "padding" {amount} }} bottom: "{bottom}" top: "{top}" }}'


def v0(kind: str, bottom: str, top: str, extra: str = "") -> str:
    return f'layers {{ layer {{ name: "{top}" type: "{kind}" {extra} }} bottom: "{bottom}" top: "{top}" }}'


def test_padding_layers_fold_into_the_next_conv_or_pool():
    old = pad("x", "p") + v0("conv", "p", "c", "kernelsize: 3 pad: 1") + pad("c", "p", "pad: 3") + v0("pool", "p", "q")
    new = """
    layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { kernel_size: 3 pad: 2 } }
    layer { name: "q" type: "Pooling" bottom: "c" top: "q" pooling_param { pad: 3 } }
    """
    assert_upgrades(old, new)
    # One padding feeds several layers; a later blob of its name is another blob.
    old = pad("x", "p") + v0("conv", "p", "c") + v0("conv", "p", "p") + v0("relu", "p", "r")
    new = """
    layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { pad: 2 } }
    layer { name: "p" type: "Convolution" bottom: "x" top: "p" convolution_param { pad: 2 } }
    layer { name: "r" type: "ReLU" bottom: "p" top: "r" }
    """
    assert_upgrades(old, new)


def test_a_padding_that_is_no_number_is_refused_where_it_stands(tmp_path):
    text = 'input: "x" input_dim: [1, 3, 8, 8]\n' + pad("x", "p", "\npad: much") + v0("conv", "p", "c", "num_output: 1")
    with pytest.raises(PrototxtError, match=r'net\.prototxt:3:1: "pad" expects a whole number, got \'much\''):
        nets.load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (V1 + "layer { }", r'n:1:1: a net has either "layer" or "layers" entries, not both'),
        ("layers { type: 77 }", r"n:1:10: unknown V1 layer type 77"),
        ("layers { type: " + "9" * 5000 + " }", r"n:1:10: unknown V1 layer type 999"),
        ("layers { type { } }", r'n:1:10: "type" expects a value'),
        ("layers: 3", r'n:1:1: "layers" expects a message'),
        ("layer: 3", r'n:1:1: "layer" expects a message'),
        (v0("convolution", "a", "b"), r'unknown V0 layer type "convolution" \(did you mean "conv"\?\)'),
        (
            v0("conv", "a", "b", "kernel_size: 2"),
            r'V0 layer has no field "kernel_size" \(did you mean "kernelsize"\?\)',
        ),
        (pad("x", "p") + v0("relu", "p", "r"), r"a padding layer may only feed a conv or pool layer"),
        (pad("x", "p") + pad("p", "q"), r"a padding layer may only feed a conv or pool layer"),
        ('layers { layer { type: "padding" } top: "a" }', r"n:1:8: a padding layer has one bottom and one top"),
        ('input: "x" input_dim: 1 input_dim: 2 input_dim: 3', r"n:1:12: 1 inputs need 4 input_dim entries, got 3"),
        ('input: "x" input_dim: [1, 1, 1, 1] input_shape { }', r'n:1:12: give either "input_dim" or "input_shape"'),
        ('input: ["x", "y", "z"] ' + "input_shape { } " * 2, r"n:1:24: 3 inputs need as many input_shape .* got 2"),
    ],
)
def test_what_cannot_be_upgraded(text, problem):
    with pytest.raises(PrototxtError, match=problem):
        upgrade(prototxt.parse(text, "n"))


def test_fields_that_mean_nothing_in_a_v0_layer_are_told_and_passed_over():
    for field in (
        "kernelsize: 2",
        "det_context_pad: 16",
        'det_crop_mode: "warp"',
        "new_num: 1",
        "hdf5_output_param { }",
    ):
        with pytest.warns(caffeport.CaffeportWarning, match=rf'n:1:.*"{field.split(":")[0].split()[0]}" means nothing'):
            made = upgrade(prototxt.parse(v0("relu", "a", "b", field), "n"))
        assert flat(made.messages("layer")[0]) == flat(
            upgrade(prototxt.parse(v0("relu", "a", "b"))).messages("layer")[0]
        )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CROP", "Crop"), ("BN", "BN"), ("VIDEO_DATA", "VideoData"), ("IMAGE_SEG_DATA", "ImageSegData"),
        ("CONVOLUTION3D", "Convolution3D"), ("UNPOOLING", "Unpooling"), ("PRELU", "PReLU"),
        ("ELTWISE_ACCURACY", "EltwiseAccuracy"), ("ROI_POOLING", "ROIPooling"), ("PSROI_POOLING", "PSROIPooling"),
        ("MY_2D_THING", "My2DThing"),
    ],
)  # fmt: skip
def test_v1_types_of_forks_are_written_as_today(old, new):
    (layer,) = upgrade(prototxt.parse(f'layers {{ name: "x" type: {old} }}')).messages("layer")
    assert layer.text("type") == new


def test_v1_types_of_forks_are_spelled_as_the_layers_that_are_known(tmp_path):
    text = """input: "data" input_dim: [1, 3, 8, 8]
        layers { name: "c" type: POOLING bottom: "data" top: "c" pooling_param { kernel_size: 2 stride: 2 } }
        layers { name: "k" type: CROP bottom: "data" bottom: "c" top: "y" }"""
    assert nets.load(tmp_path, text).layer("k").type == "Crop"
    with pytest.raises(caffeport.UnknownLayerError, match=r'layer "k" .* unknown type "Corp" \(did you mean "Crop"'):
        nets.load(tmp_path, text.replace("CROP", "CORP"))


def test_input_headers_become_the_first_layer():
    relu = 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
    shapes = 'input: "x" input_shape { dim: 2 dim: 5 } input: "y" input_shape { dim: 7 }'
    made = upgrade(prototxt.parse(relu + shapes))
    assert [layer.text("type") for layer in made.messages("layer")] == ["Input", "ReLU"]
    as_layer = """layer { name: "input" type: "Input" top: "x" top: "y"
                  input_param { shape { dim: 2 dim: 5 } shape { dim: 7 } } }"""
    assert_upgrades(shapes, as_layer)
    assert_upgrades('input: "x" input: "y" input_dim: [1, 2, 3, 4, 5, 6, 7, 8]', as_layer.replace(
        "{ dim: 2 dim: 5 } shape { dim: 7 }", "{ dim: [1, 2, 3, 4] } shape { dim: [5, 6, 7, 8] }"
    ))  # fmt: skip


def test_transform_fields_move_out_of_the_data_message():
    for kind, message in (("DATA", "data"), ("IMAGE_DATA", "image_data"), ("WINDOW_DATA", "window_data")):
        old = f"""layers {{ type: {kind} {message}_param {{ source: "s" scale: 0.5 mean_file: "m" crop_size: 3
                  mirror: 1 }} transform_param {{ scale: 2 mean_value: 4 }} }}"""
        (layer,) = upgrade(prototxt.parse(old)).messages("layer")
        assert flat(layer.messages(f"{message}_param")[0]) == [("source", "s")]
        assert normal(layer.messages("transform_param")[0]) == [
            ("crop_size", "3"), ("mean_file", "m"), ("mean_value", "4"), ("mirror", "1"), ("scale", "0.5")
        ]  # fmt: skip


def test_batch_norm_statistics_are_not_trained():
    three = 'param { lr_mult: 1 name: "m" } param { } param { decay_mult: 2 }'
    fixed = 'param { name: "m" lr_mult: 0 decay_mult: 0 }' + "param { lr_mult: 0 decay_mult: 0 }" * 2
    assert_upgrades(f'layer {{ type: "BatchNorm" {three} }}', f'layer {{ type: "BatchNorm" {fixed} }}')
    for untouched in (f'layer {{ type: "Scale" {three} }}', 'layer { type: "BatchNorm" param { lr_mult: 1 } }'):
        assert_upgrades(untouched, untouched)
