"""Schedules of margins beyond the range of numbers: as C's pow has them, infinite or NaN, and no Python error."""

from __future__ import annotations

import math

import numpy as np
import torch
from support.face_layers import build

SCORES = np.array([[0.5, -0.25, 0.75], [0.125, 0.5, -0.5]])
LABELS = np.array([2.0, 0.0])


def second_bias(tmp_path, schedule):
    """(the scores, the bias) of the second pass of a LabelSpecificAdd, (1 + gamma)^power - 1 with base 0."""
    model = build(tmp_path, "LabelSpecificAdd", f"bias_base: 0 {schedule}", SCORES.shape, "out size")
    for _ in range(2):
        tops = model(torch.tensor(SCORES), torch.tensor(LABELS))
    return tops["out"].numpy(), tops["size"].item()


def test_a_bias_that_overflows_stops_at_its_bound(tmp_path):
    out, bias = second_bias(tmp_path, "bias_gamma: 1e30 bias_power: 20 bias_min: -1 bias_max: 0.25")
    assert bias == 0.25
    expected = SCORES.copy()
    expected[[0, 1], [2, 0]] += 0.25
    np.testing.assert_array_equal(out, expected)


def test_a_bias_of_a_root_of_a_negative_number_is_nan(tmp_path):
    _, bias = second_bias(tmp_path, "bias_gamma: -3 bias_power: 0.5 bias_min: -1 bias_max: 0.25")
    assert math.isnan(bias)
