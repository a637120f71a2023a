"""Every layer type as source: Caffe's recorded numbers come out, or the layer is refused by name and type."""

from __future__ import annotations

import inspect
from pathlib import Path

import caffeport
import numpy as np
import pytest
from caffeport.operators.base import Role
from caffeport.to_torch.source import small_modules, ssd_modules
from support import golden_cases as golden
from support.source_files import check_style, outputs_of

RTOL, ATOL = 1e-4, 1e-5  # as test_golden's
FACES = ("flip", "inner_distance", "inner_product", "normalize", "scale_scalar")
RECORDED = [(folder, name) for folder in ("ops", "ssd") for name in golden.cases(folder)]
RECORDED += [("face_layers", name) for name in golden.cases("face_layers") if name.startswith(FACES)]


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


@pytest.mark.parametrize("module", [small_modules, ssd_modules])
def test_modules_that_are_copied_fit_any_line_length(module):
    """Their file is formatted for 120 characters; what is copied has to be for 88 too."""
    check_style(Path(inspect.getfile(module)), 88)
