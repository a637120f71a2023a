"""The preprocessing that a model names itself, and what becomes of it beside a preset and the user's options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from caffeport.files import replacing
from caffeport.graph.preprocessing import METADATA_KEY
from caffeport.json_text import to_json
from caffeport.lazy import require

from ..errors import NormfaceError
from ..preprocessing import Preprocessing, preset
from ..reading import printable

BEFORE_KEY = "normface.preprocessing"
"""The key of the entry in an ONNX file's metadata that says what its images need before it."""


@dataclass(frozen=True)
class Inside:
    """The preprocessing within an ONNX file of ``caffeport convert --mean --scale --rgb``.

    mean: one number or one a channel; None where it is a whole image. rgb: it reverses the channels first.
    """

    mean: tuple[float, ...] | None
    scale: float
    rgb: bool


@dataclass(frozen=True)
class OwnPreprocessing:
    """before: what has to be done to images before the model. inside: what the model does itself.

    unusable: why the model's words are of no help, for the message.
    """

    before: Preprocessing | None = None
    inside: Inside | None = None
    unusable: str = ""


def of_transform(transform: Any) -> OwnPreprocessing | None:
    """Return that of a data layer's transform_param; None where it says nothing."""
    if transform is None:
        return None
    if transform.mean_file:
        return OwnPreprocessing(unusable=f'subtracts the mean image "{transform.mean_file}"')
    if not transform.mean_value and transform.scale == 1:
        return None
    return OwnPreprocessing(Preprocessing(tuple(transform.mean_value) or (0.0,), transform.scale))


def of_metadata(metadata: Mapping[str, str], title: str) -> OwnPreprocessing | None:
    """Return that of an ONNX file's metadata; None where it says nothing. Raises NormfaceError for a damaged one."""
    for key, read in ((METADATA_KEY, _read_inside), (BEFORE_KEY, _read_before)):
        if key in metadata:
            try:
                return read(json.loads(metadata[key]))
            except Exception as error:  # json, or what it holds is not what this project writes
                problem = f"{title}: the entry {key} of its metadata is damaged: {printable(metadata[key])!r}"
                raise NormfaceError(problem) from error
    return None


def note_in_onnx(path: str | Path, before: Preprocessing) -> None:
    """Note in an ONNX file what its images need before it, so that normface extract needs no options for it."""
    onnx = require("onnx")
    model = onnx.load(str(path), load_external_data=False)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, entries | {BEFORE_KEY: to_json(asdict(before), indent=None)})
    with replacing(path) as stream:
        stream.write(model.SerializeToString())


def _read_inside(content: dict[str, Any]) -> OwnPreprocessing:
    numbers = content.get("mean")
    mean = None if numbers is None else tuple(float(number) for number in numbers) or (0.0,)
    return OwnPreprocessing(inside=Inside(mean, float(content.get("scale", 1)), bool(content.get("rgb"))))


def _read_before(content: dict[str, Any]) -> OwnPreprocessing:
    mean = tuple(float(number) for number in content["mean"])
    size = None if content.get("size") is None else (int(content["size"][0]), int(content["size"][1]))
    preprocessing = Preprocessing(
        mean, float(content["scale"]), bool(content["rgb"]), content.get("fit", "exact"), size
    )
    return OwnPreprocessing(preprocessing)


def resolve(
    own: OwnPreprocessing | None, preset_name: str | None, told: Mapping[str, Any], title: str
) -> Preprocessing:
    """Return what is done to images before the model: the options, else the preset's, else the model's own.

    told: fields of Preprocessing, None where the user leaves them. Where the model subtracts and scales itself, mean
    and scale are refused, and a preset gives the channel order, fit and size; its numbers have to be the model's.

    Raises NormfaceError for such a contradiction, and where nobody says what the images need.
    """
    start = None if preset_name is None else preset(preset_name)
    if own is not None and own.inside is not None:
        return _around(own.inside, start, preset_name, told, title)
    if start is None and own is not None:
        start = own.before
    if start is None and told.get("mean") is None and told.get("scale") is None:
        words = own.unusable if own is not None else "does not say what its images need"
        raise NormfaceError(
            f"{title}: {words}; give a preset (--preset), or --mean and --scale (0 and 1: pixels as they are)"
        )
    return (start or Preprocessing()).with_options(**told)


def _around(
    inside: Inside, start: Preprocessing | None, preset_name: str | None, told: Mapping[str, Any], title: str
) -> Preprocessing:
    for name in ("mean", "scale"):
        if told.get(name) is not None:
            raise NormfaceError(f"{title}: applies mean and scale itself; leave --{name} out")
    if start is None:
        return Preprocessing(rgb=inside.rgb).with_options(**told)
    mean = start.mean if inside.mean is None else inside.mean
    if set(mean) != set(start.mean) or abs(inside.scale / start.scale - 1) > 1e-6:
        raise NormfaceError(
            f"{title}: applies mean {_numbers(mean)} and scale {inside.scale:g} itself, where preset {preset_name} has "
            f"{_numbers(start.mean)} and {start.scale:g}; leave the preset out, or convert the model with its numbers"
        )
    # A model that reverses the channels takes the other order than the net within.
    return replace(start, mean=(0.0,), scale=1.0, rgb=start.rgb != inside.rgb).with_options(**told)


def _numbers(mean: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in mean)
