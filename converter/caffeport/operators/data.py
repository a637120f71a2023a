"""The beginnings and ends of blobs: inputs, data sources, learned blobs without a layer, sinks.

Every data layer's tops become inputs of the net: what it reads from disk is a matter for training.
"""

from __future__ import annotations

import enum
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from ..formats.schema import schema
from .base import BlobSpec, InPlace, NoParameters, Operator, Role, Shape, layer_type, nn
from .fillers import FillerParameter
from .transformation import TransformationParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor

PartialShape = tuple[int | None, ...]


@schema
class BlobShape:
    dim: list[int] = field(default_factory=list)


@schema
class InputParameter:
    shape: list[BlobShape] = field(default_factory=list)


class DataBackend(enum.Enum):
    LEVELDB = 0
    LMDB = 1


@schema
class DataParameter:
    source: str = ""
    batch_size: int = 0
    rand_skip: int = 0
    backend: DataBackend = DataBackend.LEVELDB
    scale: float = 1.0
    mean_file: str = ""
    crop_size: int = 0
    mirror: bool = False
    force_encoded_color: bool = False
    prefetch: int = 10


@schema
class ImageDataParameter:
    source: str = ""
    batch_size: int = 1
    rand_skip: int = 0
    shuffle: bool = False
    new_height: int = 0
    new_width: int = 0
    is_color: bool = True
    root_folder: str = ""


@schema
class WindowDataParameter:
    source: str = ""
    batch_size: int = 0
    fg_threshold: float = 0.5
    bg_threshold: float = 0.5
    fg_fraction: float = 0.25
    context_pad: int = 0
    crop_mode: str = "warp"
    cache_images: bool = False
    root_folder: str = ""


@schema
class HDF5DataParameter:
    source: str = ""
    batch_size: int = 0
    shuffle: bool = False


@schema
class HDF5OutputParameter:
    file_name: str = ""


@schema
class MemoryDataParameter:
    batch_size: int = 0
    channels: int = 0
    height: int = 0
    width: int = 0


@schema
class DummyDataParameter:
    data_filler: list[FillerParameter] = field(default_factory=list)
    shape: list[BlobShape] = field(default_factory=list)
    num: list[int] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    height: list[int] = field(default_factory=list)
    width: list[int] = field(default_factory=list)


@schema
class ParameterParameter:
    shape: BlobShape = field(default_factory=BlobShape)
    blob_filler: FillerParameter = field(default_factory=FillerParameter)


class DataLayer(Operator):
    """A layer whose tops become inputs of the net."""

    role = Role.DATA
    bottoms = (0, 0)
    tops: ClassVar[tuple[int, int | None]] = (1, None)
    soft_labels: ClassVar[bool] = False  # whether forks' labels may be more than BVLC's one number an image

    def whose(self) -> str:
        """Return the words by which a refusal names the layer before it asks for a shape."""
        return ""

    def declared_shapes(self) -> list[PartialShape | None]:
        """Return the shape of every top as far as the text gives it; None where it does not say at all."""
        raise NotImplementedError

    def following(self, first: Shape) -> list[PartialShape | None]:
        """Return the shape of every top where that of the first is known: a label of the same batch has its batch.

        A single image says too little of what else is one.
        """
        own, *others = self.declared_shapes()
        batch = own[0] if own else None
        carried = [
            (*first[:1], *shape[1:]) if shape and shape[0] == batch and (batch != 1 or len(shape) == 1) else shape
            for shape in others
        ]
        return [first, *carried]

    def source(self) -> str:
        """Return the file or database that the layer reads, "" for none."""
        return getattr(self.p, "source", "")

    def _images(self, batch: int, channels: int | None, height: int, width: int) -> list[PartialShape | None]:
        transform = self.context.transform or TransformationParameter()
        own = getattr(self.p, "crop_size", 0)
        height, width = transform.size()[0] or own or height, transform.size()[1] or own or width
        if channels is None and len(transform.mean_value) > 1:
            channels = len(transform.mean_value)
        label: PartialShape = (batch or 1,)
        return [(batch or 1, channels, height or None, width or None), *[label] * (self.context.num_tops - 1)]


@layer_type("Input")
class Input(DataLayer):
    """An input of the net, with its shape"""

    one_batch = False
    schemas = {"input_param": InputParameter}

    def declared_shapes(self) -> list[PartialShape | None]:
        shapes = [tuple(shape.dim) for shape in self.p.shape]
        if len(shapes) == 1:
            shapes *= self.context.num_tops
        if shapes and len(shapes) != self.context.num_tops:
            self.fail(f"{self.context.num_tops} tops need 1 or {self.context.num_tops} shapes, got {len(shapes)}")
        return list(shapes) or [None] * self.context.num_tops


@layer_type("Data")
class Data(DataLayer):
    """Records of an LMDB or LevelDB: images, and labels as a second top"""

    schemas = {"data_param": DataParameter}
    tops = (1, 2)
    soft_labels = True

    def declared_shapes(self) -> list[PartialShape | None]:
        return self._images(self.p.batch_size, None, 0, 0)


@layer_type("ImageData")
class ImageData(DataLayer):
    """Images from a list file, and labels as a second top"""

    schemas = {"image_data_param": ImageDataParameter}
    tops = (1, 2)
    soft_labels = True

    def declared_shapes(self) -> list[PartialShape | None]:
        return self._images(self.p.batch_size, 3 if self.p.is_color else 1, self.p.new_height, self.p.new_width)


@layer_type("WindowData")
class WindowData(DataLayer):
    """Crops of images from a window file, and labels"""

    schemas = {"window_data_param": WindowDataParameter}
    tops = (2, 2)

    def declared_shapes(self) -> list[PartialShape | None]:
        return self._images(self.p.batch_size, 3, 0, 0)


@layer_type("HDF5Data")
class HDF5Data(DataLayer):
    """Blobs from HDF5 files; their shapes have to be given (input_shapes)"""

    schemas = {"hdf5_data_param": HDF5DataParameter}

    def declared_shapes(self) -> list[PartialShape | None]:
        return [None] * self.context.num_tops


@layer_type("MemoryData")
class MemoryData(DataLayer):
    """Images and labels that a program hands over"""

    schemas = {"memory_data_param": MemoryDataParameter}
    tops = (2, 2)

    def declared_shapes(self) -> list[PartialShape | None]:
        return [(self.p.batch_size, self.p.channels, self.p.height, self.p.width), (self.p.batch_size,)]


@layer_type("DummyData")
class DummyData(DataLayer):
    """Made-up blobs; here inputs like any other data layer's"""

    one_batch = False
    schemas = {"dummy_data_param": DummyDataParameter}

    def declared_shapes(self) -> list[PartialShape | None]:
        shapes: list[Shape] = [tuple(shape.dim) for shape in self.p.shape]
        shapes = shapes or list(zip(self.p.num, self.p.channels, self.p.height, self.p.width, strict=False))
        if len(shapes) == 1:
            shapes *= self.context.num_tops
        if len(shapes) != self.context.num_tops:
            self.fail(f"{self.context.num_tops} tops need 1 or {self.context.num_tops} shapes, got {len(shapes)}")
        return list(shapes)


@layer_type("Parameter")
class Parameter(Operator):
    """A learned blob as a top of its own: top = blob."""

    schemas = {"parameter_param": ParameterParameter}
    bottoms = (0, 0)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return [tuple(self.p.shape.dim)]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        return [BlobSpec("weight", tuple(self.p.shape.dim), self.p.blob_filler)]

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Parameter()

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        return g.blob(0)


class Sink(Operator):
    """Reads blobs and makes none."""

    bottoms: ClassVar[tuple[int, int | None]] = (1, None)
    tops = (0, 0)

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        return []

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Silence()

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        return []


@layer_type("Silence")
class Silence(Sink):
    """Reads blobs so that they are no outputs"""

    schemas = {"silence_param": NoParameters}


@layer_type("HDF5Output")
class HDF5Output(Sink):
    """Writes its two bottoms to a file in Caffe; here they only stop being outputs."""

    schemas = {"hdf5_output_param": HDF5OutputParameter}
    bottoms = (2, 2)


@layer_type("Split")
class Split(Operator):
    """The copies that Caffe inserts where several layers read a blob; snapshots' texts may hold them."""

    in_place = InPlace.REFUSED
    tops = (1, None)

    def module(self, bottoms: list[Shape]) -> Any:
        return nn.Split(self.context.num_tops)

    def onnx(self, g: Emitter, *x: Tensor) -> list[Tensor]:
        return [x[0]] * self.context.num_tops
