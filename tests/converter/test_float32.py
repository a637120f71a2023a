"""On a GPU everything is computed in float32, as on a CPU: cuDNN's TF32 is off while it is, and back afterwards."""

from __future__ import annotations

import pytest
import torch
from caffeport.to_torch.float32 import whole_float32


@pytest.mark.parametrize("before", [True, False])
def test_the_setting_is_put_back(monkeypatch, before):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    with whole_float32():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before
    with pytest.raises(ValueError, match="within"), whole_float32():
        raise ValueError("within")
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_convolution():
    """TF32 has ten bits of mantissa, so that its error is some 1e-3; float32's is below 1e-5."""
    torch.manual_seed(0)
    x, w = torch.randn(2, 256, 14, 14), torch.randn(256, 256, 3, 3) / 48
    expected = torch.nn.functional.conv2d(x.double(), w.double())
    with whole_float32():
        got = torch.nn.functional.conv2d(x.cuda(), w.cuda())
    torch.testing.assert_close(got.cpu().double(), expected, rtol=0, atol=2e-5)
