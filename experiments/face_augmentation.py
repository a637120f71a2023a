"""Faces changed at random on the device where they are, a batch at once: turned, scaled, shifted, mirrored, recoloured.

``normface finetune --augment`` does the like with OpenCV, an image at a time; a small net on a GPU would wait for it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TURN, ZOOM, SHIFT = math.radians(10), 0.1, 0.06
"""Up to so many radians either way; by 1 - ZOOM to 1 + ZOOM; by up to that share of either side."""
CONTRAST, BRIGHTNESS, GREY = 0.3, 0.2, 0.1
"""Values times 1 - CONTRAST to 1 + CONTRAST, plus up to BRIGHTNESS (of -1 to 1); the share of images made grey."""
CUTOUT, LEAST_SIDE, MOST_SIDE = 0.3, 0.1, 0.4
"""The share of images with a rectangle of 0, the middle grey; its sides as shares of the image's."""
LUMA = (0.114, 0.587, 0.299)
"""ITU-R BT.601's, in the order of BGR."""


def augmented(images: Tensor, random: torch.Generator) -> Tensor:
    """Values (B, 3, H, W), -1 to 1 in BGR, each image changed by draws of its own; ``random`` is on their device."""
    places = _places(images, random)
    moved = F.grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=False)
    return _cut_out(_recoloured(moved, random), random)


def _draw(images: Tensor, random: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """(B,)"""
    return low + (high - low) * torch.rand(len(images), generator=random, device=images.device)


def _places(images: Tensor, random: torch.Generator) -> Tensor:
    """(B, H, W, 2): where each pixel comes from; half of the images are mirrored."""
    height, width = images.shape[2:]
    turn, zoom = _draw(images, random, -TURN, TURN), _draw(images, random, 1 - ZOOM, 1 + ZOOM)
    mirror = 1 - 2 * (_draw(images, random) < 0.5).float()
    right, down = (2 * _draw(images, random, -SHIFT, SHIFT) for _ in range(2))  # the whole width is 2 there
    cosine, sine = zoom * torch.cos(turn), zoom * torch.sin(turn)
    aspect = height / width  # so that a turn in pixels is one in coordinates of -1 to 1
    rows = torch.stack([cosine * mirror, -sine * aspect, right, sine / aspect * mirror, cosine, down], 1)
    return F.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)


def _recoloured(images: Tensor, random: torch.Generator) -> Tensor:
    luma = LUMA[0] * images[:, 0] + LUMA[1] * images[:, 1] + LUMA[2] * images[:, 2]  # a tensor of LUMA would be copied
    grey = (_draw(images, random) < GREY).view(-1, 1, 1, 1)
    contrast = _draw(images, random, 1 - CONTRAST, 1 + CONTRAST).view(-1, 1, 1, 1)
    brightness = _draw(images, random, -BRIGHTNESS, BRIGHTNESS).view(-1, 1, 1, 1)
    images = torch.where(grey, luma[:, None], images)
    return (images * contrast + brightness).clamp(-1, 1)


def _cut_out(images: Tensor, random: torch.Generator) -> Tensor:
    chosen = _draw(images, random) < CUTOUT
    inside = chosen.view(-1, 1, 1)
    for axis, view in ((2, (1, -1, 1)), (3, (1, 1, -1))):
        side = _draw(images, random, LEAST_SIDE, MOST_SIDE)
        start = _draw(images, random) * (1 - side)
        places = (torch.arange(images.shape[axis], device=images.device) + 0.5) / images.shape[axis]
        along = (places >= start[:, None]) & (places < (start + side)[:, None])
        inside = inside & along.view(len(images), *view[1:])
    return images.masked_fill(inside[:, None], 0.0)
