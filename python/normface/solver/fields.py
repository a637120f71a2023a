"""A solver's settings, with Caffe's names and defaults. Source: BVLC/caffe, caffe.proto's SolverParameter."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from caffeport.operators.base import Phase

TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")


class SolverType(enum.Enum):
    """The old field ``solver_type``; the names are TYPES in capitals."""

    SGD = 0
    NESTEROV = 1
    ADAGRAD = 2
    RMSPROP = 3
    ADADELTA = 4
    ADAM = 5


class SnapshotFormat(enum.Enum):
    HDF5 = 0
    BINARYPROTO = 1


class SolverMode(enum.Enum):
    CPU = 0
    GPU = 1


@dataclass
class NetStateChange:
    """The change that train_state and test_state make to the net's own state; ``phase`` None leaves it."""

    phase: Phase | None = None
    level: int = 0
    stage: list[str] = field(default_factory=list)


@dataclass
class SolverParameter:
    """Caffe's fields. Without a meaning here: layer_wise_reduce, snapshot_diff. solver_mode and device_id count where
    the device is "auto"; None is a text that does not say, for which Caffe takes GPU."""

    net: str = ""
    train_net: str = ""
    test_net: list[str] = field(default_factory=list)
    train_state: NetStateChange = field(default_factory=NetStateChange)
    test_state: list[NetStateChange] = field(default_factory=list)
    test_iter: list[int] = field(default_factory=list)
    test_interval: int = 0
    test_compute_loss: bool = False
    test_initialization: bool = True
    base_lr: float = 0.0
    display: int = 0
    average_loss: int = 1
    max_iter: int = 0
    iter_size: int = 1
    lr_policy: str = ""
    gamma: float = 0.0
    power: float = 0.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    regularization_type: str = "L2"
    stepsize: int = 0
    stepvalue: list[int] = field(default_factory=list)
    clip_gradients: float = -1.0
    snapshot: int = 0
    snapshot_prefix: str = ""
    snapshot_diff: bool = False
    snapshot_format: SnapshotFormat = SnapshotFormat.BINARYPROTO
    solver_mode: SolverMode | None = None
    device_id: int = 0
    random_seed: int = -1
    type: str = ""
    solver_type: SolverType | None = None
    delta: float = 1e-8
    momentum2: float = 0.999
    rms_decay: float = 0.99
    debug_info: bool = False
    snapshot_after_train: bool = True
    layer_wise_reduce: bool = True
    weights: list[str] = field(default_factory=list)
