"""The thresholds of the exported model, measured on people that it was not trained on, beside it for normface compare.

They are measured with the ONNX file itself, loaded again, and mirror images merged as ``normface compare`` does unless
told otherwise, on all pairs of the validation images.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np

from ..errors import CaffeportError, NormfaceWarning
from ..evaluate import intervals
from ..evaluate.roc import tar_at_far
from ..evaluate.source import Chosen
from ..features import Extractor
from ..recognise import threshold_file
from .export import ONNX
from .known_images import trained_on
from .run import Run

FILE = str(Path(ONNX).with_suffix(threshold_file.SUFFIX))
"""Where ``normface compare`` looks for those of model.onnx and of model.caffemodel."""
FARS = (1e-1, 1e-2, 1e-3, 1e-4)
MIRROR = "sum"


def write(run: Run, folder: Path) -> Path | None:
    """Write the file; None where there is nothing to measure, or it would not be of strangers, which is told."""
    if run.validation is None or run.validation_source is None:
        return None
    known = trained_on(run.validation_source.images, run.images) if run.config.val is not None else ""
    measurement: threshold_file.Measurement | str = known
    if importlib.util.find_spec("onnxruntime") is None:
        measurement = "ONNX Runtime is not installed"
    elif not known:
        try:
            measurement = _measured(run, folder / ONNX)
        except CaffeportError as error:  # the run itself has succeeded
            measurement = str(error)
    if isinstance(measurement, str):
        warnings.warn(f"no {FILE} with the model's thresholds: {measurement}", NormfaceWarning, stacklevel=2)
        return None
    threshold_file.write(folder / FILE, measurement)
    return folder / FILE


def _measured(run: Run, model: Path) -> threshold_file.Measurement | str:
    """The measurement, or in words why there is none."""
    assert run.validation is not None and run.validation_source is not None
    source = run.validation_source
    extractor = Extractor(model, mirror=MIRROR, size=run.backbone.size, fit=run.backbone.preprocessing.fit)
    rows, readable = [], []
    for fate, features in extractor.batches(Chosen(source.images, source.places), bad="skip"):
        readable += [index for index in fate if isinstance(index, int)]
        rows.append(features)
    if extractor.identity is None:
        return "the model's features of test images are no numbers"
    features = np.concatenate(rows)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    units = np.divide(features, lengths, out=np.zeros_like(features), where=lengths > 0)
    scores = units @ units.T
    labels = np.unique(run.validation.labels[readable], return_inverse=True)[1].reshape(-1)
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    genuine, impostor = scores[first, second][same], scores[first, second][~same]
    if not len(genuine) or not len(impostor):
        return f"the validation images make {len(genuine)} genuine and {len(impostor)} impostor pairs"
    fars = sorted({*FARS, run.config.val_far}, reverse=True)
    known = {far: tar_at_far(genuine, impostor, far)[1] for far in fars}
    known = {far: cosine for far, cosine in known.items() if intervals.shows(far, cosine, len(impostor), impostor)}
    if not known:
        return f"{len(impostor)} pairs of different people show none of these false accept rates"
    sizes = extractor.image_sizes
    return threshold_file.Measurement(
        measured=_words(run, len(labels), int(labels.max()) + 1),
        model=extractor.identity,
        thresholds=known,
        face=next(iter(sizes)) if len(sizes) == 1 else None,
        intervals={far: intervals.of_all_pairs(scores >= cosine, labels) for far, cosine in known.items()},
        pairs=(len(genuine), len(impostor)),
        date=threshold_file.today(),
    )


def _words(run: Run, images: int, people: int) -> str:
    origin = f"of {run.config.val}" if run.config.val is not None else f"held out of {run.config.data}"
    return f"{images} validation images of {people} people {origin}, on which the model was chosen too"
