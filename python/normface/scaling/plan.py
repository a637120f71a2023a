"""Memory and messages of a training with class weights sharded over processes, each on a device of its own.

C classes, D numbers of an embedding, R processes, N samples of a whole batch, q the share of a process's classes that a
step looks at, b bytes of a class weight's number, m those of its momentum's. A process holds L = ceil(C / R) rows:

    weights       L D b
    gradient      L D b; q L D b of sampled rows; 0 where steps are fused with the backward pass
    momentum      L D m
    embeddings    2 N D 4              gathered, and their gradient
    scores        N q L 4              the derivatives take their place
    row figures   q L 4 + L 4 (late)   1 / |w|, and where rows are stepped late, the step of each
    buffers       2 B                  the blocks that are worked on at once
    backbone      (3 P + 1) 4 / ...    weights, gradient, momentum, 4 bytes each, and A bytes of each own sample

Messages of a process, by a ring (Thakur et al. 2005): a gather of n bytes in all sends (R - 1) / R n, a sum of n bytes
2 (R - 1) / R n. Gathered are embeddings and labels, N (4 D + 8); summed are three numbers a sample (four of
sampled classes) and the embeddings' gradient, N (12 + 4 D), and the backbone's gradient, 4 P.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import NormfaceError, did_you_mean

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number of the class weights."""
BLOCK = 1 << 26
"""Bytes of a block of weights, or of scores, in float32: 2^24 numbers (normface.losses.blockwise)."""
FLOAT = 4
"""Bytes of what is computed: embeddings, scores, the backbone."""
MOST = 10**15


@dataclass(frozen=True)
class Setup:
    """What is to be trained, on what.

    classes: C. embedding: D. processes: R, one a device. batch: N, samples of a whole batch. dtype: of the class
    weights. momentum: of their momentum, or "none"; by default float32. sampled: q, the share of classes a step looks
    at, above 0 to 1. fused: steps within the backward pass, without a gradient.
    backbone: P, its numbers. activations: bytes that it keeps of one sample until the backward pass.
    memory: bytes of a device. bandwidth: bytes a second between devices, each way.
    """

    classes: int
    embedding: int = 512
    processes: int = 1
    batch: int = 256
    dtype: str = "float32"
    momentum: str = "float32"
    sampled: float = 1.0
    fused: bool = False
    backbone: int = 0
    activations: int = 0
    memory: int = 80 * 10**9
    bandwidth: float = 100e9

    def __post_init__(self) -> None:
        """Raise NormfaceError for what is no setup, all problems in one line."""
        problems = [
            f"{name} {getattr(self, name):g}: expected a whole number of {least} or more"
            for name, least in (
                ("classes", 2), ("embedding", 1), ("processes", 1), ("batch", 1), ("backbone", 0), ("activations", 0),
                ("memory", 1),
            )
            if not least <= getattr(self, name) <= MOST
        ]  # fmt: skip
        if not 0 < self.sampled <= 1:
            problems.append(f"sampled {self.sampled:g}: expected a share above 0, up to 1")
        if not 0 < self.bandwidth <= MOST:
            problems.append(f"bandwidth {self.bandwidth:g}: expected more than 0")
        for name, known in (("dtype", [*DTYPES]), ("momentum", [*DTYPES, "none"])):
            word = getattr(self, name)
            if word not in known:
                problems.append(f'{name} "{word}" is unknown{did_you_mean(word, known)}; known: {", ".join(known)}')
        if problems:
            raise NormfaceError("; ".join(problems))


@dataclass(frozen=True)
class Plan:
    """parts: {part of a process's memory: bytes}. messages: {message: bytes that a process sends a step}.

    unsharded: the bytes of a step where each device holds all class weights and their gradients are summed instead
    (DistributedDataParallel): what sharding saves.
    """

    setup: Setup
    parts: dict[str, int]
    messages: dict[str, int]
    unsharded: int
    formulas: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Class weights of a process."""
        return math.ceil(self.setup.classes / self.setup.processes)

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        return self.total <= self.setup.memory

    @property
    def sent(self) -> int:
        """Bytes that a process sends a step."""
        return sum(self.messages.values())

    @property
    def seconds(self) -> float:
        """Seconds of a step that messages take at the bandwidth, without what is computed meanwhile."""
        return self.sent / self.setup.bandwidth

    @property
    def most_classes(self) -> int:
        """The most classes for which this setup fits; 0 where none do."""
        low, high = 1, MOST
        while low < high:
            middle = (low + high + 1) // 2
            if sum(_parts(self.setup, middle).values()) <= self.setup.memory:
                low = middle
            else:
                high = middle - 1
        return low if low > 1 else 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "setup": asdict(self.setup),
            "rows": self.rows,
            "parts": self.parts,
            "formulas": self.formulas,
            "total": self.total,
            "fits": self.fits,
            "most_classes": self.most_classes,
            "messages": self.messages,
            "bytes_a_step": self.sent,
            "seconds_a_step": self.seconds,
            "bytes_a_step_unsharded": self.unsharded,
        }


def plan(setup: Setup) -> Plan:
    """Return what the setup takes: see this module for the formulas."""
    ring = (setup.processes - 1) / setup.processes
    samples = setup.batch
    messages = {
        "embeddings and labels, gathered": round(ring * samples * (FLOAT * setup.embedding + 8)),
        "figures of the softmax, summed": round(2 * ring * samples * FLOAT * (3 + (setup.sampled < 1))),
        "gradient of the embeddings, summed": round(2 * ring * samples * FLOAT * setup.embedding),
        "gradient of the backbone, summed": round(2 * ring * FLOAT * setup.backbone),
    }
    head = FLOAT * setup.classes * setup.embedding
    everything = round(2 * ring * (head + FLOAT * setup.backbone))
    return Plan(setup, _parts(setup, setup.classes), messages, everything, _formulas(setup))


def _parts(setup: Setup, classes: int) -> dict[str, int]:
    rows = math.ceil(classes / setup.processes)
    looked_at = math.ceil(setup.sampled * rows)
    size = DTYPES[setup.dtype]
    numbers = rows * setup.embedding
    own = math.ceil(setup.batch / setup.processes)
    scores = FLOAT * setup.batch * looked_at
    return {
        "weights": size * numbers,
        "gradient": 0 if setup.fused else size * looked_at * setup.embedding,
        "momentum": 0 if setup.momentum == "none" else DTYPES[setup.momentum] * numbers,
        "embeddings": 2 * FLOAT * setup.batch * setup.embedding,
        "scores": scores,
        "row figures": FLOAT * looked_at + (FLOAT * rows if setup.sampled < 1 else 0),
        "buffers": 2 * min(BLOCK, FLOAT * looked_at * max(setup.embedding, setup.batch)),
        "backbone": 3 * FLOAT * setup.backbone + setup.activations * own,
    }


def _formulas(setup: Setup) -> dict[str, str]:
    """Return how each part comes about, with this setup's choices."""
    looked_at = "L" if setup.sampled == 1 else "q L"
    size = DTYPES[setup.dtype]
    momentum = "0" if setup.momentum == "none" else f"{DTYPES[setup.momentum]} L D"
    return {
        "weights": f"{size} L D",
        "gradient": "0 (fused)" if setup.fused else f"{size} {looked_at} D",
        "momentum": momentum,
        "embeddings": "8 N D",
        "scores": f"4 N {looked_at}",
        "row figures": f"4 {looked_at}" + (" + 4 L" if setup.sampled < 1 else ""),
        "buffers": f"2 min(64 MiB, 4 {looked_at} max(D, N))",
        "backbone": "12 P + A N / R",
    }
