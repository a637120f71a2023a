"""Blobs that a backend makes while they are asked for, so that no more of them exist than somebody still reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from ..errors import CaffeportError


class Streamed(Mapping[str, np.ndarray]):
    """{Value key: array} over a running forward pass; an array is handed out once, and then forgotten here.

    A backend goes on until it has made what is asked for. What it makes before that is kept until it is asked for,
    so the blobs are best asked for in the order in which they are made; what is not in ``keys`` is dropped at once.
    """

    def __init__(self, keys: Collection[str], made: Iterator[tuple[str, np.ndarray]]) -> None:
        self._keys, self._made = dict.fromkeys(keys), made
        self._waiting: dict[str, np.ndarray] = {}

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._keys:
            raise KeyError(key)
        while key not in self._waiting:
            name, array = next(self._made, ("", None))
            if array is None:
                raise CaffeportError(f'blob "{key}" was not made, or has been handed out before')
            if name in self._keys:
                self._waiting[name] = array
            del array  # or this frame would keep the last one while the next is made
        return self._waiting.pop(key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
