"""Pictures of people, from every form in which data sets come.

``open_pictures`` opens a folder per identity, a folder of pictures, a list file, a Caffe LMDB, InsightFace's
RecordIO or a zip; ``decode`` turns a picture file's bytes into pixels. ``normface.data.caffe`` feeds the data
layers of a Caffe net.
"""

from .decoding import decode
from .opening import open_pictures
from .readers.base import Pictures

__all__ = ["Pictures", "decode", "open_pictures"]
