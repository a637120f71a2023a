"""Images of people, from every form in which data sets come.

``open_images`` opens a folder per identity, a folder of images, a list file, a Caffe LMDB, InsightFace's RecordIO or a
zip as a ``torch.utils.data.Dataset``; ``open_reader`` opens the same without torch. ``decode`` turns an image file's
bytes into pixels. ``normface.data.caffe`` feeds the data layers of a Caffe net.

loader = torch.utils.data.DataLoader(normface.data.open_images("faces/"), batch_size=64, num_workers=2)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .decoding import decode
from .readers import Reader, open_reader

_OF_DATASET = ("ImageDataset", "open_images")
_EARLIER = {"open_pictures": "open_images", "Pictures": "Reader"}
"""The names of earlier versions, and today's."""

__all__ = ["ImageDataset", "Reader", "decode", "open_images", "open_reader"]


if TYPE_CHECKING:  # else a checker would take any name for one that __getattr__ knows
    from .dataset import ImageDataset, open_images

    open_pictures, Pictures = open_images, Reader
else:

    def __getattr__(name: str) -> Any:
        """Load torch only where a data set is wanted: most commands need none."""
        if name in _EARLIER:
            return getattr(import_module(__name__), _EARLIER[name])
        if name in _OF_DATASET:
            return getattr(import_module(f"{__name__}.dataset"), name)
        raise AttributeError(f"module 'normface.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_OF_DATASET])
