"""Pooling over regions, for which torch has nothing."""

from __future__ import annotations

from .. import modules as own
from . import region_modules
from .form import Form, Subject, form, plain


@form(own.ROIPooling)
def roi_pooling(subject: Subject) -> Form | None:
    m = subject.module
    if getattr(m, "pad_ratio", 0):
        return None  # a fork's
    arguments = {"pooled": tuple(m.pooled), "spatial_scale": m.spatial_scale}
    attribute = plain(subject, "ROIPooling", arguments, 2, "roi_pool", copied=region_modules.ROIPooling)
    return "{m}({0}, {1})", attribute


@form(own.PSROIPooling)
def psroi_pooling(subject: Subject) -> Form:
    m = subject.module
    arguments = {name: getattr(m, name) for name in ("output_dim", "group_size", "spatial_scale")}
    attribute = plain(subject, "PSROIPooling", arguments, 3, "psroi_pool", copied=region_modules.PSROIPooling)
    return "{m}({0}, {1})", attribute
