"""Pieces of random configurations of a layer: "SEED|bottom ...|tops|backward ...|layer text".

tests/caffe_layers/lines/layer_line.hpp says what a line means, and reads it.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from . import caffe_trees

LIBRARIES = ("-lprotobuf", "-lglog", "-lgflags", "-lboost_system", "-lboost_thread", "-lpthread")
"""What a program of layers is linked with."""
LOOSE = "-Wl,--unresolved-symbols=ignore-all"
"""What forks and NVCaffe have for the GPU only is left unresolved."""

Line = Callable[[random.Random, int], str]


def sizes(r: random.Random) -> tuple[int, int, int]:
    """Return rows, features and classes."""
    return r.randint(2, 9), r.randint(2, 9), r.randint(2, 9)


def scores(text: Callable[[random.Random, int], str], tops: tuple[int, ...] = (1,)) -> Line:
    """Lines for a layer of (cosines, labels) with one of those numbers of tops."""

    def line(r: random.Random, seed: int) -> str:
        rows, classes = r.randint(1, 9), r.randint(3, 12)
        return f"{seed}|cos:{rows},{classes} label{classes}:{rows}|{r.choice(tops)}|0|{text(r, classes)}"

    return line


def choice(r: random.Random, name: str, *values: object) -> str:
    """Return a field with one of the values, or none of it: its default."""
    value = r.choice([None, *values])
    return "" if value is None else f"{name}: {str(value).lower() if isinstance(value, bool) else value} "


def schedule(r: random.Random, base: str, low: float, high: float, power: str = "") -> str:
    return (
        f"{base}: {r.uniform(low, high):.3f} {power}gamma: {r.uniform(0, 0.5):.3f} {power}power: {r.uniform(0, 2):.3f} "
    )


def answers(program: Path, lines: list[str]) -> list[list[str]]:
    """Return what a program prints of those configurations, each line in words."""
    command = [str(program), "/dev/stdin"]
    result = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 1) + caffe_trees.tail(result.stderr, 9)
    return [line.split() for line in result.stdout.splitlines()]


def includes(tree: caffe_trees.Tree) -> list[str]:
    return [f"-I{tree.copy}/include", f"-I{tree.folder}/include", "-I/usr/include/x86_64-linux-gnu"]


def flags(tree: caffe_trees.Tree) -> list[str]:
    return ["-std=c++14", "-O1", "-w", "-DCPU_ONLY", "-DUSE_HDF5", *includes(tree)]


def compile_object(tree: caffe_trees.Tree, source: Path, target: Path, *settings: str) -> Path:
    """Compile ``source`` with a tree's headers; those of ``settings`` come first."""
    result = caffe_trees.run(["g++", *settings, *flags(tree), "-c", str(source), "-o", str(target)])
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)
    return target


def compile_in(tree: caffe_trees.Tree, *sources: Path, program: Path) -> Path:
    """Compile a program of layers with a tree's headers and libcaffe."""
    library = tree.folder / "lib"
    command = ["g++", *flags(tree), *map(str, sources), "-o", str(program)]
    command += [f"-L{library}", f"-Wl,-rpath,{library}", "-lcaffe", *LIBRARIES, LOOSE]
    result = caffe_trees.run(command)
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 30)
    return program
