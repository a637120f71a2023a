"""The fork whose default boxes a net means: the convolutions beside each PriorBox have channels for so many of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, cast

from ..errors import CaffeportWarning, NetError
from ..operators.prior_box import DIALECTS, PriorBox
from .layer import Layer

_COUNTING = ("DetectionOutput", "MultiBoxLoss")
"""Layers that say how many classes the boxes are scored for."""


def settle_prior_boxes(layers: Sequence[Layer], options: dict[str, Any]) -> None:
    """Have every PriorBox that does not say it itself make the boxes of one dialect.

    That is the chosen one, or the first that fits the net; where none does, or nothing tells, they stay SSD's own.
    What was found is noted in the options, since a part of the net may be built again that no longer shows it.
    """
    chosen = options.get("prior_boxes")
    if chosen not in (None, *DIALECTS):
        raise NetError(f"prior_boxes is one of {', '.join(DIALECTS)}, got {chosen}")
    priors = [layer for layer in layers if isinstance(layer.op, PriorBox) and not layer.op.decided]
    dialect = (chosen or _fitting(layers, priors)) if priors else DIALECTS[0]
    if dialect == DIALECTS[0]:
        return
    options["prior_boxes"] = dialect
    for layer in priors:
        cast(PriorBox, layer.op).speak(dialect)
    if chosen is None:
        warnings.warn(
            f'{priors[0].title} and its like make boxes as in "{dialect}", for which the net\'s convolutions have '
            'channels; prior_boxes sets another (prior_boxes="ssd", --prior-boxes ssd)',
            CaffeportWarning,
            stacklevel=4,
        )


def _fitting(layers: Sequence[Layer], priors: Sequence[Layer]) -> str:
    counting = [layer.op.p for layer in layers if layer.type in _COUNTING and layer.op.p.num_classes]
    if not counting:
        return DIALECTS[0]
    classes = counting[0].num_classes
    located = 4 if counting[0].share_location else 4 * classes
    fits = []  # of every PriorBox that some dialect fits, which do
    for layer in priors:
        channels = {getattr(reader.op.p, "num_output", None) for reader in layer.inputs[0].consumers}
        counts = {dialect: len(cast(PriorBox, layer.op).cell(dialect)) for dialect in DIALECTS}
        fits.append({name for name, count in counts.items() if {located * count, classes * count} <= channels})
    known = [names for names in fits if names]
    return next((dialect for dialect in DIALECTS if all(dialect in names for names in known)), DIALECTS[0])
