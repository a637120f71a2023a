"""debug_info: the lines and numbers that real Caffe prints; the display of the last micro-batch."""

from __future__ import annotations

import re

import caffeport
import normface
import numpy as np
import pytest
import torch
from normface.solver.training import Training
from support import caffe_trees, nets, solver_cases

LINE = re.compile(r"\[(Forward|Backward)\] Layer (\S+), (top blob|bottom blob|param blob) (\S+) (?:data|diff): (\S+)")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lines_of(text):
    """The first of either pass: {(pass, layer, what, name): number}."""
    numbers = {}
    for match in LINE.finditer(text):
        numbers.setdefault(match.groups()[:4], float(match[5]))
    return numbers


@pytest.mark.slow
def test_the_numbers_are_caffes(tmp_path):
    """An iteration with in-place layers, statistics, shared and frozen blobs. Caffe's Split layers, which stand in no
    text, have lines of their own there, and so have the blobs that only they read."""
    tree = caffe_trees.require("bvlc")
    arrays = solver_cases.samples()
    init = {key.replace("init/", "weight/"): array for key, array in arrays.items() if key.startswith("init/")}
    text = solver_cases.solvers()["SGD_fixed"].replace("display: 0", "display: 1 debug_info: true")
    memory = {f"memory/{blob}": arrays[blob][: solver_cases.BATCH] for blob in ("data", "label")}
    np.savez(
        tmp_path / "debug.job.npz", kind="train", net=solver_cases.NET, solver=text, steps=1, **memory, **init
    )  # fmt: skip
    script = caffe_trees.REPOSITORY / "tests/support/pycaffe_jobs.py"
    environment = {**tree.environment(), "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"}
    result = caffe_trees.run([tree.interpreter, str(script), str(tmp_path)], env=environment)
    assert result.returncode == 0
    theirs = lines_of(result.stdout)

    blobs = {}
    for key in sorted(init):
        blobs.setdefault(key.split("/")[1], []).append(init[key])
    nets.load(tmp_path, solver_cases.NET, phase="train").with_weights(blobs).save(tmp_path / "init.caffemodel")
    path = nets.write(tmp_path, 'net: "net.prototxt"\n' + text, "solver.prototxt")
    solver = normface.Solver(path, net=tmp_path / "net.prototxt", weights=tmp_path / "init.caffemodel")
    said = []
    solver.debug = said.append
    solver.step({blob: arrays[blob][: solver_cases.BATCH] for blob in ("data", "label")})
    ours = lines_of("\n".join(said))

    unsplit = {key: number for key, number in theirs.items() if "_split" not in key[1] and "_split" not in key[3]}
    both = unsplit.keys() & ours.keys()
    wanted = {key for key in unsplit if key not in both}
    assert not wanted, "; ".join(map(str, sorted(wanted)))  # every line of Caffe's that is not about a split is here
    for key in both:
        if key[0] == "Backward" and key[1] in ("left", "right") and key[2] == "param blob":
            continue  # shared: Caffe tells what has been summed up so far, here the sum is told
        assert ours[key] == pytest.approx(unsplit[key], rel=2e-4, abs=1e-6), key  # of six digits
    assert len(both) > 30
    assert ("Backward", "ip1", "param blob", "0") in both and ("Forward", "left", "param blob", "w") in both


def test_lines_of_displayed_iterations_only_and_none_that_is_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = nets.layer(
        "DummyData", "", "data label",
        'dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 } data_filler { type: "gaussian" } '
        'data_filler { type: "constant" value: 1 } }',
    ) + nets.inner_product("data", "fc", 2) + nets.layer("SoftmaxWithLoss", "fc label", "loss")  # fmt: skip
    nets.write(tmp_path, text)
    settings = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 5 display: 2 snapshot_after_train: false '
    for asked in (True, False):
        nets.write(tmp_path, settings + f"debug_info: {str(asked).lower()}", "solver.prototxt")
        solver = normface.Solver("solver.prototxt", sources=True)
        said = []
        Training(solver, said.append).run()
        forward = [line for line in said if "[Forward] Layer fc, top blob fc data" in line]
        assert len(forward) == (3 if asked else 0)  # iterations 0, 2 and 4
        assert sum("[Backward] Layer fc, param blob 1 diff" in line for line in said) == len(forward)


def test_the_display_is_of_the_last_micro_batch(tmp_path):
    """And the loss beside it the mean of all, as Caffe's Step has both."""
    text = nets.inputs(data=(2, 3), label=(2,)) + nets.inner_product("data", "fc", 2) + nets.layer(
        "SoftmaxWithLoss", "fc label", "loss"
    )  # fmt: skip
    nets.write(tmp_path, text)
    solver = normface.Solver(
        nets.write(tmp_path, 'net: "net.prototxt" base_lr: 0 lr_policy: "fixed" iter_size: 2', "solver.prototxt")
    )
    random = np.random.default_rng(0)
    batches = [{"data": random.normal(size=(2, 3)), "label": np.array([0, 1])} for _ in range(2)]
    net = caffeport.load(tmp_path / "net.prototxt", phase="train")
    model = net.with_weights({"fc": solver.net().layers[-2].blobs}).to_torch()
    each = [
        model(torch.from_numpy(b["data"]).float(), torch.from_numpy(b["label"]).float()).item() for b in batches
    ]  # fmt: skip
    tops = solver.step(batches)
    assert float(solver.last_outputs["loss"]) == pytest.approx(each[1], rel=1e-6)
    assert tops["loss"] == pytest.approx(np.mean(each), rel=1e-6) and solver.loss == pytest.approx(tops["loss"])
    assert abs(each[0] - each[1]) > 1e-3


def test_the_last_loss_changes_nothing(tmp_path):
    """A forward pass in the TRAIN phase moves statistics and draws dropout's numbers; both are as before."""
    text = (
        nets.inputs(data=(4, 3, 5, 5), label=(4,))
        + nets.layer("BatchNorm", "data", "bn")
        + nets.layer("Dropout", "bn", "drop")
        + nets.inner_product("drop", "fc", 2)
        + nets.layer("SoftmaxWithLoss", "fc label", "loss")
    )
    nets.write(tmp_path, text)
    solver = normface.Solver(
        nets.write(tmp_path, 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed"', "solver.prototxt")
    )
    batch = {"data": np.random.default_rng(0).normal(size=(4, 3, 5, 5)), "label": np.arange(4) % 2}
    solver.step(batch)
    before = [param.data.copy() for param in solver.net().params]
    once, again = solver.loss_of(batch), solver.loss_of(batch)
    assert once == again and solver.iteration == 1
    for mine, kept in zip(solver.net().params, before, strict=True):
        np.testing.assert_array_equal(mine.data, kept)
    assert solver.step(batch)["loss"] == pytest.approx(once, rel=1e-6)
