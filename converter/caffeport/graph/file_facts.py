"""What a written file says of itself: whose weights it holds, from which sources, written by which version.

Equal runs write equal bytes: the entries have a fixed order, and none is a date, a path or a chance.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..json_text import to_json
from ..version import __version__
from .net import Net
from .preprocessing import Preprocessing

BEFORE_KEY = "caffeport.preprocessing_before"
"""Of the entry that says what has to be done to images before a model that does not do it itself."""

PRECISION_KEY = "caffeport.precision"
"""Of the entry that says what an ONNX file computes in, where that is not float32: "float16" or "int8"."""
KEPT_KEY = "caffeport.kept"
"""Of the entry that lists the layers that stay in float32 there, as JSON."""
CALIBRATION_KEY = "caffeport.calibration"
"""Of the entry on the inputs that it was measured on: {"inputs": how many, "sha256": of their numbers}."""


def file_facts(net: Net, outputs: Iterable[str], before: Preprocessing | None = None) -> dict[str, str]:
    """Return the entries for a file's metadata, by their keys.

    ``caffeport.version``, ``caffeport.net`` (its name), ``caffeport.outputs`` (a JSON list of blobs, the embedding
    among them), ``caffeport.net_sha256`` (of the text's file) and ``caffeport.weights_sha256`` (of the weights' file;
    left out where the numbers are no longer the file's). Where fillers made numbers up, ``caffeport.weights`` says so.

    before: what the file leaves to its reader; see BEFORE_KEY.
    """
    entries = {
        "caffeport.version": __version__,
        "caffeport.net": net.name,
        "caffeport.outputs": to_json(list(outputs), indent=None),
        "caffeport.net_sha256": net.message.sha256,
        "caffeport.weights_sha256": net.weights_sha256(),
    }
    if net.has_random_weights:
        entries["caffeport.weights"] = f"random, at least in part: Caffe's fillers, seed {net.options.seed}"
    if before is not None:
        entries[BEFORE_KEY] = before.to_json()
    return {key: value for key, value in entries.items() if value}
