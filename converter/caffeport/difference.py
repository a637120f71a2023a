"""The difference of two arrays, piece by piece: whatever their size, it takes a few MB beside them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import numpy as np

from .cores import Each, on_all_cores

PIECE = 1 << 16
"""Numbers that are looked at at once; in float64 a piece and what is computed of it stay in a core's cache."""
_NO_PIXEL = 1e30
"""float32's largest numbers stand for "no pixel" in pooling; their square would drown the rest in the mean."""
_THREADED = 32 * PIECE
"""Numbers from which on it is worth starting threads: some 3 ms of work."""


def difference(actual: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> tuple[float, float, bool]:
    """(max abs, max rel, within tolerance?) of two arrays of one shape; see caffeport.parity.report.Row and check."""
    if not expected.size:
        return 0.0, 0.0, True
    with on_all_cores(expected.size >= _THREADED) as each:
        pair = _Pair(actual, expected, _rms(expected, each), rtol, atol)
        for largest, relative, ok in each(pair.look, range(0, expected.size, PIECE)):
            pair.largest, pair.relative = max(pair.largest, largest), max(pair.relative, relative)
            pair.ok &= ok
    return pair.largest, pair.relative, pair.ok


def root_mean_square(array: np.ndarray) -> float:
    """The root mean square of an array's numbers, of those that are finite and stand for something; 0 for none.

    It is to the last bit ``np.sqrt(np.mean(numbers ** 2))`` in float64: NumPy adds up a long array half by half, and
    its halves are added up here in the same way.
    """
    with on_all_cores(array.size >= _THREADED) as each:
        return _rms(array, each)


def _rms(array: np.ndarray, each: Each) -> float:
    count = array.size
    numbers = _Numbers(array)
    try:
        total = _pairwise(iter(each(numbers.sum_of_squares, _halves(0, count))), count)
    except _UnusualError:
        usual = _UsualSquares(array)
        count = sum(int(_usual(_piece(array, start, start + PIECE)).sum()) for start in range(0, array.size, PIECE))
        if not count:
            return 0.0
        total = _pairwise((float(np.add.reduce(usual.read(stop - start))) for start, stop in _halves(0, count)), count)
    return float(np.sqrt(np.float64(total) / count))


class _Buffers(threading.local):
    """Two pieces in float64 for each thread: made anew for every piece, they would cost a page fault a page."""

    def __init__(self, size: int) -> None:
        self.first, self.second = np.empty(size), np.empty(size)


class _Pair:
    """Two arrays, and the largest differences between them that are known so far."""

    def __init__(self, actual: np.ndarray, expected: np.ndarray, rms: float, rtol: float, atol: float) -> None:
        self._actual, self._expected = actual, expected
        self._rms, self._rtol, self._atol = rms, rtol, atol
        self._buffers = _Buffers(min(expected.size, PIECE))
        self.largest, self.relative, self.ok = 0.0, 0.0, True

    def look(self, start: int) -> tuple[float, float, bool]:
        """(max abs, max rel, within tolerance?) of the piece that starts there.

        max rel is 0 where it cannot be more than what is known already: how much is known depends on the threads'
        timing, and the maximum of all pieces does not.
        """
        actual, expected = _slice(self._actual, start, start + PIECE), _slice(self._expected, start, start + PIECE)
        if (actual == expected).all():
            return 0.0, 0.0, True
        apart, scale = self._buffers.first[: actual.size], self._buffers.second[: actual.size]
        np.copyto(apart, actual)
        np.copyto(scale, expected)
        with np.errstate(invalid="ignore", over="ignore"):
            np.abs(np.subtract(apart, scale, out=apart), out=apart)
        most = float(apart.max())
        rms = self._rms
        if not (math.isfinite(most) and rms > 0):
            return self._look_closely(np.asarray(actual, np.float64), np.asarray(expected, np.float64))
        # A scale is rms at least: what cannot exceed the numbers so far by rms cannot by its scale.
        within = most <= self._atol + self._rtol * rms
        if within and most / rms <= self.relative:
            return most, 0.0, True
        np.maximum(np.abs(scale, out=scale), rms, out=scale)
        ok = within or bool((apart <= self._atol + self._rtol * scale).all())
        with np.errstate(over="ignore"):
            return most, float(np.divide(apart, scale, out=apart).max()), ok

    def _look_closely(self, actual: np.ndarray, expected: np.ndarray) -> tuple[float, float, bool]:
        """Compare where some number is no finite one, or nothing but 0: equal infinities and NaNs are not apart."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
            apart = np.where(same, 0.0, np.abs(actual - expected))
            apart = np.where(np.isnan(apart), np.inf, apart)
            scale = np.where(np.isfinite(expected), np.maximum(np.abs(expected), self._rms), 1.0)
            ratios = np.where(apart == 0, 0.0, apart / scale)
        ok = bool((apart <= self._atol + self._rtol * scale).all())
        return float(apart.max()), float(ratios.max()), ok


def _slice(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Numbers of the array in C order."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    return np.asarray(flat[start:stop])


def _piece(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Numbers of the array in C order, as float64."""
    return np.asarray(_slice(array, start, stop), np.float64)


def _usual(numbers: np.ndarray) -> np.ndarray:
    return np.abs(numbers) < _NO_PIXEL  # NaN is not


class _UnusualError(Exception):
    """A number is infinite, no number, or stands for none."""


class _Numbers:
    """An array of which all numbers are thought to be usual."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self._buffers = _Buffers(min(array.size, PIECE))

    def sum_of_squares(self, part: tuple[int, int]) -> float:
        """The sum of the squares of the numbers from start to stop. Raises _UnusualError where one is not usual."""
        numbers = _slice(self._array, *part)
        squares = self._buffers.first[: numbers.size]
        np.copyto(squares, numbers)
        with np.errstate(over="ignore"):
            total = float(np.add.reduce(np.multiply(squares, squares, out=squares)))
        # No square is larger than their sum, which is a quicker test than one of every number.
        if not total < _NO_PIXEL**2 and not _usual(numbers).all():
            raise _UnusualError
        return total


class _UsualSquares:
    """Reads the squares of an array's usual numbers, one after the other."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self._place = 0
        self._rest = np.empty(0)

    def read(self, count: int) -> np.ndarray:
        """The next ``count`` squares."""
        while self._rest.size < count:
            numbers = _piece(self._array, self._place, self._place + PIECE)
            self._place += PIECE
            numbers = numbers[_usual(numbers)]
            self._rest = np.concatenate([self._rest, numbers * numbers])
        numbers, self._rest = self._rest[:count], self._rest[count:]
        return np.ascontiguousarray(numbers)


def _halves(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The parts of an array, (start, stop) one after the other, that NumPy's own pairwise sum would halve it into."""
    count = stop - start
    if count <= PIECE:
        yield start, stop
        return
    half = count // 2
    half -= half % 8
    yield from _halves(start, start + half)
    yield from _halves(start + half, stop)


def _pairwise(sums: Iterator[float], count: int) -> float:
    """The sum of ``count`` numbers of whose ``_halves`` these are the sums, added up as they were halved."""
    if count <= PIECE:
        return next(sums)
    half = count // 2
    half -= half % 8
    return _pairwise(sums, half) + _pairwise(sums, count - half)
