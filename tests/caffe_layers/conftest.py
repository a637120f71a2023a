"""Fixtures of the tests with real Caffe."""

import pytest
from support import caffe_trees


@pytest.fixture(scope="session", params=list(caffe_trees.VERSIONS))
def caffe_tree(request) -> caffe_trees.Tree:
    """Official BVLC Caffe and an SSD fork, each with the face layers."""
    return caffe_trees.require(request.param)


@pytest.fixture(scope="session")
def pycaffe() -> caffe_trees.Tree:
    """Official BVLC Caffe with the face layers, for comparisons with caffeport."""
    return caffe_trees.require("bvlc")
