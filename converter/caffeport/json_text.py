"""The one writer of JSON: what it writes any JSON reader takes.

JSON knows no infinity and no NaN, though Python's own writer would print both; here they are null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np


def to_json(content: Any, *, indent: int | None = 2, ascii_only: bool = True) -> str:
    """JSON text of dicts, sequences, strings, paths, numbers, and NumPy's arrays and numbers.

    Infinity and NaN become null. Raises TypeError for anything else that JSON has no form for.
    """
    text = json.dumps(_plain(content), indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    # Only a file name that is no text has a lone surrogate; its escape is what ascii_only would have written.
    return text if ascii_only else text.encode("utf-8", "backslashreplace").decode()


def _plain(value: Any) -> Any:
    """The same in Python's own types, without infinity and NaN."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key) if isinstance(key, PurePath) else key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value
