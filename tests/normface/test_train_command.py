"""``normface train`` from images on disk: what it prints and writes, Ctrl-C, a kill and what comes after."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import caffeport
import normface
import numpy as np
import pytest
import torch
from normface.cli.main import main
from normface.held import held
from normface.solver.training import Training
from support import nets
from support.command_line import refused

cv2 = pytest.importorskip("cv2")

NET = (
    nets.layer(
        "ImageData", "", "data label",
        'include { phase: TRAIN } transform_param { mean_value: 128 scale: 0.0078125 mirror: true } image_data_param { '
        'source: "train.txt" batch_size: 6 shuffle: true is_color: false }',
    )
    + nets.layer(
        "ImageData", "", "data label",
        "include { phase: TEST } transform_param { mean_value: 128 scale: 0.0078125 } image_data_param { "
        'source: "test.txt" batch_size: 5 is_color: false }', "test_data",
    )
    + nets.conv("data", "conv1", 4)
    + nets.layer("BatchNorm", "conv1", "conv1", name="bn1")
    + nets.layer("Dropout", "conv1", "conv1", name="drop")
    + nets.inner_product("conv1", "fc", 2)
    + nets.layer("SoftmaxWithLoss", "fc label", "loss", "loss_weight: 2")
    + nets.layer("Accuracy", "fc label", "accuracy", "include { phase: TEST }")
)  # fmt: skip

GLOG = r"^I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ (?:sgd_)?solver\.cpp:\d+\] "
SOLVER = (
    'net: "net.prototxt" base_lr: 0.02 lr_policy: "fixed" momentum: 0.9 max_iter: 30 snapshot: 10 display: 10 '
    'test_iter: 4 test_interval: 15 random_seed: 5 snapshot_prefix: "snap" average_loss: 5\n'
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with images whose upper or lower half is bright, the nets and the solver; one thread."""
    random = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 20)):
        lines = []
        for i in range(count):
            image = random.integers(0, 120, (8, 8), np.uint8)
            half = slice(0, 4) if i % 2 else slice(4, 8)
            image[half] += 100
            cv2.imwrite(str(tmp_path / f"{part}{i}.png"), image)
            lines.append(f"{part}{i}.png {i % 2}\n")
        (tmp_path / f"{part}.txt").write_text("".join(lines))
    nets.write(tmp_path, NET)
    nets.write(tmp_path, SOLVER, "solver.prototxt")
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


def blobs(path):
    net = caffeport.load("net.prototxt", path, phase="train", input_shapes={"data": (6, 1, 8, 8), "label": (6,)})
    return [param.data for param in net.params]


def same(a, b):
    for mine, theirs in zip(blobs(a), blobs(b), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_run_in_caffes_words(capsys):
    assert main(["train", "--solver", "solver.prototxt", "--log", "log.csv"]) == 0
    printed = capsys.readouterr().out
    for iteration in (0, 10, 20):
        assert re.search(rf"{GLOG}Iteration {iteration} \(\S+ iter/s, \S+s/10 iters\), loss = \S+$", printed, re.M)
    assert re.search(rf"{GLOG}    Train net output #0: loss = (\S+) \(\* 2 = \S+ loss\)$", printed, re.M)
    assert re.search(rf"{GLOG}Iteration 10, lr = 0\.02$", printed, re.M)
    assert re.findall(rf"{GLOG}Iteration (\d+), Testing net \(#0\)$", printed, re.M) == ["0", "15", "30"]
    assert re.search(rf"{GLOG}Iteration 30, loss = \S+$", printed, re.M)
    accuracies = [float(number) for number in re.findall(r"Test net output #0: accuracy = ([\d.]+)", printed)]
    assert len(accuracies) == 3 and accuracies[-1] > 0.9 >= accuracies[0]
    assert "Snapshotting solver state to binary proto file snap_iter_30.solverstate" in printed
    assert printed.rstrip().endswith("Optimization Done.")
    assert sorted(path.name for path in Path().glob("snap*")) == [
        f"snap_iter_{i}.{end}" for i in (10, 20, 30) for end in ("caffemodel", "solverstate")
    ]
    with open("log.csv") as stream:
        rows = list(csv.DictReader(stream))
    trained = [row for row in rows if row["phase"] == "train"]
    assert [int(row["iteration"]) for row in trained] == list(range(30))
    assert [row["iteration"] for row in rows if row["phase"] == "test 0"] == ["0", "15", "30"]
    first = re.search(r"Iteration 0 .*loss = ([\d.]+)", printed).group(1)
    assert float(trained[0]["loss"]) == pytest.approx(float(first), rel=1e-5)


def test_a_test_net_without_tests(capsys):
    """Caffe makes the net and prints no number."""
    Path("solver.prototxt").write_text(SOLVER.replace("test_iter: 4", "test_iter: 0 test_compute_loss: true"))
    assert main(["train", "--solver", "solver.prototxt", "--log", "log.csv"]) == 0
    printed = capsys.readouterr().out
    assert "Testing net (#0)" in printed and "Test net output" not in printed and "Test loss" not in printed
    with open("log.csv") as stream:
        assert {row["phase"] for row in csv.DictReader(stream)} == {"train"}


def test_the_answer_as_json(capsys):
    assert main(["train", "--solver", "solver.prototxt", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["iteration"] == 30 and not answer["stopped"]
    assert answer["snapshot"] == "snap_iter_30.solverstate"
    assert answer["tests"][0]["accuracy"][0] > 0.9
    assert "Optimization Done." in captured.err


@pytest.mark.slow
def test_it_is_the_solver_of_the_library():
    """The command's numbers are those of Solver.step with the Feed's batches."""
    assert main(["train", "--solver", "solver.prototxt"]) == 0
    solver = normface.Solver("solver.prototxt", sources=True)
    with normface.data.caffe.Feed(solver.train_net, seed=5, prefetch=0) as feed:
        for _ in range(30):
            solver.step(feed.next())
    solver.snapshot("mine")
    same("snap_iter_30.caffemodel", "mine_iter_30.caffemodel")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_exit_code_names_the_signal(number, monkeypatch):
    iterate = Training._iterate

    def iterated(self, *rest):
        iterate(self, *rest)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(Training, "_iterate", iterated)
    assert main(["train", "--solver", "solver.prototxt", "--quiet"]) == 128 + number


@pytest.mark.slow
def test_ctrl_c_ends_with_a_snapshot_from_which_it_goes_on(capsys):
    assert main(["train", "--solver", "solver.prototxt", "--log", "through.jsonl"]) == 0
    os.rename("snap_iter_30.caffemodel", "through.caffemodel")
    solver = normface.Solver("solver.prototxt", sources=True)
    asked, before = [], signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background

    def say(line):
        if line.startswith("Iteration 10, lr"):
            asked.append(line)
            os.kill(os.getpid(), signal.SIGINT)

    outcome = Training(solver, say, Path("log.jsonl")).run()
    assert asked and outcome.stopped and outcome.iteration == 11
    assert outcome.snapshot == Path("snap_iter_11.solverstate")
    assert signal.getsignal(signal.SIGINT) is before
    arguments = ["train", "--solver", "solver.prototxt", "--snapshot", "snap_iter_11.solverstate"]
    assert main([*arguments, "--log", "log.jsonl"]) == 0
    same("snap_iter_30.caffemodel", "through.caffemodel")
    names = ("through.jsonl", "log.jsonl")
    logs = [[json.loads(line) for line in Path(name).read_text().splitlines()] for name in names]
    for row in (row for log in logs for row in log):
        row.pop("seconds", None)
    assert logs[0] == logs[1]  # one log, without a row twice
    assert "Restoring previous solver status from snap_iter_11.solverstate" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    """SIGKILL in the midst of iterations and snapshots; what is left is whole, and leads to where it would have led."""
    assert main(["train", "--solver", "solver.prototxt"]) == 0
    for path in tmp_path.glob("snap_iter_*"):
        path.rename(tmp_path / f"through_{path.name}")
    nets.write(tmp_path, SOLVER.replace("max_iter: 30", "max_iter: 1000000"), "endless.prototxt")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "normface", "train", "--solver", "endless.prototxt"]
    with open("output.txt", "w") as output:
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        deadline = time.monotonic() + 120
        while not (tmp_path / "snap_iter_20.solverstate").exists():
            assert child.poll() is None and time.monotonic() < deadline, Path("output.txt").read_text()[-2000:]
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert "Optimization Done." not in Path("output.txt").read_text()
    states = list(tmp_path.glob("snap_iter_*.solverstate"))
    for path in states:  # none is half there
        assert path.with_suffix(".caffemodel").exists()
        assert normface.solver.state.read(path).iteration == int(path.stem.rpartition("_")[2])
    assert main(["train", "--solver", "solver.prototxt", "--snapshot", "snap_iter_20.solverstate"]) == 0
    same("snap_iter_30.caffemodel", "through_snap_iter_30.caffemodel")


def test_a_run_that_diverges_keeps_the_last_good_snapshot(capsys, tmp_path):
    """The decay alone multiplies the weights by -10^4 an iteration, beyond float32's 10^38 after some."""
    text = SOLVER.replace("base_lr: 0.02", "base_lr: 1e4 weight_decay: 1").replace("snapshot: 10", "snapshot: 1")
    nets.write(tmp_path, text, "s.prototxt")
    assert main(["train", "--solver", "s.prototxt"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"normface: error: iteration \d+: (the loss is (nan|inf)|layer \S+ has weights that)", error), error
    last = re.search(r"the last snapshot is (snap_iter_\d+)", error).group(1)
    assert int(last.rpartition("_")[2]) > 2
    assert all(np.isfinite(blob).all() for blob in blobs(f"{last}.caffemodel"))


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, ["--solver", "none.prototxt"], r"none\.prototxt: No such file"),
        ({"fixed": "fxed"}, [], r'unknown lr_policy "fxed"'),
        ({'"snap"': '"missing/snap"'}, [], r"missing: snapshots cannot be written there"),
        ({"net.prototxt": "other.prototxt"}, [], r"other\.prototxt: no such file"),
        ({}, ["--weights", "none.caffemodel"], r"none\.caffemodel: No such file"),
        ({}, ["--snapshot", "none"], r"none: no such state"),
        ({}, ["--device", "nowhere"], r'device "nowhere" cannot be used; expected auto, cpu, cuda or cuda:N'),
        ({}, ["--log", "log.txt"], r"log\.txt: expected a log that ends in \.csv or \.jsonl"),
    ],
)
def test_bad_input_is_one_line(change, arguments, message, capsys, tmp_path):
    text = SOLVER
    for old, new in change.items():
        text = text.replace(old, new)
    nets.write(tmp_path, text, "solver.prototxt")
    base = [] if "--solver" in arguments else ["--solver", "solver.prototxt"]
    assert main(["train", *base, *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("normface: error: ") and re.search(message, error)
    assert not list(tmp_path.glob("snap*"))


def test_weights_or_a_snapshot_but_not_both(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--solver", "solver.prototxt", "--weights", "a", "--snapshot", "b"])
    assert caught.value.code == 2 and "not allowed with argument" in capsys.readouterr().err


def test_a_missing_image_is_named_and_nothing_is_written(capsys, tmp_path):
    with open("train.txt", "a") as stream:
        stream.write("gone.png 1\n")
    assert main(["train", "--solver", "solver.prototxt"]) == 2
    assert "gone.png" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.part"))


def test_nets_fed_by_hand_need_python(capsys, tmp_path):
    nets.write(tmp_path, nets.inputs(data=(2, 3), label=(2,)) + nets.inner_product("data", "fc", 2)
               + nets.layer("SoftmaxWithLoss", "fc label", "loss"))  # fmt: skip
    nets.write(tmp_path, SOLVER.replace("test_iter: 4", ""), "solver.prototxt")
    assert main(["train", "--solver", "solver.prototxt"]) == 2
    assert re.search(r'layer "data" \(Input\): has no source to read from; .*normface\.Solver', capsys.readouterr().err)


@pytest.mark.slow
def test_a_state_without_the_data_of_caffe(capsys):
    """As Caffe writes it: no position in the data, which then start anew."""
    solver = normface.Solver("solver.prototxt", sources=True)
    solver.snapshot("caffe")
    assert main(["train", "--solver", "solver.prototxt", "--snapshot", "caffe"]) == 0
    assert "It does not say where the data stood, which start anew." in capsys.readouterr().out


@pytest.mark.slow
def test_another_net_and_files_beside_the_solver(capsys, tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("net.prototxt", "solver.prototxt"):
        os.rename(name, f"sub/{name}")
    assert main(["train", "--solver", "sub/solver.prototxt"]) == 0
    assert "note: net.prototxt (the net) is taken from beside the solver" in capsys.readouterr().err
    nets.write(
        tmp_path, NET.replace('top: "fc"', 'top: "last"').replace('bottom: "fc"', 'bottom: "last"'), "b.prototxt"
    )
    assert main(["train", "--solver", "sub/solver.prototxt", "--net", "b.prototxt"]) == 0


@pytest.mark.slow
def test_two_trainings_of_one_prefix(here, capsys):
    """The second is refused, and writes nothing; another prefix in the same folder is another training's."""
    with held(here / ".snap.training"):
        before = sorted(path.name for path in here.iterdir())
        assert "another training writes snapshots of this snapshot_prefix" in refused(
            capsys, "train", "--solver", "solver.prototxt", "--quiet"
        )
        assert sorted(path.name for path in here.iterdir()) == before
        nets.write(here, SOLVER.replace('"snap"', '"other"').replace("max_iter: 30", "max_iter: 1"), "other.prototxt")
        assert main(["train", "--solver", "other.prototxt", "--quiet"]) == 0
    assert main(["train", "--solver", "solver.prototxt", "--quiet"]) == 0
    assert not list(here.glob(".*"))  # no lock is left


def test_a_log_over_the_solver_is_refused(here, capsys):
    (here / "log.csv").symlink_to("solver.prototxt")
    error = refused(capsys, "train", "--solver", "solver.prototxt", "--log", "log.csv")
    assert "--log log.csv: is solver.prototxt, which is read; choose another name to write" in error
    assert (here / "solver.prototxt").read_text() == SOLVER
