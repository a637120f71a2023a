"""The losses on a GPU: the CPU's numbers, and no waiting for the GPU in between."""

from __future__ import annotations

import pytest
import torch
from normface import losses

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

NAMES = [*losses.LOSSES, "softmax+0.01*c-contrastive"]


def step(loss, x, labels):
    features = x.clone().requires_grad_()
    value = loss(features, labels)
    value.backward()
    return [value, features.grad, *(parameter.grad for parameter in loss.parameters())]


@pytest.mark.parametrize("name", NAMES)
def test_the_cpus_numbers(name):
    torch.manual_seed(0)
    on_cpu, on_gpu = losses.make(name, 700, 64), losses.make(name, 700, 64, device="cuda")
    on_gpu.load_state_dict(on_cpu.state_dict())
    x, labels = torch.randn(96, 64), torch.randint(700, (96,))
    for one, other in zip(step(on_cpu, x, labels), step(on_gpu, x.cuda(), labels.cuda()), strict=True):
        assert other.device.type == "cuda"
        torch.testing.assert_close(other.cpu(), one, rtol=1e-4, atol=1e-6)  # float32 sums in another order
    torch.testing.assert_close(on_gpu.logits(x.cuda()).cpu(), on_cpu.logits(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
@pytest.mark.parametrize("name", NAMES)
def test_no_waiting(name, autocast):
    loss = losses.make(name, 700, 64, device="cuda")
    x, labels = torch.randn(96, 64, device="cuda"), torch.randint(700, (96,), device="cuda")
    step(loss, x, labels)  # what is set up once may wait
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", torch.float16, enabled=autocast):
            step(loss, x, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_labels_elsewhere_are_brought_along():
    loss = losses.NormalizedSoftmaxLoss(5, 3, device="cuda")
    x, labels = torch.randn(4, 3, device="cuda"), torch.tensor([0, 1, 4, 2])
    assert loss(x, labels).item() == loss(x, labels.cuda()).item()


def test_many_classes():
    """More than one block of weights: 2^27 numbers and some."""
    loss = losses.NormalizedSoftmaxLoss(300_000, 512, device="cuda")
    x, labels = torch.randn(8, 512, device="cuda"), torch.randint(300_000, (8,), device="cuda")
    scores = loss.logits(x).double()
    expected = torch.nn.functional.cross_entropy(scores, labels)
    torch.testing.assert_close(loss(x, labels).double(), expected, rtol=1e-4, atol=1e-5)
