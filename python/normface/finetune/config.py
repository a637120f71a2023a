"""The settings of a finetuning run: one dataclass, of which the flags, config.toml and every check are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from .. import loss_names
from ..errors import CaffeportError, TrainingError, did_you_mean
from ..preprocessing import FITS, PRESETS

Settings = TypeVar("Settings")
PRECISIONS = ("32", "bf16-mixed", "16-mixed")


def _setting(kind: str, default: Any, group: str, text: str, **more: Any) -> Any:
    metadata = {"kind": kind, "group": group, "help": text, **more}
    if kind == "table":
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

    data: str = _setting(
        "path", "", "data", "folder an identity, list file, LMDB, .rec or .zip of folders", metavar="DATA"
    )
    root: str | None = _setting("path", None, "data", "folder that a list file's paths start from", metavar="DIR")
    val: str | None = _setting("path", None, "data", "other images to validate on, of other people", metavar="DATA")
    val_root: str | None = _setting("path", None, "data", "the same as --root, of --val", metavar="DIR")
    val_share: float = _setting("number", 0.1, "data", "share of the identities held out to validate on, 0: none")
    val_images: int = _setting("count", 2000, "data", "most images to validate on; all their pairs are compared")
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
        "choice", "plain", "data", "every image equally often, or every identity", choices=("plain", "balanced")
    )
    per_identity: int = _setting("count", 2, "data", "images of an identity in a balanced batch", metavar="K")
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
    batch_size: int = _setting("count", 64, "training", "images of a batch, over all devices")
    accumulate: int = _setting("count", 1, "training", "batches whose gradients make one step")
    optimizer: str = _setting("choice", "sgd", "training", "SGD with momentum, or AdamW", choices=("sgd", "adamw"))
    lr: float = _setting("number", 1e-3, "training", "learning rate of the net")
    head_lr_mult: float = _setting("number", 10.0, "training", "times --lr: the class weights' learning rate")
    scale_lr_mult: float = _setting("number", 10.0, "training", "times --lr: that of a learned scale")
    center_lr: float = _setting("number", 0.5, "training", "constant learning rate of the center loss's centers (SGD)")
    new_lr_mult: float = _setting("number", 1.0, "training", "times --lr: that of --new-embedding's layers")
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
    seed: int = _setting("count", 0, "training", "of everything random")

    precision: str = _setting("choice", "32", "machine", "of the arithmetic", choices=PRECISIONS)
    device: str = _setting("choice", "auto", "machine", "where it runs", choices=("auto", "cpu", "cuda"))
    devices: int = _setting("count", 1, "machine", "of that kind in this machine")
    nodes: int = _setting("count", 1, "machine", "machines, all started with this command")

    validate_every: int | None = _setting("count", None, "records", "steps between validations (one epoch)")
    checkpoint_every: int | None = _setting("count", None, "records", "steps between checkpoints (as validations)")
    patience: int | None = _setting("count", None, "records", "stop after so many validations without a better one")
    log_every: int = _setting("count", 10, "records", "steps between lines of metrics.csv")
    tensorboard: bool = _setting("flag", True, "records", "write TensorBoard's files, where it is installed")
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
                    values[name] = _READERS[known[name].metadata["kind"]](raw, known[name].metadata)
                except ValueError as error:
                    problems.append(f"{flag(name)}: {error}")
        config = cls(**values)
        problems += config.problems(skip={_name_of(key) for key in given} - set(values))
        _complain(problems or config.torch_problems())
        return config

    def check(self) -> None:
        """Raises TrainingError that lists every problem at once."""
        _complain(self.problems() or self.torch_problems())

    def as_read(self) -> Config:
        """The same settings as flags or a file would give them: paths as text, numbers of the right kind, tuples.

        Raises TrainingError that lists every problem at once.
        """
        defaults = {entry.name: getattr(Config(), entry.name) for entry in fields(self)}
        return Config.from_settings({name: one for name, one in self.settings().items() if one != defaults[name]})

    def settings(self) -> dict[str, Any]:
        """{name: value} of all that is set, in the order of the fields."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def problems(self, skip: Collection[str] = ()) -> list[str]:
        """Return what does not fit, in words; settings in ``skip`` have been complained about. Imports no torch."""
        problems = [f"{flag(name)} is needed" for name in _NEEDED if not getattr(self, name) and name not in skip]
        for entry in fields(self):
            value = getattr(self, entry.name)
            is_path = entry.metadata["kind"] == "path"
            if is_path and value and entry.name not in skip and not Path(value).exists():
                problems.append(f"{flag(entry.name)} {value}: no such file or folder")
        rules: list[tuple[str, bool, str]] = [
            ("val_share", 0 <= self.val_share < 1, "a share from 0 to below 1"),
            ("val_far", 0 < self.val_far < 1, "a rate between 0 and 1"),
            ("val_images", self.val_images >= 4, "4 or more"),
            ("epochs", self.epochs > 0, "above 0"),
            ("lr", self.lr > 0, "above 0"),
            ("head_lr_mult", self.head_lr_mult >= 0, "0 or more"),
            ("scale_lr_mult", self.scale_lr_mult >= 0, "0 or more"),
            ("center_lr", self.center_lr >= 0, "0 or more"),
            ("new_lr_mult", self.new_lr_mult >= 0, "0 or more"),
            ("momentum", 0 <= self.momentum < 1, "from 0 to below 1"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("warmup", self.warmup >= 0, "0 or more"),
            ("margin_warmup", 0 <= self.margin_warmup < math.inf, "0 or more"),
            ("milestones", all(at > 0 for at in self.milestones), "numbers above 0"),
            ("gamma", self.gamma > 0, "above 0"),
            ("clip_norm", self.clip_norm is None or self.clip_norm > 0, "above 0"),
            ("scale", self.scale is None or self.scale != 0, "another number than 0"),
            *((name, getattr(self, name) is None or getattr(self, name) >= 1, "1 or more") for name in _COUNTS),
            ("new_embedding", not self.new_embedding or bool(self.new_sizes), "sizes with dashes between, as 256-64"),
        ]
        problems += [
            f"{flag(name)} {getattr(self, name)}: expected {wanted}"
            for name, fine, wanted in rules
            if not fine and name not in skip
        ]
        if self.patience is not None and self.val is None and self.val_share == 0:
            problems.append("--patience needs people to validate on: --val or --val-share")
        if self.freeze_backbone and self.freeze_to:
            problems.append("--freeze-backbone is --freeze-to of the --embedding blob; give one of them")
        if self.sampling == "balanced" and self.per_identity >= 1 and self.batch_size % self.per_identity:
            problems.append(f"--batch-size {self.batch_size} is no multiple of --per-identity {self.per_identity}")
        if self.devices * self.nodes > 0 and self.batch_size % (self.devices * self.nodes):
            problems.append(f"--batch-size {self.batch_size} is no multiple of the {self.devices * self.nodes} devices")
        try:
            loss_names.parse(self.loss)
        except TrainingError as error:
            problems.append(f"--loss: {error}")
        return problems

    def torch_problems(self) -> list[str]:
        """Return what does not fit the losses and this machine, for which torch is imported, some seconds."""
        return self._loss_problems() + self._machine_problems()

    def _loss_problems(self) -> list[str]:
        """Return what keeps the loss from being made; the number of classes is known only once the images are."""
        import torch

        from .. import losses

        try:
            with torch.random.fork_rng(devices=[]):
                loss = losses.make(self.loss, 100_000, 2, **self.loss_options)
        except CaffeportError as error:
            return [f"--loss: {error}"]
        except (TypeError, ValueError) as error:
            return [f"--loss-options: {error}"]
        if self.precision == "16-mixed" and any(
            getattr(m, "center_step", "") in ("paper", "fork") for m in loss.modules()
        ):
            # The gradient is divided by the scaler's factor, which these centers' step never had.
            return ["--precision 16-mixed does not go with the center loss's own step; choose bf16-mixed or 32"]
        problems = []
        if loss.reduction != "mean":
            problems.append(f"--loss-option reduction={loss.reduction}: a training takes the mean; leave it out")
        if self.margin_warmup > 0 and "margin_warmup" in self.loss_options:
            problems.append("--margin-warmup and --loss-option margin_warmup say the same; give one of them")
        elif self.margin_warmup > 0 and not losses.warmups(loss):
            problems.append(
                f"--margin-warmup: {self.loss} has no margin that could come from 0 "
                "(that of sphereface and large-margin-softmax comes by lambda: --loss-option base=... gamma=...)"
            )
        return problems

    def _machine_problems(self) -> list[str]:
        import torch

        problems = []
        has_cuda = torch.cuda.is_available()
        if self.device == "cuda" and not has_cuda:
            problems.append("--device cuda: this PyTorch finds no CUDA device; leave --device out or choose cpu")
        if self.precision == "16-mixed" and (self.device == "cpu" or not has_cuda):
            problems.append("--precision 16-mixed needs a CUDA device; on the CPU choose bf16-mixed or 32")
        return problems

    @property
    def new_sizes(self) -> list[int]:
        """The sizes of the new layers; empty where there are none, or where the text is no list of sizes."""
        parts = (self.new_embedding or "").split("-")
        return [int(part) for part in parts] if all(p.isdigit() and int(p) > 0 for p in parts) else []

    @property
    def frozen_blob(self) -> str | None:
        return self.embedding if self.freeze_backbone else self.freeze_to


_NEEDED = ("net", "weights", "data", "embedding", "out")
_COUNTS = (
    *("per_identity", "readers", "steps", "batch_size", "accumulate", "devices", "nodes"),
    *("validate_every", "checkpoint_every", "patience", "log_every"),
)


def _complain(problems: list[str]) -> None:
    if problems:
        count = f"{len(problems)} problems: " if len(problems) > 1 else ""
        raise TrainingError(count + "; ".join(problems))


def _name_of(key: str) -> str:
    """The setting that a flag or a TOML key of this or an earlier version means."""
    name = key.replace("-", "_")
    return EARLIER_NAMES.get(name, name)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read_text(raw: Any, about: Mapping[str, Any]) -> str:
    if isinstance(raw, (list, tuple)) and len(raw) == 1:
        (raw,) = raw
    if not isinstance(raw, (str, Path)) or not str(raw):
        raise ValueError(f"expected text, got {raw!r}")
    return str(raw)


def _read_choice(raw: Any, about: Mapping[str, Any]) -> str:
    choices = about["choices"]
    text = str(raw)  # TOML's precision = 32 is a number
    if text not in choices:
        raise ValueError(f'"{raw}" is unknown{did_you_mean(text, choices)}; expected {", ".join(choices)}')
    return text


def _read_number(raw: Any, about: Mapping[str, Any]) -> float:
    try:
        number = float(raw) if not isinstance(raw, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a number, got {raw!r}")
    return number


def _read_count(raw: Any, about: Mapping[str, Any]) -> int:
    try:
        number = int(raw) if isinstance(raw, (int, str)) and not isinstance(raw, bool) else _read_number(raw, about)
    except ValueError:
        number = _read_number(raw, about)  # 1e3
    if number != int(number) or number < 0 or number >= 2**63:
        raise ValueError(f"expected a whole number, got {raw!r}")
    return int(number)


def _read_numbers(raw: Any, about: Mapping[str, Any]) -> tuple[float, ...]:
    parts = raw if isinstance(raw, (list, tuple)) else [raw]
    words = [word for part in parts for word in (part.split(",") if isinstance(part, str) else [part]) if word != ""]
    if not words:
        raise ValueError("expected one number or more")
    return tuple(_read_number(word, about) for word in words)


def _read_flag(raw: Any, about: Mapping[str, Any]) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"expected true or false, got {raw!r}")
    return raw


def _read_table(raw: Any, about: Mapping[str, Any]) -> dict[str, Any]:
    """{option: value} from a TOML table or from words KEY=VALUE."""
    if isinstance(raw, Mapping):
        return dict(raw)
    table: dict[str, Any] = {}
    for word in raw if isinstance(raw, (list, tuple)) else [raw]:
        key, equals, value = str(word).partition("=")
        if not key or not equals or not value:
            raise ValueError(f"expected KEY=VALUE, got {word!r}")
        table[key.replace("-", "_")] = _literal(value)
    return table


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


_READERS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "path": _read_text,
    "folder": _read_text,
    "text": _read_text,
    "choice": _read_choice,
    "number": _read_number,
    "count": _read_count,
    "numbers": _read_numbers,
    "flag": _read_flag,
    "table": _read_table,
}
