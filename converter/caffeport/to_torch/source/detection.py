"""SSD's layers, for which torch has nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .. import modules as own
from . import ssd_modules
from .form import Form, Subject, form, plain
from .literals import Listed
from .steps import Arguments


@form(own.PriorBox)
def prior_box(subject: Subject) -> Form | None:
    """Caffe's own parameters, where they say all: forks have boxes that none of them tells."""
    boxes, p = subject.module.boxes, subject.layer.op.p
    try:
        arguments = {
            "min_sizes": _numbers(p.min_size),
            "max_sizes": _numbers(p.max_size),
            "ratios": _numbers(_different(p.aspect_ratio, p.flip)),
            "flip": p.flip,
            "clip": boxes.clip,
            "offset": p.offset,
            "variance": tuple(boxes.variance),
            "image": boxes.image,
            "step": boxes.step,
        }
    except (AttributeError, TypeError):
        return None
    if not _same_boxes(arguments, boxes, [value.shape for value in subject.layer.inputs]):
        return None
    usual = {"flip": True, "clip": False, "offset": 0.5, "variance": (0.1, 0.1, 0.2, 0.2), "image": None, "step": None}
    more: dict[str, Any] = {"copied": ssd_modules.PriorBox, "defaults": usual}
    return "{m}({0}, {1})", plain(subject, "PriorBox", arguments, 3, "priors", **more)


def _same_boxes(arguments: Arguments, boxes: Any, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether the written class makes the boxes of the layer, of this size and of another."""
    for cells, image in ((shapes[0][2:], shapes[1][2:]), ((3, 5), (90, 110))):
        expected = boxes.blob(tuple(cells), tuple(image))
        try:
            module = ssd_modules.PriorBox(**arguments)
            result = module(torch.zeros(1, 1, *cells), torch.zeros(1, 1, *image)).numpy()
        except (IndexError, TypeError, RuntimeError):
            return False
        if result.shape != expected.shape or not np.allclose(result, expected, rtol=1e-5, atol=1e-6):
            return False
    return True


def _different(ratios: Sequence[float], flip: bool) -> list[float]:
    """Without those that Caffe passes over: 1, and what is there already."""
    known, different = [1.0], []
    for ratio in ratios:
        if all(abs(ratio - other) >= 1e-6 for other in known):
            known += [ratio, 1 / ratio] if flip else [ratio]
            different.append(ratio)
    return different


def _numbers(values: Any) -> Listed:
    """Whole numbers without their point."""
    return Listed(int(value) if float(value).is_integer() else value for value in values)


@form(own.DetectionOutput)
def detection_output(subject: Subject) -> Form | None:
    m = subject.module
    others = sorted(set(range(m.num_classes)) - set(m.labels))
    if len(others) > 1 or m.labels != sorted(m.labels) or not _is_usual(subject):
        return None
    confidence, top_k, overlap, eta = m.suppression
    arguments = {
        "num_classes": m.num_classes,
        "background": others[0] if others else -1,
        "code_type": m.code[0],
        "variance_in_target": m.code[1],
        "confidence": confidence,
        "overlap": overlap,
        "eta": eta,
        "top_k": top_k,
        "keep_top_k": m.keep_top_k,
    }
    defaults = {"background": 0, "code_type": "CENTER_SIZE", "variance_in_target": False, "eta": 1.0}
    more: dict[str, Any] = {"copied": ssd_modules.DetectionOutput, "defaults": defaults}
    return "{m}({0}, {1}, {2})", plain(subject, "DetectionOutput", arguments, 1, "detection", **more)


def _is_usual(subject: Subject) -> bool:
    """Whether offsets, scores and default boxes come in a bottom each, as in SSD, and nothing else does."""
    return len(subject.ranks) == 3 and subject.module.sources.maps == 0 and subject.module.arms == 0
