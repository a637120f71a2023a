"""normface.Solver against what real Caffe recorded: the face forks' runs, and every type with every policy."""

from __future__ import annotations

import caffeport
import normface
import numpy as np
import pytest
import torch
from normface.errors import DivergedError, TrainingError
from support import golden_cases, nets, solver_cases

TRAJECTORIES = golden_cases.cases("trajectories")


@pytest.fixture(autouse=True)
def one_thread():
    """Small nets: threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def by_layer(arrays, prefix):
    found = {}
    for key in sorted(arrays):
        if key.startswith(prefix + "/"):
            found.setdefault(key.split("/")[1], []).append(arrays[key])
    return found


def initial(folder, net_text, blobs):
    """A .caffemodel with these blobs for the net."""
    path = folder / "init.caffemodel"
    nets.load(folder, net_text, phase="train").with_weights(blobs).save(path)
    return path


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_recorded_training_of_the_face_fork(name, tmp_path):
    """Forty iterations of caffe-windows' solver, from the texts as they stand but for center_step: FORK."""
    with np.load(golden_cases.GOLDEN / "trajectories" / f"{name}.npz") as stored:
        recorded = {key: stored[key] for key in stored.files}
    recorded["net"] = golden_cases.of_the_fork(str(recorded["net"]))
    recorded["solver"] = golden_cases.of_the_fork(str(recorded["solver"]))
    weights = initial(tmp_path, str(recorded["net"]), by_layer(recorded, "init"))
    solver = normface.Solver(nets.write(tmp_path, str(recorded["solver"]), "solver.prototxt"), weights=weights)
    tops = [
        solver.step({"data": x, "label": y})
        for x, y in zip(recorded["batches"], recorded["labels"], strict=True)
    ]  # fmt: skip
    assert solver.iteration == 40
    losses = by_layer(recorded, "loss")
    assert losses.keys() == tops[0].keys()
    for top, (expected,) in losses.items():
        found = np.array([each[top] for each in tops])
        np.testing.assert_allclose(found[:10], expected[:10], rtol=1e-4, err_msg=top)
        np.testing.assert_allclose(found, expected, rtol=1e-3, err_msg=top)
    final = solver.net()
    for layer, blobs in by_layer(recorded, "final").items():
        for mine, expected in zip(final.layer(layer).blobs, blobs, strict=True):
            assert mine.shape == expected.shape
            # Measured: 2e-4 at most. The first step that rounds another way changes all that follow.
            assert np.linalg.norm(mine - expected) <= 2e-3 * np.linalg.norm(expected), layer


@pytest.fixture(scope="module")
def recorded_cases():
    with np.load(solver_cases.RECORDING) as stored:
        return {key: stored[key] for key in stored.files}


@pytest.fixture(scope="module")
def cases_folder(tmp_path_factory, recorded_cases):
    folder = tmp_path_factory.mktemp("cases")
    initial(folder, solver_cases.NET, by_layer(recorded_cases, "init"))
    return folder


def batches_of(recorded, iteration, count):
    """The ``count`` batches of an iteration."""
    first = iteration * count * solver_cases.BATCH
    for start in range(first, first + count * solver_cases.BATCH, solver_cases.BATCH):
        part = slice(start, start + solver_cases.BATCH)
        yield {"data": recorded["data"][part], "label": recorded["label"][part]}


def flat(net):
    """All blobs as the recording has them: by layer name and index."""
    return np.concatenate(
        [blob.ravel() for layer in sorted(net.layers, key=lambda layer: layer.name) for blob in layer.blobs]
    )


@pytest.mark.parametrize("name", solver_cases.solvers())
def test_recorded_training_of_bvlc_caffe(name, cases_folder, recorded_cases):
    """Twelve iterations: losses to 4e-6 and all blobs to 2e-6 of their norm, one rounding an iteration at most."""
    text = solver_cases.solvers()[name]
    path = nets.write(cases_folder, 'net: "net.prototxt"\n' + text, f"{name}.prototxt")
    solver = normface.Solver(path, weights=cases_folder / "init.caffemodel")
    count = solver_cases.iter_size(text)
    found = []
    for iteration in range(solver_cases.STEPS):
        tops = solver.step(list(batches_of(recorded_cases, iteration, count)))
        found.append([tops[top] for top in sorted(tops)])
    if count == 1:  # the recording has the last batch's of an iteration, step() gives the mean
        np.testing.assert_allclose(found, recorded_cases[f"{name}/loss"], rtol=4e-6, atol=1e-6)
    expected, final = recorded_cases[f"{name}/final"], flat(solver.net())
    assert final.shape == expected.shape
    assert np.linalg.norm(final - expected) <= 2e-6 * np.linalg.norm(expected)


def test_blobs_with_lr_mult_0_stay(cases_folder, recorded_cases):
    path = nets.write(cases_folder, 'net: "net.prototxt"\n' + solver_cases.solvers()["SGD_fixed"], "frozen.prototxt")
    solver = normface.Solver(path, weights=cases_folder / "init.caffemodel")
    solver.step(list(batches_of(recorded_cases, 0, 1)))
    moved = {layer.name: layer.blobs for layer in solver.net().layers}
    np.testing.assert_array_equal(moved["ip1"][1], recorded_cases["init/ip1/1"])
    assert np.abs(moved["ip1"][0] - recorded_cases["init/ip1/0"]).max() > 1e-4


TINY = (
    nets.inputs(data=(4, 3), label=(4,))
    + nets.inner_product("data", "fc", 2)
    + nets.layer("SoftmaxWithLoss", "fc label", "loss")
)
PLAIN = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 100\n'


def tiny(folder, solver=PLAIN, net=TINY, **options):
    nets.write(folder, net)
    return normface.Solver(nets.write(folder, solver, "solver.prototxt"), **options)


def tiny_batch(seed=0, rows=4):
    random = np.random.default_rng(seed)
    return {"data": random.normal(size=(rows, 3)), "label": random.integers(0, 2, rows)}


def test_two_halves_are_one_batch(tmp_path):
    """iter_size 2: the mean loss and the mean gradient of both."""
    whole, halves = tiny(tmp_path), tiny(tmp_path, PLAIN + "iter_size: 2")
    for seed in range(3):
        batch = tiny_batch(seed)
        parts = [{name: array[start : start + 2] for name, array in batch.items()} for start in (0, 2)]
        assert halves.step(parts)["loss"] == pytest.approx(whole.step(batch)["loss"], rel=1e-6)
        assert halves.loss == pytest.approx(whole.loss, rel=1e-6)
    for mine, theirs in zip(whole.net().params, halves.net().params, strict=True):
        np.testing.assert_allclose(mine.data, theirs.data, rtol=1e-5, atol=1e-7)


def test_step_takes_tensors_and_other_batch_sizes(tmp_path):
    solver = tiny(tmp_path)
    batch = {name: torch.as_tensor(array) for name, array in tiny_batch(rows=9).items()}
    assert np.isfinite(solver.step(batch)["loss"])
    assert solver.iteration == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: [batch, batch], r"iter_size is 1: expected a list of that many batches, got 2"),
        (lambda batch: {"data": batch["data"]}, r"lacks label; the net's inputs are data, label"),
        (lambda batch: batch | {"lable": 1}, r'"lable", which is no input of the net \(did you mean "label"\?\)'),
        (lambda batch: batch | {"data": "x"}, r'"data" of the batch is no array of numbers'),
        (lambda batch: batch | {"data": np.zeros((4, 7))}, r"does not fit it: .*fc.*InnerProduct"),
        (lambda batch: [3], r"expected a batch \{input blob: array\}, got int"),
    ],
)
def test_batches_that_do_not_fit(change, message, tmp_path):
    solver = tiny(tmp_path)
    with pytest.raises(TrainingError, match=message):
        solver.step(change(tiny_batch()))
    assert solver.iteration == 0


def test_a_label_beyond_the_classes(tmp_path):
    with pytest.raises(TrainingError, match=r"iteration 0: the net cannot compute this batch .*are all labels below"):
        tiny(tmp_path).step(tiny_batch() | {"label": [0, 1, 2, 0]})


def test_a_loss_that_is_no_number_leaves_the_blobs(tmp_path):
    """Weights and the statistics of BatchNorm; and the run can go on."""
    net = TINY.replace('layer { name: "loss"', nets.layer("BatchNorm", "fc", "fc", name="bn") + 'layer { name: "loss"')
    solver = tiny(tmp_path, net=net)
    solver.step(tiny_batch())
    before = [param.data.copy() for param in solver.net().params]
    batch = tiny_batch()
    batch["data"][0, 0] = np.nan
    with pytest.raises(DivergedError, match=r"iteration 1: the loss is nan"):
        solver.step(batch)
    for mine, kept in zip(solver.net().params, before, strict=True):
        np.testing.assert_array_equal(mine.data, kept)
    assert solver.iteration == 1
    assert np.isfinite(solver.step(tiny_batch())["loss"])


def test_a_net_that_is_frozen_gathers_statistics(tmp_path):
    net = TINY.replace('top: "fc"', 'top: "fc" param { lr_mult: 0 } param { lr_mult: 0 }')
    net = net.replace('layer { name: "loss"', nets.layer("BatchNorm", "fc", "fc", name="bn") + 'layer { name: "loss"')
    solver = tiny(tmp_path, net=net)
    before = [blob.copy() for blob in solver.net().layer("fc").blobs]
    for _ in range(3):
        solver.step(tiny_batch())
    for mine, kept in zip(solver.net().layer("fc").blobs, before, strict=True):
        np.testing.assert_array_equal(mine, kept)
    mean, _, factor = solver.net().layer("bn").blobs
    scores = tiny_batch()["data"] @ before[0].T + before[1]
    np.testing.assert_allclose(mean / factor, scores.mean(0), rtol=1e-5)


def test_a_net_without_a_loss_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="has no loss in its TRAIN phase"):
        tiny(tmp_path, net=nets.inputs(data=(4, 3)) + nets.inner_product("data", "fc", 2))


def test_an_inner_blob_with_a_loss_weight_counts(tmp_path):
    """0.5 * sum(fc) besides the softmax: the gradient of the bias is that of the softmax plus 0.5 for every row."""
    net = TINY.replace('top: "fc"', 'top: "fc" loss_weight: 0.5')
    rate = 'net: "net.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 9'
    solver = tiny(tmp_path, rate, net)
    batch = tiny_batch()
    weight, bias = (blob.astype(np.float64) for blob in solver.net().layer("fc").blobs)
    scores = batch["data"] @ weight.T + bias
    share = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    share[np.arange(4), batch["label"]] -= 1
    solver.step(batch)
    # 2 / N = 0.5: fc's own loss is a sum over the batch, the softmax' a mean
    np.testing.assert_allclose(solver.net().layer("fc").blobs[1], bias - share.sum(0) / 4 - 0.5 * 4, rtol=1e-5)


def test_files_are_found_beside_the_solver(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    solver = tiny(tmp_path / "there")
    assert solver.notes and "net.prototxt (the net) is taken from beside the solver" in solver.notes[0]
    (tmp_path / "there" / "net.prototxt").unlink()
    with pytest.raises(
        TrainingError, match=r"net\.prototxt: no such file \(the net\); looked in the working directory"
    ):
        normface.Solver("there/solver.prototxt")
    assert normface.Solver("there/solver.prototxt", net=nets.write(tmp_path, TINY)).train_net.inputs == [
        "data",
        "label",
    ]


def test_weights_of_the_solver_and_over_them(tmp_path):
    def weights(name, value):
        net = nets.load(tmp_path, TINY, phase="train")
        net.with_weights({"fc": [np.full((2, 3), value), np.zeros(2)]}).save(tmp_path / name)

    weights("one.caffemodel", 1)
    weights("two.caffemodel", 2)
    text = PLAIN + 'weights: "one.caffemodel,two.caffemodel"'
    assert tiny(tmp_path, text).net().layer("fc").blobs[0][0, 0] == 2  # the later counts
    given = tiny(tmp_path, text, weights=tmp_path / "one.caffemodel")
    assert given.net().layer("fc").blobs[0][0, 0] == 1


def test_inline_nets_and_their_states(tmp_path):
    wide = TINY.replace("num_output: 2", "num_output: 5")
    net = nets.layer("SoftmaxWithLoss", "fc label", "loss")
    net = TINY.replace(net, "") + "".join(
        text.replace("layer {", f"layer {{ include {{ {rule} }}", 1)
        for rule, text in (
            ('stage: "a"', net.replace('"loss"', '"loss_a"')),
            ("min_level: 3", net.replace('"loss"', '"loss_b"')),
        )
    )
    text = PLAIN.replace('net: "net.prototxt"', f"net_param {{ {net} }}")
    assert tiny(tmp_path, text + 'train_state { stage: "a" }').train_net.outputs == ["loss_a"]
    assert tiny(tmp_path, text + "train_state { level: 3 }").train_net.outputs == ["loss_b"]
    text = PLAIN.replace('net: "net.prototxt"', f"train_net_param {{ {wide} }}")
    assert tiny(tmp_path, text).train_net.layer("fc").blobs[0].shape == (5, 3)


def test_bfloat16_follows_float32(tmp_path):
    """The same run, losses within 2 %: bfloat16 has 8 bits; weights, histories and the loss stay in float32."""
    net = nets.SMALL.replace("dim: 2 ", "dim: 8 ", 1) + nets.inputs(label=(8,))
    net += nets.layer("SoftmaxWithLoss", "fc label", "loss")
    slow = PLAIN.replace("0.1", "0.001")
    full, mixed = tiny(tmp_path, slow, net), tiny(tmp_path, slow, net, precision="bf16")
    random = np.random.default_rng(0)
    for _ in range(4):
        batch = {"data": random.normal(size=(8, 3, 12, 10)), "label": random.integers(0, 5, 8)}
        assert mixed.step(batch)["loss"] == pytest.approx(full.step(batch)["loss"], rel=0.02)
    assert mixed.outputs["loss"].dtype == torch.float32
    assert all(blob.dtype == torch.float32 for blob in mixed.model.parameters())


def test_devices_and_precisions_that_are_not(tmp_path):
    with pytest.raises(TrainingError, match=r'expected precision "32" or "bf16", got "8"'):
        tiny(tmp_path, precision="8")
    with pytest.raises(TrainingError, match=r'device "nowhere" cannot be used here'):
        tiny(tmp_path, device="nowhere")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match=r'device "cuda" cannot be used here'):
            tiny(tmp_path, device="cuda")


def test_a_run_has_its_own_random_numbers(tmp_path):
    """Dropout draws by random_seed alone, and takes none of the caller's numbers."""
    net = TINY.replace('bottom: "fc"', 'bottom: "drop"') + ""
    net = net.replace('layer { name: "loss"', nets.layer("Dropout", "fc", "drop").strip() + ' layer { name: "loss"')
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(losses))
        expected = torch.rand(1, generator=torch.Generator().manual_seed(len(losses)))
        solver = tiny(tmp_path, PLAIN + f"random_seed: {seed}", net, weights=None)
        solver.step(tiny_batch())
        losses.append(solver.step(tiny_batch(rows=64))["loss"])
        assert torch.rand(1) == expected
    assert losses[0] == losses[1] != losses[2]


def test_import_stays_light():
    import subprocess
    import sys

    code = "import sys, normface; assert not {'torch', 'cv2', 'onnx'} & set(sys.modules); print(normface.__version__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert found.returncode == 0, found.stderr


def test_the_tests_share_the_weights(tmp_path):
    net = TINY.replace('layer { name: "loss"', 'layer { name: "loss" include { phase: TRAIN }')
    net += nets.layer("Accuracy", "fc label", "accuracy", "include { phase: TEST }")
    solver = tiny(tmp_path, PLAIN + "test_iter: 1 test_interval: 5", net)
    batch = tiny_batch(rows=64)
    batch["label"] = (batch["data"][:, 0] > 0).astype(int)
    for _ in range(30):
        solver.step(batch)
    assert [one.outputs for one in solver.test_nets] == [["accuracy"]]
    weight, bias = solver.net().layer("fc").blobs
    expected = ((batch["data"] @ weight.T + bias).argmax(1) == batch["label"]).mean()
    assert float(solver.test(batch)["accuracy"]) == pytest.approx(expected) and expected > 0.9


def test_saved_weights_load_again(tmp_path):
    solver = tiny(tmp_path)
    solver.step(tiny_batch())
    solver.net().save(tmp_path / "out.caffemodel")
    again = caffeport.load(tmp_path / "net.prototxt", tmp_path / "out.caffemodel", phase="train")
    np.testing.assert_array_equal(again.layer("fc").blobs[0], solver.model.get_parameter("fc.weight").detach().numpy())


@pytest.mark.parametrize("more", ["momentum: 1", "momentum: 0.9 momentum2: 1.5", "momentum: -1"])
def test_adam_without_a_step(tmp_path, more):
    """0 or the root of a negative number is divided by: in Caffe every weight is NaN from then on."""
    net = (
        nets.inputs(data=(2, 3), label=(2,))
        + nets.inner_product("data", "fc", 2)
        + nets.layer("SoftmaxWithLoss", "fc label", "loss")
    )
    nets.write(tmp_path, net)
    text = f'net: "{tmp_path}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" type: "Adam" {more}'
    solver = normface.Solver(nets.write(tmp_path, text, "solver.prototxt"))
    batch = {"data": np.ones((2, 3)), "label": np.array([0, 1])}
    with pytest.raises(TrainingError, match=r"type Adam has no step with momentum .*expected both in \[0, 1\)"):
        for _ in range(2):  # -1 squared is 1
            solver.step(batch)
