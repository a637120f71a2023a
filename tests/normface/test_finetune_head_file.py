"""head.safetensors of ranks that share the class weights' rows: the file that one process with all rows has."""

from __future__ import annotations

import pytest
import torch
from normface import parallel
from normface.errors import TrainingError
from normface.finetune import head_file
from safetensors.torch import load_file, save_file
from support.head_files import CLASSES, LOSSES, D, write_and_read
from support.ranks import run_ranks

AXES = {"weight": 0, "bias": 0, "more": 1}
"""The axis of the classes."""


def whole(kind: str) -> dict[str, torch.Tensor]:
    """What one process has: class weights start alike on any number of ranks."""
    name, options = LOSSES[kind]
    torch.manual_seed(3)
    return parallel.make(name, CLASSES, D, **options).loss.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])  # of five the last one has no rows
@pytest.mark.parametrize(
    ("kind", "block"), [("a bias", 8), ("sub-centers", 4), ("a sum", 1 << 22), ("a running number", 1)]
)
def test_the_ranks_write_one_file_and_read_their_rows(ranks, kind, block, tmp_path, monkeypatch):
    monkeypatch.setattr(head_file, "BLOCK", block)
    path = tmp_path / "head.safetensors"
    expected = whole(kind)
    if ranks == 1:
        results = [write_and_read(str(path), kind, block)]
    else:
        results = run_ranks(ranks, "support.head_files:write_and_read", str(path), kind, block)
    stored = load_file(path)
    assert {*stored} == {*expected}
    for name, tensor in expected.items():
        assert stored[name].dtype == tensor.dtype and stored[name].equal(tensor), name
    for result in results:
        for name, tensor in expected.items():
            axis = AXES.get(name.rpartition(".")[2])
            if axis is not None and tensor.dim() > axis:
                tensor = tensor.narrow(axis, result["first"], result["count"])
            assert result["state"][name] == tensor.tolist(), name


def test_a_file_of_other_classes_is_told(tmp_path):
    head = parallel.make("normalized-softmax", CLASSES + 1, D)
    path = tmp_path / "head.safetensors"
    save_file(whole("a running number"), path)
    with pytest.raises(TrainingError, match=r"head.safetensors: does not fit .* weight has 7 classes, expected 8"):
        head_file.read(path, head.loss)
    path.write_bytes(b"junk")
    with pytest.raises(TrainingError, match=r"head.safetensors: is no safetensors file"):
        head_file.read(path, head.loss)
