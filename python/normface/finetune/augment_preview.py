"""--augment-preview: training images as the net sees them without --augment, and changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data import open_reader
from ..errors import TrainingError
from . import backbone as backbones
from . import contact_sheet
from .augmentation import Augmentation
from .config import Config
from .feeding import ImageSource

IMAGES, CHANGED = 8, 7


def write(config: Config, path: Path) -> int:
    """Write the sheet: a row an image, first as the net sees it without, then changed by draws of the run's seed.

    Returns the number of images. Raises TrainingError where nothing is to be changed.
    """
    if config.augment is None:
        raise TrainingError("--augment-preview shows what --augment does; give --augment face, or a list of changes")
    augmentation = Augmentation(config.augment)
    backbone = backbones.load(config)
    images = open_reader(config.data, root=config.root, color=backbone.channels == 3)
    source = ImageSource(images, backbone, config.on_bad_image)
    shown = np.random.default_rng([config.seed, 7]).permutation(len(images))[:IMAGES]
    cells = []
    for number, index in enumerate(shown.tolist()):
        image = source.prepared(index)
        cells.append((image, Path(images.names[index]).name[:24]))
        draws = np.random.SeedSequence([config.seed, 6, number]).generate_state(CHANGED, np.uint64)
        cells += [(augmentation(image, int(draw)), "") for draw in draws]
    contact_sheet.save(path, cells, columns=1 + CHANGED, title=f"--augment {config.augment}: as it is, and changed")
    return len(shown)
