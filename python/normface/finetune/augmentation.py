"""Images changed at random, as a camera, a crop or a compression may have changed them: --augment.

All of it works on what the net is about to see, uint8 (H, W, C) of its size with 3 channels in BGR or 1, with OpenCV,
and draws from one generator an image: the same draw gives the same image, in any thread, on any rank, after any break.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from caffeport.lazy import LazyModule

from ..errors import TrainingError, did_you_mean

cv2 = LazyModule("cv2")

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def crop(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Zoom by 0.9 to 1.15 about the middle, and shift by up to 6 % of either side; the border is mirrored."""
    height, width = image.shape[:2]
    zoom = random.uniform(0.9, 1.15)
    shift = random.uniform(-0.06, 0.06, 2) * (width, height)
    middle = np.array([width - 1, height - 1]) / 2
    move = middle + shift - zoom * middle
    matrix = np.array([[zoom, 0, move[0]], [0, zoom, move[1]]])
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def color(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Brightness, contrast about the mean grey, and saturation, each times 0.7 to 1.3."""
    brightness, contrast, saturation = random.uniform(0.7, 1.3, 3)
    pixels = image.astype(np.float32) * brightness
    if pixels.shape[2] == 3:
        grey = _grey(pixels)
        pixels = grey + saturation * (pixels - grey)
        pixels = grey.mean() + contrast * (pixels - grey.mean())
    else:
        pixels = pixels.mean() + contrast * (pixels - pixels.mean())
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def grey(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """All channels their grey (ITU-R BT.601); an image of one channel is so already."""
    if image.shape[2] == 1:
        return image
    return np.repeat(np.rint(_grey(image.astype(np.float32))).astype(np.uint8), 3, axis=2)


def jpeg(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Compress as a JPEG of quality 20 to 90."""
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(20, 91))])
    return cv2.imdecode(packed, cv2.IMREAD_COLOR if image.shape[2] == 3 else cv2.IMREAD_GRAYSCALE)


def blur(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A Gaussian of up to 2 % of the width, or a motion of up to 6 % of it along a line of any direction."""
    width = image.shape[1]
    if random.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), sigmaX=random.uniform(0.3, max(0.5, 0.02 * width)))
    length = 2 * int(random.integers(1, max(2, round(0.03 * width)) + 1)) + 1
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    angle = random.uniform(0, 180)
    turned = cv2.warpAffine(line, cv2.getRotationMatrix2D((length // 2, length // 2), angle, 1), (length, length))
    return cv2.filter2D(image, -1, turned / turned.sum())


def low_resolution(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shrink to 0.25 to 0.9 of the size, and enlarge again; either way nearest, bilinear, by area or bicubic."""
    ways = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC)
    height, width = image.shape[:2]
    share = random.uniform(0.25, 0.9)
    down, up = random.integers(0, len(ways), 2)
    small = cv2.resize(image, (max(1, round(share * width)), max(1, round(share * height))), interpolation=ways[down])
    return cv2.resize(small, (width, height), interpolation=ways[up])


def cutout(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Fill a rectangle of 0.1 to 0.4 of either side, anywhere, with the image's mean color."""
    height, width = image.shape[:2]
    sides = np.maximum(1, np.rint(random.uniform(0.1, 0.4, 2) * (height, width)).astype(int))
    top, left = (int(random.integers(0, whole - side + 1)) for whole, side in zip((height, width), sides, strict=True))
    changed = image.copy()
    changed[top : top + sides[0], left : left + sides[1]] = np.rint(image.mean(axis=(0, 1)))
    return changed


CHANGES: dict[str, tuple[Change, float]] = {
    "crop": (crop, 0.4),
    "color": (color, 0.3),
    "grey": (grey, 0.1),
    "blur": (blur, 0.1),
    "low-resolution": (low_resolution, 0.2),
    "cutout": (cutout, 0.1),
    "jpeg": (jpeg, 0.2),
}
"""{name: (change, its probability unless told otherwise)}, in the order in which they follow each other."""
PRESET = "face"


def parse(text: str) -> dict[str, float]:
    """Read ``face``, ``crop,blur:0.5`` or ``face,grey:0`` as {name: probability}; later words win.

    Raises TrainingError for a name that is unknown and a probability that is none.
    """
    chosen: dict[str, float] = {}
    for word in text.split(","):
        name, colon, number = word.strip().lower().partition(":")
        name = name.replace("_", "-")
        if name == PRESET and not colon:
            chosen |= {change: probability for change, (_, probability) in CHANGES.items()}
            continue
        if name not in CHANGES:
            known = (PRESET, *CHANGES)
            raise TrainingError(f'"{name}" is unknown{did_you_mean(name, known)}; there are {", ".join(known)}')
        try:
            probability = float(number) if colon else CHANGES[name][1]
        except ValueError:
            probability = -1.0
        if not 0 <= probability <= 1:
            raise TrainingError(f'"{word.strip()}": expected a probability from 0 to 1, as in {name}:0.5')
        chosen[name] = probability
    return chosen


class Augmentation:
    """The changes that a text names, each with its probability, independent of each other."""

    def __init__(self, text: str) -> None:
        chosen = parse(text)
        self._changes = [(change, chosen[name]) for name, (change, _) in CHANGES.items() if chosen.get(name)]

    def __call__(self, image: np.ndarray, draw: int) -> np.ndarray:
        """Return the image changed as ``draw``, a number of 64 bits, says: uint8 of the same shape."""
        random = np.random.default_rng(draw)
        chances = random.random(len(self._changes))
        changed = image
        for (change, probability), chance in zip(self._changes, chances, strict=True):
            if chance < probability:
                changed = change(changed, random).reshape(image.shape)  # OpenCV drops an axis of one channel
        return changed


def _grey(pixels: np.ndarray) -> np.ndarray:
    """The grey of float BGR pixels, (H, W, 1)."""
    return pixels @ np.array([0.114, 0.587, 0.299], np.float32).reshape(3, 1)
