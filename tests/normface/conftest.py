"""Fixtures of the tests of normface."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """torch on one thread: small nets are quickest so, and sums come out the same everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
