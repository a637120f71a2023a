"""Caffe's TransformationParameter, as data_transformer.cpp applies it: (pixel - mean) * scale, crop and mirror."""

from __future__ import annotations

import numpy as np
from caffeport import Layer
from caffeport.errors import shape_text
from caffeport.formats.caffemodel import read_binaryproto
from caffeport.operators.base import Phase
from caffeport.operators.transformation import TransformationParameter

from ...errors import DataError
from .source import Place, Shape

_NOT_HERE: tuple[str, ...] = (
    "crop_h", "crop_w", "crop_height", "crop_width", "resize_param", "noise_param", "distort_param", "expand_param",
    "emit_constraint",
)  # fmt: skip
"""What forks have added to the transform, and nothing here applies."""
DRAWS = 3
"""Random numbers for an image: mirror, and the crop's row and column. Caffe takes each modulo its range."""


class Transform:
    """The transform of one layer.

    mirror: half the images, in both phases.
    crop_size: anywhere in the train phase, the middle in the test phase.
    mean_file: as large as the image before cropping, and cropped and mirrored with it.
    mean_value: one, or one a channel.
    """

    def __init__(self, layer: Layer, place: Place) -> None:
        self.p = layer.op.context.transform or TransformationParameter()
        self._layer, self._train = layer, place.phase is Phase.TRAIN
        if self.p.mean_file and self.p.mean_value:
            raise DataError(f"{layer.title}: gives mean_file and mean_value; Caffe takes one of them")
        if self.p.force_color and self.p.force_gray:
            raise DataError(f"{layer.title}: sets force_color and force_gray; Caffe takes one of them")
        others = [name for name in _NOT_HERE if getattr(self.p, name)]
        if others:
            raise DataError(f"{layer.title}: sets {others[0]}, which is not done here; BVLC's fields are")
        self.mean: np.ndarray | None = None
        if self.p.mean_file:
            path = place.find(self.p.mean_file, layer, "mean_file")
            mean = read_binaryproto(path)
            if mean.ndim < 3 or mean.size != np.prod(mean.shape[-3:]):
                shape = shape_text(mean.shape)
                raise DataError(f"{path}: has the shape {shape}; expected a mean image (1, channels, height, width)")
            self.mean = mean.reshape(mean.shape[-3:])
        elif self.p.mean_value:
            self.mean = np.array(self.p.mean_value, np.float32)[:, None, None]

    def shape(self, shape: Shape, name: str) -> Shape:
        """(C, H, W) that images of ``shape`` become. Raises DataError that names an image which does not fit."""
        channels, height, width = shape
        size = self.p.crop_size
        if size > min(height, width):
            raise DataError(f"{name}: is {width} x {height}, smaller than crop_size {size} of {self._layer.title}")
        means = len(self.p.mean_value)
        if means > 1 and means != channels:
            raise DataError(f"{name}: has {channels} channels, and {self._layer.title} gives {means} mean_values")
        if self.p.mean_file and self.mean is not None and self.mean.shape != shape:
            want = shape_text(self.mean.shape)
            raise DataError(f"{name}: is {shape_text(shape)}, and the mean image of {self._layer.title} is {want}")
        return (channels, size or height, size or width)

    def apply(self, planes: np.ndarray, draws: np.ndarray, out: np.ndarray, name: str) -> None:
        """``planes`` (C, H, W) of numbers into ``out``, float32 of :meth:`shape`. ``draws``: DRAWS random uint32."""
        shape = self.shape(planes.shape, name)
        if shape != out.shape:
            got, want = shape_text(shape), shape_text(out.shape)
            raise DataError(
                f"{name}: gives {got}, and the first image of its batch {want}; {self._layer.title} needs images "
                "of one size, or new_height and new_width, or crop_size"
            )
        mirror, at_row, at_column = (int(draw) for draw in draws)
        mean = self.mean
        if self.p.crop_size:
            rows, columns = (whole - cropped + 1 for whole, cropped in zip(planes.shape[1:], shape[1:], strict=True))
            top, left = (at_row % rows, at_column % columns) if self._train else ((rows - 1) // 2, (columns - 1) // 2)
            window = np.s_[:, top : top + shape[1], left : left + shape[2]]
            planes = planes[window]
            mean = mean[window] if self.p.mean_file and mean is not None else mean
        target = out[:, :, ::-1] if self.p.mirror and mirror % 2 else out
        if mean is None:
            target[...] = planes
        else:
            np.subtract(planes, mean, out=target, dtype=np.float32)
        if self.p.scale != 1:
            out *= np.float32(self.p.scale)
