"""A folder as a model, as ``normface finetune --out`` writes it: its ``config.json`` names the files.

{"format": "normface model 1", "onnx": "model.onnx", "net": "deploy.prototxt", "weights": "model.caffemodel",
"embedding": "fc5", "dimension": 512, "preprocessing": {"mean": [127.5], "scale": 0.0078125, "rgb": false,
"fit": "exact", "size": [112, 96]}, "version": "0.2.0"}
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caffeport.files import replacing
from caffeport.json_text import to_json

from .errors import NormfaceError
from .preprocessing import Preprocessing
from .reading import parsing, read_json
from .version import __version__

NAME = "config.json"
FORMAT = "normface model 1"
MAX_BYTES = 1 << 20
_PROBLEM = "is no config.json of a model (as normface finetune writes it)"


@dataclass(frozen=True)
class ModelFolder:
    """onnx, net, weights: the files. preprocessing: what images need before the model."""

    onnx: Path
    net: Path
    weights: Path
    embedding: str
    dimension: int
    preprocessing: Preprocessing


def read(folder: str | Path) -> ModelFolder:
    """Raises NormfaceError for a folder that is no model, or whose config.json is another's or damaged."""
    folder = Path(folder)
    path = folder / NAME
    if not path.is_file():
        raise NormfaceError(
            f"{folder}: is a folder without {NAME}; expected one of normface finetune, an .onnx, or NET WEIGHTS"
        )
    content = read_json(path, _PROBLEM, MAX_BYTES, NormfaceError)
    with parsing(path, _PROBLEM, NormfaceError):
        if content["format"] != FORMAT:
            raise ValueError(f'its format is {content["format"]!r}; expected "{FORMAT}"')
        said = content["preprocessing"]
        size = None if said["size"] is None else (int(said["size"][0]), int(said["size"][1]))
        mean = tuple(float(number) for number in said["mean"])
        if not mean:
            raise ValueError("its mean has no number")
        try:
            before = Preprocessing(mean, float(said["scale"]), bool(said["rgb"]), str(said["fit"]), size)
        except NormfaceError as error:
            raise NormfaceError(f"{path}: {error}") from None
        onnx, net, weights = (folder / _file_name(content[name]) for name in ("onnx", "net", "weights"))
        return ModelFolder(onnx, net, weights, str(content["embedding"]), int(content["dimension"]), before)


def write(model: ModelFolder) -> None:
    """Write the config.json beside the files, whole or not at all; equal models give equal bytes."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "onnx": model.onnx.name,
        "net": model.net.name,
        "weights": model.weights.name,
        "embedding": model.embedding,
        "dimension": model.dimension,
        "preprocessing": asdict(model.preprocessing),
        "version": __version__,
    }
    with replacing(model.onnx.parent / NAME) as stream:
        stream.write((to_json(content) + "\n").encode())


def _file_name(name: Any) -> str:
    """A file of the folder itself: a model that was passed on must not name another file of this machine."""
    if not isinstance(name, str) or name != os.path.basename(name) or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of a file in the folder")
    return name
