"""Nets for tests, from text."""

from __future__ import annotations

from pathlib import Path

import caffeport


def write(folder: Path, text: str, name: str = "net.prototxt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def load(folder: Path, text: str, weights: Path | None = None, **options) -> caffeport.Net:
    """Load a net from text; without weights its fillers' (seeded) numbers."""
    return caffeport.load(write(folder, text), weights, **options)


def inputs(**shapes: tuple[int, ...]) -> str:
    """Write input layers: ``inputs(data=(1, 3, 8, 8))``."""
    return "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {dim}" for dim in shape)
        + " } } }\n"
        for name, shape in shapes.items()
    )


def layer(kind: str, bottoms: str, tops: str, extra: str = "", name: str = "") -> str:
    """Write one layer; bottoms and tops are names with spaces between, the name is the first top's by default."""
    return (
        f'layer {{ name: "{name or tops.split()[0]}" type: "{kind}" '
        + " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
        + " "
        + " ".join(f'top: "{top}"' for top in tops.split())
        + f" {extra} }}\n"
    )


GAUSS = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "gaussian" std: 0.3 }'


def conv(bottom: str, top: str, outputs: int, extra: str = "kernel_size: 3 pad: 1") -> str:
    return layer("Convolution", bottom, top, f"convolution_param {{ num_output: {outputs} {extra} {GAUSS} }}")


def inner_product(bottom: str, top: str, outputs: int, extra: str = "") -> str:
    return layer("InnerProduct", bottom, top, f"inner_product_param {{ num_output: {outputs} {extra} {GAUSS} }}")


SMALL = (
    inputs(data=(2, 3, 12, 10))
    + conv("data", "conv1", 6)
    + layer("BatchNorm", "conv1", "conv1", name="bn1")
    + layer(
        "Scale",
        "conv1",
        "conv1",
        'scale_param { bias_term: true filler { type: "gaussian" } bias_filler { type: "gaussian" } }',
        "scale1",
    )
    + layer("PReLU", "conv1", "conv1", name="relu1")
    + layer("Pooling", "conv1", "pool1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    + inner_product("pool1", "fc", 5)
)
"""A little of everything that a face network has, in place as people write it."""
