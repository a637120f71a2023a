"""A function for each layer type: it returns the layer's text.

Caffe's own defaults are left out. A layer is named after its top, unless it works in place.
"""

from __future__ import annotations

XAVIER = 'type: "xavier"'
GAUSSIAN = 'type: "gaussian" std: 0.01'
UNIT_BALL = 'type: "gaussian_unitball"'  # rows of length 1, spread evenly
ZERO = 'type: "constant" value: 0'


def layer(name: str, kind: str, bottoms: str, tops: str, *fields: str) -> str:
    """``bottoms`` and ``tops`` are names with blanks between them; a field is one or more lines of text."""
    lines = [f'name: "{name}"', f'type: "{kind}"']
    lines += [f'bottom: "{blob}"' for blob in bottoms.split()]
    lines += [f'top: "{blob}"' for blob in tops.split()]
    return message("layer", *lines, *fields)


def message(field: str, *fields: str) -> str:
    """``field { ... }`` over several lines."""
    lines = [f"  {line}" for text in fields for line in text.splitlines()]
    return "\n".join([f"{field} {{", *lines, "}"])


def param(lr_mult: float, decay_mult: float) -> str:
    """How a blob learns: what the solver's base_lr and weight_decay are multiplied by."""
    return f"param {{ lr_mult: {lr_mult:g} decay_mult: {decay_mult:g} }}"


def include(phase: str) -> str:
    return f"include {{ phase: {phase} }}"


def inputs(**shapes: tuple[int, ...]) -> list[str]:
    """What a program hands over."""
    return [
        layer(name, "Input", "", name, f"input_param {{ shape {{ {dims(shape)} }} }}") for name, shape in shapes.items()
    ]


def dims(shape: tuple[int, ...]) -> str:
    return " ".join(f"dim: {dim}" for dim in shape)


def images(phase: str, shape: tuple[int, int, int], batch: int, *, mean: float, scale: float, mirror: bool) -> str:
    """Images of a list file; x = (pixel - mean) scale, BGR. Training is shuffled and, with ``mirror``, mirrored."""
    training = phase == "TRAIN"
    channels, height, width = shape
    transform = [f"mean_value: {mean:g}"] * channels + [f"scale: {scale!r}"]
    source = [f'source: "data/{"train" if training else "val"}.txt"', 'root_folder: "data/"', f"batch_size: {batch}"]
    size = [f"new_height: {height}", f"new_width: {width}"] + ["is_color: false"] * (channels == 1)
    return layer(
        "data", "ImageData", "", "data label", include(phase),
        message("transform_param", *transform, *["mirror: true"] * (mirror and training)),
        message("image_data_param", *source, *size, *["shuffle: true"] * training),
    )  # fmt: skip


def convolution(
    name: str, bottom: str, num_output: int, *, stride: int = 1, pad: int = 0, filler: str = XAVIER, bias: bool = True
) -> str:
    """3 x 3. With ``bias=False`` the bias stays 0: caffe-face has it in its residual units, untrained."""
    shape = [f"num_output: {num_output}", "kernel_size: 3"]
    shape += [f"stride: {stride}"] * (stride != 1) + [f"pad: {pad}"] * (pad != 0)
    return layer(
        name, "Convolution", bottom, name, param(1, 1), param(2 if bias else 0, 0),
        message("convolution_param", *shape, f"weight_filler {{ {filler} }}", f"bias_filler {{ {ZERO} }}"),
    )  # fmt: skip


def prelu(name: str, blob: str, *fields: str) -> str:
    return layer(name, "PReLU", blob, blob, *fields)


def max_pooling(name: str, bottom: str, kernel: int = 2) -> str:
    return layer(name, "Pooling", bottom, name, f"pooling_param {{ pool: MAX kernel_size: {kernel} stride: 2 }}")


def eltwise(name: str, bottoms: str, operation: str = "SUM") -> str:
    return layer(name, "Eltwise", bottoms, name, f"eltwise_param {{ operation: {operation} }}")


def inner_product(name: str, bottom: str, num_output: int) -> str:
    """With a bias."""
    fillers = [f"weight_filler {{ {XAVIER} }}", f"bias_filler {{ {ZERO} }}"]
    fields = message("inner_product_param", f"num_output: {num_output}", *fillers)
    return layer(name, "InnerProduct", bottom, name, param(1, 1), param(2, 0), fields)


def normalize(name: str, bottom: str) -> str:
    """Unit length."""
    return layer(name, "Normalize", bottom, name)


def concat(name: str, bottoms: str, axis: int) -> str:
    return layer(name, "Concat", bottoms, name, f"concat_param {{ axis: {axis} }}")


def softmax_loss(bottom: str) -> str:
    return layer("softmax_loss", "SoftmaxWithLoss", f"{bottom} label", "softmax_loss")


def accuracy(bottom: str, *, of_distances: bool = False) -> str:
    """In the TEST phase only."""
    smallest = ["accuracy_param { min_is_better: true }"] * of_distances
    return layer("accuracy", "Accuracy", f"{bottom} label", "accuracy", include("TEST"), *smallest)
