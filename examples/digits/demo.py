"""Convert the digits model to ONNX and safetensors, and compare every blob with what Caffe recorded.

Runs the same commands a user would type; files go to out/digits.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from caffeport.cli import main

HERE = Path(os.path.relpath(Path(__file__).parent))
OUT = Path("out/digits")


def run(*arguments: str | Path) -> None:
    """Show a caffeport command, run it, and stop at the first that fails."""
    command = [str(argument) for argument in arguments]
    print("\n$ caffeport", *command, flush=True)
    code = main(command)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    net, weights = HERE / "deploy.prototxt", HERE / "digits_center.caffemodel"
    run("show", net, weights)
    run("convert", net, weights, "--onnx", OUT / "digits.onnx", "--torch", OUT / "digits.safetensors")
    run("check", net, weights, "--reference", HERE / "digits_center_blobs.npz")
