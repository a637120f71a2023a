"""The name of every Value in an ONNX file.

ONNX has single assignment, where Caffe's in-place layers overwrite a blob. So a blob's own name goes to what a user
of the file feeds or reads under it: to the net's input of that name, else to the last version of the blob. Every
other version is called ``blob@layer``, after the layer that made it.
"""

from __future__ import annotations

from ..graph.layer import Value
from ..graph.net import Net
from ..naming import Names


def onnx_names(net: Net) -> dict[Value, str]:
    """Return a name for each Value, no two of them alike and none of them empty (which ONNX takes for "absent")."""
    names: dict[Value, str] = {}
    namespace = Names([""])
    for value in [*net.input_values, *net.blobs.values()]:
        if value not in names and value.name not in namespace:
            names[value] = namespace.take(value.name)
    for value in net.values:
        if value not in names:
            names[value] = namespace.take(version_name(value))
    return names


def version_name(value: Value) -> str:
    """Return what a version of a blob is called whose own name belongs to another version."""
    return f"{value.name}@{value.layer.name}"
