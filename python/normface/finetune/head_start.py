"""Where the class weights start: at an earlier run's, or at the mean features of their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import TrainingError
from ..losses import CenterLoss, FaceLoss
from ..losses.class_shard import ClassShard
from . import head_file
from .class_rows import shard_of
from .fabric import progress_of
from .feeding import in_order
from .run import Run
from .sampling import some_of_each
from .validation import embedded

MANY, FEW = 100_000, 16
"""Of so many images, so few of each class start its weight: a pass over all would take a third of an epoch."""


def start_head(run: Run, fabric: Any) -> None:
    """Class weights of an earlier run, or each class's mean feature, instead of random ones."""
    config = run.config
    if config.head is not None:
        head_file.read(config.head, run.loss)
        run.restart_warmups()  # those of the file have come to their end
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
