"""MS-CNN's data layer: images with a map of labels for each field, whose sizes its text tells."""

from __future__ import annotations

from dataclasses import field

from ..formats.schema import schema
from .base import Shape, layer_type
from .data import DataLayer, PartialShape

GROUND_TRUTH = (1, 7, 1, 1)
"""One box: Caffe sets this shape up, and as many boxes as a batch has come later."""


@schema
class ImageGtDataParameter:
    source: str = ""
    scale: float = 1.0
    mean_file: str = ""
    batch_size: int = 1
    mirror: bool = False
    downsample_rate: list[int] = field(default_factory=list)
    coord_num: int = 4
    field_h: list[int] = field(default_factory=list)
    field_w: list[int] = field(default_factory=list)
    fg_threshold: float = 0.5
    resize_width: int = 0
    resize_height: int = 0
    crop_width: int | None = None
    crop_height: int | None = None
    do_multiple_scale: bool = False
    min_scale: int = 0
    max_scale: int = 0
    min_whaspect: float = 0.0
    max_whaspect: float = 0.0
    min_gt_width: float = 0.0
    min_gt_height: float = 0.0
    shuffle: bool = False
    output_gt_boxes: bool = False
    fg_img_multiple: int = 1
    cache_images: bool = False
    root_folder: str = ""


@layer_type("ImageGtData")
class ImageGtData(DataLayer):
    """Images, a map (N, 2 + coord_num, H / rate, W / rate) for each downsample_rate and, if wanted, the true boxes

    zhaoweicai/mscnn ``src/caffe/layers/image_gt_data_layer.cpp``.
    """

    schemas = {"image_gt_data_param": ImageGtDataParameter}

    def declared_shapes(self) -> list[PartialShape | None]:
        p = self.p
        height, width = p.resize_height, p.resize_width
        if p.crop_height is not None and p.crop_width is not None:  # Caffe crops only where both are given
            height, width = p.crop_height or height, p.crop_width or width
        images, *_ = self._images(p.batch_size, 3, height, width)
        if images is None or not all(images):
            return [images, *[None] * (self.context.num_tops - 1)]
        return self.following(tuple(size or 0 for size in images))

    def following(self, first: Shape) -> list[PartialShape | None]:
        """Return the shapes of all tops for images of the shape ``first``."""
        shapes: list[PartialShape | None] = [first]
        for rate in self.p.downsample_rate:
            sides = (size // max(rate, 1) for size in first[-2:])
            shapes.append((first[0], 2 + self.p.coord_num, *sides))
        shapes += [GROUND_TRUTH] * self.p.output_gt_boxes
        if len(shapes) != self.context.num_tops:
            self.fail(
                f"its text makes {len(shapes)} tops (images, one a downsample_rate, boxes), "
                f"but {self.context.num_tops} are named"
            )
        return shapes
