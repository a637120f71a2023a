"""The data that the layers of a Caffe net read, as they read it: lists, databases, HDF5 files, transforms.

``Feed(net)`` hands out batches; ``input_shapes(prototxt)`` tells, before a net is loaded, the shapes of what its data
layers will give: ``caffeport.load(path, phase="train", input_shapes=input_shapes(path, phase="train"))``.
"""

from .feed import Feed
from .shapes import input_shapes

__all__ = ["Feed", "input_shapes"]
