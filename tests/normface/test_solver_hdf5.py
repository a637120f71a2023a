"""Snapshots as HDF5: between Caffe and here in both directions, to the same bits here, and files that are none."""

from __future__ import annotations

import sys

import h5py
import normface
import numpy as np
import pytest
import torch
from caffeport.errors import CaffeportError, MissingDependencyError
from normface.cli.main import main
from normface.errors import TrainingError
from normface.solver import hdf5_state, state
from support import caffe_trees, nets, solver_cases
from support.caffe_jobs import run_jobs

CASES = ("SGD_multistep", "Adam_fixed")
STEPS = solver_cases.STEPS // 2

NET = nets.inputs(data=(4, 6), label=(4,)) + nets.inner_product("data", "fc", 3) + nets.layer(
    "SoftmaxWithLoss", "fc label", "loss"
)  # fmt: skip
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 random_seed: 1 snapshot_format: HDF5\n'


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(folder, more=""):
    nets.write(folder, NET)
    return normface.Solver(nets.write(folder, SOLVER + more, "solver.prototxt"))


def run(solver, steps):
    found = []
    for _ in range(steps):
        random = np.random.default_rng(solver.iteration)
        found.append(solver.step({"data": random.normal(size=(4, 6)), "label": random.integers(0, 3, 4)}))
    return found


@pytest.mark.parametrize("kind", ["", 'type: "Adam"'])
def test_a_restored_run_goes_on_to_the_same_bits(kind, tmp_path):
    through = small(tmp_path, kind)
    run(through, 3)
    path = through.snapshot(tmp_path / "x")
    assert path == tmp_path / "x_iter_3.solverstate.h5" and (tmp_path / "x_iter_3.caffemodel.h5").is_file()
    expected = run(through, 3)
    again = small(tmp_path, kind)
    for named in ("x", "x_iter_3.caffemodel.h5", "x_iter_3.solverstate.h5", "x_iter_3"):
        assert again.restore(tmp_path / named) == path, named
    assert again.iteration == 3 and run(again, 3) == expected
    assert not list(tmp_path.glob(".*.part"))


def test_a_binary_snapshot_is_restored_by_a_solver_that_writes_hdf5(tmp_path):
    nets.write(tmp_path, NET)
    binary = normface.Solver(nets.write(tmp_path, SOLVER.replace("snapshot_format: HDF5", ""), "b.prototxt"))
    run(binary, 2)
    binary.snapshot(tmp_path / "b")
    expected = run(binary, 2)
    solver = small(tmp_path)
    solver.restore(tmp_path / "b")
    assert run(solver, 2) == expected


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Each case's first half in Caffe, written as HDF5, and here; and what Caffe makes of ours, going on."""
    tree, folder = caffe_trees.require("bvlc"), tmp_path_factory.mktemp("halves")
    arrays = solver_cases.samples()
    init = {key.replace("init/", "weight/"): array for key, array in arrays.items() if key.startswith("init/")}
    samples = STEPS * solver_cases.BATCH
    texts = {
        name: text.replace("'snap'", f'"{folder}/caffe_{name}"') + " snapshot_format: HDF5"
        for name, text in solver_cases.solvers().items()
        if name in CASES
    }

    def job(name, part, **more):
        memory = {f"memory/{blob}": arrays[blob][part] for blob in ("data", "label")}
        return {"kind": "train", "net": solver_cases.NET, "solver": texts[name], "steps": STEPS, **memory, **more}

    first = run_jobs(tree, folder, {name: job(name, slice(samples), snapshot=True, **init) for name in CASES})
    ours, second = {}, {}
    for name in CASES:
        ours[name] = here(folder, name, init)
        feed(ours[name], 0, STEPS)
        path = ours[name].snapshot(folder / f"ours_{name}")
        feed(ours[name], STEPS, 2 * STEPS)
        second[name] = job(name, slice(samples, 2 * samples), restore=str(path),
            weights_hdf5=str(folder / f"ours_{name}_iter_{STEPS}.caffemodel.h5"))  # fmt: skip
    return folder, init, ours, first, run_jobs(tree, folder, second)


def here(folder, name, init):
    blobs = {}
    for key in sorted(init):
        blobs.setdefault(key.split("/")[1], []).append(init[key])
    nets.load(folder, solver_cases.NET, phase="train").with_weights(blobs).save(folder / "init.caffemodel")
    text = 'net: "net.prototxt"\nsnapshot_format: HDF5\n' + solver_cases.solvers()[name]
    return normface.Solver(nets.write(folder, text, f"{name}.prototxt"), weights=folder / "init.caffemodel")


def feed(solver, start, end):
    arrays = solver_cases.samples()
    for iteration in range(start, end):
        part = slice(iteration * solver_cases.BATCH, (iteration + 1) * solver_cases.BATCH)
        solver.step({"data": arrays["data"][part], "label": arrays["label"][part]})


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_caffes_hdf5_is_gone_on_with_here(name, halves):
    """Its shared blobs stand once, with the layer that owns them."""
    folder, init, ours, _, _ = halves
    solver = here(folder, name, init)
    assert solver.restore(folder / f"caffe_{name}").name == f"caffe_{name}_iter_{STEPS}.solverstate.h5"
    feed(solver, STEPS, 2 * STEPS)
    for mine, theirs in zip(solver.net().params, ours[name].net().params, strict=True):
        np.testing.assert_allclose(mine.data, theirs.data, rtol=1e-4, atol=1e-5)  # as of binary states


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_our_hdf5_is_gone_on_with_in_caffe(name, halves):
    _, _, ours, _, second = halves
    for layer in ours[name].net().layers:
        for index, blob in enumerate(layer.blobs):
            np.testing.assert_allclose(blob, second[name][f"blob/{layer.name}/{index}"], rtol=1e-4, atol=1e-5)


def damaged(path, change):
    with h5py.File(path, "a") as file:
        change(file)


def without(name):
    def change(file):
        del file[name]

    return change


def replaced(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def huge(file):
    del file["history/0"]
    file.create_dataset("history/0", (1 << 28,), "f4", compression="gzip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("iter"), "it has no iter"),
        (without("history"), "it has no history"),
        (without("history/0"), "its history is not numbered from 0"),
        (replaced("history/0", "text"), "history 0 is object, no numbers"),
        (replaced("history/0", np.zeros(7, np.float32)), "history 0 has 7 numbers, but the blob has 18"),
        (replaced("iter", np.array([-2], np.int32)), "expected its iteration and its weights"),
        (replaced("iter", np.zeros(2)), "iter is float64 .*expected a whole number"),
        (replaced("learned_net", np.float32(3)), "learned_net is float32 .*expected a file's name"),
        (replaced("normface_extras", np.zeros(9, np.uint8)), "is HDF5, but no solver state"),
        (huge, "declares far more numbers than a file of its size holds"),
    ],
)
def test_files_that_are_no_states(change, message, tmp_path):
    solver = small(tmp_path)
    run(solver, 1)
    path = solver.snapshot(tmp_path / "x")
    damaged(path, change)
    before = [param.data.copy() for param in solver.net().params]
    with pytest.raises(CaffeportError, match=message) as caught:
        solver.restore(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    for mine, kept in zip(solver.net().params, before, strict=True):
        np.testing.assert_array_equal(mine.data, kept)


def test_a_file_cut_short(tmp_path):
    solver = small(tmp_path)
    path = solver.snapshot(tmp_path / "x")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(TrainingError, match="is HDF5, but no solver state of Caffe's"):
        state.read(path)


def test_without_h5py_one_line_says_what_to_install_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match="HDF5 snapshots need h5py; install it: pip install h5py"):
        hdf5_state.need_h5py("x")
    text = NET.replace("Input", "DummyData").replace("input_param", "dummy_data_param")
    nets.write(tmp_path, text)
    solver = nets.write(tmp_path, SOLVER + f'max_iter: 2 snapshot_prefix: "{tmp_path}/s"', "solver.prototxt")
    assert main(["train", "--solver", str(solver)]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].endswith("pip install h5py")


def test_a_layer_whose_name_hdf5_cannot_hold_is_told_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    text = NET.replace("Input", "DummyData").replace("input_param", "dummy_data_param")
    nets.write(tmp_path, text.replace('name: "fc"', 'name: "in/1x1"'))
    solver = nets.write(tmp_path, SOLVER + f'max_iter: 2 snapshot_prefix: "{tmp_path}/s"', "solver.prototxt")
    assert main(["train", "--solver", str(solver)]) == 2
    said = capsys.readouterr()
    assert 'layer "in/1x1" (InnerProduct): its name cannot stand in HDF5 snapshots' in said.err
    assert "Iteration" not in said.out
