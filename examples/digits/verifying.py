"""How well a model tells apart digits that it never saw: cosines of all pairs, their figures, and an image of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from caffeport.files import replacing_path
from digits import unseen
from normface.evaluate.roc import Verification, verification

FAR = 0.01
SAME, DIFFERENT = "#2a6fbb", "#d1603d"


def features(onnx: Path, images: np.ndarray) -> np.ndarray:
    """(N, D), unit length."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    made = session.run(None, {session.get_inputs()[0].name: images})[0].reshape(len(images), -1)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def pairs(made: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs, and whether both are the same digit."""
    a, b = np.triu_indices(len(labels), 1)
    return (made @ made.T)[a, b], labels[a] == labels[b]


def verify(onnx: Path, given: tuple[np.ndarray, np.ndarray] | None = None) -> Verification:
    """Of all pairs of the given images and labels; by default of all 141,778 pairs of the digits 7 to 9."""
    images, labels = unseen() if given is None else given
    return verification(*pairs(features(onnx, images), labels), fars=(FAR,))


def draw(before: Path, after: Path, path: Path, given: tuple[np.ndarray, np.ndarray], title: str) -> None:
    """Two models side by side: the cosines of same and different digits, and the features seen from two directions."""
    from matplotlib.figure import Figure

    images, labels = given
    figure = Figure(figsize=(9, 7), dpi=110, layout="constrained")
    (top_left, top_right), (left, right) = figure.subplots(2, 2)
    for model, when, histogram, plane in [
        (before, "before", top_left, left),
        (after, "after finetuning", top_right, right),
    ]:
        made = features(model, images)
        score_histogram(histogram, *pairs(made, labels), when)
        two_directions(plane, made, labels)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_path(path) as temporary:
        figure.savefig(temporary, format="png")


def score_histogram(axes, scores: np.ndarray, same: np.ndarray, title: str) -> None:
    """Each kind of pair adds up to one; the line is where 1 % of the different pairs would pass for the same."""
    bins = np.linspace(-1, 1, 81)
    for kind, colour, label in [(~same, DIFFERENT, "different digits"), (same, SAME, "the same digit")]:
        axes.hist(scores[kind], bins, density=True, color=colour, alpha=0.6, label=label)
    threshold = np.quantile(scores[~same], 1 - FAR)
    accepted = np.mean(scores[same] >= threshold)
    axes.axvline(threshold, color="black", linewidth=1, linestyle="--", label=f"FAR {FAR:.0%}: TAR {accepted:.1%}")
    axes.set(title=title, xlabel="cosine of a pair", xlim=(-1, 1), yticks=[])
    axes.legend(loc="upper left", fontsize=8)


def two_directions(axes, made: np.ndarray, labels: np.ndarray) -> None:
    """The unit features along the two directions in which they spread most."""
    centred = made - made.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    x, y = (centred @ directions.T).T
    for digit, colour in zip(np.unique(labels), ("tab:green", "tab:purple", "tab:orange"), strict=True):
        axes.scatter(x[labels == digit], y[labels == digit], s=14, color=colour, alpha=0.7, label=f"{digit}")
    axes.set(aspect="equal", xticks=[], yticks=[], title="features of unit length, two main directions")
    axes.title.set_fontsize(9)
    axes.legend(fontsize=8)
