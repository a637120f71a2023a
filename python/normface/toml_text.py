"""TOML: read by Python's own library (tomli before 3.11), written by tomli_w."""

from __future__ import annotations

import sys

from tomli_w import dumps

if sys.version_info >= (3, 11):
    from tomllib import loads
else:
    from tomli import loads

__all__ = ["dumps", "loads"]
