"""Readers: images by number, with names and labels, one class for each form in which data sets come.

``open_reader(path)`` chooses the reader. Readers know nothing of torch; ``normface.data.open_images`` puts a
``torch.utils.data.Dataset`` on top of one.
"""

from .base import Reader
from .opening import open_reader

__all__ = ["Reader", "open_reader"]
