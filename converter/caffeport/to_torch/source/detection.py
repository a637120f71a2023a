"""SSD's layers, for which torch has nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import modules as own
from . import ssd_modules
from .form import Form, Subject, form, plain


@form(own.PriorBox)
def prior_box(subject: Subject) -> Form:
    boxes = subject.module.boxes
    arguments = {
        "shapes": [tuple(np.float32(side) for side in shape) for shape in boxes.shapes],
        "variance": tuple(boxes.variance),
        "offset": boxes.offset,
        "clip": boxes.clip,
        "image": boxes.image,
        "step": boxes.step,
    }
    defaults = {"offset": 0.5, "clip": False, "image": None, "step": None}
    more: dict[str, Any] = {"copied": ssd_modules.PriorBox, "defaults": defaults}
    return "{m}({0}, {1})", plain(subject, "PriorBox", arguments, 1, "priors", **more)


@form(own.DetectionOutput)
def detection_output(subject: Subject) -> Form | None:
    m = subject.module
    others = sorted(set(range(m.num_classes)) - set(m.labels))
    if len(others) > 1 or m.labels != sorted(m.labels) or len(subject.ranks) != 3:
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
