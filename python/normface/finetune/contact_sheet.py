"""Many small images on one, with words below each: for looking at what a run sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from caffeport.files import replacing_path

from ..evaluate.figures import figure


def save(path: Path, cells: Sequence[tuple[np.ndarray, str]], *, columns: int, title: str) -> None:
    """Write a PNG of (image, words) in rows of ``columns``; images are uint8 (H, W, 3) in BGR, or (H, W, 1)."""
    rows = max(1, -(-len(cells) // columns))
    sheet = figure(1.35 * columns, 0.5 + 1.6 * rows)
    sheet.suptitle(title, fontsize=9)
    for place, axes in enumerate(sheet.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if place < len(cells):
            image, words = cells[place]
            axes.imshow(
                image[..., ::-1] if image.shape[2] == 3 else np.repeat(image, 3, axis=2), interpolation="nearest"
            )
            axes.set_title(words.replace("$", r"\$"), fontsize=5.5, pad=2)  # a dollar sign would start a formula
    with replacing_path(path) as temporary:
        sheet.savefig(temporary, format="png")
