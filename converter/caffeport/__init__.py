"""Caffe models as PyTorch modules and ONNX files, proven blob by blob, and back into Caffe.

net = caffeport.load("deploy.prototxt", "face.caffemodel")
model = net.to_torch()
net.to_onnx("face.onnx")
print(caffeport.check(net))

What reading a net does not need (check, the zoo) is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import loading as _loading
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
from .formats.prototxt import Message
from .formats.prototxt import load as read_prototxt
from .graph.build import load
from .graph.layer import Layer, Param
from .graph.net import Net
from .operators.base import BlobSpec, Operator, layer_type
from .version import __version__
from .wiring import connect

if TYPE_CHECKING:
    from . import zoo
    from .parity.compare import check
    from .parity.report import Report, Row

_LATER = {"check": "parity.compare", "Report": "parity.report", "Row": "parity.report"}

LayerType = Operator
"""The name that operators' class had before."""

connect(
    torch_modules="caffeport.to_torch.modules",
    to_torch="caffeport.to_torch.module:build",
    to_onnx="caffeport.to_onnx.export:export",
    to_lower_precision="caffeport.precision.lower:export",
    cut="caffeport.graph.cut:cut",
    to_python="caffeport.to_torch.source.write:write_python",
    with_weights="caffeport.to_caffe.writer:with_weights",
    save="caffeport.to_caffe.writer:save",
    check="caffeport.parity.compare:check",
)
_loading.done()

__all__ = [
    "BlobSpec",
    "CaffemodelError",
    "CaffeportError",
    "CaffeportWarning",
    "ExportError",
    "InputShapeError",
    "Layer",
    "LayerType",
    "Message",
    "MissingDependencyError",
    "Net",
    "NetError",
    "Operator",
    "Param",
    "PrototxtError",
    "Report",
    "Row",
    "UnknownLayerError",
    "WeightsError",
    "WeightsWarning",
    "__version__",
    "check",
    "layer_type",
    "load",
    "read_prototxt",
    "zoo",
]

if not TYPE_CHECKING:  # where it would stand for any name, misspelt ones too

    def __getattr__(name: str) -> Any:
        if name in _LATER:
            globals()[name] = found = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
            return found
        if name == "zoo":
            return import_module(f"{__name__}.zoo")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
