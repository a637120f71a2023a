"""The difference of two arrays, piece by piece: whatever their size, it takes a few MB beside them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

PIECE = 1 << 16
"""Numbers that are looked at at once; in float64 a piece and what is computed of it stay in a core's cache."""
_NO_PIXEL = 1e30
"""float32's largest numbers stand for "no pixel" in pooling; their square would drown the rest in the mean."""


def difference(actual: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> tuple[float, float, bool]:
    """(max abs, max rel, within tolerance?) of two arrays of one shape; see caffeport.parity.report.Row and check."""
    if not expected.size:
        return 0.0, 0.0, True
    rms = root_mean_square(expected)
    largest, relative, ok = 0.0, 0.0, True
    for start in range(0, expected.size, PIECE):
        a, e = _piece(actual, start, start + PIECE), _piece(expected, start, start + PIECE)
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(a - e)
        most = float(apart.max())
        if not math.isfinite(most):
            apart, scale = _apart(a, e, apart, rms)
            most = float(apart.max())
        # A scale is rms at least: what cannot exceed the numbers so far by rms cannot by its scale.
        elif most == 0 or (rms > 0 and most / rms <= relative and most <= atol + rtol * rms):
            largest = max(largest, most)
            continue
        else:
            scale = np.maximum(np.abs(e), rms)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            ratios = np.where(apart == 0, 0.0, apart / scale)
        largest, relative = max(largest, most), max(relative, float(ratios.max()))
        ok = ok and bool((apart <= atol + rtol * scale).all())
    return largest, relative, ok


def root_mean_square(array: np.ndarray) -> float:
    """The root mean square of an array's numbers, of those that are finite and stand for something; 0 for none.

    It is to the last bit ``np.sqrt(np.mean(numbers ** 2))`` in float64: NumPy adds up a long array half by half, and
    its halves are added up here in the same way.
    """
    try:
        count = array.size
        total = _pairwise(_Squares(array, all_usual=True).read, count)
    except _UnusualError:
        count = sum(int(_usual(_piece(array, start, start + PIECE)).sum()) for start in range(0, array.size, PIECE))
        if not count:
            return 0.0
        total = _pairwise(_Squares(array, all_usual=False).read, count)
    return float(np.sqrt(np.float64(total) / count))


def _apart(actual: np.ndarray, expected: np.ndarray, apart: np.ndarray, rms: float) -> tuple[np.ndarray, np.ndarray]:
    """(|a - b|, the scale) where some number is no finite one: equal infinities and NaNs are not apart."""
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    apart = np.where(same, 0.0, apart)
    scale = np.where(np.isfinite(expected), np.maximum(np.abs(expected), rms), 1.0)
    return np.where(np.isnan(apart), np.inf, apart), scale


def _piece(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Numbers of the array in C order, as float64."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    return np.asarray(flat[start:stop], np.float64)


def _usual(numbers: np.ndarray) -> np.ndarray:
    return np.abs(numbers) < _NO_PIXEL  # NaN is not


class _UnusualError(Exception):
    """A number is infinite, no number, or stands for none."""


class _Squares:
    """Reads the squares of an array's usual numbers, one after the other."""

    def __init__(self, array: np.ndarray, all_usual: bool) -> None:
        self._array, self._all_usual = array, all_usual
        self._place = 0
        self._rest = np.empty(0)

    def read(self, count: int) -> np.ndarray:
        """The next ``count`` squares. Raises _UnusualError where all were thought to be usual, and one is not."""
        if self._all_usual:
            numbers = _piece(self._array, self._place, self._place + count)
            self._place += count
            if not (numbers.min() > -_NO_PIXEL and numbers.max() < _NO_PIXEL):
                raise _UnusualError
            return numbers * numbers
        while self._rest.size < count:
            numbers = _piece(self._array, self._place, self._place + PIECE)
            self._place += PIECE
            numbers = numbers[_usual(numbers)]
            self._rest = np.concatenate([self._rest, numbers * numbers])
        numbers, self._rest = self._rest[:count], self._rest[count:]
        return np.ascontiguousarray(numbers)


def _pairwise(read: Callable[[int], np.ndarray], count: int) -> float:
    """The sum of the next ``count`` numbers, halved as NumPy's own pairwise sum halves them."""
    if count <= PIECE:
        return float(np.add.reduce(read(count)))
    half = count // 2
    half -= half % 8
    return _pairwise(read, half) + _pairwise(read, count - half)
