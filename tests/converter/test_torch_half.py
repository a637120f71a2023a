"""``to_torch().half()`` and ``.bfloat16()``: every layer of the case table runs, near its float32 numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import golden_cases, nets

from .test_layer_cases import ROWS, build

TYPES = [torch.float16, torch.bfloat16]
NO_KERNEL = {"lrn_across": "avg_pool3d", "inner_distance_l1": "cdist"}
"""Recorded cases whose layer torch itself cannot run in these types on a CPU, and the kernel that it lacks."""


def outputs(model, values, dtype):
    made = model(*(torch.as_tensor(np.asarray(value), dtype=torch.float32).to(dtype) for value in values))
    return list(made.values()) if isinstance(made, dict) else [made]


def near(net, values, dtype):
    """float16 has 11 bits and bfloat16 8: sums of at most some hundred such numbers are within 5 % of their norm."""
    for exact, coarse in zip(
        outputs(net.to_torch().eval(), values, torch.float32),
        outputs(net.to_torch().eval().to(dtype), values, dtype),
        strict=True,
    ):
        assert coarse.dtype in (dtype, torch.int64) and coarse.shape == exact.shape
        finite = exact.isfinite()  # a mean over no pixel is none
        assert (exact - coarse.float())[finite].norm() <= 0.05 * exact[finite].norm()
        assert torch.equal(coarse.isfinite(), finite)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_case(row, tmp_path, dtype):
    near(*build(row, tmp_path), dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", golden_cases.cases("ssd"))
def test_detection(name, tmp_path, dtype):
    case = golden_cases.load("ssd", name, tmp_path, "test")
    values = [case.inputs[name] for name in case.net.inputs]
    near(case.net, values, dtype)


@pytest.mark.parametrize(("name", "kernel"), NO_KERNEL.items())
def test_what_torch_cannot_do_on_a_cpu(name, kernel, tmp_path):
    folder = "ops" if name == "lrn_across" else "face_layers"
    case = golden_cases.load(folder, name, tmp_path, "test")
    with pytest.raises(NotImplementedError, match=kernel):
        outputs(case.net.to_torch().half(), [case.inputs[name] for name in case.net.inputs], torch.float16)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_face_net(tmp_path, dtype):
    """Depthwise convolutions with BatchNorm, PReLU and a shortcut, as MobileFaceNet has them."""
    text = nets.inputs(data=(2, 3, 16, 16)) + nets.conv("data", "c1", 8)
    for bottom, top in (("c1", "c2"), ("c2", "c3")):
        text += nets.layer("BatchNorm", bottom, f"{top}n", name=f"{top}_bn") + nets.layer("PReLU", f"{top}n", f"{top}n")
        text += nets.conv(f"{top}n", f"{top}d", 8, "kernel_size: 3 pad: 1 group: 8")
        text += nets.layer("Eltwise", f"{bottom} {top}d", top)
    net = nets.load(tmp_path, text + nets.inner_product("c3", "fc", 16))
    random = np.random.default_rng(0)
    for param in net.params:
        if param.layer.endswith("_bn"):
            param.data = random.uniform(0.5, 1.5, param.shape)
    near(net, [random.standard_normal((2, 3, 16, 16))], dtype)
