"""transform_param and resize_param: the steps by which a data layer makes a blob of an image."""

from __future__ import annotations

import enum
from dataclasses import field

from ..formats.prototxt import Message
from ..formats.schema import Word, schema


class ResizeMode(enum.Enum):
    WARP = 1
    FIT_SMALL_SIZE = 2
    FIT_LARGE_SIZE_AND_PAD = 3


@schema
class ResizeParameter:
    """The way SSD's data layers resize an image (weiliu89/caffe, branch ssd, ``src/caffe/proto/caffe.proto``)."""

    prob: float = 1.0
    resize_mode: ResizeMode = ResizeMode.WARP
    height: int = 0
    width: int = 0
    height_scale: int = 0
    width_scale: int = 0
    pad_mode: Word = Word("CONSTANT")
    pad_value: list[float] = field(default_factory=list)
    interp_mode: list[Word] = field(default_factory=list)

    def size(self) -> tuple[int, int]:
        """Return (height, width) of every image afterwards; zeros where that depends on the image."""
        return (0, 0) if self.resize_mode is ResizeMode.FIT_SMALL_SIZE else (self.height, self.width)


@schema
class TransformationParameter:
    """(pixel - mean) * scale, then crop and mirror; pixels are BGR, 0 to 255.

    Behind BVLC's fields are those of SSD and of NVIDIA/caffe that decide the size, or that only training needs.
    """

    scale: float = 1.0
    mirror: bool = False
    crop_size: int = 0
    mean_file: str = ""
    mean_value: list[float] = field(default_factory=list)
    force_color: bool = False
    force_gray: bool = False
    crop_h: int = 0
    crop_w: int = 0
    crop_height: int = 0  # PSPNet's names of the same
    crop_width: int = 0
    resize_param: list[ResizeParameter] = field(default_factory=list)  # MobileNet-YOLO's: each batch takes one
    noise_param: Message | None = None
    distort_param: Message | None = None
    expand_param: Message | None = None
    emit_constraint: Message | None = None

    def size(self) -> tuple[int, int]:
        """Return (height, width) of what comes out; zeros where the text does not decide them."""
        height, width = self.resize_param[0].size() if self.resize_param else (0, 0)
        return (
            self.crop_size or self.crop_h or self.crop_height or height,
            self.crop_size or self.crop_w or self.crop_width or width,
        )
