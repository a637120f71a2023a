"""A small net for ONNX files in float16 and int8, the images to calibrate it on, and ways to damage its files."""

from __future__ import annotations

import cv2
import numpy as np
import onnx

from . import nets

TEXT = (
    nets.inputs(data=(1, 3, 12, 10))
    + nets.conv("data", "conv1", 6)
    + nets.layer("BatchNorm", "conv1", "conv1", name="bn1")
    + nets.layer("PReLU", "conv1", "conv1", name="prelu1")
    + nets.conv("conv1", "conv2", 4)
    + nets.layer("ReLU", "conv2", "conv2", name="relu2")
    + nets.inner_product("conv2", "fc", 5)
)
FRONT = {"mean": [104.0, 117.0, 123.0], "scale": 1 / 64}


def net_with_statistics(folder):
    net = nets.load(folder, TEXT)
    random = np.random.default_rng(0)
    for param in net.params:
        if param.layer == "bn1":
            param.data = random.uniform(0.5, 1.5, param.shape)
    return net


def image_folder(parent):
    folder = parent / "images"
    folder.mkdir()
    for index in range(6):
        pixels = np.random.default_rng(index).integers(0, 256, (12, 10, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), pixels)
    return folder


def pixels(count=4):
    return np.random.default_rng(9).integers(0, 256, (count, 3, 12, 10)).astype(np.float32)


def change(path, edit):
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)
