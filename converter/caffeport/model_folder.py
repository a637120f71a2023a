"""A folder as a model, as ``normface finetune --out`` writes it: what its ``config.json`` says.

{"format": "normface model 1", "onnx": "model.onnx", "net": "deploy.prototxt", "weights": "model.caffemodel",
"embedding": "fc5", "dimension": 512, "preprocessing": {"mean": [127.5], "scale": 0.0078125, "rgb": false,
"fit": "exact", "size": [112, 96]}, "version": "0.2.0"}
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CaffeportError, one_line
from .zoo.model import Preset

NAME = "config.json"
FORMAT = "normface model 1"
MAX_BYTES = 1 << 20
_PROBLEM = "is no config.json of a model (as normface finetune writes it)"


@dataclass(frozen=True)
class ModelFolder:
    """onnx, net, weights: the files. embedding: the blob to read. preset: what images need before the net.

    fit: what becomes of an image of another size: "exact" refuses it, "pad", "resize".
    """

    onnx: Path
    net: Path
    weights: Path
    embedding: str
    dimension: int
    preset: Preset
    fit: str

    def recipe(self) -> str:
        """Return the preprocessing in one line; whether one channel or BGR is meant, the net's text tells."""
        size = "" if self.preset.size is None else f", {self.preset.size[0]}x{self.preset.size[1]} (HxW)"
        return f"{self.preset.formula()}{', RGB' if self.preset.rgb else ''}{size}"


def read(folder: str | Path) -> ModelFolder:
    """Read what a folder says of itself; its files are not opened.

    Raises CaffeportError for a folder that is no model, or whose config.json is another's or damaged.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise CaffeportError(
            f"{folder}: is a folder without {NAME}; expected one of normface finetune, an .onnx, or NET WEIGHTS"
        )
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise CaffeportError(f"{path}: {error.strerror or error}") from error
    if len(raw) > MAX_BYTES:
        raise CaffeportError(f"{path}: has more than {MAX_BYTES} bytes, which is too many for what it has to say")
    try:
        return _parsed(Path(folder), path, json.loads(raw.decode("utf-8-sig")))
    except CaffeportError:
        raise
    except Exception as error:  # whatever a wrong type or a missing key raises
        words = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise CaffeportError(f"{path}: {_PROBLEM}: {one_line(words, 200)}") from error


def _parsed(folder: Path, path: Path, content: Any) -> ModelFolder:
    if content["format"] != FORMAT:
        raise ValueError(f'its format is {content["format"]!r}; expected "{FORMAT}"')
    said = content["preprocessing"]
    size = None if said["size"] is None else (int(said["size"][0]), int(said["size"][1]))
    mean, scale = tuple(float(number) for number in said["mean"]), float(said["scale"])
    if not mean:
        raise ValueError("its mean has no number")
    if not all(map(math.isfinite, (*mean, scale))) or scale == 0:
        raise CaffeportError(f"{path}: mean and scale are to be finite, scale not 0; got mean {mean}, {scale}")
    onnx, net, weights = (folder / _file_name(content[name]) for name in ("onnx", "net", "weights"))
    preset = Preset(mean, scale, str(path), bool(said["rgb"]), size)
    return ModelFolder(
        onnx, net, weights, str(content["embedding"]), int(content["dimension"]), preset, str(said["fit"])
    )


def _file_name(name: Any) -> str:
    """A file of the folder itself: a model that was passed on must not name another file of this machine."""
    if not isinstance(name, str) or name != os.path.basename(name) or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of a file in the folder")
    return name
