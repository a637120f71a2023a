"""Names of files of Python source; torch is not needed."""

from __future__ import annotations

import keyword
from pathlib import Path

from ...errors import CaffeportError


def check_source_name(path: str | Path) -> Path:
    """The path; raises CaffeportError for a name that Python could not import."""
    path = Path(path)
    if path.suffix != ".py" or not path.stem.isidentifier() or keyword.iskeyword(path.stem):
        raise CaffeportError(
            f"{path}: a file of Python source is imported by its name: letters, digits and _ before .py, as in face.py"
        )
    return path
