"""Face recognition with normalised losses, on top of caffeport.

solver = normface.Solver("solver.prototxt", weights="init.caffemodel")
loss = normface.losses.NormalizedSoftmaxLoss(10572, 512)

Names are imported when they are first used, so that ``import normface`` loads neither torch nor OpenCV.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_OF_MODULES = {"Solver": "normface.solver"}
_MODULES = ("align", "bounds", "data", "errors", "evaluate", "extract", "finetune", "losses", "solver")

__all__ = [*_OF_MODULES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _OF_MODULES:
        return getattr(import_module(_OF_MODULES[name]), name)
    if name in _MODULES:
        return import_module(f"normface.{name}")
    raise AttributeError(f"module 'normface' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
