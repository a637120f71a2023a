"""Layers that are an expression of torch in forward."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from .. import modules as own
from .form import Form, Subject, form, plain
from .literals import literal


@form(nn.Softmax)
def softmax(subject: Subject) -> Form:
    return f"{{0}}.softmax({subject.module.dim})", None


@form(nn.Flatten)
def flatten(subject: Subject) -> Form:
    start, end = subject.module.start_dim, subject.module.end_dim
    last = end in (-1, subject.ranks[0] - 1)
    return (f"{{0}}.flatten({start})" if last else f"{{0}}.flatten({start}, {end})"), None


@form(own.Concat)
def concat(subject: Subject) -> Form:
    operands = ", ".join(f"{{{i}}}" for i in range(len(subject.ranks)))
    return f"torch.cat([{operands}], {subject.module.axis})", None


@form(own.Slice)
def cut(subject: Subject) -> Form:
    m, x = subject.module, subject.layer.inputs[0]
    if len(subject.layer.outputs) == 1:
        return "{0}", None
    if m.points:
        return f"{{0}}.tensor_split({literal(tuple(m.points))}, {m.axis})", None
    return f"{{0}}.split({x.shape[m.axis] // m.parts}, {m.axis})", None


@form(own.Reshape)
def reshape(subject: Subject) -> Form:
    m, rank = subject.module, subject.ranks[0]
    middle = [f"{{0}}.shape[{m.start + i}]" if dim == 0 else str(dim) for i, dim in enumerate(m.dims)]
    sizes = [f"{{0}}.shape[{i}]" for i in range(m.start)] + middle + [f"{{0}}.shape[{i}]" for i in range(m.end, rank)]
    if m.start == m.end and m.dims == [1]:
        return f"{{0}}.unsqueeze({m.start})", None
    return f"{{0}}.reshape({', '.join(sizes) or '()'})", None


@form(own.Permute)
def permute(subject: Subject) -> Form:
    return f"{{0}}.permute{literal(tuple(subject.module.order))}", None


@form(own.Tile)
def tile(subject: Subject) -> Form:
    return f"{{0}}.repeat({', '.join(map(str, subject.module.repeats))})", None


@form(own.Crop)
def crop(subject: Subject) -> Form:
    offsets = subject.module.offsets
    cuts = []
    for axis in range(subject.ranks[0]):
        offset = offsets.get(axis)
        if offset is None:
            cuts.append(":")
        else:
            cuts.append(f"{offset} : {offset} + {{1}}.shape[{axis}]" if offset else f": {{1}}.shape[{axis}]")
    return f"{{0}}[{', '.join(cuts)}]", None


@form(own.Flip)
def flip(subject: Subject) -> Form:
    return f"{{0}}.flip({', '.join(map(str, subject.module.axes))})", None


@form(own.ShuffleChannel)
def shuffle(subject: Subject) -> Form:
    return "{m}({0})", plain(subject, "nn.ChannelShuffle", {"groups": subject.module.group}, 1, "shuffle")


@form(own.NearestUpsample)
def nearest(subject: Subject) -> Form:
    scale = subject.module.scale
    return f"{{0}}.repeat_interleave({scale}, 2).repeat_interleave({scale}, 3)", None


@form(own.Interp)
def interp(subject: Subject) -> Form | None:
    m = subject.module
    start, end = m.size.crop
    if start or end:
        return _cropped(subject, -start, end)
    if len(subject.ranks) == 2:
        size = "{1}.shape[2:]"
    else:
        size = literal(tuple(subject.layer.outputs[0].shape[2:]))
        if m.size.fixed is None:
            sides = (f"({{0}}.shape[{i}] - 1) // {m.size.shrink} * {m.size.zoom} + 1" for i in (2, 3))
            size = f"({', '.join(sides)})".replace(" // 1 ", " ").replace(" * 1 ", " ")
    return f'F.interpolate({{0}}, {size}, mode="bilinear", align_corners=True)', None


def _cropped(subject: Subject, start: int, end: int) -> Form | None:
    """Negative pads crop; the size is that of this net's input."""
    if len(subject.ranks) != 2 and subject.module.size.fixed is None:
        return None
    area = f"{start or ''}:{end or ''}"
    size = "{1}.shape[2:]" if len(subject.ranks) == 2 else literal(tuple(subject.module.size.fixed))
    return f'F.interpolate({{0}}[:, :, {area}, {area}], {size}, mode="bilinear", align_corners=True)', None


@form(own.Eltwise)
def eltwise(subject: Subject) -> Form | None:
    m, operands = subject.module, [f"{{{i}}}" for i in range(len(subject.ranks))]
    if m.operation == "PROD":
        return " * ".join(operands), None
    if m.operation == "MAX":
        text = operands[0]
        for other in operands[1:]:
            text = f"torch.maximum({text}, {other})"
        return text, None
    terms = [x if c == 1 else f"{literal(abs(c))} * {x}" for x, c in zip(operands, m.coeff or [1] * 99, strict=False)]
    terms = [x if abs(c) != 1 else o for x, o, c in zip(terms, operands, m.coeff or [1] * 99, strict=False)]
    signs = ["-" if c < 0 else "+" for c in m.coeff or [1] * len(operands)]
    text = ("-" if signs[0] == "-" else "") + terms[0]
    return text + "".join(f" {sign} {term}" for sign, term in zip(signs[1:], terms[1:], strict=True)), None


@form(own.Reduction)
def reduction(subject: Subject) -> Form:
    m = subject.module
    text = "{0}" if m.axis + 1 == subject.ranks[0] else f"{{0}}.flatten({m.axis})"
    text += {"ASUM": ".abs()", "SUMSQ": ".square()"}.get(m.operation, "")
    text += f".{'mean' if m.operation == 'MEAN' else 'sum'}({m.axis})"
    return (text if m.coeff == 1 else f"{text} * {literal(m.coeff)}"), None


@form(own.Axpy)
def axpy(subject: Subject) -> Form:
    spread = ", ".join(["..."] + ["None"] * 2)
    scale = f"{{0}}.flatten(1)[{spread}]" if subject.ranks[1] == 4 else None
    if scale is None:
        scale = "{0}.reshape({1}.shape[:2] + (1,) * ({1}.dim() - 2))"
    return f"{scale} * {{1}} + {{2}}", None


@form(own.AbsVal)
def absolute(subject: Subject) -> Form:
    return "{0}.abs()", None


@form(own.Constant)
def constant(subject: Subject) -> Form:
    return f"torch.full_like({{0}}, {literal(subject.module.value)})", None


@form(own.Power)
def power(subject: Subject) -> Form:
    m = subject.module
    return _affine("{0}", m.scale, m.shift, m.power), None


def _affine(x: str, scale: float, shift: float, exponent: float = 1.0) -> str:
    text = x if scale == 1 else f"{x} * {literal(scale)}"
    if shift:
        text += f" {'-' if shift < 0 else '+'} {literal(abs(shift))}"
    if exponent == 1:
        return text
    inner = text if text == x else f"({text})"
    return f"{inner}.sqrt()" if exponent == 0.5 else f"{inner}.pow({literal(exponent)})"


@form(own.Exp)
def exponential(subject: Subject) -> Form:
    m = subject.module
    text = f"torch.exp({_affine('{0}', m.inner, 0)})"
    return (text if m.outer == 1 else f"{text} * {literal(m.outer)}"), None


@form(own.Log)
def logarithm(subject: Subject) -> Form:
    m = subject.module
    text = f"torch.log({_affine('{0}', m.scale, m.shift)})"
    return (text if m.factor == 1 else f"{text} * {literal(m.factor)}"), None


@form(own.Threshold)
def threshold(subject: Subject) -> Form:
    return f"torch.gt({{0}}, {literal(subject.module.threshold)}).to({{0}}.dtype)", None


@form(own.Clip)
def clip(subject: Subject) -> Form:
    m = subject.module
    if (m.low, m.high) == (0, 6):
        return "{m}({0})", plain(subject, "nn.ReLU6", {}, 0, "relu6")
    return f"{{0}}.clamp({literal(m.low)}, {literal(m.high)})", None


@form(own.Swish)
def swish(subject: Subject) -> Form:
    beta = subject.module.beta
    if beta == 1:
        return "{m}({0})", plain(subject, "nn.SiLU", {}, 0, "swish")
    return f"{{0}} * torch.sigmoid({literal(beta)} * {{0}})", None


@form(own.BatchReindex)
def reindex(subject: Subject) -> Form:
    return "{0}.index_select(0, {1}.long())", None


@form(own.Normalize)
def normalize(subject: Subject) -> Form | None:
    m, rank = subject.module, subject.ranks[0]
    if m.with_norm:
        return None
    eps: Any = literal(m.eps)
    norm = f"({{0}}.square().sum(1, keepdim=True) + {eps}).sqrt()"
    if m.kind != "L2":
        norm = f"({{0}}.abs().sum(1, keepdim=True) + {eps})"
    if rank == 4:
        return f"{{0}} / {norm}", None
    return f"({{0}} / {norm})[{', '.join(['...'] + ['None'] * (4 - rank))}]", None


@form(own.Embed)
def embed(subject: Subject) -> Form:
    m = subject.module
    arguments = {"num_embeddings": m.num_embeddings, "embedding_dim": m.embedding_dim}
    attribute = plain(subject, "nn.Embedding", arguments, 2, "embedding")
    if m.bias is None:
        return "{m}({0}.long())", attribute
    # Every index has one row, so that the bias goes into all of them.
    attribute.state = {"weight": np.float32(subject.blobs["weight"] + subject.blobs["bias"])}
    attribute.owners = {}
    return "{m}({0}.long())", attribute


@form(own.InnerProduct)
def inner_product(subject: Subject) -> Form | None:
    """With a weight that is transposed or normalised: a Linear all the same, once nobody trains it in Caffe's way."""
    m, blobs = subject.module, dict(subject.blobs)
    axis = "" if m.axis + 1 == subject.ranks[0] else f".flatten({m.axis})"
    if "weight" not in blobs:
        if subject.ranks[1] != 2 or len(subject.ranks) > 2 or blobs:
            return None
        return f"F.linear({{0}}{axis}, {{1}}{'.t()' if m.transpose else ''})", None
    weight = np.asarray(blobs["weight"], np.float64)
    weight = weight.T if m.transpose else weight
    if m.eps is not None:
        weight = weight / np.sqrt((weight * weight).sum(1, keepdims=True) + m.eps)
    state = {"weight": np.ascontiguousarray(weight, np.float32)}
    if "bias" in blobs:
        state["bias"] = np.array(blobs["bias"], np.float32).reshape(-1)
    sizes = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": "bias" in blobs}
    attribute = plain(subject, "nn.Linear", sizes, 2, "fc", defaults={"bias": True}, state=state, owners={})
    return f"{{m}}({{0}}{axis})", attribute
