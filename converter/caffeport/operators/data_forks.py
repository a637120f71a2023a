"""Data layers of Caffe's forks whose text tells the sizes of what they make: videos, label maps, detection windows.

Like BVLC's they become inputs. The fields that decide no shape are passed over.
"""

from __future__ import annotations

import enum
from dataclasses import field

from ..formats.schema import Word, schema
from .base import Shape, layer_type
from .data import DataLayer, DataParameter, ImageDataParameter, PartialShape

CLIP = 16
"""Frames of a clip in C3D, where the text leaves them to the file."""


class Modality(enum.Enum):
    RGB = 0
    FLOW = 1
    BOTH = 2
    VIDEO = 3


@schema
class VideoDataParameter:
    """The fields of three forks' messages of that name, see VideoData."""

    source: str = ""
    batch_size: int = 1
    new_height: int = 0
    new_width: int = 0
    new_length: list[int] = field(default_factory=list)
    is_color: bool = True
    use_multiple_label: bool = False
    num_of_labels: int = 1
    modality: Modality | None = None
    num_segments: int | None = None
    num_labels: int = 1
    video_type: Word | None = None
    crop_size: int = 0


@schema
class ClipDataParameter(ImageDataParameter):
    """image_data_param in C3D's first version."""

    new_length: int = 0
    num_truth_channels: int = 1


@layer_type("VideoData")
class VideoData(DataLayer):
    """Clips and their labels: (N, C, L, H, W) in C3D, frames as channels in yjxiong/caffe, single frames in SSD

    facebookarchive/C3D, lxx1991/caffe_mpi and weiliu89/caffe, ``src/caffe/layers/video_data_layer.cpp``.
    """

    schemas = {
        "video_data_param": VideoDataParameter,
        "image_data_param": ClipDataParameter,
        "data_param": DataParameter,
    }
    tops = (1, 2)

    def declared_shapes(self) -> list[PartialShape | None]:
        if "image_data_param" in self.context.messages:
            images: ClipDataParameter = self.message("image_data_param")
            return self._clips(images.batch_size, images.new_length, images.new_height, images.new_width, 1)
        if self.p.video_type is not None:
            return self._images(self.message("data_param").batch_size, 3, 0, 0)
        if self.p.modality is not None or self.p.num_segments is not None:
            return self._frames()
        labels = self.p.num_of_labels if self.p.use_multiple_label else 1
        length = self.p.new_length[0] if self.p.new_length else 0
        return self._clips(self.p.batch_size, length, self.p.new_height, self.p.new_width, labels)

    def _clips(self, batch: int, length: int, height: int, width: int, labels: int) -> list[PartialShape | None]:
        (images, *_) = self._images(batch, 3, height, width)
        assert images is not None
        label: PartialShape = (images[0],) if labels == 1 else (images[0], labels)
        shapes: list[PartialShape | None] = [(*images[:2], length or None, *images[2:]), label]
        return shapes[: self.context.num_tops]

    def _frames(self) -> list[PartialShape | None]:
        """Return the shape of every segment's frames one after another as channels: 3 of an image, 2 of its flow."""
        kind = self.p.modality or Modality.FLOW
        planes = {Modality.RGB: [3], Modality.FLOW: [2], Modality.BOTH: [3, 2], Modality.VIDEO: [3]}[kind]
        lengths = (self.p.new_length or [1])[: len(planes)]
        if len(lengths) != len(planes):
            self.fail(f"expected {len(planes)} new_length for modality {kind.name}, got {len(lengths)}")
        channels = sum(each * length for each, length in zip(planes, lengths, strict=True))
        images, *_ = self._images(
            self.p.batch_size, channels * (self.p.num_segments or 1), self.p.new_height, self.p.new_width
        )
        return [images, (self.p.batch_size or 1, self.p.num_labels, 1, 1)][: self.context.num_tops]


@layer_type("VideoWithVoxelTruthData")
class VideoWithVoxelTruthData(DataLayer):
    """Clips (N, C, L, H, W) and what is true of every voxel (N, num_truth_channels, L, H, W)

    facebookarchive/C3D ``C3D-v1.0/src/caffe/layers/video_with_voxel_truth_data_layer.cpp``.
    """

    schemas = {"image_data_param": ClipDataParameter}
    tops = (2, 2)

    def declared_shapes(self) -> list[PartialShape | None]:
        images, *_ = self._images(self.p.batch_size, 3, self.p.new_height, self.p.new_width)
        assert images is not None
        return [(*images[:2], self.p.new_length or None, *images[2:]), None]

    def following(self, first: Shape) -> list[PartialShape | None]:
        return [first, (first[0], self.p.num_truth_channels, *first[2:])]


@schema
class SegmentationDataParameter(ImageDataParameter):
    """image_data_param with what DeepLab, PSPNet and HED have added."""

    label_type: Word = Word("PIXEL")
    ignore_label: int = 255
    is_label_color: bool = False
    normalize: bool = False
    num_labels: int = 1


class LabelMaps(DataLayer):
    """Images and a label for each of their pixels."""

    tops = (2, 3)

    def declared_shapes(self) -> list[PartialShape | None]:
        images, *_ = self._images(self.p.batch_size, 3 if self.p.is_color else 1, self.p.new_height, self.p.new_width)
        return [images, *[None] * (self.context.num_tops - 1)]

    def following(self, first: Shape) -> list[PartialShape | None]:
        shapes: list[PartialShape | None] = [first, (first[0], 1, *first[2:]), (first[0], 1, 1, 2)]
        return shapes[: self.context.num_tops]


@layer_type("ImageSegData", "WindowSegData")
class ImageSegData(LabelMaps):
    """Images, the label of every pixel (N, 1, H, W) and, as a third top, the images' own sizes (N, 1, 1, 2)

    DeepLab's ``src/caffe/layers/image_seg_data_layer.cpp`` and ``window_seg_data_layer.cpp`` (iqbalu/DeepLab,
    HyeonwooNoh/caffe).
    """

    schemas = {"image_data_param": SegmentationDataParameter}

    def following(self, first: Shape) -> list[PartialShape | None]:
        shapes = super().following(first)
        if self.p.is_label_color:
            shapes[1] = (first[0], 3, *first[2:])
        return shapes


@layer_type("ImageLabelmapData")
class ImageLabelmapData(LabelMaps):
    """Images and maps of their edges (N, 1, H, W)

    s9xie/hed ``src/caffe/layers/image_labelmap_data_layer.cpp``.
    """

    schemas = {"image_data_param": SegmentationDataParameter}
    tops = (2, 2)


@schema
class DenseImageDataParameter(ImageDataParameter):
    """dense_image_data_param of SegNet and ENet."""

    label_divide_factor: int = 1


@layer_type("DenseImageData")
class DenseImageData(LabelMaps):
    """Images and the label of every pixel (N, 1, H, W), that map label_divide_factor times smaller

    alexgkendall/caffe-segnet ``src/caffe/layers/dense_image_data_layer.cpp``; TimoSaemann/ENet for the factor.
    """

    schemas = {"dense_image_data_param": DenseImageDataParameter}
    tops = (2, 2)

    def following(self, first: Shape) -> list[PartialShape | None]:
        factor = max(self.p.label_divide_factor, 1)
        return [first, (first[0], 1, *(size // factor for size in first[2:]))]


@schema
class DetectionDataParameter:
    source: str = ""
    batch_size: int = 1
    coord_num: int = 4
    stride: list[int] = field(default_factory=list)
    resize_width: int = 0
    resize_height: int = 0
    crop_width: int = 0
    crop_height: int = 0
    short_size: int = 0
    long_size: int = 0
    crop_short_size: int = 0
    crop_long_size: int = 0
    output_gt_boxes: bool = False


GROUND_TRUTH = (1, 8, 1, 1)
"""One box: Caffe sets this shape up, and as many boxes as a batch has come later."""


def _template(parameters: DetectionDataParameter | EvalDataParameter, crop: bool) -> tuple[int, int]:
    """Return (height, width) that the layer is set up with; zeros where its images decide."""
    pairs = [("resize_height", "resize_width"), ("long_size", "short_size")]
    if crop:  # a crop comes last, and so decides
        pairs = [("crop_height", "crop_width"), ("crop_long_size", "crop_short_size"), *pairs]
    sizes = ((getattr(parameters, high), getattr(parameters, wide)) for high, wide in pairs)
    return next((size for size in sizes if all(size)), (0, 0))


@layer_type("DetectionData")
class DetectionData(DataLayer):
    """Images, a map (N, 2 + coord_num, H / stride, W / stride) for each stride and, if wanted, the true boxes

    zhaoweicai/cascade-rcnn ``src/caffe/layers/detection_data_layer.cpp``.
    """

    schemas = {"detection_data_param": DetectionDataParameter}

    def declared_shapes(self) -> list[PartialShape | None]:
        images, *_ = self._images(self.p.batch_size, 3, *_template(self.p, crop=True))
        return [images, *[None] * (self.context.num_tops - 1)]

    def following(self, first: Shape) -> list[PartialShape | None]:
        shapes: list[PartialShape | None] = [first]
        for stride in self.p.stride:
            height, width = (int(size / max(stride, 1) + 0.5) for size in first[-2:])
            shapes.append((first[0], 2 + self.p.coord_num, height, width))
        shapes += [GROUND_TRUTH] * self.p.output_gt_boxes
        if len(shapes) != self.context.num_tops:
            self.fail(f"its text makes {len(shapes)} tops (images, one a stride, boxes), but {self.context.num_tops} "
                      "are named")  # fmt: skip
        return shapes


@schema
class EvalDataParameter:
    source: str = ""
    batch_size: int = 1
    resize_width: int = 0
    resize_height: int = 0
    short_size: int = 0
    long_size: int = 0


@layer_type("EvalData")
class EvalData(DataLayer):
    """Images, the true boxes and, as a third top, the images' own sizes (N, 2, 1, 1)

    zhaoweicai/cascade-rcnn ``src/caffe/layers/eval_data_layer.cpp``.
    """

    schemas = {"eval_data_param": EvalDataParameter}
    tops = (2, 3)

    def declared_shapes(self) -> list[PartialShape | None]:
        images, *_ = self._images(self.p.batch_size, 3, *_template(self.p, crop=False))
        return [images, GROUND_TRUTH, (self.p.batch_size, 2, 1, 1)][: self.context.num_tops]

    def following(self, first: Shape) -> list[PartialShape | None]:
        shapes: list[PartialShape | None] = [first, GROUND_TRUTH, (first[0], 2, 1, 1)]
        return shapes[: self.context.num_tops]
