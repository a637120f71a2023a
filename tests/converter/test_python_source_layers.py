"""Every layer type as source: Caffe's recorded numbers come out, or the layer is refused by name and type."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import caffeport
import numpy as np
import pytest
import torch
from caffeport.operators.base import Role
from caffeport.to_torch.source import collect, region_modules, small_modules, ssd_modules
from caffeport.to_torch.source.form import FORMS
from support import golden_cases as golden
from support import nets
from support.source_files import check_style, outputs_of

RTOL, ATOL = 1e-4, 1e-5  # as test_golden's
FACES = ("flip", "inner_distance", "inner_product", "normalize", "scale_scalar")
RECORDED = [(folder, name) for folder in ("ops", "ssd") for name in golden.cases(folder)]
RECORDED += [("face_layers", name) for name in golden.cases("face_layers") if name.startswith(FACES)]


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), RECORDED, ids=lambda value: value)
def test_recorded(folder, name, tmp_path):
    case = golden.load(folder, name, tmp_path, "test")
    path = tmp_path / f"{folder}_{name}.py"
    if any(layer.op.role in (Role.LOSS, Role.METRIC) for layer in case.net.layers):
        with pytest.raises(caffeport.ExportError, match=r'layer "\w+" \(\w+\): a (loss|metric) layer is for training'):
            case.net.to_python(path)
        return
    for blob, value in outputs_of(case.net, path, case.inputs).items():
        np.testing.assert_allclose(value, case.arrays[f"data/{blob}"], RTOL, ATOL, err_msg=blob)
    check_style(path)


IMAGE = nets.inputs(data=(2, 8, 6, 5))
MASKED = nets.layer("Pooling", "data", "pool mask", "pooling_param { kernel_size: 2 stride: 2 }")
BN = 'slope_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
FORKS = {
    "ROIPooling": nets.layer("ROIPooling", "data rois", "y", "roi_pooling_param { pooled_h: 2 pooled_w: 3 }"),
    "PSROIPooling": nets.layer(
        "PSROIPooling", "data rois", "y", "psroi_pooling_param { spatial_scale: 0.5 output_dim: 2 group_size: 2 }"
    ),
    "Interp-size": nets.layer("Interp", "data", "y", "interp_param { height: 9 width: 7 }"),
    "Interp-zoom": nets.layer("Interp", "data", "y", "interp_param { zoom_factor: 3 }"),
    "Interp-shrink": nets.layer("Interp", "data", "y", "interp_param { shrink_factor: 2 pad_beg: -1 }"),
    "Interp-crop": nets.layer("Interp", "data", "y", "interp_param { height: 9 width: 7 pad_beg: -1 pad_end: -1 }"),
    "Interp-like": MASKED + nets.layer("Interp", "pool data", "y"),
    "Upsample-mask": MASKED + nets.layer("Upsample", "pool mask", "y", "upsample_param { scale: 2 }"),
    "Upsample-size": MASKED
    + nets.layer("Upsample", "pool mask", "y", "upsample_param { upsample_h: 6 upsample_w: 5 }"),
    "Upsample-mask-read": MASKED
    + nets.layer("Upsample", "pool mask", "y", "upsample_param { scale: 2 }")
    + nets.layer("Power", "mask", "z", "power_param { scale: 2 }"),
    "Upsample": nets.layer("Upsample", "data", "y", "upsample_param { scale: 2 }"),
    "Deconvolution-bilinear": nets.layer(
        "Deconvolution",
        "data",
        "y",
        "convolution_param { kernel_size: 4 stride: 2 pad: 1 group: 8 num_output: 8 bias_term: false "
        'weight_filler { type: "bilinear" } }',
    ),
    "PixelShuffle": nets.layer("PixelShuffle", "data", "y", "pixel_shuffle_param { upscale_factor: 2 }"),
    "BN-inference": nets.layer("BN", "data", "y", "bn_param { bn_mode: INFERENCE }"),
    "BN-learn": nets.layer("BN", "data", "y", 'bn_param { scale_filler { type: "gaussian" } }'),
    "BN-variance": nets.layer("BN", "data", "y", f"bn_param {{ momentum: 0.9 {BN} }}"),
    "BN-inverse_std": nets.layer("BN", "data", "y", f"bn_param {{ momentum: 0.9 frozen: true {BN} }}"),
    "Split": nets.layer("Split", "data", "a b") + nets.layer("Eltwise", "a b", "y"),
}


@pytest.mark.parametrize("kind", FORKS)
def test_of_forks(kind, tmp_path):
    """As the torch module computes them, which tests of their own hold to the forks' definitions."""
    text = IMAGE + (nets.inputs(rois=(3, 5)) if "rois" in FORKS[kind] else "") + FORKS[kind]
    options = {"bn": kind.partition("-")[2]} if kind in ("BN-variance", "BN-inverse_std") else {}
    net = nets.load(tmp_path, text, **options)
    random = np.random.default_rng(0)
    for param in net.params:
        if param.spec.name in ("mean", "variance", "inverse_std"):
            param.data = np.float32(random.uniform(0.5, 2, param.shape))
    inputs = {"data": np.float32(random.standard_normal((2, 8, 6, 5)))}
    if "rois" in net.inputs:
        inputs["rois"] = np.float32([[0, 0, 0, 4, 5], [1, 1, 2, 3, 3], [0, 2, 0, 2, 5]])
    path = tmp_path / f"{kind.replace('-', '_')}.py"
    made = outputs_of(net, path, inputs)
    with torch.no_grad():
        expected = net.to_torch()(*map(torch.tensor, inputs.values()))
    for name, value in (expected if isinstance(expected, dict) else {net.outputs[0]: expected}).items():
        np.testing.assert_allclose(made[name], value, RTOL, ATOL)
    check_style(path)


@pytest.mark.parametrize("module", [region_modules, small_modules, ssd_modules])
def test_modules_that_are_copied_fit_any_line_length(module):
    """Their file is formatted for 120 characters; what is copied has to be for 88 too."""
    check_style(Path(inspect.getfile(module)), 88)


KNOWN = {
    "BatchNorm": "eps fraction use_global_stats affine",
    "Bias": "spread",
    "Clip": "low high",
    "Concat": "axis",
    "Constant": "value",
    "Crop": "offsets",
    "DetectionOutput": "sources labels share_location code suppression keep_top_k arms",
    "Elementwise": "name",
    "Eltwise": "operation coeff",
    "Embed": "input_dim num_output bias_term",
    "Exp": "inner outer",
    "Flip": "axes",
    "InnerProduct": "names shapes axis transpose eps",
    "Interp": "size",
    "LRNWithinChannel": "size alpha beta",
    "LSTM": "has_static expose_hidden",
    "Log": "scale shift factor",
    "MaskUpsample": "size",
    "MaxPooling": "window with_mask",
    "MovingBN": "inverse eps momentum frozen uses_blobs",
    "NearestUpsample": "scale",
    "Normalize": "kind eps fix_gradient bp_norm with_norm",
    "PReLU": "num_parameters init device dtype",
    "PSROIPooling": "output_dim group_size spatial_scale",
    "Pairwise": "kind",
    "Permute": "order",
    "Power": "power scale shift",
    "PriorBox": "boxes",
    "RNN": "has_static expose_hidden",
    "ROIPooling": "pooled spatial_scale pad_ratio",
    "Reduction": "operation axis coeff",
    "Reshape": "dims start end",
    "SSDNormalize": "across_spatial eps",
    "Scale": "spread bias_term bounds",
    "SegNetBN": "eps num_tops",
    "ShuffleChannel": "group",
    "Slice": "axis points parts",
    "Swish": "beta",
    "Threshold": "threshold",
    "Tile": "repeats",
}


def test_forms_know_every_argument_of_their_module():
    """A module that gets another argument needs its form looked at: what the form does not read would be lost."""
    assert collect.steps_of  # which has filled the table
    own = [cls for cls in FORMS if not cls.__module__.startswith("torch.")]
    with_arguments = [cls for cls in own if cls.__init__ is not torch.nn.Module.__init__]
    assert {cls.__name__: " ".join(inspect.signature(cls).parameters) for cls in with_arguments} == KNOWN


@pytest.mark.slow
@pytest.mark.parametrize("last", [1, 2])
def test_a_block_with_a_list_among_its_arguments(tmp_path, last):
    """As waifu2x's residual blocks, whose CropCenter has a list of sizes: equal in all, or a parameter."""
    text, bottom = nets.inputs(data=(1, 4, 20, 20)), "data"
    for number, size in enumerate((1, 1, 1, last), 1):
        res = f"res{number}"
        sizes = f"crop_size: 0 crop_size: 0 crop_size: {size} crop_size: {size}"
        text += nets.conv(bottom, f"{res}/conv", 4, f"kernel_size: {2 * size + 1}")
        text += nets.layer("ReLU", f"{res}/conv", f"{res}/relu") + nets.conv(
            f"{res}/relu", f"{res}/gate", 4, "kernel_size: 1"
        )
        text += nets.layer("Sigmoid", f"{res}/gate", f"{res}/sigmoid")
        text += nets.layer("CropCenter", bottom, f"{res}/crop", f"crop_center_param {{ {sizes} }}")
        text += nets.layer("Eltwise", f"{res}/crop {res}/sigmoid", f"{res}/sum")
        bottom = f"{res}/sum"
    net = nets.load(tmp_path, text)
    inputs = net.sample_inputs(0)
    (made,) = outputs_of(net, tmp_path / "cropped.py", inputs).values()
    with torch.no_grad():
        expected = net.to_torch()(torch.from_numpy(inputs["data"])).numpy()
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    assert len(re.findall(r"class \w*Block", (tmp_path / "cropped.py").read_text())) == 1
