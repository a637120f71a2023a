"""Functions of one tensor or of two, and layers of forks that are modules of torch."""

from __future__ import annotations

from typing import Any

from torch import nn

from .. import modules as own
from .form import Form, Subject, form, plain
from .stock import parameterless

_OPERATORS = {"Add": "{0} + {1}", "Sub": "{0} - {1}", "Mul": "{0} * {1}", "Div": "{0} / {1}"}
_OPERATORS |= {"Max": "torch.maximum({0}, {1})", "Min": "torch.minimum({0}, {1})"}

form(nn.ReLU6)(parameterless("relu", 0, {}))
form(nn.Mish)(parameterless("mish", 0, {}))
form(nn.SELU)(parameterless("selu", 0, {}))
form(nn.Hardsigmoid)(parameterless("hardsigmoid", 0, {}))
form(nn.Softsign)(parameterless("softsign", 0, {}))
form(nn.Hardtanh)(parameterless("hardtanh", 2, {"min_val": -1.0, "max_val": 1.0}))


@form(nn.LogSoftmax)
def log_softmax(subject: Subject) -> Form:
    return f"{{0}}.log_softmax({subject.module.dim})", None


@form(nn.Upsample)
def upsample(subject: Subject) -> Form:
    m = subject.module
    arguments: dict[str, Any] = {"size": m.size, "scale_factor": m.scale_factor}
    arguments |= {"mode": m.mode, "align_corners": m.align_corners}
    defaults = {"size": None, "scale_factor": None, "mode": "nearest", "align_corners": None}
    return "{m}({0})", plain(subject, "nn.Upsample", arguments, 0, "upsample", defaults=defaults)


@form(own.Pairwise)
def pairwise(subject: Subject) -> Form | None:
    return (_OPERATORS[subject.module.kind], None) if len(subject.ranks) == 2 else None


@form(own.Elementwise)
def elementwise(subject: Subject) -> Form:
    return f"torch.{subject.module.name}({{0}})", None
