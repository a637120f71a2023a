"""The fields that caffe.proto gives every net and every layer, whatever its type."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ..formats.prototxt import Message
from ..formats.schema import schema
from ..operators.base import Phase
from ..operators.data import BlobShape


@schema
class NetStateRule:
    phase: Phase | None = None
    min_level: int | None = None
    max_level: int | None = None
    stage: list[str] = field(default_factory=list)
    not_stage: list[str] = field(default_factory=list)

    def met(self, state: NetState) -> bool:
        return (
            (self.phase is None or self.phase is state.phase)
            and (self.min_level is None or state.level >= self.min_level)
            and (self.max_level is None or state.level <= self.max_level)
            and all(stage in state.stage for stage in self.stage)
            and not any(stage in state.stage for stage in self.not_stage)
        )


@schema
class NetState:
    phase: Phase = Phase.TEST
    level: int = 0
    stage: list[str] = field(default_factory=list)


class ShareMode(enum.Enum):
    STRICT = 0
    PERMISSIVE = 1


@schema
class ParamSpec:
    name: str = ""
    share_mode: ShareMode = ShareMode.STRICT
    lr_mult: float | None = None  # Caffe's default is 1; None tells a sharer that has no say
    decay_mult: float | None = None


@schema
class TextBlob:
    """A blob written into the text itself."""

    num: int | None = None
    channels: int | None = None
    height: int | None = None
    width: int | None = None
    shape: BlobShape | None = None
    data: list[float] = field(default_factory=list)


@schema
class NetFields:
    name: str = ""
    force_backward: bool = False
    debug_info: bool = False
    state: NetState = field(default_factory=NetState)


@dataclass  # not a schema, since one a layer is made: methods of its own are faster then
class LayerFields:
    """The fields that every layer has; all others are messages of the layer types."""

    name: str = ""
    type: str = ""
    bottom: list[str] = field(default_factory=list)
    top: list[str] = field(default_factory=list)
    phase: Phase | None = None
    loss_weight: list[float] = field(default_factory=list)
    param: list[ParamSpec] = field(default_factory=list)
    blobs: list[TextBlob] = field(default_factory=list)
    propagate_down: list[bool] = field(default_factory=list)
    include: list[NetStateRule] = field(default_factory=list)
    exclude: list[NetStateRule] = field(default_factory=list)
    loss_param: Message | None = None  # decoded with the layer's own messages, and so is
    transform_param: Message | None = None


GENERIC_FIELDS = frozenset(LayerFields.__dataclass_fields__)
