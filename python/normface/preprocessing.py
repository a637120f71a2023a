"""The way from a decoded image to a net's input: size, channel order, (x - mean) * scale, and what published nets want.

An image is uint8 (H, W, C) with C 3 (BGR, as OpenCV decodes) or 1, numbers from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from caffeport import zoo
from caffeport.lazy import LazyModule

from .errors import DataError, NormfaceError, did_you_mean

cv2 = LazyModule("cv2")

FITS = ("exact", "pad", "resize")


@dataclass(frozen=True)
class Preprocessing:
    """(x - mean) * scale on pixels 0 to 255 brought to the net's size.

    mean: one number or one a channel, in the net's channel order.
    rgb: the net takes RGB; the default is Caffe's BGR.
    fit: "exact" refuses an image of another size; "pad" centres it on black; "resize" stretches it (bilinear).
    size: (H, W) that the net takes, for models that take any.
    """

    mean: tuple[float, ...] = (0.0,)
    scale: float = 1.0
    rgb: bool = False
    fit: str = "exact"
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise NormfaceError(f'fit "{self.fit}" is unknown{did_you_mean(self.fit, FITS)}; known: {", ".join(FITS)}')
        if not np.isfinite([*self.mean, self.scale]).all() or self.scale == 0:
            raise NormfaceError(f"mean and scale are to be finite, scale not 0; got mean {self.mean}, {self.scale}")
        if self.size is not None and not (len(self.size) == 2 and min(self.size) >= 1):
            raise NormfaceError(f"size is height and width, 1 or more each; got {self.size}")

    def with_options(
        self,
        *,
        mean: tuple[float, ...] | None = None,
        scale: float | None = None,
        rgb: bool | None = None,
        fit: str | None = None,
        size: tuple[int, int] | None = None,
    ) -> Preprocessing:
        """Return a copy in which every option that is not None replaces the field of its name."""
        options = {"mean": mean, "scale": scale, "rgb": rgb, "fit": fit, "size": size}
        fields: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        return replace(self, **fields)

    def formula(self) -> str:
        """Return ``(x - 127.5) * 0.0078125``, or less where mean is 0 or scale 1."""
        return zoo.Preset(self.mean, self.scale, source="").formula()

    def fitted(self, image: np.ndarray, size: tuple[int, int], name: str = "an image") -> np.ndarray:
        """uint8 (H, W, C) of ``size`` (H, W). Raises DataError that names the image where it does not fit."""
        height, width = size
        if image.shape[:2] == size:
            return image
        if self.fit == "resize":
            return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
        top, left = height - image.shape[0], width - image.shape[1]
        have = f"{image.shape[0]}x{image.shape[1]}"
        if self.fit == "exact":
            raise DataError(
                f"{name}: is {have} (HxW), and the net takes {height}x{width}; "
                "align the faces to that size, or choose --fit pad (black borders) or resize"
            )
        if top < 0 or left < 0:
            raise DataError(f"{name}: is {have} (HxW), too large to be padded to {height}x{width}; choose --fit resize")
        rows, columns = (top // 2, top - top // 2), (left // 2, left - left // 2)
        return np.pad(image, (rows, columns, (0, 0)))

    def batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Images of one size, (H, W, C) uint8 each, as float32 (N, C, H, W)."""
        stacked = np.stack(images)
        if self.rgb:
            stacked = stacked[..., ::-1]
        pixels = np.ascontiguousarray(stacked.transpose(0, 3, 1, 2), np.float32)
        if self.mean != (0.0,):
            mean = np.asarray(self.mean, np.float32)
            if mean.size not in (1, pixels.shape[1]):
                raise NormfaceError(f"mean has {mean.size} numbers, and the images have {pixels.shape[1]} channels")
            pixels -= mean.reshape(-1, 1, 1)
        if self.scale != 1.0:
            pixels *= np.float32(self.scale)
        return pixels


_FITS = {"center-face": "exact", "normface": "exact", "sphereface": "exact", "mobilefacenet": "pad"}
"""Published face nets of caffeport.zoo, and how an aligned face of 112x96 comes to the size that each takes."""


def _of_zoo(name: str, fit: str) -> Preprocessing:
    known = zoo.preset(name)
    return Preprocessing(known.mean, known.scale, known.rgb, fit, known.size)


PRESETS = {name: _of_zoo(name, fit) for name, fit in _FITS.items()}
"""That of published face nets: all take 112x96 faces in BGR but MobileFaceNet, which takes 112x112 in RGB."""


def preset(name: str) -> Preprocessing:
    """The preset of that name; raises NormfaceError that lists them."""
    if name not in PRESETS:
        raise NormfaceError(f'preset "{name}" is unknown{did_you_mean(name, PRESETS)}; known: {", ".join(PRESETS)}')
    return PRESETS[name]
