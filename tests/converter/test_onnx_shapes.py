"""The shapes, dtypes and dynamic axes that tensors of exported nets tell; single nodes are in test_onnx_rules.py."""

from __future__ import annotations

from pathlib import Path

import caffeport
import numpy as np
import onnx
import pytest
from caffeport.errors import ExportError
from caffeport.graph.preprocessing import Preprocessing
from caffeport.graph.walk import wanted_values
from caffeport.operators.base import Role
from caffeport.to_onnx.export import trace, write
from support import golden_cases, nets
from support.onnx_tensors import Exported, check, check_dynamic

from tests.converter.test_layer_cases import ROWS, build


def export(net: caffeport.Net, values: list[np.ndarray], folder: Path, opset: int, dynamic: bool) -> Exported:
    graph = trace(net, opset, dynamic, fold=True, wanted=wanted_values(net, None))
    write(graph, folder / "n.onnx")
    feed = dict(zip(net.inputs, (np.asarray(value, np.float32) for value in values), strict=True))
    return Exported(graph, onnx.load(folder / "n.onnx"), {port.name: feed[port.name] for port in graph.inputs})


def check_all(net: caffeport.Net, values: list[np.ndarray], folder: Path) -> None:
    """Check the net's tensors in files of several opsets, for the declared sizes and with dynamic axes."""
    for opset in (13, 18, 21):
        for dynamic in (False, True):
            exported = export(net, values, folder, opset, dynamic)
            check(exported)
    check_dynamic(exported)


def can_be_exported(net: caffeport.Net) -> bool:
    return all(layer.op.role in (Role.DATA, Role.INFERENCE) and layer.op.has_onnx() for layer in net.layers)


CASES = [(folder, name) for folder in ("ops", "face_layers", "ssd") for name in golden_cases.cases(folder)]


@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
@pytest.mark.parametrize(("folder", "name"), CASES, ids=lambda value: value)
def test_recorded_cases(folder, name, tmp_path):
    case = golden_cases.load(folder, name, tmp_path, "test")
    if can_be_exported(case.net):
        check_all(case.net, list(case.inputs.values()), tmp_path)
    else:
        with pytest.raises(ExportError):
            export(case.net, list(case.inputs.values()), tmp_path, 13, False)


@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
@pytest.mark.parametrize("row", [row for row in ROWS if row.onnx], ids=lambda row: row.id)
def test_rows(row, tmp_path):
    check_all(*build(row, tmp_path), tmp_path)


REGIONS = np.array([[0, 1, 1, 7, 6], [1, 0, 2, 3, 9], [0, 2, 2, 5, 5]])
OTHERS = [
    ("ROIPooling", "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 }", [(2, 8, 7, 9), (3, 5)]),
    ("PSROIPooling", "psroi_pooling_param { output_dim: 2 group_size: 2 spatial_scale: 0.5 }", [(2, 8, 7, 9), (3, 5)]),
    ("Interp", "interp_param { zoom_factor: 2 shrink_factor: 3 pad_beg: -1 pad_end: -1 }", [(2, 3, 9, 9)]),
    ("Interp", "interp_param { height: 4 width: 11 }", [(2, 3, 9, 8)]),
    ("Interp", "", [(2, 3, 9, 8), (2, 1, 5, 13)]),
    ("Upsample", "upsample_param { scale: 3 }", [(2, 3, 4, 5)]),
    ("Upsample", "upsample_param { pad_out_h: true }", [(2, 3, 4, 5), (2, 3, 4, 5)]),
    ("PixelShuffle", "pixel_shuffle_param { upscale_factor: 2 }", [(2, 8, 4, 5)]),
    ("BN", "bn_param { bn_mode: INFERENCE }", [(2, 3, 4, 5)]),
]


@pytest.mark.filterwarnings("ignore::caffeport.CaffeportWarning")
@pytest.mark.parametrize(("kind", "parameters", "shapes"), OTHERS)
def test_layers_of_forks(kind, parameters, shapes, tmp_path):
    names = [f"x{i}" for i in range(len(shapes))]
    text = nets.inputs(**dict(zip(names, shapes, strict=True))) + nets.layer(kind, " ".join(names), "y", parameters)
    values = [REGIONS if shape == (3, 5) else np.ones(shape) for shape in shapes]
    check_all(nets.load(tmp_path, text), values, tmp_path)


NETWORKS = sorted((Path(__file__).parents[2] / "prototxt").glob("*/deploy*.prototxt"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_networks_that_ship(path, tmp_path):
    net = caffeport.load(path)
    exported = export(net, [np.ones(net.blob_shapes[name]) for name in net.inputs], tmp_path, 17, True)
    assert check(exported) > 10


def test_a_net_with_preprocessing(tmp_path):
    """What stands in front of the net, and layers that pass on what others made."""
    net = nets.load(tmp_path, nets.SMALL)
    wanted = wanted_values(net, None)
    graph = trace(net, 17, True, True, wanted, Preprocessing.of(net, wanted, [1, 2, 3], 0.5, True))
    write(graph, tmp_path / "n.onnx")
    exported = Exported(graph, onnx.load(tmp_path / "n.onnx"), {"data": np.ones((2, 3, 12, 10), np.float32)})
    assert check(exported) > len(net.layers)
    check_dynamic(exported)


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (lambda g, x: x.name, "the str 'data'"),
        (lambda g, x: [x.name], "the str 'data'"),
        (lambda g, x: None, "the NoneType None"),
        (lambda g, x: [x, x], "2 of them"),
    ],
)
def test_an_operator_that_returns_no_tensor(result, got, tmp_path):
    @caffeport.layer_type("Odd")
    class OddLayer(caffeport.Operator):
        def onnx(self, g, *x):
            return result(g, x[0])

    net = nets.load(tmp_path, nets.inputs(data=(2, 3)) + nets.layer("Odd", "data", "y"), custom_layers=[OddLayer])
    message = rf'^layer "y" \(Odd\): expected OddLayer.onnx to return a tensor for each top \(1\), .* got {got}$'
    with pytest.raises(ExportError, match=message):
        net.to_onnx(tmp_path / "n.onnx")


def test_an_operator_that_passes_names(tmp_path):
    @caffeport.layer_type("Odd")
    class OddLayer(caffeport.Operator):
        def onnx(self, g, *x):
            return g.op("Neg", x[0].name)

    net = nets.load(tmp_path, nets.inputs(data=(2, 3)) + nets.layer("Odd", "data", "y"), custom_layers=[OddLayer])
    with pytest.raises(ExportError, match=r"expected tensors as inputs of Neg, .* got the str 'data'$"):
        net.to_onnx(tmp_path / "n.onnx")
