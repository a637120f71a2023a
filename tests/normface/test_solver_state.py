"""Snapshots: a run that goes on from one ends in the same numbers, bit for bit; and Caffe's own states."""

from __future__ import annotations

import io

import normface
import numpy as np
import pytest
import torch
from caffeport.errors import CaffeportError
from caffeport.formats import wire
from normface.errors import TrainingError
from normface.solver import state
from support import caffe_trees, nets, solver_cases
from support.caffe_jobs import run_jobs

RUNNING = (
    nets.inputs(data=(8, 3, 6, 6), label=(8,))
    + nets.conv("data", "conv1", 4)
    + nets.layer("BatchNorm", "conv1", "bn1")
    + nets.layer("PReLU", "bn1", "prelu1")
    + nets.layer("Dropout", "prelu1", "drop", "dropout_param { dropout_ratio: 0.3 }")
    + nets.inner_product("drop", "feature", 5)
    + nets.layer(
        "MarginInnerProduct", "feature label", "margin lambda",
        'margin_inner_product_param { num_output: 3 type: QUADRUPLE base: 100 gamma: 0.5 '
        'weight_filler { type: "xavier" } }',
    )
    + nets.layer("SoftmaxWithLoss", "margin label", "softmax_loss")
    + nets.layer("Normalize", "feature", "norm")
    + nets.layer(
        "InnerDistance", "norm", "distance",
        'inner_distance_param { num_output: 3 normalize: true weight_filler { type: "gaussian_unitball" } }',
    )
    + nets.layer(
        "GeneralContrastiveLoss", "distance label", "contrastive_loss mean",
        "general_contrastive_loss_param { add_intra_mae: true } loss_weight: 0.1 loss_weight: 0",
    )
    + nets.layer("CenterLoss", "feature label", "center_loss",
                 'center_loss_param { num_output: 3 center_filler { type: "xavier" } } loss_weight: 0.01')
)  # fmt: skip
"""Everything that a layer may count or keep: dropout, lambda, a running margin, statistics, centers, unit rows."""

SOLVER = 'net: "net.prototxt" base_lr: 0.02 lr_policy: "multistep" gamma: 0.5 max_iter: 40 stepvalue: 3 stepvalue: 8 '
TYPES = {"SGD": "momentum: 0.9", "AdaDelta": "momentum: 0.9", "Adam": "momentum: 0.9", "RMSProp": ""}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def solver_of(folder, kind="SGD", net=RUNNING, **options):
    nets.write(folder, net)
    text = SOLVER + f'type: "{kind}" weight_decay: 0.01 random_seed: 3 {TYPES[kind]}'
    return normface.Solver(nets.write(folder, text, "solver.prototxt"), **options)


def run(solver, steps):
    found = []
    for _ in range(steps):
        random = np.random.default_rng(solver.iteration)
        batch = {"data": random.normal(size=(8, 3, 6, 6)), "label": random.integers(0, 3, 8)}
        found.append(solver.step(batch))
    return found


@pytest.mark.parametrize("kind", TYPES)
def test_a_restored_run_goes_on_to_the_same_bits(kind, tmp_path):
    through = solver_of(tmp_path, kind)
    run(through, 6)
    path = through.snapshot(tmp_path / "x")
    assert path == tmp_path / "x_iter_6.solverstate" and path.with_suffix(".caffemodel").is_file()
    expected = run(through, 5)
    again = solver_of(tmp_path, kind)
    run(again, 2)  # whatever it did before is gone
    assert again.restore(tmp_path / "x") == path
    assert again.iteration == 6
    assert run(again, 5) == expected  # floats, compared exactly
    for mine, theirs in zip(again.net().params, through.net().params, strict=True):
        np.testing.assert_array_equal(mine.data, theirs.data)


def test_the_latest_of_a_prefix_counts(tmp_path):
    solver = solver_of(tmp_path)
    for _ in range(11):
        run(solver, 1)
        if solver.iteration in (2, 9, 10):
            solver.snapshot(tmp_path / "s")
    (tmp_path / "s_iter_99.solverstate.part").write_bytes(b"x")
    for named in ("s", "s_iter_10.solverstate", "s_iter_10.caffemodel", "s_iter_10"):
        assert solver.restore(tmp_path / named).name == "s_iter_10.solverstate", named
    assert solver.restore(tmp_path / "s_iter_9").name == "s_iter_9.solverstate"
    assert solver.iteration == 9


def test_snapshots_move_together(tmp_path):
    solver = solver_of(tmp_path)
    run(solver, 2)
    (tmp_path / "a").mkdir()
    solver.snapshot(tmp_path / "a" / "s")
    (tmp_path / "a").rename(tmp_path / "b")
    assert solver.restore(tmp_path / "b" / "s").parent == tmp_path / "b"
    (tmp_path / "b" / "s_iter_2.caffemodel").unlink()
    with pytest.raises(
        TrainingError, match=r"s_iter_2\.solverstate: its weights, .*s_iter_2\.caffemodel, are not here"
    ):
        solver.restore(tmp_path / "b" / "s")


def test_a_state_of_another_net_or_solver_is_refused_and_changes_nothing(tmp_path):
    solver = solver_of(tmp_path)
    run(solver, 2)
    solver.snapshot(tmp_path / "s")
    before = [param.data for param in solver.net().params]
    other = solver_of(tmp_path, "Adam")
    with pytest.raises(
        TrainingError, match=r"holds 11 histories, but this solver and net need 22 \(11 blobs, 2 each\)"
    ):
        other.restore(tmp_path / "s")
    wide = solver_of(tmp_path, net=RUNNING.replace("num_output: 4", "num_output: 6"))
    with pytest.raises(TrainingError, match=r"history 0 has 108 numbers, but the blob has 162; it belongs to another"):
        wide.restore(tmp_path / "s")
    assert wide.iteration == other.iteration == 0
    for mine, kept in zip(solver.net().params, before, strict=True):
        np.testing.assert_array_equal(mine.data, kept)


GOOD = b"\x08\x02\x12\x01w"  # iter 2, learned_net "w"
HOSTILE = [
    (b"", "is empty"),
    (b"hello, this is text", "is no solver state"),
    (b"\x89HDF\r\n\x1a\n" + bytes(64), "is HDF5, but no solver state of Caffe's"),
    (GOOD[:4], "is no solver state, or is truncated"),
    (GOOD[:2], "expected a .solverstate with its iteration and its weights"),
    (GOOD[2:], "expected a .solverstate with its iteration"),
    (GOOD + b"\x1a\xff\xff\xff\xff\x7f", "truncated"),
    (GOOD + wire.delimited(1000, b"nope"), "is no solver state, or is truncated"),
    (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + GOOD[2:], "is no solver state"),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE)
def test_files_that_are_no_states(content, message, tmp_path):
    path = tmp_path / "bad.solverstate"
    path.write_bytes(content)
    with pytest.raises(CaffeportError, match=message) as caught:
        state.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_no_state_at_all(tmp_path):
    with pytest.raises(
        TrainingError, match=r"none: no such state; looked for the file and for .*none_iter_N\.solverstate"
    ):
        state.newest(tmp_path / "none")
    with pytest.raises(TrainingError, match="no such state"):
        state.newest(tmp_path / "missing" / "none")


class Boom:
    """What a pickle could do when it is read."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def test_a_pickle_is_not_run(tmp_path):
    stream = io.BytesIO()
    np.savez(stream, json=np.array([Boom()], object))
    (tmp_path / "bad.solverstate").write_bytes(b"\x08\x02\x12\x01w" + wire.delimited(1000, stream.getvalue()))
    with pytest.raises(TrainingError, match="is no solver state"):
        state.read(tmp_path / "bad.solverstate")


def test_extras_come_back_as_they_were(tmp_path):
    extras = {"a": {"b": [1, 2.5, None, "x", True]}, "c": np.arange(3, dtype=np.int64), "": {}, "d": [np.float32(0.5)]}
    history = [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(4).reshape(())]
    state.write(tmp_path / "s", state.SolverState(7, "w", 2, extras=extras), iter(history))
    read = state.read(tmp_path / "s")
    assert (read.iteration, read.learned_net, read.current_step) == (7, "w", 2)
    for mine, expected in zip(read.history, history, strict=True):
        assert mine.shape == expected.shape
        np.testing.assert_array_equal(mine, expected)
    np.testing.assert_array_equal(read.extras.pop("c"), extras.pop("c"))
    assert read.extras == extras


CASES = ("SGD_multistep", "Adam_inv", "AdaDelta_step")


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Caffe's first six of twelve iterations with a snapshot, and its last six from a snapshot of normface's."""
    tree = caffe_trees.require("bvlc")
    folder = tmp_path_factory.mktemp("moving")
    jobs, first = solver_cases.jobs(), {}
    for name in CASES:
        job = dict(jobs[name], steps=6, snapshot=True)
        job["solver"] = job["solver"].replace("'snap'", f'"{folder}/caffe_{name}"')
        first[name] = job
    results = {"first": run_jobs(tree, folder, first)}
    ours, second = {}, {}
    for name in CASES:
        solver = solver_here(folder, name)
        feed(solver, 0, 6)
        path = solver.snapshot(folder / f"ours_{name}")
        feed(solver, 6, 12)
        ours[name] = solver
        skipped = 6 * solver_cases.BATCH
        second[name] = dict(jobs[name], steps=6, restore=str(path))
        for key in ("memory/data", "memory/label"):
            second[name][key] = jobs[name][key][skipped:]
    results["second"] = run_jobs(tree, folder, second)
    return folder, ours, results


def solver_here(folder, name):
    nets.write(folder, solver_cases.NET)
    arrays = solver_cases.samples()
    blobs = {}
    for key in sorted(arrays):
        if key.startswith("init/"):
            blobs.setdefault(key.split("/")[1], []).append(arrays[key])
    weights = folder / "init.caffemodel"
    if not weights.exists():
        nets.load(folder, solver_cases.NET, phase="train").with_weights(blobs).save(weights)
    text = 'net: "net.prototxt"\n' + solver_cases.solvers()[name]
    return normface.Solver(nets.write(folder, text, f"{name}.prototxt"), weights=weights)


def feed(solver, start, end):
    arrays = solver_cases.samples()
    for iteration in range(start, end):
        part = slice(iteration * solver_cases.BATCH, (iteration + 1) * solver_cases.BATCH)
        solver.step({"data": arrays["data"][part], "label": arrays["label"][part]})


def close(net, result):
    """The blobs of a net, and those of a result of real Caffe, to rounding."""
    for layer in net.layers:
        for index, blob in enumerate(layer.blobs):
            np.testing.assert_allclose(blob, result[f"blob/{layer.name}/{index}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_run_moves_from_caffe_to_here(name, halves):
    folder, ours, _ = halves
    solver = solver_here(folder, name)
    assert solver.restore(folder / f"caffe_{name}").name == f"caffe_{name}_iter_6.solverstate"
    feed(solver, 6, 12)
    for mine, theirs in zip(solver.net().params, ours[name].net().params, strict=True):
        np.testing.assert_allclose(mine.data, theirs.data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_run_moves_from_here_to_caffe(name, halves):
    _, ours, results = halves
    close(ours[name].net(), results["second"][name])
    assert ours[name].iteration == 12


def test_the_recording_is_what_caffe_computes_now(tmp_path):
    """All cases anew; the same build gives the same bits, another BLAS may round another way (measured: 1.3e-6 over
    the kernels of OpenBLAS from Prescott to Zen)."""
    fresh = solver_cases.run(caffe_trees.require("bvlc"), tmp_path)
    with np.load(solver_cases.RECORDING) as stored:
        assert set(stored.files) == set(fresh)
        for key in stored.files:
            np.testing.assert_allclose(fresh[key], stored[key], rtol=5e-6, atol=5e-6, err_msg=key)


def test_layers_whose_names_are_torchs_own(tmp_path):
    """What they count is kept under Caffe's names."""
    text = RUNNING
    for old, new in (("margin", "training"), ("feature", "forward"), ("contrastive_loss", "loss")):
        assert f'name: "{old}"' in text
        text = text.replace(f'name: "{old}"', f'name: "{new}"')
    through = solver_of(tmp_path, net=text)
    run(through, 3)
    path = through.snapshot(tmp_path / "x")
    expected = run(through, 2)
    again = solver_of(tmp_path, net=text)
    again.restore(path)
    assert run(again, 2) == expected
