"""Face recognition with normalised losses, on top of caffeport.

solver = normface.Solver("solver.prototxt", weights="init.caffemodel")
loss = normface.losses.NormalizedSoftmaxLoss(10572, 512)

Names are imported when they are first used, so that ``import normface`` loads neither torch nor OpenCV.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from . import alignment, bounds, data, detection, errors, evaluate, features, finetune, losses, parallel, solver
    from .features import load
    from .solver import Solver

_OF_MODULES = {"Solver": "normface.solver", "load": "normface.features"}

__all__ = [
    "Solver",
    "__version__",
    "alignment",
    "bounds",
    "data",
    "detection",
    "errors",
    "evaluate",
    "features",
    "finetune",
    "load",
    "losses",
    "parallel",
    "solver",
]

if not TYPE_CHECKING:  # where it would stand for any name, misspelt ones too

    def __getattr__(name: str) -> Any:
        if name in _OF_MODULES:
            return getattr(import_module(_OF_MODULES[name]), name)
        if name in __all__:
            return import_module(f"normface.{name}")
        raise AttributeError(f"module 'normface' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
