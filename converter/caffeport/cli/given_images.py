"""Images that ``caffeport check`` is given: the net's input, and what tells the preprocessing that it expects."""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from typing import Any

from .. import zoo
from ..errors import CaffeportError, CaffeportWarning
from ..graph.net import Net
from ..model_folder import ModelFolder
from ..parity.likely_preprocessing import Suggestion
from .command import print_table
from .common import read_mean
from .preset import apply_preset

_ARRAYS = (".npz", ".npy")


def front_of(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Return what the --onnx file is to have in front, with the preset in it, and the line that tells the preset.

    What images go through stays as it is in the options, for ``given_inputs``.
    """
    as_given = argparse.Namespace(**vars(options))
    apply_preset(as_given)
    if options.preset is not None:
        options.mean, options.scale = as_given.mean, as_given.scale
    line = "" if options.preset is None else f"preset {options.preset}: {zoo.named(options.preset).recipe()}"
    images = any(path.suffix.lower() not in _ARRAYS for path in options.input or [])
    if _has_preprocessing(options) and options.onnx is None and not images:
        warnings.warn(
            "--mean, --scale, --rgb and --preset are of images (--input) and of what a file has in front (--onnx); "
            "neither is given, so that they change nothing",
            CaffeportWarning,
            stacklevel=2,
        )
    if options.onnx is None:
        return {}, line
    return {"mean": read_mean(options.mean), "scale": options.scale, "rgb": as_given.rgb}, line


def given_inputs(net: Net, options: argparse.Namespace, folder: ModelFolder | None) -> Any:
    """Return the arrays of --input: of one .npz or .npy, or of images; None where there is none."""
    paths = options.input
    if options.pair:
        _check_pair(options, folder)
    if not paths:
        return None
    if any(path.suffix.lower() in _ARRAYS for path in paths):
        if len(paths) > 1:
            raise CaffeportError("--input: one .npz or .npy, or images; several of them are one batch")
        from ..parity.inputs import load_arrays

        return {name.removeprefix("data/"): array for name, array in load_arrays(paths[0]).items()}
    from .image import read_images

    rgb = options.rgb if options.preset is None else zoo.preset(options.preset).rgb
    if folder is not None and not _has_preprocessing(options):
        return read_images(net, paths, list(folder.preset.mean), folder.preset.scale, folder.preset.rgb)
    if front := _front_of_the_file(options):
        return read_images(net, paths, front[0], front[1], False)
    return read_images(net, paths, read_mean(options.mean), options.scale, rgb)


def _front_of_the_file(options: argparse.Namespace) -> tuple[list[float] | None, float] | None:
    """What the --onnx file says that images go through first, where nothing else says it."""
    if options.onnx is None or _has_preprocessing(options):
        return None
    from ..parity.written_onnx import own_front

    return own_front(options.onnx)


def suggested(net: Net, options: argparse.Namespace, folder: ModelFolder | None) -> Suggestion | None:
    """Return what preprocessing the net likely expects, where images were given and nothing says it."""
    images = [path for path in options.input or [] if path.suffix.lower() not in _ARRAYS]
    if not images or _is_said(options, folder) or importlib.util.find_spec("torch") is None:
        return None
    from ..parity.likely_preprocessing import suggest
    from .image import read_images

    name, pixels = next(iter(read_images(net, images, None, None, False).items()))
    return suggest(net, name, pixels, options.pair)


def print_suggestion(suggestion: Suggestion) -> None:
    """Print every way with its numbers, the reasons and the verdict."""
    if suggestion.candidates:
        print_table(suggestion.table())
    for reason in suggestion.reasons:
        print(reason)
    print(f"preprocessing: none was given; {suggestion.verdict}")


def _check_pair(options: argparse.Namespace, folder: ModelFolder | None) -> None:
    """Raise CaffeportError for a --pair that could not be looked at, before anything is run."""
    images = [path for path in options.input or [] if path.suffix.lower() not in _ARRAYS]
    if not images or _is_said(options, folder):
        raise CaffeportError("--pair is for images of --input without any preprocessing, which is what it looks for")
    if len(images) < 3:
        raise CaffeportError(f"--pair takes two images of one person and one of another, 3 or more; got {len(images)}")


def _is_said(options: argparse.Namespace, folder: ModelFolder | None) -> bool:
    """Whether the caller, the folder or the --onnx file says what images go through."""
    return folder is not None or _has_preprocessing(options) or _front_of_the_file(options) is not None


def _has_preprocessing(options: argparse.Namespace) -> bool:
    return options.preset is not None or options.mean is not None or options.scale is not None or options.rgb
