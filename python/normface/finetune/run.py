"""All that a run needs, from its settings: images split into people, net, loss, sources. Nothing is written yet."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import losses
from ..data import Reader, open_reader
from ..errors import DataError, NormfaceWarning
from ..losses.class_shard import ClassShard
from ..parallel import ClassParallel
from . import backbone as backbones
from . import validation_sets
from .augmentation import Augmentation
from .backbone import Backbone, Trunk
from .config import Config
from .feeding import ImageSource, Source
from .frozen import frozen_source
from .known_images import warn_of_known
from .sampling import Sampler, fewer, hold_out, units_of
from .schedule import in_steps
from .unfreezing import check_blobs
from .unseen import Unseen
from .validation import Validation
from .validation_sets import ValidationSet


@dataclass
class Run:
    """A net and what it trains on.

    labels (N,): of the training images, 0 to C-1; source: feeds them. sampled: what chooses the classes of a step;
    None where all classes have scores.
    """

    config: Config
    images: Reader
    backbone: Backbone
    trunk: Trunk
    frozen: Trunk | None
    loss: nn.Module
    sampled: ClassParallel | None
    source: Source
    labels: np.ndarray
    image_source: ImageSource
    sampler: Sampler
    validation: Validation | None
    sets: list[ValidationSet]
    validation_source: ImageSource | None
    unseen: Unseen | None

    @property
    def validates(self) -> bool:
        return self.validation is not None or bool(self.sets)

    @property
    def steps(self) -> int:
        if self.config.steps is not None:
            return self.config.steps
        return max(1, round(self.config.epochs * self.steps_per_epoch))

    @property
    def steps_per_epoch(self) -> float:
        return self.sampler.batches_per_epoch / self.config.accumulate

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1

    def restart_warmups(self) -> None:
        """Let the loss's margins come in over --margin-warmup, from the next step on."""
        if self.config.margin_warmup:
            passes = in_steps(self.config.margin_warmup, self.steps) * self.config.accumulate
            for warmup in losses.warmups(self.loss):
                warmup.restart(passes)


def prepare(config: Config, fabric: Any) -> Run:
    """Open and build everything. Raises one-line errors for all that cannot be trained on.

    The class weights are as their loss makes them: head_start starts them, or a checkpoint brings them.
    """
    backbone = backbones.load(config)
    check_blobs(config, backbone)
    color = backbone.channels == 3
    images = open_reader(config.data, root=config.root, color=color)
    stored_labels = _labels_of(images)
    training, held_out = np.arange(len(images)), np.empty(0, np.int64)
    if config.val is None:
        training, held_out = hold_out(stored_labels, config.held_out_share, config.seed)
    labels = np.unique(stored_labels[training], return_inverse=True)[1].reshape(-1)
    _look_at(config, images, labels, len(held_out))
    augmentation = Augmentation(config.augment) if config.augment is not None else None
    image_source = ImageSource(images, backbone, config.on_bad_image, training, augmentation=augmentation)
    torch.manual_seed(config.seed)  # of the loss's class weights, and of Dropout from then on
    classes = int(labels.max()) + 1
    rate = config.sample_rate
    shard = ClassShard(classes) if config.class_parallel and (fabric.world_size > 1 or rate < 1) else None
    loss = losses.make(config.loss, classes, backbone.width, **{**config.loss_options, "shard": shard})
    sampled = ClassParallel(loss, sample_rate=rate, sample_seed=config.seed) if rate < 1 else None
    trunk = backbone.trunk(config.batch_norm).to(fabric.device)
    frozen = backbone.frozen_module()
    source, validation_source, validation, sets = _sources(config, backbone, frozen, image_source, held_out, fabric)
    sampler = Sampler(
        labels,
        config.batch_size,
        seed=config.seed,
        mirror=config.mirror,
        balanced=config.sampling in ("balanced", "pk"),
        per_identity=config.per_identity,
        augment=augmentation is not None,
        units=units_of(images.units, training),
        window=config.shard_window,
    )
    run = Run(
        config=config,
        images=images,
        backbone=backbone,
        trunk=trunk,
        frozen=frozen,
        loss=loss.to(fabric.device),
        sampled=sampled,
        source=source,
        labels=labels,
        image_source=image_source,
        sampler=sampler,
        validation=validation,
        sets=sets,
        validation_source=validation_source,
        unseen=Unseen.opened(config, backbone) if config.test is not None else None,
    )
    if run.unseen is not None:
        known = [("trained on", images)]
        if config.val is not None and validation_source is not None:
            known.append(("validated on", validation_source.images))
        for use, others in known:
            warn_of_known("--test", run.unseen.source.images, others, use)
    run.restart_warmups()  # a checkpoint brings how far they are
    return run


def _labels_of(images: Reader) -> np.ndarray:
    if images.labels is None:
        raise DataError(
            f"{images.path}: has no labels; expected a folder for each identity, or a list file with labels"
        )
    return images.labels


def _look_at(config: Config, images: Reader, labels: np.ndarray, held_out: int) -> None:
    counts = np.bincount(labels)
    if len(counts) < 2:
        raise DataError(
            f"{images.path}: {len(images)} images of {len(images.identities)} identity; "
            "training tells people apart, so it needs two at least"
        )
    single = int(np.count_nonzero(counts == 1))
    if single:
        stored_labels = _labels_of(images)
        first = images.identities[int(stored_labels[_first_of_single(stored_labels)])]
        warnings.warn(
            f"{single} of {len(counts)} identities have one image only, such as {first}; they train all the same",
            NormfaceWarning,
            stacklevel=3,
        )
    if len(labels) < config.batch_size:
        warnings.warn(
            f"{len(labels)} images to train on are fewer than a batch of {config.batch_size}: "
            "some come more than once in it",
            NormfaceWarning,
            stacklevel=3,
        )
    if config.sampling in ("balanced", "pk") and len(counts) < config.batch_size // config.per_identity:
        warnings.warn(
            f"a {config.sampling} batch has {config.batch_size // config.per_identity} identities, more than the "
            f"{len(counts)} there are: some come more than once in it",
            NormfaceWarning,
            stacklevel=3,
        )
    if config.val is None and config.held_out_share > 0 and not held_out:
        warnings.warn(
            "too few identities with two images to hold any out: trained without validation; "
            "--val names other images for it",
            NormfaceWarning,
            stacklevel=3,
        )


def _first_of_single(labels: np.ndarray) -> int:
    return int(np.flatnonzero(np.bincount(labels)[labels] == 1)[0])


def _sources(
    config: Config,
    backbone: Backbone,
    frozen: Trunk | None,
    image_source: ImageSource,
    held_out: np.ndarray,
    fabric: Any,
) -> tuple[Source, ImageSource | None, Validation | None, list[ValidationSet]]:
    """Return what feeds the training and the validation, through the frozen part where there is one."""
    val_source = None
    if config.val is not None:
        others = open_reader(config.val, root=config.val_root, color=backbone.channels == 3)
        other_labels = _labels_of(others)
        warn_of_known("--val", others, image_source.images, "trained on")
        places = fewer(other_labels, config.most_val_images, config.seed)
        val_source = ImageSource(others, backbone, config.on_bad_image, places)
    elif len(held_out):
        own = np.unique(_labels_of(image_source.images)[held_out], return_inverse=True)[1].reshape(-1)
        places = held_out[fewer(own, config.most_val_images, config.seed)]
        val_source = ImageSource(image_source.images, backbone, config.on_bad_image, places)

    def through(source: ImageSource, mirror: bool) -> Source:
        if frozen is None:
            return source
        size, readers, cache = config.batch_size, config.readers, config.feature_cache
        return frozen_source(
            frozen, source, backbone, mirror=mirror, batch_size=size, readers=readers, cache=cache, fabric=fabric
        )

    validation = None
    if val_source is not None:
        labels = np.unique(_labels_of(val_source.images)[val_source.places], return_inverse=True)[1].reshape(-1)
        validation = Validation(
            through(val_source, False), labels, config.val_far, config.batch_size, config.readers, seed=config.seed
        )
    sets = validation_sets.opened(config, backbone, through)
    return through(image_source, config.mirror), val_source, validation, sets
