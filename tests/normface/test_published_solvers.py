"""BVLC's example solvers as they stand, two iterations each on made data; their logs, as plot scripts read them."""

from __future__ import annotations

import datetime
import math
import os
import re
import shutil

import caffeport
import numpy as np
import pytest
import torch
from normface.cli.main import main
from support import bvlc_solvers
from support.caffe_log import read_log

pytest.importorskip("plyvel", reason="siamese's databases are LevelDBs, read by plyvel")
pytestmark = pytest.mark.slow

OUTPUTS = {
    "lenet": ({"loss"}, {"accuracy", "loss"}),
    "cifar10_quick": ({"loss"}, {"accuracy", "loss"}),
    "cifar10_full": ({"loss"}, {"accuracy", "loss"}),
    "siamese": ({"loss"}, {"loss"}),
    "autoencoder": ({"cross_entropy_loss", "l2_error"},) * 2,
    "hdf5": ({"loss"}, {"accuracy", "loss"}),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(path, capsys, *more):
    assert main(["train", "--solver", str(path), *more]) == 0
    said = capsys.readouterr()
    return read_log(said.out, datetime.date.today().year), said


@pytest.mark.slow
@pytest.mark.parametrize("name", bvlc_solvers.SOLVERS)
def test_two_iterations_from_caffes_root(name, tmp_path, monkeypatch, capsys):
    solver = bvlc_solvers.write(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    log, said = trained(solver.relative_to(tmp_path), capsys)
    train, test = OUTPUTS[name]
    assert log.done and sorted(log.losses) == [0, 1, 2]  # the last of a forward pass after the last update
    assert all(math.isfinite(loss) for loss in log.losses.values())
    assert set(log.train) == {0, 1} and all(set(row) == train for row in log.train.values())
    assert set(log.test[0]) == test and set(log.rates) == {0, 1}
    assert all(seconds >= 0 for seconds in log.seconds.values())
    text = solver.read_text()
    prefix = re.search(r'snapshot_prefix: "(.*)"', text)[1]
    h5 = ".h5" if "HDF5" in text else ""
    for part in ("caffemodel", "solverstate"):
        assert (tmp_path / f"{prefix}_iter_2.{part}{h5}").is_file()
    if "solver_mode: GPU" in text and not torch.cuda.is_available():
        assert "note: solver_mode is GPU, and torch sees none here; the CPU computes" in said.err
    else:
        assert "GPU" not in said.err
    # The snapshot goes on, and Caffe's solver finds it as it is: max_iter 3 is one iteration more.
    solver.write_text(text.replace("max_iter: 2", "max_iter: 3"))
    again, _ = trained(solver.relative_to(tmp_path), capsys, "--snapshot", f"{prefix}_iter_2.solverstate{h5}")
    assert sorted(again.losses) == [2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "cifar10_quick"])
def test_a_solver_and_its_net_in_one_folder_without_caffes_root(name, tmp_path, monkeypatch, capsys):
    """As people download them: the net lies beside the solver under its bare name, and the snapshots come there."""
    solver = bvlc_solvers.write(tmp_path / "root", name)
    kept = tmp_path / "kept"
    kept.mkdir()
    for path in solver.parent.glob("*.prototxt"):
        shutil.copy(path, kept)
    monkeypatch.chdir(tmp_path / "root")
    data = tmp_path / "root" / "data"
    os.rename(solver.parent, data)  # the nets are gone from where the solver says, the data are named by hand
    net = next(kept.glob("*train_test.prototxt"))
    net.write_text(re.sub(r'"examples/\w+/', '"data/', net.read_text()))
    log, said = trained(kept / solver.name, capsys)
    assert log.done and f"(the net) is taken from beside the solver: {net}" in said.err
    assert said.err.count("is taken from beside") == 1
    assert list(kept.glob("*_iter_2.caffemodel*")) and f"snapshots go beside the solver: {kept}" in said.err


def test_a_siamese_nets_towers_stay_one(tmp_path, monkeypatch, capsys):
    solver = bvlc_solvers.write(tmp_path, "siamese")
    monkeypatch.chdir(tmp_path)
    trained(solver, capsys)
    net = caffeport.load(
        "examples/siamese/mnist_siamese_train_test.prototxt",
        "examples/siamese/mnist_siamese_iter_2.caffemodel",
        phase="train",
        input_shapes={"pair_data": (64, 2, 28, 28), "sim": (64,)},
    )
    layers = {layer.name: layer for layer in net.layers}
    for name in ("conv1", "conv2", "ip1", "ip2", "feat"):
        for one, other in zip(layers[name].blobs, layers[f"{name}_p"].blobs, strict=True):
            np.testing.assert_array_equal(one, other)
