"""All that a run needs, from its settings: images split into people, net, loss, sources. Nothing is written yet."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import losses
from ..data import Reader, open_reader
from ..errors import DataError, NormfaceWarning, TrainingError
from ..losses import CenterLoss, FaceLoss
from ..losses.class_shard import ClassShard
from . import backbone as backbones
from . import head_file, validation_sets
from .augmentation import Augmentation
from .backbone import Backbone, Trunk
from .class_rows import shard_of
from .config import Config
from .fabric import progress_of
from .feeding import ImageSource, Source, in_order
from .frozen import frozen_source
from .sampling import Sampler, fewer, hold_out, some_of_each, units_of
from .schedule import in_steps
from .unseen import Unseen
from .validation import Validation, embedded
from .validation_sets import ValidationSet

MANY, FEW = 100_000, 16
"""Of so many images, so few of each class start its weight: a pass over all would take a third of an epoch."""


@dataclass
class Run:
    """A net and what it trains on. ``labels`` (N,): of the training images, 0 to C-1; ``source`` feeds them."""

    config: Config
    images: Reader
    backbone: Backbone
    trunk: Trunk
    frozen: Trunk | None
    loss: nn.Module
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


def prepare(config: Config, fabric: Any, *, resumes: bool) -> Run:
    """Open and build everything. Raises one-line errors for all that cannot be trained on.

    resumes: class weights are not started, since a checkpoint brings them.
    """
    backbone = backbones.load(config)
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
    shard = ClassShard(classes) if config.class_parallel and fabric.world_size > 1 else None
    loss = losses.make(config.loss, classes, backbone.width, **{**config.loss_options, "shard": shard})
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
            _warn_of_known("--test", run.unseen.source.images, others, use)
    if not resumes:
        _start_head(run, fabric)
    if config.margin_warmup:
        passes = in_steps(config.margin_warmup, run.steps) * config.accumulate
        for warmup in losses.warmups(run.loss):
            warmup.restart(passes)  # a checkpoint brings how far it is
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
        _warn_of_known("--val", others, image_source.images, "trained on")
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


def _warn_of_known(option: str, others: Reader, earlier: Reader, use: str) -> None:
    """Tell where the images of an option, or its people by name, are among earlier ones, of that ``use``."""
    known = known_in(option, others, earlier, use)
    if known:
        warnings.warn(f"{known}: it will look better than it is", NormfaceWarning, stacklevel=5)


def trained_on(others: Reader, training: Reader) -> str:
    """Return in words which images of --val, or people by name, are trained on as well; "" where none are."""
    return known_in("--val", others, training, "trained on")


def known_in(option: str, others: Reader, earlier: Reader, use: str) -> str:
    """Return in words which images of an option, or people by name, are among earlier ones; "" where none are."""
    known = _files(others) & _files(earlier)
    shared = set(others.identities) & set(earlier.identities)
    if known:
        what, first = f"{len(known)} of {len(others)} images", min(known)
    elif shared and not all(name.isdigit() for name in shared):  # numbers of two lists mean nothing
        what, first = f"{len(shared)} identities", min(shared)
    else:
        return ""
    return f"{what} of {option} are {use} as well, such as {first}"


def _files(images: Reader) -> set[str]:
    """Return where each image is: its file, or its name behind that of the database that holds it."""
    folder = os.path.realpath(images.path)
    return {os.path.normpath(os.path.join(folder, name)) for name in images.names}


def _start_head(run: Run, fabric: Any) -> None:
    """Class weights of an earlier run, or each class's mean feature, instead of random ones."""
    config = run.config
    if config.head is not None:
        head_file.read(config.head, run.loss)
    elif config.head_init == "class-means":
        means, directions, counts = class_means(run, fabric)
        seen, shard = counts > 0, shard_of(run.loss)  # unless all its images were left out
        with torch.no_grad():
            for loss in run.loss.modules():
                if isinstance(loss, CenterLoss):
                    loss.weight[seen] = means[seen].to(loss.weight)
                elif isinstance(loss, FaceLoss) and loss.weight is not None:  # of the length that this loss starts with
                    loss.weight[seen] = (directions[seen].to(loss.weight)) * _mean_length(loss.weight, shard)


def _mean_length(weight: Tensor, shard: ClassShard | None) -> Tensor:
    """Return the mean length of all ranks' class weights, 0-D."""
    lengths = weight.norm(dim=1)
    if shard is None:
        return lengths.mean()
    return shard.sum(lengths.sum()) / shard.num_classes


def class_means(run: Run, fabric: Any) -> tuple[Tensor, Tensor, Tensor]:
    """(mean feature (C, D), mean direction (C, D), images (C,)) of every class, of --head-init-images of each.

    They are summed up as they come, so that what is held is two numbers for each of the class weights. Where the ranks
    share the class weights' rows, of this rank's C classes; it looks at no other images.
    """
    config, shard = run.config, shard_of(run.loss)
    first, classes = (0, run.classes) if shard is None else (shard.first, shard.count)
    places = np.arange(len(run.labels))
    most = config.head_init_images
    if most is None:
        most = FEW if len(places) > MANY else 0
    if most:
        places = some_of_each(run.labels, most, config.seed)
    if shard is not None:
        places = places[(run.labels[places] >= first) & (run.labels[places] < first + classes)]
    sums = torch.zeros(2, classes, run.backbone.width)
    counts = torch.zeros(classes)
    with progress_of(fabric, "mean features of the classes", len(places)) as bar:
        batches = in_order(len(places), config.batch_size, places=places)
        for chosen, features in embedded(run.trunk, run.source, batches, config.readers, fabric.device):
            labels = torch.from_numpy(run.labels[chosen] - first)
            counts.index_add_(0, labels, torch.ones(len(labels)))
            sums[0].index_add_(0, labels, features)
            sums[1].index_add_(0, labels, nn.functional.normalize(features))
            bar.advance(len(labels))
    seen = counts.sum().to(fabric.device)
    if not (seen if shard is None else shard.sum(seen)):
        raise TrainingError("not one of the images could be read")
    sums /= counts.clamp_min(1)[:, None]
    return sums[0], nn.functional.normalize(sums[1], out=sums[1]), counts
