"""Layers that are torch's own modules."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from .. import modules as own
from .form import Form, Subject, even, form, plain

_KINDS = {
    nn.Conv1d: "conv", nn.Conv2d: "conv", nn.Conv3d: "conv",
    nn.ConvTranspose1d: "deconv", nn.ConvTranspose2d: "deconv", nn.ConvTranspose3d: "deconv",
}  # fmt: skip


@form(*_KINDS)
def convolution(subject: Subject) -> Form:
    m = subject.module
    sizes = ("kernel_size", "stride", "padding", "dilation")
    arguments = {"in_channels": m.in_channels, "out_channels": m.out_channels}
    arguments |= {name: even(getattr(m, name)) for name in sizes}
    arguments |= {"groups": m.groups, "bias": m.bias is not None}
    if m.transposed:  # whose groups and bias come before the dilation
        arguments["dilation"] = arguments.pop("dilation")
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True}
    depthwise = m.groups > 1 and m.groups == m.in_channels
    attribute = plain(subject, f"nn.{type(m).__name__}", arguments, 3, _KINDS[type(m)], defaults=defaults)
    attribute.features = ("depthwise",) if depthwise else ()
    return "{m}({0})", attribute


@form(nn.Linear)
def linear(subject: Subject) -> Form:
    m = subject.module
    arguments = {"in_features": m.in_features, "out_features": m.out_features, "bias": m.bias is not None}
    attribute = plain(subject, "nn.Linear", arguments, 2, "fc", defaults={"bias": True})
    axis = subject.layer.op.flatten_axis([value.shape for value in subject.layer.inputs])
    return ("{m}({0})" if axis is None else f"{{m}}({{0}}.flatten({axis}))"), attribute


@form(own.PReLU, nn.PReLU)
def prelu(subject: Subject) -> Form:
    arguments = {"num_parameters": subject.module.num_parameters}
    state = {"weight": np.array(subject.blobs["weight"], np.float32).reshape(-1)}  # one for all is a scalar in Caffe
    more: dict[str, Any] = {"defaults": {"num_parameters": 1}, "state": state}
    return "{m}({0})", plain(subject, "nn.PReLU", arguments, 1, "prelu", **more)


def parameterless(kind: str, by_place: int, defaults: dict[str, Any]) -> Any:
    """A module whose attributes have its arguments' names."""

    def maker(subject: Subject) -> Form:
        m = subject.module
        arguments = {name: even(getattr(m, name)) for name in defaults}
        left_out = {name: value for name, value in defaults.items() if value is not None}
        name = f"nn.{type(m).__name__}"
        return "{m}({0})", plain(subject, name, arguments, by_place, kind, defaults=left_out)

    return maker


form(nn.ReLU)(parameterless("relu", 0, {}))
form(nn.Sigmoid)(parameterless("sigmoid", 0, {}))
form(nn.Tanh)(parameterless("tanh", 0, {}))
form(nn.Softplus)(parameterless("softplus", 0, {"beta": 1.0, "threshold": 20.0}))
form(nn.Hardswish)(parameterless("hardswish", 0, {}))
form(nn.LeakyReLU)(parameterless("relu", 1, {"negative_slope": 0.01}))
form(nn.ELU)(parameterless("elu", 1, {"alpha": 1.0}))
form(nn.Dropout)(parameterless("dropout", 1, {"p": 0.5}))
form(nn.PixelShuffle)(parameterless("pixel_shuffle", 1, {"upscale_factor": None}))
form(nn.LocalResponseNorm)(parameterless("lrn", 1, {"size": None, "alpha": 1e-4, "beta": 0.75, "k": 1.0}))
form(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)(parameterless("pool", 1, {"output_size": None}))


@form(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
def pooling(subject: Subject) -> Form:
    m = subject.module
    arguments = {name: even(getattr(m, name)) for name in ("kernel_size", "stride", "padding")}
    arguments["ceil_mode"] = m.ceil_mode
    kind = f"nn.{type(m).__name__}"
    defaults = {"padding": 0, "ceil_mode": False}
    return "{m}({0})", plain(subject, kind, arguments, 2, "pool", defaults=defaults)
