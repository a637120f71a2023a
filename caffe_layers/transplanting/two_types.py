"""NVCaffe 0.16 and later, whose Layer<Ftype, Btype> has two types: ours go in through the headers of caffe/one_type.

Those are BVLC Caffe's Blob<Dtype>, Layer<Dtype> and so on, in a namespace of their own, over NVCaffe's. The sources go
into that namespace too; besides that and the stream of kernels, nothing of them changes.
"""

import re

from .errors import Refused
from .source_text import code_of

FOLDER = "caffe/one_type"
HEADERS = tuple(f"include/{FOLDER}/{name}.hpp" for name in ("blob", "layer", "sources", "tree_layer"))
"""What goes into such a tree, and into no other."""

DECLARED = re.compile(r"template\s*<\s*typename\s+Ftype\s*,\s*typename\s+Btype\s*>\s*class\s+Layer\s*[:{]")
CREATOR = re.compile(
    r"shared_ptr\s*<\s*LayerBase\s*>\s*\(\s*\*\s*\w+\s*\)\s*"
    r"\(\s*const\s+LayerParameter\s*&\s*\w*\s*,\s*Type\s*\w*\s*,\s*Type\s*\w*\s*,\s*size_t\s*\w*\s*\)"
)
OPENED = re.compile(r"^namespace caffe \{", re.MULTILINE)
CLOSED = re.compile(r"^\}  // namespace caffe\b", re.MULTILINE)
LAUNCH = re.compile(r"<<<(?P<blocks>[^;{}]*?), (?P<threads>[^,;{}]*?)>>>")
STREAM = "Caffe::thread_stream()"


def has_two_types(layer: str) -> bool:
    """Whether this text of layer.hpp declares NVCaffe's Layer."""
    return DECLARED.search(code_of(layer)) is not None


def check_factory(factory: str, path: str) -> None:
    """Raises Refused unless layers are made as in NVCaffe 0.16 and 0.17."""
    code = code_of(factory)
    for name in ("CreateLayerBase", "REGISTER_LAYER_CREATOR", "REGISTER_LAYER_CLASS"):
        if not re.search(rf"\b{name}\b", code):
            raise Refused(f"{path} has no {name}; with Layer<Ftype, Btype> expected it as in NVCaffe 0.16 and 0.17")
    if not CREATOR.search(code):
        raise Refused(
            f"{path}: expected creators shared_ptr<LayerBase> (*)(const LayerParameter&, Type, Type, size_t), as in"
            " NVCaffe 0.16 and 0.17"
        )


def rewritten(text: str, path: str) -> str:
    """One of our sources for such a tree."""
    opened, closed = len(OPENED.findall(text)), len(CLOSED.findall(text))
    if opened != closed or opened > 1 or text.count("<<<") != len(LAUNCH.findall(text)):
        raise Refused(f"caffe_layers/{path} is another file than this transplant.py expects; check both out again")
    newline = "\r\n" if "\r\n" in text else "\n"
    include = f'#include "{FOLDER}/sources.hpp"{newline}{newline}'
    text = OPENED.sub(lambda _: f"{include}namespace caffe {{ namespace one_type {{", text)
    text = CLOSED.sub("} }  // namespace one_type, caffe", text)
    text = text.replace("GetFiller<", "one_type::GetFiller<")
    return LAUNCH.sub(rf"<<<\g<blocks>, \g<threads>, 0, {STREAM}>>>", text)


def filler(text: str) -> str:
    """The class of our filler, which such a tree makes in float16 too, for blobs of any type."""
    for ours, theirs in (
        ("Blob<Dtype>*", "Blob*"),
        ("mutable_cpu_data()", "template mutable_cpu_data<Dtype>()"),
        ("caffe_scal(", "caffe_scal<Dtype>("),  # a quotient of two float16 has another type
    ):
        text = text.replace(ours, theirs)
    return text
