"""Written source: its results when it is imported, and ruff's verdict on it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import caffeport
import numpy as np
import pytest
import torch
from caffeport.graph.walk import read_inputs

RULES = "E4,E7,E9,F,E,I,UP,B"


def imported(path: Path) -> ModuleType:
    """Import the module of that file."""
    spec = importlib.util.spec_from_file_location(f"written_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def outputs_of(net: caffeport.Net, path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run the source written to ``path`` on the inputs; return its outputs by the blobs' names."""
    net.to_python(path)
    read = [value.name for value in read_inputs(net, net.output_values)]
    with torch.no_grad():
        outputs = imported(path).load()(*(torch.tensor(np.asarray(inputs[name], np.float32)) for name in read))
    outputs = outputs if isinstance(outputs, dict) else {net.outputs[0]: outputs}
    return {name: value.numpy() for name, value in outputs.items()}


def check_style(path: Path, width: int | None = None) -> None:
    """Fail where ruff complains or would format; at its own line length, or at 120 where the package's is needed."""
    program = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if program is None:
        pytest.skip("ruff is not installed")
    if width is None:
        width = 88 if max(map(len, path.read_text("utf-8").splitlines())) <= 88 else 120
    options = ["--isolated", "--no-cache", "--line-length", str(width)]
    for command in (["check", "--select", RULES], ["format", "--diff"]):
        done = subprocess.run([program, *command, *options, str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
