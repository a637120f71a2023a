"""normface plan: the formula against sums by hand, and the command."""

from __future__ import annotations

import json

import pytest
from normface.errors import NormfaceError
from normface.scaling import Setup, plan
from support.command_line import refused, said


def test_the_parts_of_ten_million_on_eight():
    """Worked out by hand: 1,250,000 rows of 512 numbers, 640 million numbers, four bytes each."""
    made = plan(Setup(classes=10_000_000, processes=8, batch=256, memory=80 * 10**9, bandwidth=100e9))
    assert made.rows == 1_250_000
    assert made.parts == {
        "weights": 2_560_000_000,
        "gradient": 2_560_000_000,
        "momentum": 2_560_000_000,
        "embeddings": 2 * 256 * 512 * 4,
        "scores": 256 * 1_250_000 * 4,
        "row figures": 5_000_000,
        "buffers": 2 * 64 * 2**20,
        "backbone": 0,
    }
    # 7/8 of a ring: embeddings of 2048 bytes and a label of 8; twice for sums, of 12 bytes and of the gradient
    assert list(made.messages.values()) == [7 * 32 * (2048 + 8), 2 * 7 * 32 * 12, 2 * 7 * 32 * 2048, 0]
    assert made.unsharded == 2 * 7 * 10_000_000 * 512 * 4 // 8
    assert made.sent == sum(made.messages.values()) and made.seconds == made.sent / 100e9
    assert made.fits and made.total == sum(made.parts.values())


def test_sampled_fused_and_narrow():
    made = plan(Setup(classes=1_000_003, embedding=256, processes=2, batch=100, dtype="bfloat16", sampled=0.1))
    assert made.rows == 500_002 and made.parts["weights"] == 2 * 500_002 * 256
    assert made.parts["gradient"] == 2 * 50_001 * 256 and made.parts["scores"] == 4 * 100 * 50_001
    assert made.parts["momentum"] == 4 * 500_002 * 256 and made.parts["row figures"] == 4 * 50_001 + 4 * 500_002
    fused = plan(Setup(classes=1000, fused=True, momentum="none", backbone=10, activations=7, processes=3, batch=10))
    assert (fused.parts["gradient"], fused.parts["momentum"], fused.parts["backbone"]) == (0, 0, 3 * 4 * 10 + 7 * 4)
    assert fused.messages["gradient of the backbone, summed"] == round(2 * 2 / 3 * 40)


@pytest.mark.parametrize("options", [{}, {"sampled": 0.2, "processes": 3}, {"fused": True, "dtype": "float16"}])
def test_the_most_classes_that_fit_are_the_most(options):
    made = plan(Setup(classes=1000, memory=10**9, **options))
    most = made.most_classes
    assert plan(Setup(classes=most, memory=10**9, **options)).fits
    assert not plan(Setup(classes=most + options.get("processes", 1), memory=10**9, **options)).fits
    assert plan(Setup(classes=1000, memory=1000, **options)).most_classes == 0


def test_one_process_sends_nothing():
    made = plan(Setup(classes=1000, backbone=1000))
    assert made.sent == 0 and made.unsharded == 0 and made.seconds == 0


def test_problems_are_told_together():
    with pytest.raises(
        NormfaceError, match=r'classes 1: expected .* of 2 or more; sampled 0: .*; dtype "float64" is unkn'
    ):
        Setup(classes=1, sampled=0, dtype="float64")
    with pytest.raises(NormfaceError, match="bandwidth 0: expected more than 0"):
        Setup(classes=10, bandwidth=0)


def test_the_command(capsys):
    """A row takes 3 x 2,048 bytes, 1,024 of scores and 4: (80e9 - 135,266,304) / 7,172 rows on each of eight."""
    call = ("plan", "--classes", "1e7", "--gpus", "8", "--memory", "80")
    code, out, _ = said(capsys, *call)
    assert code == 0 and "fits into 80 GB; 89,085,032 classes at most do" in out
    assert "L = 1,250,000 rows of the class weights; D 512, N 256, R 8, q 1" in out
    assert ["weights", "4", "L", "D", "2.560"] in [line.split() for line in out.splitlines()]
    code, out, _ = said(capsys, *call, "--json", "--backbone", "4.4e7", "--activations", "60")
    content = json.loads(out)
    assert code == 0 and content["parts"]["backbone"] == 12 * 44_000_000 + 60_000_000 * 32
    assert content["total"] == sum(content["parts"].values()) and set(content["formulas"]) == set(content["parts"])
    code, out, _ = said(capsys, "plan", "--classes", "1e7", "--memory", "24")
    assert code == 1 and "does not fit into 24 GB; " in out
    assert "expected a whole number, got '1.5'" in refused(capsys, "plan", "--classes", "1.5")
    assert "sampled 2: expected a share above 0, up to 1" in refused(capsys, "plan", "--classes", "9", "--sampled", "2")
