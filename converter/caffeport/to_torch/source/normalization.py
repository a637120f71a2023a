"""Caffe's and its forks' batch normalisations as torch's, and learned factors and shifts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import nn

from .. import modules as own
from ..modules.recurrent import _Recurrent as Recurrent
from . import small_modules
from .form import Form, Subject, form, plain
from .steps import Attribute

_BY_RANK = {2: "nn.BatchNorm1d", 3: "nn.BatchNorm1d", 4: "nn.BatchNorm2d", 5: "nn.BatchNorm3d"}


def _batch_norm(subject: Subject, eps: float, state: dict[str, np.ndarray], owners: dict[str, int]) -> Attribute:
    channels = int(np.size(state["running_mean"]))
    arguments: dict[str, Any] = {"num_features": channels, "eps": eps, "affine": "weight" in state}
    return Attribute(
        _BY_RANK[subject.ranks[0]],
        arguments,
        {name: np.array(array, np.float32).reshape(channels) for name, array in state.items()},
        by_place=1,
        defaults={"eps": 1e-5, "affine": True},
        owners=owners,
        kind="bn",
    )


@form(own.BatchNorm)
def batch_norm(subject: Subject) -> Form | None:
    """The sums of mean and variance divided by their factor; of a factor of 0 Caffe makes zeros."""
    m, blobs = subject.module, subject.blobs
    if m.use_global_stats is False or subject.ranks[0] not in _BY_RANK:
        return None
    factor = np.float32(blobs["scale_factor"].reshape(-1)[0])
    divisor = np.float32(0) if factor == 0 else np.float32(1) / factor
    state = {"running_mean": blobs["mean"] * divisor, "running_var": blobs["variance"] * divisor}
    affine = {name: blobs[name] for name in ("weight", "bias") if m.affine}
    owners = {name: subject.owners[name] for name in affine}
    return "{m}({0})", _batch_norm(subject, m.eps, {**affine, **state}, owners)


@form(own.MovingBN)
def moving_batch_norm(subject: Subject) -> Form | None:
    m, blobs = subject.module, subject.blobs
    if not m.uses_blobs or subject.ranks[0] not in _BY_RANK:
        return None
    variance = blobs["inverse_std"].astype(np.float64) ** -2 if m.inverse else blobs["variance"]
    state = {name: blobs[name] for name in ("weight", "bias")}
    state |= {"running_mean": blobs["mean"], "running_var": variance}
    eps = 0.0 if m.inverse else m.eps
    if not np.isfinite(np.float32(variance)).all():
        return None
    return "{m}({0})", _batch_norm(subject, eps, state, {name: subject.owners[name] for name in ("weight", "bias")})


def merged(before: Attribute, subject: Subject) -> bool:
    """Put a Scale's factor and shift into the batch normalisation ``before`` it; False where it is not of channels."""
    weight, shift = subject.blobs.get("weight"), subject.blobs.get("bias")
    channels = int(before.arguments.get("num_features", 0))
    is_scale = type(subject.module) is own.Scale and len(subject.ranks) == 1
    if not is_scale or before.arguments.get("affine") is not False or weight is None:
        return False
    by_channel = subject.module.spread == (channels, *[1] * (subject.ranks[0] - 2))
    if weight.size != 1 and not by_channel:
        return False
    bias = np.zeros(1, np.float32) if shift is None else shift
    for name, array in (("weight", _clamped(subject, weight)), ("bias", bias)):
        before.state[name] = np.array(np.broadcast_to(array.reshape(-1), (channels,)), np.float32)
        if array.size == channels and name in subject.owners:
            before.owners[name] = subject.owners[name]
    before.arguments["affine"] = True
    return True


def _clamped(subject: Subject, weight: np.ndarray) -> np.ndarray:
    bounds = subject.module.bounds
    return weight if bounds is None else weight.clip(*bounds)


@form(own.Scale)
def scale(subject: Subject) -> Form | None:
    m, blobs = subject.module, subject.blobs
    if len(subject.ranks) == 1:
        state = {"weight": np.array(_clamped(subject, blobs["weight"]), np.float32).reshape(m.spread)}
        if m.bias_term:
            state["bias"] = np.array(blobs["bias"], np.float32).reshape(m.spread)
        arguments = {"shape": m.spread, "bias": m.bias_term}
        more: dict[str, Any] = {"state": state, "copied": small_modules.Scale, "defaults": {"bias": True}}
        return "{m}({0})", plain(subject, "Scale", arguments, 1, "scale", **more)
    if m.bias_term:
        return None
    return f"{{0}} * {_spread(len(m.spread) - subject.ranks[1])}", None


def _spread(trailing: int) -> str:
    """The second operand with ones behind its axes."""
    return f"{{1}}[{', '.join(['...'] + ['None'] * trailing)}]" if trailing else "{1}"


@form(own.Bias)
def bias(subject: Subject) -> Form:
    spread = subject.module.spread
    if len(subject.ranks) == 2:
        return f"{{0}} + {_spread(len(spread) - subject.ranks[1])}", None
    state = {"bias": np.array(subject.blobs["bias"], np.float32).reshape(spread)}
    arguments = {"shape": spread}
    return "{m}({0})", plain(subject, "Bias", arguments, 1, "bias", state=state, copied=small_modules.Bias)


@form(own.SegNetBN)
def segnet(subject: Subject) -> Form | None:
    """Without statistics, factors and shifts alone: a batch normalisation whose mean is 0 and whose variance is 1."""
    m, blobs = subject.module, subject.blobs
    if m.eps is not None:
        return None
    channels = blobs["weight"].size
    state = {name: blobs[name] for name in ("weight", "bias")}
    state |= {"running_mean": np.zeros(channels), "running_var": np.ones(channels)}
    return "{m}({0})", _batch_norm(subject, 0.0, state, {name: subject.owners[name] for name in ("weight", "bias")})


@form(own.SSDNormalize)
def ssd_normalize(subject: Subject) -> Form:
    m = subject.module
    state = {"weight": np.array(subject.blobs["weight"], np.float32).reshape(-1)}
    arguments = {"channels": state["weight"].size, "eps": m.eps, "across_spatial": m.across_spatial}
    more: dict[str, Any] = {"state": state, "copied": small_modules.Normalize}
    return "{m}({0})", plain(subject, "Normalize", arguments, 1, "norm", **more)


@form(own.Parameter)
def parameter(subject: Subject) -> Form:
    arguments = {"shape": tuple(subject.blobs["weight"].shape)}
    return "{m}()", plain(subject, "LearnedInput", arguments, 1, "weight", copied=small_modules.LearnedInput)


@form(own.LSTM, own.RNN)
def recurrent(subject: Subject) -> Form | None:
    m: Recurrent = subject.module
    if m.has_static or m.expose_hidden:
        return None
    kind = type(m).__name__
    arguments = {
        "input_size": math.prod(subject.blobs["weight_x"].shape[1:]),
        "hidden_size": subject.blobs["weight_h"].shape[1],
    }
    copied = getattr(small_modules, kind)
    return "{m}({0}, {1})", plain(subject, kind, arguments, 2, kind.lower(), copied=copied)


@form(own.LRNWithinChannel)
def lrn_within_channel(subject: Subject) -> Form | None:
    m = subject.module
    if m.size > min(subject.layer.inputs[0].shape[2:]):  # may be far larger than the image
        return None
    arguments = {"size": m.size, "alpha": m.alpha, "beta": m.beta}
    more: dict[str, Any] = {"copied": small_modules.LRNWithinChannel}
    return "{m}({0})", plain(subject, "LRNWithinChannel", arguments, 3, "lrn", **more)


@form(nn.Identity)
def identity(subject: Subject) -> Form:
    return "{0}", None
