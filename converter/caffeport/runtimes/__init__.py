"""An ONNX file in each of the runtimes that people run it with, all by one call: ``open_model``."""

from .known import RUNTIMES, ModelRunError, Runtime, installed, runtime
from .opened import OpenedModel, open_model

__all__ = ["RUNTIMES", "ModelRunError", "OpenedModel", "Runtime", "installed", "open_model", "runtime"]
