"""The 1,797 digits beside this file, in place of people: 0 to 6 to train on, 7 to 9 as the people nobody has seen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from caffeport.files import replacing_path

HERE = Path(__file__).parent
UNSEEN_FROM = 7
HELD_OUT = 3
"""Every third image of the digits 7 to 9 is kept from a finetuning that learns these digits."""
BRIGHTER = 15  # the digits' pixels are 0 to 16: nothing to look at


def load() -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (1797, 8, 8) from 0 to 16, and labels (1797,)."""
    with np.load(HERE / "digits.npz") as stored:
        return stored["pictures"], stored["labels"].astype(int)


def unseen() -> tuple[np.ndarray, np.ndarray]:
    """What the net takes, float32 (533, 1, 8, 8), of the digits 7 to 9, and labels."""
    images, labels = load()
    chosen = labels >= UNSEEN_FROM
    return (images[chosen, None].astype(np.float32) - 8) / 8, labels[chosen]


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """The same of those images of the digits 7 to 9 that ``write_new_images`` leaves out."""
    images, labels = unseen()
    return images[::HELD_OUT], labels[::HELD_OUT]


def write_images(folder: Path) -> None:
    """``folder``/0 to ``folder``/6, a PNG a digit, and the lists of them that Caffe's ImageData reads.

    Every tenth image is in val.txt, the others in train.txt.
    """
    _, labels = load()
    numbers = np.flatnonzero(labels < UNSEEN_FROM)
    _write(folder, {"train": numbers[numbers % 10 != 0], "val": numbers[numbers % 10 == 0]})


def write_new_images(folder: Path) -> None:
    """All ten digits to learn, in train.txt, but for the images of 7 to 9 that are held out."""
    _, labels = load()
    known, new = np.flatnonzero(labels < UNSEEN_FROM), np.flatnonzero(labels >= UNSEEN_FROM)
    _write(folder, {"train": np.sort(np.r_[known, np.delete(new, np.s_[::HELD_OUT])])})


def _write(folder: Path, numbers: dict[str, np.ndarray]) -> None:
    images, labels = load()
    lists: dict[str, list[str]] = {kind: [] for kind in numbers}
    for kind, number in ((kind, number) for kind, some in numbers.items() for number in some):
        path = folder / str(labels[number]) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", BRIGHTER * images[number])[1].tobytes())
        lists[kind].append(f"{path.relative_to(folder).as_posix()} {labels[number]}\n")
    for kind, lines in lists.items():
        with replacing_path(folder / f"{kind}.txt") as temporary:
            Path(temporary).write_text("".join(lines))
