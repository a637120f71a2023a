"""The networks from the image to the feature, without a loss."""

from __future__ import annotations

from .layers import GAUSSIAN, convolution, inner_product, max_pooling, param, prelu
from .layers import eltwise as merge


def center_face(data: str = "data") -> list[str]:
    """caffe-face: a ResNet of 27 convolutions and a 512-D feature, ``fc5``, on 112 x 96 images (Wen et al. 2016).

    The names and shapes are those of the published face_model.caffemodel.
    """
    layers = [*unit("1a", data, 32), *unit("1b", "conv1a", 64), max_pooling("pool1b", "conv1b")]
    layers += residual_stage(2, "pool1b", 64, units=1)
    layers += [*unit("2", "res2_2", 128), max_pooling("pool2", "conv2")]
    layers += residual_stage(3, "pool2", 128, units=2)
    layers += [*unit("3", "res3_4", 256), max_pooling("pool3", "conv3")]
    layers += residual_stage(4, "pool3", 256, units=5)
    layers += [*unit("4", "res4_10", 512), max_pooling("pool4", "conv4")]
    layers += residual_stage(5, "pool4", 512, units=3)
    return [*layers, inner_product("fc5", "res5_6", 512)]


def sphereface_20(data: str = "data") -> list[str]:
    """SphereFace-20 (Liu et al. 2017): strides in place of pooling, a 512-D feature ``fc5``, on 112 x 96 images."""
    layers: list[str] = []
    for stage, (channels, units) in enumerate([(64, 1), (128, 2), (256, 4), (512, 1)], 1):
        layers += unit(f"{stage}_1", data, channels, stride=2, pad=1)
        layers += residual_stage(stage, f"conv{stage}_1", channels, units, first=2)
        data = f"res{stage}_{2 * units + 1}"
    return [*layers, inner_product("fc5", data, 512)]


def unit(number: str, bottom: str, channels: int, **options) -> list[str]:
    """A convolution and its PReLU."""
    return [convolution(f"conv{number}", bottom, channels, **options), prelu(f"relu{number}", f"conv{number}")]


def residual_stage(stage: int, bottom: str, channels: int, units: int, first: int = 1) -> list[str]:
    """Units of two convolutions, whose result is added to their input; ``first`` is the first convolution's number."""
    layers = []
    for number in range(first, first + 2 * units, 2):
        a, b = f"{stage}_{number}", f"{stage}_{number + 1}"
        layers += unit(a, bottom, channels, pad=1, filler=GAUSSIAN, bias=False)
        layers += unit(b, f"conv{a}", channels, pad=1, filler=GAUSSIAN, bias=False)
        layers.append(merge(f"res{b}", f"{bottom} conv{b}"))
        bottom = f"res{b}"
    return layers


def lenet_plus_plus(features: int, data: str = "data") -> list[str]:
    """LeNet++ (Wen et al. 2016) with NormFace's 3 x 3 kernels: pairs of 32, 64 and 128 channels on 28 x 28 digits.

    Its feature ``ip1`` has so few numbers (2 or 3) that it can be drawn, and no PReLU, so that it fills the plane.
    """
    layers: list[str] = []
    for stage, channels in enumerate([32, 64, 128], 1):
        for name in (f"{stage}", f"{stage}+"):
            layers += [convolution(f"conv{name}", data, channels, pad=1), small_prelu(f"prelu{name}", f"conv{name}")]
            data = f"conv{name}"
        layers.append(max_pooling(f"pool{stage}", data, kernel=3 if stage == 3 else 2))
        data = f"pool{stage}"
    return [*layers, inner_product("ip1", data, features)]


def digits(data: str = "data") -> list[str]:
    """A face network in miniature for 8 x 8 digits, made for this project: one residual unit, a 32-D ``fc5``."""
    layers: list[str] = []

    def add(number: str, bottom: str, channels: int) -> None:
        layers.append(convolution(f"conv{number}", bottom, channels, pad=1))
        layers.append(small_prelu(f"relu{number}", f"conv{number}"))

    add("1a", data, 16)
    add("1b", "conv1a", 32)
    layers.append(max_pooling("pool1b", "conv1b"))
    add("2_1", "pool1b", 32)
    add("2_2", "conv2_1", 32)
    layers.append(merge("res2_2", "pool1b conv2_2"))
    add("2", "res2_2", 64)
    layers.append(max_pooling("pool2", "conv2"))
    return [*layers, inner_product("fc5", "pool2", 32)]


def small_prelu(name: str, blob: str) -> str:
    """Without weight decay, which would pull the slopes to ReLU (He et al. 2015)."""
    return prelu(name, blob, param(1, 0))
