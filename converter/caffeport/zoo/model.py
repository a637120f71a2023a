"""What the zoo knows of a published model: where it is, what it takes, what it gives, what was measured here."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN = "not stated"
UNMEASURED = "not measured here"


@dataclass(frozen=True)
class Preset:
    """What is done to pixels 0 to 255 before the net: (x - mean) * scale.

    mean: one number, or one a channel in the net's channel order.
    rgb: the net takes RGB; else BGR, as Caffe's own data layers give it, or one channel.
    size: (H, W) that the net takes; None for a net that takes any.
    source: the file of the repository, or of another (``owner/name: path``), that says so.
    """

    mean: tuple[float, ...]
    scale: float
    source: str
    rgb: bool = False
    size: tuple[int, int] | None = None

    def formula(self) -> str:
        """Return ``(x - 127.5) * 0.0078125``, or less where mean is 0 or scale 1."""
        if self.mean == (0.0,):
            return "x" if self.scale == 1 else f"x * {self.scale:.7g}"
        mean = f"{self.mean[0]:g}" if len(self.mean) == 1 else f"({', '.join(f'{value:.9g}' for value in self.mean)})"
        return f"x - {mean}" if self.scale == 1 else f"(x - {mean}) * {self.scale:.7g}"


@dataclass(frozen=True)
class Weights:
    """A file of weights that was at hand: its size, its SHA-256, and what ``caffeport check`` found.

    blobs: how many blobs torch and ONNX Runtime were compared on, with random input, seed 0; 0 where it was not run.
    worst: the largest relative difference among them.
    """

    bytes: int
    sha256: str
    blobs: int = 0
    worst: float = 0.0


@dataclass(frozen=True)
class Model:
    """A published model.

    repository: ``owner/name`` on GitHub, or what else it is published in; "" where it is not known.
    net, weights: paths in it, or in words where the weights are; "" for none.
    branch: where it is not the repository's main one.
    licence: as the repository states it.
    grey: the net takes one channel.
    outputs: the blobs to read: the embedding, scores, boxes.
    measured: what else was measured here, with its place in docs/.
    note: what a user has to know besides.
    """

    name: str
    title: str
    task: str
    repository: str
    net: str
    weights: str
    licence: str = UNKNOWN
    preset: Preset | None = None
    outputs: tuple[str, ...] = ()
    grey: bool = False
    file: Weights | None = None
    measured: str = ""
    note: str = ""
    branch: str = ""

    def order(self) -> str:
        """Return the order of the channels that the net takes; "" where no preset says it."""
        return "grey" if self.grey else "" if self.preset is None else "RGB" if self.preset.rgb else "BGR"

    def recipe(self) -> str:
        """Return the preprocessing in one line."""
        if self.preset is None:
            return "preprocessing: see its note" if self.note else f"preprocessing: {UNKNOWN}"
        size = "" if self.preset.size is None else f", {self.preset.size[0]}x{self.preset.size[1]} (HxW)"
        return f"{self.preset.formula()}, {self.order()}{size}"

    def proof(self) -> str:
        """Return what was measured here, in words."""
        words = []
        if self.file is not None and self.file.blobs:
            words.append(f"{self.file.blobs} blobs, torch against ONNX Runtime: worst {self.file.worst:.2e} relative")
        words += [self.measured] if self.measured else []
        return "; ".join(words) or UNMEASURED
