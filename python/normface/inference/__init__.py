"""The runtime that a model runs in: which one, and the model opened in it."""

from .choice import RUNTIMES, Choice, choose
from .engine import Engine, open_engine

__all__ = ["RUNTIMES", "Choice", "Engine", "choose", "open_engine"]
