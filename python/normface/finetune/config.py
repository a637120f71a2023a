"""The settings of a finetuning run: one dataclass, of which the flags, config.toml and every check are made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from operator import attrgetter
from typing import Any, TypeVar

from ..errors import TrainingError, did_you_mean
from ..preprocessing import FITS, PRESETS
from . import config_checks
from .setting_values import READERS, flag

Settings = TypeVar("Settings")
_BATCH, _VAL_IMAGES = 64, 2000
PRECISIONS = ("32", "bf16-mixed", "16-mixed")


def _setting(kind: str, default: Any, group: str, text: str, **more: Any) -> Any:
    metadata = {"kind": kind, "group": group, "help": text, **more}
    if kind in ("table", "steps of blobs"):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


EARLIER_NAMES = {"on_bad_picture": "on_bad_image", "val_pictures": "val_images"}
"""{name of a setting in earlier versions: today's}; flags, TOML keys, keywords and attributes have both."""


def _with_earlier_names(settings: type[Settings]) -> type[Settings]:
    """Class decorator: take the earlier names as keywords, and read them as attributes."""
    start = settings.__init__

    @wraps(start)
    def __init__(self: Any, *values: Any, **options: Any) -> None:
        start(self, *values, **{EARLIER_NAMES.get(name, name): value for name, value in options.items()})

    settings.__init__ = __init__  # type: ignore[method-assign]
    for earlier, name in EARLIER_NAMES.items():
        setattr(settings, earlier, property(attrgetter(name)))
    return settings


@_with_earlier_names
@dataclass(frozen=True)
class Config:
    """Every setting of a run. Flags are these names with dashes, TOML keys are these names.

    A number below 1 for ``warmup``, ``margin_warmup`` and ``milestones`` is a share of the run, else a count of steps.
    A step is one update of the weights, from ``accumulate`` batches.
    """

    net: str = _setting("path", "", "model", "the net's text: deploy or train_test prototxt", metavar="NET")
    weights: str = _setting("path", "", "model", "its .caffemodel", metavar="WEIGHTS")
    embedding: str = _setting("text", "", "model", "blob of the feature; the net is cut there", metavar="BLOB")
    layers: str | None = _setting("path", None, "model", "Python file with operators of your own", metavar="MY.py")
    new_embedding: str | None = _setting(
        "text", None, "model", "new layers behind it: 256-64 is InnerProduct, PReLU, InnerProduct", metavar="SIZES"
    )
    freeze_backbone: bool = _setting("flag", False, "model", "train only what follows --embedding; features are kept")
    freeze_to: str | None = _setting(
        "text", None, "model", "freeze the net up to this blob, whose features are computed once", metavar="BLOB"
    )
    freeze_steps: float = _setting(
        "number", 0.0, "model", "train only the head and new layers at first: a share of the run, or steps from 1 on"
    )
    unfreeze: Mapping[str, float] = _setting(
        "steps of blobs",
        {},
        "model",
        "the net up to BLOB trains from this share or step on (repeatable)",
        metavar="BLOB=STEP",
    )
    feature_cache: str | None = _setting(
        "folder", None, "model", "folder that keeps the frozen part's features for other runs", metavar="DIR"
    )
    batch_norm: str = _setting(
        "choice", "frozen", "model", "BatchNorm's statistics: as loaded, or trained on", choices=("frozen", "train")
    )
    head: str | None = _setting("path", None, "model", "start from the head.safetensors of an earlier run", metavar="F")
    head_init: str = _setting(
        "choice",
        "class-means",
        "model",
        "start of the class weights: each class's mean feature, or random",
        choices=("class-means", "random"),
    )
    head_init_images: int | None = _setting(
        "count",
        None,
        "model",
        "images of each class whose mean its weight starts from, at most; 0 takes all (default all, and 16 where there "
        "are more than 100000 images)",
    )

    data: str = _setting(
        "path",
        "",
        "data",
        "folder an identity, list file, LMDB, .zip of folders, .rec, .tar, .parquet, or shards",
        metavar="DATA",
    )
    root: str | None = _setting("path", None, "data", "folder that a list file's paths start from", metavar="DIR")
    val: str | None = _setting("path", None, "data", "other images to validate on, of other people", metavar="DATA")
    val_root: str | None = _setting("path", None, "data", "the same as --root, of --val", metavar="DIR")
    val_share: float | None = _setting(
        "number", None, "data", "share of the identities held out to validate on (default 0.1; 0 with the sets below)"
    )
    val_bin: tuple[str, ...] | None = _setting(
        "paths", None, "data", "validate on InsightFace's sets: lfw.bin cfp_fp.bin agedb_30.bin", metavar="SET.bin"
    )
    val_pairs: str | None = _setting(
        "path", None, "data", "validate on a list of pairs of --val-images: LFW's pairs.txt, or your own", metavar="F"
    )
    val_blufr: str | None = _setting(
        "path", None, "data", "validate by BLUFR's blufr_lfw_config.mat on --val-images, LFW's", metavar="F.mat"
    )
    val_images: int | str = _setting(
        "count or path",
        _VAL_IMAGES,
        "data",
        "folder or zip of the images of --val-pairs and --val-blufr; a number is --val-limit",
        metavar="IMAGES",
    )
    val_limit: int | None = _setting(
        "count", None, "data", "most images of held-out people; all their pairs are compared (2000)"
    )
    val_far: float = _setting("number", 1e-3, "data", "false accept rate at which true accepts are counted")
    test: str | None = _setting(
        "path", None, "data", "images of yet other people, to measure the exported model on once", metavar="DATA"
    )
    test_root: str | None = _setting("path", None, "data", "the same as --root, of --test", metavar="DIR")
    on_bad_image: str = _setting(
        "choice", "stop", "data", "an unreadable image ends the run, or is left out", choices=("stop", "skip")
    )
    mirror: bool = _setting("flag", True, "data", "mirror every other image at random")
    sampling: str = _setting(
        "choice",
        "plain",
        "data",
        "every image equally often, or every identity; pk: batches of P identities with K images each",
        choices=("plain", "balanced", "pk"),
    )
    per_identity: int = _setting("count", 2, "data", "images of an identity in a balanced or pk batch", metavar="K")
    identities: int | None = _setting(
        "count", None, "data", "identities of a pk batch, which has P times K images (--batch-size / K)", metavar="P"
    )
    shard_window: int = _setting(
        "count", 16, "data", "shards (.tar, .rec) or row groups (.parquet) whose images are mixed at a time; 0 is all"
    )
    augment: str | None = _setting(
        "text",
        None,
        "data",
        "change images at random: face, or a list such as crop,color:0.5,jpeg (each with its probability)",
        metavar="WHAT",
    )
    readers: int = _setting("count", 2, "data", "threads that read images")

    preset: str | None = _setting(
        "choice",
        None,
        "preprocessing",
        "of a published net; the flags below replace parts of it",
        choices=tuple(PRESETS),
    )
    mean: tuple[float, ...] | None = _setting("numbers", None, "preprocessing", "one number, or one a channel")
    scale: float | None = _setting("number", None, "preprocessing", "factor after the mean")
    rgb: bool | None = _setting("flag", None, "preprocessing", "the net takes RGB, not BGR")
    fit: str | None = _setting(
        "choice", None, "preprocessing", "an image of another size: refuse, black borders, resize", choices=FITS
    )

    loss: str = _setting(
        "text", "normalized-softmax", "loss", "one loss, or a sum: softmax+0.01*c-contrastive", metavar="LOSS"
    )
    loss_options: Mapping[str, Any] = _setting(
        "table", {}, "loss", "an option of the loss, KEY=VALUE (repeatable): margin=0.35", metavar="KEY=VALUE"
    )
    margin_warmup: float = _setting(
        "number", 0.0, "loss", "start over which the loss's margin comes from 0: a share of the run, or steps from 1 on"
    )

    epochs: float = _setting("number", 10.0, "training", "passes over the data")
    steps: int | None = _setting("count", None, "training", "updates of the weights, instead of --epochs")
    batch_size: int = _setting("count", _BATCH, "training", "images of a batch, over all devices")
    accumulate: int = _setting("count", 1, "training", "batches whose gradients make one step")
    optimizer: str = _setting("choice", "sgd", "training", "SGD with momentum, or AdamW", choices=("sgd", "adamw"))
    lr: float = _setting("number", 1e-3, "training", "learning rate of the net")
    head_lr_mult: float = _setting("number", 10.0, "training", "times --lr: the class weights' learning rate")
    scale_lr_mult: float = _setting("number", 10.0, "training", "times --lr: that of a learned scale")
    center_lr: float = _setting("number", 0.5, "training", "constant learning rate of the center loss's centers (SGD)")
    new_lr_mult: float = _setting("number", 1.0, "training", "times --lr: that of --new-embedding's layers")
    layer_decay: float = _setting(
        "number", 1.0, "training", "times --lr for each layer with weights between a layer and the embedding"
    )
    net_multipliers: bool = _setting("flag", True, "training", "keep to lr_mult and decay_mult of the net's text")
    momentum: float = _setting("number", 0.9, "training", "of SGD; beta1 of AdamW")
    weight_decay: float = _setting("number", 5e-4, "training", "L2 of SGD, decoupled in AdamW; never on a scale")
    schedule: str = _setting(
        "choice", "cosine", "training", "learning rate over time", choices=("cosine", "step", "constant")
    )
    warmup: float = _setting("number", 0.05, "training", "linear start: a share of the run, or steps from 1 on")
    milestones: tuple[float, ...] = _setting(
        "numbers", (0.5, 0.75), "training", "where schedule step lowers the rate: shares of the run, or steps"
    )
    gamma: float = _setting("number", 0.1, "training", "factor at a milestone")
    clip_norm: float | None = _setting("number", None, "training", "largest norm of the gradient")
    ema: float | None = _setting(
        "number",
        None,
        "training",
        "average the weights with this decay (0.99); validated and exported is the average",
        metavar="DECAY",
    )
    seed: int = _setting("count", 0, "training", "of everything random")

    precision: str = _setting("choice", "32", "machine", "of the arithmetic", choices=PRECISIONS)
    device: str = _setting("choice", "auto", "machine", "where it runs", choices=("auto", "cpu", "cuda"))
    devices: int = _setting("count", 1, "machine", "of that kind in this machine")
    nodes: int = _setting("count", 1, "machine", "machines, all started with this command")
    class_parallel: bool = _setting(
        "flag", False, "machine", "share the class weights among the devices, each of which has rows of its own"
    )
    sample_rate: float = _setting(
        "number",
        1.0,
        "machine",
        "with --class-parallel: share of a device's classes that a step looks at, its images' own and others by chance",
        metavar="R",
    )

    validate_every: int | None = _setting("count", None, "records", "steps between validations (one epoch)")
    checkpoint_every: int | None = _setting("count", None, "records", "steps between checkpoints (as validations)")
    patience: int | None = _setting("count", None, "records", "stop after so many validations without a better one")
    log_every: int = _setting("count", 10, "records", "steps between lines of metrics.csv")
    tensorboard: bool = _setting("flag", True, "records", "write TensorBoard's files, where it is installed")
    log: str | None = _setting(
        "text", None, "records", "log to these too: wandb, mlflow, tensorboard, with commas between", metavar="WHERE"
    )
    hard_samples: int | None = _setting(
        "count", None, "records", "list the N training images least like their own identity, with a contact sheet"
    )
    figure: bool = _setting("flag", True, "records", "draw curves.png, where matplotlib is installed")

    out: str = _setting("folder", "", "output", "folder for all that is written", metavar="DIR")
    normalize: bool = _setting("flag", False, "output", "the exported nets end with the feature at unit length")

    @classmethod
    def from_settings(cls, given: Mapping[str, Any]) -> Config:
        """Read flags (text) or TOML (typed). Raises TrainingError that lists every problem at once."""
        known = {entry.name: entry for entry in fields(cls)}
        values: dict[str, Any] = {}
        problems: list[str] = []
        for key, raw in given.items():
            name = _name_of(key)
            if name not in known:
                problems.append(f'"{key}" is no setting{did_you_mean(name, known)}')
            elif raw is not None:
                try:
                    values[name] = READERS[known[name].metadata["kind"]](raw, known[name].metadata)
                except ValueError as error:
                    problems.append(f"{flag(name)}: {error}")
        config = cls(**values)
        asked = values.get("batch_size", config.batch_size)
        if asked != config.batch_size:
            problems.append(config_checks.batch_of_pk(asked, config))
        problems += config.problems(skip={_name_of(key) for key in given} - set(values))
        _complain(problems or config.torch_problems())
        return config

    def check(self) -> None:
        """Raise TrainingError that lists every problem at once."""
        _complain(self.problems() or self.torch_problems())

    def as_read(self) -> Config:
        """Return the same settings as flags or a file would give them: paths as text, numbers of the right kind.

        Raises TrainingError that lists every problem at once.
        """
        defaults = {entry.name: getattr(Config(), entry.name) for entry in fields(self)}
        return Config.from_settings({name: one for name, one in self.settings().items() if one != defaults[name]})

    def settings(self) -> dict[str, Any]:
        """Return {name: value} of all that is set, in the order of the fields."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def problems(self, skip: Collection[str] = ()) -> list[str]:
        """Return what does not fit, in words; settings in ``skip`` have been complained about. Imports no torch."""
        return config_checks.problems(self, skip)

    def torch_problems(self) -> list[str]:
        """Return what does not fit the losses and this machine, for which torch is imported, some seconds."""
        return config_checks.torch_problems(self)

    def __post_init__(self) -> None:
        if self.sampling == "pk" and self.identities and self.batch_size == _BATCH:
            object.__setattr__(self, "batch_size", self.identities * self.per_identity)

    @property
    def most_val_images(self) -> int:
        """At most about so many images of held-out people, or of ``test``, are compared."""
        if self.val_limit is not None:
            return self.val_limit
        return self.val_images if isinstance(self.val_images, int) else _VAL_IMAGES

    @property
    def validates_on_sets(self) -> bool:
        """Return whether it validates on InsightFace's sets, on pairs or on BLUFR, beside or in place of people."""
        return bool(self.val_bin or self.val_pairs or self.val_blufr)

    @property
    def held_out_share(self) -> float:
        """The share of identities that is held out: ``val_share``, or without one a tenth, but none beside sets."""
        if self.val_share is not None:
            return self.val_share
        return 0.0 if self.validates_on_sets else 0.1

    @property
    def new_sizes(self) -> list[int]:
        """Return the sizes of the new layers; empty where there are none, or where the text is no list of sizes."""
        parts = (self.new_embedding or "").split("-")
        return [int(part) for part in parts] if all(p.isdigit() and int(p) > 0 for p in parts) else []

    @property
    def frozen_blob(self) -> str | None:
        """Return the blob up to which the net is frozen; None where all of it is trained."""
        return self.embedding if self.freeze_backbone else self.freeze_to


def _complain(problems: list[str]) -> None:
    if problems:
        count = f"{len(problems)} problems: " if len(problems) > 1 else ""
        raise TrainingError(count + "; ".join(problems))


def _name_of(key: str) -> str:
    """The setting that a flag or a TOML key of this or an earlier version means."""
    name = key.replace("-", "_")
    return EARLIER_NAMES.get(name, name)
