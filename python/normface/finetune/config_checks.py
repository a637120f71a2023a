"""What does not fit in the settings of a finetuning run, all of it told at once."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

from .. import loss_names
from ..errors import CaffeportError, TrainingError
from . import augmentation, loggers
from .setting_values import flag

_NEEDED = ("net", "weights", "data", "embedding", "out")
_COUNTS = (
    *("per_identity", "identities", "readers", "steps", "batch_size", "accumulate", "devices", "nodes"),
    *("validate_every", "checkpoint_every", "patience", "log_every", "hard_samples"),
)


def problems(config: Any, skip: Collection[str] = ()) -> list[str]:
    """Return what does not fit, in words; settings in ``skip`` have been complained about. Imports no torch."""
    told = [f"{flag(name)} is needed" for name in _NEEDED if not getattr(config, name) and name not in skip]
    told += _missing_paths(config, skip)
    rules: list[tuple[str, bool, str]] = [
        ("val_share", 0 <= config.held_out_share < 1, "a share from 0 to below 1"),
        ("val_far", 0 < config.val_far < 1, "a rate between 0 and 1"),
        ("val_images", not isinstance(config.val_images, int) or config.val_images >= 4, "4 or more"),
        ("val_limit", config.val_limit is None or config.val_limit >= 4, "4 or more"),
        ("epochs", config.epochs > 0, "above 0"),
        ("lr", config.lr > 0, "above 0"),
        ("head_lr_mult", config.head_lr_mult >= 0, "0 or more"),
        ("scale_lr_mult", config.scale_lr_mult >= 0, "0 or more"),
        ("center_lr", config.center_lr >= 0, "0 or more"),
        ("new_lr_mult", config.new_lr_mult >= 0, "0 or more"),
        ("layer_decay", 0 < config.layer_decay <= 1, "above 0 and at most 1"),
        ("momentum", 0 <= config.momentum < 1, "from 0 to below 1"),
        ("weight_decay", config.weight_decay >= 0, "0 or more"),
        ("warmup", config.warmup >= 0, "0 or more"),
        ("margin_warmup", 0 <= config.margin_warmup < math.inf, "0 or more"),
        ("freeze_steps", config.freeze_steps >= 0, "0 or more"),
        ("unfreeze", all(at >= 0 for at in config.unfreeze.values()), "steps of 0 or more"),
        ("milestones", all(at > 0 for at in config.milestones), "numbers above 0"),
        ("gamma", config.gamma > 0, "above 0"),
        ("clip_norm", config.clip_norm is None or config.clip_norm > 0, "above 0"),
        ("ema", config.ema is None or 0 <= config.ema < 1, "from 0 to below 1"),
        ("sample_rate", 0 < config.sample_rate <= 1, "above 0, to 1"),
        ("scale", config.scale is None or config.scale != 0, "another number than 0"),
        *((name, getattr(config, name) is None or getattr(config, name) >= 1, "1 or more") for name in _COUNTS),
        ("new_embedding", not config.new_embedding or bool(config.new_sizes), "sizes with dashes between, as 256-64"),
    ]
    told += [
        f"{flag(name)} {getattr(config, name)}: expected {wanted}"
        for name, fine, wanted in rules
        if not fine and name not in skip
    ]
    return [*told, *_conflicts(config), *_unknown_names(config)]


def _missing_paths(config: Any, skip: Collection[str]) -> list[str]:
    missing = []
    for entry in fields(config):
        value = getattr(config, entry.name)
        kind = entry.metadata["kind"]
        if kind == "path" or (kind == "count or path" and isinstance(value, str)):
            value = [value] if value else []
        elif kind != "paths":
            continue
        if entry.name not in skip:
            missing += [
                f"{flag(entry.name)} {one}: no such file or folder" for one in value or () if not Path(one).exists()
            ]
    return missing


def _conflicts(config: Any) -> list[str]:
    """Return which settings do not go together."""
    told = []
    if (
        config.patience is not None
        and config.val is None
        and not config.held_out_share
        and not config.validates_on_sets
    ):
        told.append("--patience needs people to validate on: --val or --val-share, or sets of pairs")
    if config.freeze_backbone and config.freeze_to:
        told.append("--freeze-backbone is --freeze-to of the --embedding blob; give one of them")
    if config.freeze_backbone and (config.freeze_steps or config.unfreeze) and not config.new_embedding:
        told.append("--freeze-backbone freezes the whole net; leave --freeze-steps and --unfreeze out")
    if config.augment and config.frozen_blob is not None:
        told.append(
            "--augment needs each image's features anew at every step, which --freeze-backbone and --freeze-to compute "
            "once; --freeze-steps freezes the net too, and goes with --augment"
        )
    names_images = isinstance(config.val_images, str)
    for name in ("val_pairs", "val_blufr"):
        if getattr(config, name) and not names_images:
            told.append(f"{flag(name)} needs its images: --val-images IMAGES")
    if names_images and not (config.val_pairs or config.val_blufr):
        told.append("--val-images IMAGES are those of --val-pairs or --val-blufr; give one of them")
    if config.sampling in ("balanced", "pk") and config.per_identity >= 1:
        if (
            config.sampling == "pk"
            and config.identities
            and config.batch_size != config.identities * config.per_identity
        ):
            told.append(batch_of_pk(config.batch_size, config))
        elif config.batch_size % config.per_identity:
            told.append(f"--batch-size {config.batch_size} is no multiple of --per-identity {config.per_identity}")
    if config.identities is not None and config.sampling != "pk":
        told.append("--identities is of --sampling pk")
    if config.class_parallel and config.precision == "16-mixed":
        # Its scaler leaves a step out where gradients overflow, and one rank's rows may where no other's do.
        told.append("--precision 16-mixed does not go with --class-parallel; choose bf16-mixed or 32")
    if 0 < config.sample_rate < 1:
        told += _not_with_sampled_classes(config)
    if config.devices * config.nodes > 0 and config.batch_size % (config.devices * config.nodes):
        told.append(f"--batch-size {config.batch_size} is no multiple of the {config.devices * config.nodes} devices")
    return told


def _not_with_sampled_classes(config: Any) -> list[str]:
    """Return what does not go with --sample-rate below 1."""
    rules: list[tuple[bool, str]] = [
        (not config.class_parallel, "--sample-rate needs --class-parallel, which one device takes too; give both"),
        (config.optimizer != "sgd", f"--sample-rate goes with --optimizer sgd alone, not {config.optimizer}"),
        (config.ema is not None, "--ema averages all class weights at each step; leave it or --sample-rate out"),
        (config.clip_norm is not None, "--clip-norm does not go with --sample-rate; leave one of them out"),
        (config.head_lr_mult == 0, "--head-lr-mult 0 trains no class weights; leave it or --sample-rate out"),
    ]
    return [words for wrong, words in rules if wrong]


def batch_of_pk(batch_size: int, config: Any) -> str:
    """Say that a batch's size is another than P x K."""
    return (
        f"--batch-size {batch_size} is not --identities {config.identities} times --per-identity "
        f"{config.per_identity}; leave it out"
    )


def _unknown_names(config: Any) -> list[str]:
    """Return what is wrong with the texts that name losses, augmentations and loggers."""
    told = []
    for name, read in (
        ("loss", loss_names.parse),
        ("augment", augmentation.parse),
        ("log", loggers.parse),
    ):
        try:
            if getattr(config, name) is not None:
                read(getattr(config, name))
        except TrainingError as error:
            told.append(f"{flag(name)}: {error}")
    return told


def torch_problems(config: Any) -> list[str]:
    """Return what does not fit the losses and this machine, for which torch is imported, some seconds."""
    return _loss_problems(config) + _machine_problems(config)


def _loss_problems(config: Any) -> list[str]:
    """Return what keeps the loss from being made; the number of classes is known only once the images are."""
    import torch

    from .. import losses
    from ..losses.sums import plain_losses
    from ..parallel.row_keeper import check_rows

    try:
        with torch.random.fork_rng(devices=[]):
            loss = losses.make(config.loss, 100_000, 2, **config.loss_options)
        if config.sample_rate < 1:
            check_rows(plain_losses(loss), "--sample-rate")
    except CaffeportError as error:
        return [f"--loss: {error}"]
    except (TypeError, ValueError) as error:
        return [f"--loss-options: {error}"]
    if config.precision == "16-mixed" and any(
        getattr(m, "center_step", "") in ("paper", "fork") for m in loss.modules()
    ):
        # The gradient is divided by the scaler's factor, which these centers' step never had.
        return ["--precision 16-mixed does not go with the center loss's own step; choose bf16-mixed or 32"]
    told = []
    if loss.reduction != "mean":
        told.append(f"--loss-option reduction={loss.reduction}: a training takes the mean; leave it out")
    if config.margin_warmup > 0 and "margin_warmup" in config.loss_options:
        told.append("--margin-warmup and --loss-option margin_warmup say the same; give one of them")
    elif config.margin_warmup > 0 and not losses.warmups(loss):
        told.append(
            f"--margin-warmup: {config.loss} has no margin that could come from 0 "
            "(that of sphereface and large-margin-softmax comes by lambda: --loss-option base=... gamma=...)"
        )
    return told


def _machine_problems(config: Any) -> list[str]:
    import torch

    told = []
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        told.append("--device cuda: this PyTorch finds no CUDA device; leave --device out or choose cpu")
    if config.precision == "16-mixed" and (config.device == "cpu" or not has_cuda):
        told.append("--precision 16-mixed needs a CUDA device; on the CPU choose bf16-mixed or 32")
    return told
