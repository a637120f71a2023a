"""Batches for the data layers of a net, made ahead in threads, with a position that can be stored."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from caffeport import Net, NetError
from caffeport.errors import shape_text

from ...errors import DataError
from ...prefetch import prefetch
from .source import Place, Shape, Source
from .sources import open_sources

MAX_THREADS = 8


class Feed:
    """The blobs that the data layers of ``net`` give, batch after batch, in the phase that the net was loaded for.

    seed: of shuffling, random crops and mirroring; None takes a new one, which the state holds.
    prefetch: how many batches are made ahead, each in a thread of its own; 0 makes them when asked for.

    Every batch follows from the seed and its number alone, so the position is one number, the batches made ahead do
    not count, and a restored feed goes on with the same images, crops and flips. Paths are looked up from the
    working directory, as in Caffe, and where there is nothing from the folder of the net's text.

    Raises DataError, which names the layer or path, for sources that are missing, damaged or of no known kind; what
    cannot be read later on is raised by the ``next()`` whose batch needs it.
    """

    def __init__(self, net: Net, seed: int | None = None, prefetch: int = 4) -> None:
        if prefetch < 0:
            raise DataError(f"prefetch is {prefetch}; expected 0 or more batches")
        self._net, self._prefetch = net, prefetch
        self._number = 0  # of the next batch to hand out
        self._batches: Generator[dict[str, np.ndarray], None, None] | None = None  # from that number on
        self._open(secrets.randbits(63) if seed is None else seed)
        self._check_shapes()

    def next(self) -> dict[str, np.ndarray]:
        """{top: float32 array} of the next batch."""
        if self._prefetch and self._batches is None:
            make = partial(_make, self._sources)  # which holds no feed: one that is dropped ends its threads at once
            threads = min(self._prefetch, MAX_THREADS)
            numbers = count(self._number)
            self._batches = prefetch(make, numbers, threads=threads, ahead=self._prefetch, name="normface-feed")
        try:
            batch = _make(self._sources, self._number) if self._batches is None else next(self._batches)
        except BaseException:
            self.close()  # so that asking again tries the same batch again
            raise
        self._number += 1
        return batch

    @property
    def shapes(self) -> dict[str, Shape]:
        """{top: shape} of the first batch."""
        return {
            name: shape
            for source in self._sources
            for name, shape in zip(source.layer.tops, source.shapes(), strict=True)
        }

    @property
    def sources(self) -> dict[str, Path]:
        """{layer: the file or folder that it reads}, as found."""
        return {source.layer.name: source.path for source in self._sources if source.path is not None}

    def state(self) -> dict[str, Any]:
        """The position, as JSON holds it: the seed, the batches handed out, and what the sources looked like."""
        return {"seed": self._seed, "batch": self._number, "layers": self._layers()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state()`` was taken. Raises DataError if the sources, or their batch sizes, are others now."""
        try:
            seed, number, layers = int(state["seed"]), int(state["batch"]), dict(state["layers"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the stored position in the data is incomplete ({error!r})") from error
        for name, now in self._layers().items():
            if layers.get(name) != now:
                raise DataError(
                    f'layer "{name}" had {layers.get(name, "no data")} when the position was stored and has {now} now; '
                    "restore the data and batch_size, or start the data anew"
                )
        self.close()
        self._number = number
        if seed != self._seed:
            self._open(seed)

    def close(self) -> None:
        """End the threads; batches made ahead are dropped. The feed may be used again."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self, seed: int) -> None:
        self._seed = seed
        place = Place(Path(self._net.message.source).parent, self._net.phase, seed & (2**64 - 1))
        self._sources = open_sources(self._net.layers, place)

    def _layers(self) -> dict[str, dict[str, int]]:
        return {s.layer.name: {"items": len(s), "batch_size": s.batch_size} for s in self._sources}

    def _check_shapes(self) -> None:
        """The net may have been loaded for another size, which is fine as long as its blobs fit this one."""
        shapes = self.shapes
        values = {value: shapes[value.name] for value in self._net.input_values}
        if all(value.shape == shape for value, shape in values.items()):
            return
        try:
            self._net.infer(values)
        except NetError as error:
            got = ", ".join(f"{value.name} {shape_text(shape)}" for value, shape in values.items())
            had = ", ".join(f"{value.name} {shape_text(value.shape)}" for value in values)
            raise DataError(
                f"the data layers give {got}, and the net was loaded for {had} ({error}); load it with "
                "input_shapes=normface.data.caffe.input_shapes(prototxt, phase)"
            ) from error


def _make(sources: Sequence[Source], number: int) -> dict[str, np.ndarray]:
    """{top: float32 array} of the ``number``-th batch."""
    batch: dict[str, np.ndarray] = {}
    for source in sources:
        batch.update(zip(source.layer.tops, source.batch(number), strict=True))
    return batch
