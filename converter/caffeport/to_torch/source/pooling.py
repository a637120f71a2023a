"""Pooling over windows that torch's module has not, and back by the places that it gives."""

from __future__ import annotations

from typing import Any

from ...graph.layer import Value
from .. import modules as own
from .form import Form, Subject, even, form
from .literals import literal


@form(own.MaxPooling)
def max_pooling(subject: Subject) -> Form | None:
    m = subject.module
    window = m.window
    if window.is_huge:
        return None
    kernel, stride = (literal(even(size)) for size in (window.kernel, window.stride))
    if m.with_mask:
        if not _gives_indices(subject, subject.layer.outputs[1]):
            return None
        pad = f", {literal(even(window.pad))}" if any(window.pad) else ""
        ceil = ", ceil_mode=True" if window.ceil else ""
        return f"F.max_pool2d({{0}}, {kernel}, {stride}{pad}{ceil}, return_indices=True)", None
    (top, left), (bottom, right) = window.pad, window.far
    # The least float, which is what Caffe gives for a window without a pixel.
    least = "torch.finfo({0}.dtype).min"
    padded = f"F.pad({{0}}, ({left}, {right}, {top}, {bottom}), value={least})"
    return f"F.max_pool2d({padded}, {kernel}, {stride})", None


def _gives_indices(subject: Subject, mask: Value) -> bool:
    """Whether torch's indices do for a mask, which Caffe has as floats: the windows are the same, and all undo it."""
    undone = bool(mask.consumers) and all(layer.type == "Upsample" for layer in mask.consumers)
    return subject.module.window.torch_agrees and undone and mask not in subject.wanted


@form(own.MaskUpsample)
def unpooling(subject: Subject) -> Form | None:
    x, mask = subject.layer.inputs
    size = subject.layer.outputs[0].shape[2:]
    pooling: Any = mask.layer.op
    if mask.layer.type != "Pooling" or len(x.shape) != 4:
        return None
    window = pooling.window(mask.layer.inputs[0].shape)
    least = [(x.shape[i + 2] - 1) * window.stride[i] + window.kernel[i] - 2 * window.pad[i] for i in (0, 1)]
    near = all(abs(size[i] - least[i]) < window.stride[i] for i in (0, 1))
    if not near or window.stride != window.kernel:  # torch refuses it, or windows share places
        return None
    kernel = literal(even(window.kernel))
    if list(size) == least and subject.module.size.fixed is None:
        return f"F.max_unpool2d({{0}}, {{1}}.long(), {kernel})", None
    if subject.module.size.fixed is None:
        return None
    return f"F.max_unpool2d({{0}}, {{1}}.long(), {kernel}, output_size={literal(tuple(size))})", None
