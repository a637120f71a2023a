"""``--preset NAME``: a published model's preprocessing from the zoo, and the line that names known weights."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from typing import Any

from .. import zoo
from ..errors import CaffeportError, CaffeportWarning
from ..zoo import Model


def zoo_name(text: str) -> str:
    """The name of a model of the zoo."""
    try:
        return zoo.named(text).name
    except CaffeportError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def preset_name(text: str) -> str:
    """The name of a model of the zoo whose preprocessing is known."""
    try:
        zoo.preset(text)
    except CaffeportError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_preset(group: Any) -> None:
    """Add --preset to the group of --mean, --scale and --rgb."""
    group.add_argument(
        "--preset",
        type=preset_name,
        choices=list(zoo.PRESETS),
        metavar="NAME",
        help="mean and scale of a published model (caffeport zoo lists them); --mean and --scale replace its own",
    )


def apply_preset(options: argparse.Namespace) -> str:
    """Fill in --mean, --scale and --rgb of a file from --preset; returns the line that tells it, "" without one.

    The file takes the channels as the net does, or RGB with --rgb, for which only a net that takes BGR needs them
    reversed.
    """
    if options.preset is None:
        return ""
    model, preset = zoo.named(options.preset), zoo.preset(options.preset)
    if options.rgb and model.grey:
        raise CaffeportError(f"--rgb: the net of --preset {model.name} takes one channel; leave --rgb out")
    options.mean = list(preset.mean) if options.mean is None else options.mean
    options.scale = preset.scale if options.scale is None else options.scale
    order = "RGB" if options.rgb else model.order()
    options.rgb = options.rgb and not preset.rgb
    formula = f"(x - {options.mean}) * {options.scale:.7g}"
    if isinstance(options.mean, list):
        formula = replace(preset, mean=tuple(options.mean), scale=options.scale).formula()
    size = "" if preset.size is None else f" of {preset.size[0]}x{preset.size[1]} (HxW)"
    line = f"preset {model.name}: {formula} is in front of the net; give it {order} pixels from 0 to 255{size}"
    return f"{line}; {model.note}" if model.note else line


def note_other(known: Model | None, preset_name: str | None) -> None:
    """Warn where the weights are known to be another model's than the preset's, with other preprocessing."""
    if known is None or preset_name in (None, known.name):
        return
    own, given = known.preset, zoo.PRESETS[str(preset_name)]
    if own is None or (own.mean, own.scale, own.rgb) != (given.mean, given.scale, given.rgb):
        warnings.warn(
            f"the weights are {known.name}'s, which takes {known.recipe()}, and --preset {preset_name} is another",
            CaffeportWarning,
            stacklevel=2,
        )


def known_line(known: Model | None) -> str:
    """Return one line on weights that the zoo knows: whose they are, their licence, their recipe; "" for None."""
    if known is None:
        return ""
    where = f"{known.repository or 'repository not known'}, licence: {known.licence}"
    outputs = f"; read {', '.join(known.outputs)}" if known.outputs else ""
    return f"known: {known.title} ({where}): {known.recipe()}{outputs}; more: caffeport zoo {known.name}"
