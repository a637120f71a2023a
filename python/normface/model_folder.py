"""A folder as a model, as ``normface finetune --out`` writes it; ``caffeport.model_folder`` says what is in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caffeport import model_folder
from caffeport.files import replacing
from caffeport.json_text import to_json
from caffeport.model_folder import FORMAT, NAME

from .errors import CaffeportError, NormfaceError
from .preprocessing import Preprocessing
from .version import __version__

__all__ = ["FORMAT", "NAME", "ModelFolder", "read", "write"]


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
    try:
        said = model_folder.read(folder)
    except CaffeportError as error:
        raise NormfaceError(str(error)) from error
    preset = said.preset
    try:
        before = Preprocessing(preset.mean, preset.scale, preset.rgb, said.fit, preset.size)
    except NormfaceError as error:
        raise NormfaceError(f"{Path(folder) / NAME}: {error}") from None
    return ModelFolder(said.onnx, said.net, said.weights, said.embedding, said.dimension, before)


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
