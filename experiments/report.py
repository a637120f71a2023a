"""An experiment's folder: its figures, results.json, and claim.md, which says what was claimed and what was found."""

from __future__ import annotations

import math
import platform
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from caffeport.files import replacing
from caffeport.json_text import to_json
from matplotlib.figure import Figure as Drawing
from normface import __version__
from normface.errors import DataError, TrainingError

from .registry import Experiment
from .result import Figure, Options, Result

RESULTS, PARAGRAPH = "results.json", "claim.md"
VERDICTS = {True: "holds", False: "does not hold", None: "is not decided"}


def prepared_folder(out: Path, name: str) -> Path:
    """out/NAME, made before anything is computed. Raises DataError where there can be none."""
    folder = Path(out) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be made: {error.strerror}; name another one by --out") from error
    return folder


def write(folder: Path, experiment: Experiment, options: Options, result: Result, seconds: float) -> dict[str, Any]:
    """Write all files, results.json last, so that it never speaks of a figure that is not there; returns its content.

    Raises TrainingError for a measured value that is no number, text, list or mapping of such, or not finite.
    """
    content = {
        "experiment": experiment.name,
        "title": experiment.title,
        "command": command(experiment.name, options),
        "claim": result.claim,
        "finding": result.finding,
        "holds": result.holds,
        "also": [{"claim": one.text, "holds": one.holds} for one in result.also],
        "seed": options.seed,
        "full": options.full,
        "measured": plain(result.measured, "measured"),
        "figures": [{"file": figure.file, "caption": figure.caption} for figure in result.figures],
        "timings": {"seconds": round(seconds, 2), **plain(result.timings, "timings")},
        "versions": {"python": platform.python_version(), "normface": __version__, "torch": version("torch")},
    }
    for figure in result.figures:
        with replacing(folder / figure.file) as stream:
            stream.write(_bytes(figure))
    with replacing(folder / PARAGRAPH) as stream:
        stream.write(paragraph(content).encode())
    with replacing(folder / RESULTS) as stream:
        stream.write((to_json(content, ascii_only=False) + "\n").encode())
    return content


def paragraph(content: Mapping[str, Any]) -> str:
    """claim.md."""
    size = "the full size" if content["full"] else "the default size"
    also = "".join(f"**Also claimed.** {one['claim']} That {VERDICTS[one['holds']]}.\n\n" for one in content["also"])
    return (
        f"# {content['title']}\n\n**Claim.** {content['claim']}\n\n"
        f"**Measured.** {content['finding']}\n\n"
        f"**The claim {VERDICTS[content['holds']]}** at {size}, seed {content['seed']}.\n\n{also}"
        f"Made in {content['timings']['seconds']:.0f} s by `{content['command']}`.\n"
    )


def command(name: str, options: Options) -> str:
    """The command line that makes this again."""
    words = ["python", "-m", "experiments", name]
    for field, default in vars(Options()).items():
        value = getattr(options, field)
        if field == "full":
            words += ["--full"] * value
        elif value != default:
            words += [f"--{field}", str(value)]
    return shlex.join(words)


def plain(value: Any, where: str) -> Any:
    """As JSON has it: NumPy's numbers and arrays become Python's, keys become text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise TrainingError(f"{where} is {value}; an experiment reports finite numbers, or null")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TrainingError(f"{where}: expected a number, text, list or mapping, got {type(value).__name__}")


def _bytes(figure: Figure) -> bytes:
    content = figure.content
    if isinstance(content, str):
        return content.encode()
    if not isinstance(content, Drawing):
        return content
    import io

    stream = io.BytesIO()
    # No date and no version: the same image is the same file.
    content.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
