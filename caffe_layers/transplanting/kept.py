"""What a layer that stays the tree's own computes otherwise than ours of that type does by default."""

import re

from .decide import KEPT, Facts

_EACH_SAMPLE = re.compile(r"1\.?f?\s*/\s*\(\s*count\w*\s*\[")
"""1 / (count[class] + 1) of a sample's class: added once for each of the class's samples (NormFace's fork). caffe-face
has 1 / (count + 1), once a class."""


def otherwise(facts: Facts, actions: "dict[str, str]") -> "list[str]":
    """A note for each kept layer of which that is known."""
    if actions.get("CenterLoss") != KEPT:
        return []
    texts = [facts.tree.text(registration.path) for registration in facts.registered.get("CenterLoss", [])]
    if not any(_EACH_SAMPLE.search(text) for text in texts):
        return []
    return [
        "CenterLoss is kept, and steps as NormFace's fork does: n times as far as in the paper and in caffe-face for n"
        " samples of a class; a text that trains with it trains otherwise where the face layers' own serves, unless"
        " that has center_loss_param { center_step: FORK }"
    ]
