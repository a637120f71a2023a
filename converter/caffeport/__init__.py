"""Caffe models as PyTorch modules and ONNX files, proven blob by blob, and back into Caffe.

net = caffeport.load("deploy.prototxt", "face.caffemodel")
model = net.to_torch()
net.to_onnx("face.onnx")
print(caffeport.check(net))
"""

from typing import Any

from .errors import (
    CaffemodelError,
    CaffeportError,
    CaffeportWarning,
    ExportError,
    InputShapeError,
    MissingDependencyError,
    NetError,
    PrototxtError,
    UnknownLayerError,
    WeightsError,
    WeightsWarning,
)
from .graph.build import load
from .graph.net import Layer, Net
from .operators.base import BlobSpec, LayerType, layer_type
from .version import __version__


def check(net: Net, inputs: Any = None, **options: Any) -> Any:
    """Compare backends blob by blob; see :func:`caffeport.parity.compare.check`."""
    from .parity.compare import check as run

    return run(net, inputs, **options)


__all__ = [
    "BlobSpec",
    "CaffemodelError",
    "CaffeportError",
    "CaffeportWarning",
    "ExportError",
    "InputShapeError",
    "Layer",
    "LayerType",
    "MissingDependencyError",
    "Net",
    "NetError",
    "PrototxtError",
    "UnknownLayerError",
    "WeightsError",
    "WeightsWarning",
    "__version__",
    "check",
    "layer_type",
    "load",
]
