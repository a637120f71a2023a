"""The usual ways from pixels to a net's input, which are tried where nobody says which one a model was trained with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..zoo.model import Preset

_IMAGENET = (104.0, 117.0, 123.0)
_ANY = (
    Preset((0.0,), 1.0, "pixels as they are"),
    Preset((0.0,), 1 / 255, "to 0 to 1; stands for 1/256 too"),
    Preset((127.5,), 1.0, "stands for 127 and 128 too"),
    Preset((127.5,), 1 / 128, "to -1 to 1; stands for 127, 128 and 1/127.5 too"),
    Preset((127.5,), 1 / 256, "to -0.5 to 0.5; stands for 128 and 1/255 too"),
)
_COLOUR = (
    Preset(_IMAGENET, 1.0, "ImageNet's mean"),
    Preset(_IMAGENET, 0.017, "ImageNet's mean and spread"),
)


@dataclass(frozen=True)
class Recipe:
    """One way: ``bgr`` is its mean and scale in Caffe's order of channels; ``rgb`` the order that the net is given."""

    bgr: Preset
    rgb: bool = False

    @property
    def order(self) -> str:
        return "RGB" if self.rgb else "BGR"

    @property
    def preset(self) -> Preset:
        """The same with its mean in the order that the net is given."""
        return replace(self.bgr, mean=self.bgr.mean[::-1], rgb=True) if self.rgb else self.bgr

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """Return the net's input, float32 (N, C, H, W), for pixels 0 to 255 in BGR or grey, of that shape."""
        ordered = pixels[:, ::-1] if self.rgb else pixels
        mean = np.asarray(self.preset.mean, np.float32).reshape(-1, 1, 1)
        return np.ascontiguousarray((ordered - mean) * np.float32(self.bgr.scale), np.float32)


def recipes(channels: int) -> list[Recipe]:
    """Return every way for a net of that many channels, 1 or 3; those of three in both orders, BGR first."""
    if channels == 1:
        return [Recipe(preset) for preset in _ANY]
    return [Recipe(preset, rgb) for preset in (*_ANY, *_COLOUR) for rgb in (False, True)]
