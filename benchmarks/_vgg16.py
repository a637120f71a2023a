"""VGG-16 (Simonyan and Zisserman 2014, configuration D) with random weights: `python _vgg16.py PROTOTXT CAFFEMODEL`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from caffeport.formats import caffemodel

CONVOLUTIONS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
INNER_PRODUCTS = (("fc6", 4096), ("fc7", 4096), ("fc8", 1000))

LayerText = tuple[str, str, str, str, str, tuple[int, ...]]


def layers() -> Iterator[LayerText]:
    """(name, type, bottom, top, the message with its parameters, shape of its weights) of every layer."""
    bottom, channels = "data", 3
    for stage, widths in enumerate(CONVOLUTIONS, 1):
        for index, width in enumerate(widths, 1):
            name = f"{stage}_{index}"
            text = f"convolution_param {{ num_output: {width} pad: 1 kernel_size: 3 }}"
            yield f"conv{name}", "Convolution", bottom, f"conv{name}", text, (width, channels, 3, 3)
            yield f"relu{name}", "ReLU", f"conv{name}", f"conv{name}", "", ()
            bottom, channels = f"conv{name}", width
        text = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        yield f"pool{stage}", "Pooling", bottom, f"pool{stage}", text, ()
        bottom = f"pool{stage}"
    features = channels * 7 * 7
    for name, width in INNER_PRODUCTS:
        text = f"inner_product_param {{ num_output: {width} }}"
        yield name, "InnerProduct", bottom, name, text, (width, features)
        if name != "fc8":
            yield f"relu_{name}", "ReLU", name, name, "", ()
            yield f"drop_{name}", "Dropout", name, name, "dropout_param { dropout_ratio: 0.5 }", ()
        bottom, features = name, width
    yield "prob", "Softmax", bottom, "prob", "", ()


def prototxt() -> str:
    lines = ['name: "VGG16"', 'input: "data"', "input_shape { dim: 1 dim: 3 dim: 224 dim: 224 }"]
    for name, kind, bottom, top, text, _ in layers():
        lines.append(f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {text} }}')
    return "\n".join(lines) + "\n"


def weights() -> Iterator[tuple[str, str, list[str], list[str], list[np.ndarray]]]:
    """The layers with random blobs, one layer in memory at a time."""
    random = np.random.default_rng(0)
    for name, kind, bottom, top, _, shape in layers():
        if shape:
            blob = random.standard_normal(shape, np.float32)
            blob *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
            yield name, kind, [bottom], [top], [blob, np.zeros(shape[0], np.float32)]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(prototxt())
    caffemodel.write(sys.argv[2], "VGG16", weights())
