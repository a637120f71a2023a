"""A type that a tree makes by a creator of its own, as Intel Caffe its InnerProduct: ours asks that creator."""

import re

from .registry import Registration
from .source_text import code_of, edited

INSTANCE = "template shared_ptr<Layer<{dtype}> > {creator}<{dtype}>(const LayerParameter&);"


def name_of(text: str, registration: Registration) -> str:
    """The creator's name, if it is a function template that another file can call; "" if not."""
    found = re.search(r",\s*(\w+)\s*\)", code_of(text)[registration.start : registration.end])
    if registration.by_class or not found:
        return ""
    code = code_of(text)[: registration.start]
    function = re.search(
        r"template\s*<\s*(?:typename|class)\s+(\w+)\s*>\s*(?:std\s*::\s*|boost\s*::\s*)?shared_ptr\s*<\s*Layer\s*<\s*\1"
        rf"\s*>\s*>\s*{found.group(1)}\s*\(\s*const\s+LayerParameter\s*&\s*\w*\s*\)\s*\{{",
        code,
    )
    hidden = re.search(r"\bnamespace\s*\{", code)
    return found.group(1) if function and not hidden else ""


def unregistered(text: str, registration: Registration, creator: str, chosen_by: str) -> str:
    """``text`` with the registration commented out, and the creator made for float and double as it was by that."""
    statement = text[registration.start : registration.end]
    if "*/" in statement:
        statement = f"REGISTER_LAYER_CREATOR({registration.type}, {creator});"
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = [f"/* {statement}  chosen by {chosen_by} */"]
    lines += [INSTANCE.format(dtype=dtype, creator=creator) for dtype in ("float", "double")]
    return edited(text, [(registration.start, registration.end, newline.join(lines))])


def asking(text: str, stock_class: str, creator: str, path: str) -> "str | None":
    """Our source, ``text``, with ``creator`` of the file ``path`` where it made one of ``stock_class``.

    None if it does not make one at one place.
    """
    made = f"shared_ptr<Layer<Dtype> >(new {stock_class}<Dtype>(param))"
    function = text.rfind("template <typename Dtype>\nshared_ptr<Layer<Dtype> >", 0, text.find(made) + 1)
    if text.count(made) != 1 or function < 0:
        return None
    declared = (
        f"// The tree's own, in {path}.\n"
        f"template <typename Dtype>\nshared_ptr<Layer<Dtype> > {creator}(const LayerParameter& param);\n\n"
    )
    return text[:function] + declared + text[function:].replace(made, f"{creator}<Dtype>(param)")
