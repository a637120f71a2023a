"""Nets whose source is written in tests: small ones with what large ones are made of."""

from __future__ import annotations

from support import nets
from support.nets import conv, inner_product, inputs, layer

_SPREAD = 'filler { type: "gaussian" std: 0.3 } bias_term: true bias_filler { type: "gaussian" std: 0.3 }'


def unit(bottom: str, name: str, outputs: int, extra: str, relu: bool = True) -> str:
    """A convolution with batch normalisation, Scale and ReLU, in place, as ResNets name them."""
    text = layer(
        "Convolution",
        bottom,
        name,
        f'convolution_param {{ num_output: {outputs} bias_term: false {extra} weight_filler {{ type: "msra" }} }}',
    )
    text += layer("BatchNorm", name, name, name=f"{name}_bn")
    text += layer("Scale", name, name, f"scale_param {{ {_SPREAD} }}", name=f"{name}_scale")
    return text + (layer("ReLU", name, name, name=f"{name}_relu") if relu else "")


def residual(blocks: int = 4) -> str:
    """A stem and residual blocks, the first of each stage with a projection."""
    text, bottom = inputs(data=(1, 3, 16, 16)) + unit("data", "stem", 8, "kernel_size: 3 pad: 1"), "stem"
    for stage, channels in enumerate((8, 16, 32)):
        for block in range(blocks):
            name = f"stage{stage}_block{block}"
            shortcut, stride = bottom, 1
            if block == 0:
                stride, shortcut = (1 if stage == 0 else 2), f"{name}_proj"
                text += unit(bottom, shortcut, 4 * channels, f"kernel_size: 1 stride: {stride}", relu=False)
            text += unit(bottom, f"{name}_a", channels, f"kernel_size: 1 stride: {stride}")
            text += unit(f"{name}_a", f"{name}_b", channels, "kernel_size: 3 pad: 1")
            text += unit(f"{name}_b", f"{name}_c", 4 * channels, "kernel_size: 1", relu=False)
            text += layer("Eltwise", f"{shortcut} {name}_c", name)
            text += layer("ReLU", name, name, name=f"{name}_relu")
            bottom = name
    text += layer("Pooling", bottom, "pool", "pooling_param { pool: AVE global_pooling: true }")
    return text + inner_product("pool", "fc", 5) + layer("Softmax", "fc", "prob")


def inception(blocks: int = 5) -> str:
    """GoogLeNet's blocks: four branches joined, with ``/`` in the layers' names, LRN and ceil-mode pooling."""
    text = inputs(data=(1, 3, 20, 20)) + conv("data", "conv1/7x7_s2", 8, "kernel_size: 7 stride: 2 pad: 3")
    text += layer("ReLU", "conv1/7x7_s2", "conv1/7x7_s2", name="conv1/relu_7x7")
    text += layer("Pooling", "conv1/7x7_s2", "pool1/3x3_s2", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    text += layer("LRN", "pool1/3x3_s2", "pool1/norm1", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")
    bottom = "pool1/norm1"
    for number in range(blocks):
        name, width = f"inception_{number + 3}{'ab'[number % 2]}", 4 + number

        def one(source: str, part: str, outputs: int, extra: str, name: str = name) -> str:
            top = f"{name}/{part}"
            return conv(source, top, outputs, extra) + layer("ReLU", top, top, name=f"{name}/relu_{part}")

        text += one(bottom, "1x1", width, "kernel_size: 1")
        text += one(bottom, "3x3_reduce", width // 2, "kernel_size: 1")
        text += one(f"{name}/3x3_reduce", "3x3", width, "kernel_size: 3 pad: 1")
        text += one(bottom, "5x5_reduce", width // 2, "kernel_size: 1")
        text += one(f"{name}/5x5_reduce", "5x5", width, "kernel_size: 5 pad: 2")
        text += layer("Pooling", bottom, f"{name}/pool", "pooling_param { pool: MAX kernel_size: 3 stride: 1 pad: 1 }")
        text += one(f"{name}/pool", "pool_proj", width, "kernel_size: 1")
        parts = " ".join(f"{name}/{part}" for part in ("1x1", "3x3", "5x5", "pool_proj"))
        text += layer("Concat", parts, f"{name}/output")
        bottom = f"{name}/output"
    text += layer("Dropout", bottom, bottom, "dropout_param { dropout_ratio: 0.4 }", name="drop")
    return text + inner_product(bottom, "loss3/classifier", 4)


def ssd() -> str:
    """Depthwise-separable convolutions, heads on six maps, default boxes and detections."""
    text = inputs(data=(1, 3, 64, 64)) + unit("data", "conv0", 8, "kernel_size: 3 stride: 2 pad: 1")
    bottom, channels = "conv0", 8
    for number, (outputs, stride) in enumerate([(8, 1), (16, 2), (16, 1), (24, 2), (24, 1), (32, 2)], 1):
        window = f"kernel_size: 3 pad: 1 stride: {stride} group: {channels}"
        text += unit(bottom, f"conv{number}/dw", channels, window)
        text += unit(f"conv{number}/dw", f"conv{number}", outputs, "kernel_size: 1")
        bottom, channels = f"conv{number}", outputs
    maps, classes = [f"conv{number}" for number in range(1, 7)], 3
    for number, source in enumerate(maps):
        for kind, outputs in (("loc", 12), ("conf", 3 * classes)):
            name = f"{source}_mbox_{kind}"
            text += conv(source, name, outputs)
            text += layer("Permute", name, f"{name}_perm", "permute_param { order: 0 order: 2 order: 3 order: 1 }")
            text += layer("Flatten", f"{name}_perm", f"{name}_flat", "flatten_param { axis: 1 }")
        sizes = f"min_size: {10 + 10 * number} aspect_ratio: 2 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"
        text += layer("PriorBox", f"{source} data", f"{source}_mbox_priorbox", f"prior_box_param {{ {sizes} }}")
    for kind, axis in (("loc_flat", 1), ("conf_flat", 1), ("priorbox", 2)):
        bottoms = " ".join(f"{source}_mbox_{kind}" for source in maps)
        text += layer("Concat", bottoms, f"mbox_{kind}", f"concat_param {{ axis: {axis} }}")
    shape = f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {classes} }} }}"
    text += layer("Reshape", "mbox_conf_flat", "mbox_conf_reshape", shape)
    text += layer("Softmax", "mbox_conf_reshape", "mbox_conf_softmax", "softmax_param { axis: 2 }")
    text += layer("Flatten", "mbox_conf_softmax", "mbox_conf_flatten", "flatten_param { axis: 1 }")
    choice = (
        f"num_classes: {classes} nms_param {{ nms_threshold: 0.45 top_k: 40 }} keep_top_k: 20 "
        "confidence_threshold: 0.75 code_type: CENTER_SIZE"
    )
    bottoms = "mbox_loc_flat mbox_conf_flatten mbox_priorbox"
    return text + layer("DetectionOutput", bottoms, "detection_out", f"detection_output_param {{ {choice} }}")


def lstm() -> str:
    """Two recurrent layers over a sequence with its marks, and a classifier of each step."""
    text = inputs(data=(5, 2, 6), cont=(5, 2))
    fillers = 'weight_filler { type: "uniform" min: -0.5 max: 0.5 } bias_filler { type: "gaussian" std: 0.3 }'
    for number, bottom in enumerate(("data", "lstm0")):
        text += layer("LSTM", f"{bottom} cont", f"lstm{number}", f"recurrent_param {{ num_output: 7 {fillers} }}")
    return text + inner_product("lstm1", "fc", 3, "axis: 2")


def odd_names() -> str:
    """Names that are keywords, attributes of modules, numbers, no identifiers, or alike but for their signs."""
    text = inputs(**{"import": (2, 3, 9, 9), "self": (2, 4, 9, 9)})
    window = f"convolution_param {{ num_output: 4 kernel_size: 1 {nets.GAUSS} }}"
    text += layer("Convolution", "import", "a", window, "class")
    text += layer("Eltwise", "a self", "torch", name="x")
    for number, name in enumerate(("forward", "conv/1", "conv-1", "conv.1", "7", "é", "F", "nn")):
        bottom = "torch" if number == 0 else f"b{number - 1}"
        text += layer("Convolution", bottom, f"b{number}", window, name)
    text += layer("ReLU", "b7", "lambda", name="train")
    return text + layer("Slice", "lambda", "x y", name="cut")


def shared() -> str:
    """Two towers with the same weights, as siamese nets have them."""
    text = inputs(left=(2, 3, 8, 8), right=(2, 3, 8, 8))
    names = 'param { name: "w" } param { name: "b" }'
    for side in ("left", "right"):
        window = f"convolution_param {{ num_output: 4 kernel_size: 3 {nets.GAUSS} }}"
        text += layer("Convolution", side, f"conv_{side}", f"{names} {window}")
        text += layer("ReLU", f"conv_{side}", f"conv_{side}", name=f"relu_{side}")
    return text + layer("Eltwise", "conv_left conv_right", "difference", "eltwise_param { coeff: 1 coeff: -1 }")


SMALL = {
    "residual": residual, "inception": inception, "ssd": ssd, "lstm": lstm, "odd_names": odd_names, "shared": shared,
}  # fmt: skip
