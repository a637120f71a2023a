"""Trees from before December 2015 declare layers in a few headers; ours find those through headers that forward."""

from .errors import Refused
from .tree import OLD_HEADERS, Tree

BLOB = "include/caffe/blob.hpp"
CLASSES = {
    "accuracy": "AccuracyLayer",
    "conv": "ConvolutionLayer",
    "inner_product": "InnerProductLayer",
    "loss": "LossLayer",
    "scale": "ScaleLayer",
}
"""Caffe's own classes that our sources build on, by the names of the headers that they include for them."""


def forwarding(tree: Tree) -> "dict[str, str]":
    """The headers that such a tree lacks: path -> text. None for any later tree."""
    if not tree.is_old():
        return {}
    if "CanonicalAxisIndex" not in tree.text(BLOB):
        raise Refused(
            f"{BLOB} has no CanonicalAxisIndex: it is from before March 2015, when blobs got as many axes as one likes;"
            " merge a later BVLC Caffe first"
        )
    texts = {}
    for name, class_name in CLASSES.items():
        path = f"include/caffe/layers/{name}_layer.hpp"
        header = tree.declaring(path, class_name)
        if header in OLD_HEADERS:
            texts[path] = (
                f"// {class_name} is one of many here; the face layers look for it by the name it got later.\n"
                f'#include "{header[len("include/") :]}"\n'
            )
    return texts
