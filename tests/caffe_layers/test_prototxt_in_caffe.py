"""The networks and solvers of prototxt/ in real Caffe: read, trained, and every blob as caffeport computes it."""

from __future__ import annotations

from pathlib import Path

import caffeport
import numpy as np
import pytest
from support import caffe_trees
from support.caffe_jobs import run_jobs

FOLDER = caffe_trees.REPOSITORY / "prototxt"
TEXTS = sorted(FOLDER.glob("*/*.prototxt"))
NETS = [path.relative_to(FOLDER).as_posix() for path in TEXTS if not path.stem.endswith("solver")]
TRAINED = [name for name in NETS if name.endswith("train_test.prototxt")]
SMALL = [name for name in TRAINED if name.startswith(("mnist", "digits"))]
# All training nets as they train; the TEST phase adds an accuracy, which the small ones show.
PASSES = [(name, "train" if name in TRAINED else "test") for name in NETS] + [(name, "test") for name in SMALL]
BATCH, STEPS = 2, 2

# Of a solver's text: what does not need its data on the disk, or a GPU.
SCHEDULE = ("base_lr", "lr_policy", "gamma", "stepvalue", "momentum", "weight_decay", "random_seed")

PARSE = """
import sys
from caffe.proto import caffe_pb2
from google.protobuf import text_format
for path in sys.argv[1:]:
    kind = caffe_pb2.SolverParameter if path.endswith("solver.prototxt") else caffe_pb2.NetParameter
    text_format.Merge(open(path).read(), kind())
    print("read", path)
"""


def test_caffe_reads_every_text(pycaffe):
    """With protobuf classes of its own, so that no field is unknown to it."""
    command = [pycaffe.interpreter, "-c", PARSE, *map(str, TEXTS)]
    result = caffe_trees.run(command, env=pycaffe.environment())
    assert result.returncode == 0, caffe_trees.tail(result.stdout, 10)
    assert result.stdout.count("read ") == len(TEXTS) == len(NETS) + len(TRAINED)


def load(name: str, phase: str) -> caffeport.Net:
    path = FOLDER / name
    net = caffeport.load(path, phase=phase)
    shapes = {blob: (BATCH, *net.blob_shapes[blob][1:]) for blob in net.inputs}
    return caffeport.load(path, phase=phase, input_shapes=shapes)


def samples(net: caffeport.Net, steps: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    made = {"data": 0.3 * random.standard_normal((steps, *net.blob_shapes["data"])).astype(np.float32)}
    if "label" in net.inputs:
        made["label"] = random.integers(0, 7, (steps, BATCH)).astype(np.float32)
    return made


@pytest.mark.parametrize(("name", "phase"), PASSES)
def test_caffeport_computes_what_caffe_does(name, phase, pycaffe):
    """Every blob of one forward pass, the losses included."""
    net = load(name, phase)
    inputs = {blob: array[0] for blob, array in samples(net, 1).items()}
    where = {"caffe_python": pycaffe.pythonpath, "caffe_interpreter": pycaffe.interpreter}
    options = {"backends": ("torch", "caffe"), "rtol": 1e-4, "atol": 1e-5, "training": phase == "train"}
    report = caffeport.check(net, inputs, **options, **where)
    assert report.ok, report.summary
    assert all(row.baseline == "caffe" and row.errors for row in report.rows)
    computed = {layer.name for layer in net.layers if layer.type not in ("Input", "ImageData")}
    assert {row.layer for row in report.rows} == computed


@pytest.fixture(scope="module")
def trainings(pycaffe, tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    jobs = {}
    for name in TRAINED:
        solver = (FOLDER / name.replace("train_test", "solver")).read_text().splitlines()
        schedule = "\n".join(line for line in solver if line.split(":")[0] in SCHEDULE)
        schedule = schedule.replace("base_lr: 0.1\n", "base_lr: 0.001\n")  # 0.1 is for batches of 256
        job = {"kind": "published", "net": (FOLDER / name).read_text(), "solver": schedule}
        jobs[job_name(name)] = job | {
            f"input/{key}": array for key, array in samples(load(name, "train"), STEPS).items()
        }
    return run_jobs(pycaffe, tmp_path_factory.mktemp("prototxt"), jobs)


def job_name(name: str) -> str:
    return Path(name).with_suffix("").as_posix().replace("/", "-")


@pytest.mark.parametrize("name", TRAINED)
def test_caffe_trains_it(name, trainings):
    """Two iterations from the fillers' weights."""
    result = trainings[job_name(name)]
    for key, array in result.items():
        assert np.isfinite(array).all(), key
    losses = {
        key: array.reshape(STEPS, -1) for key, array in result.items() if key.startswith("loss/") and "_loss" in key
    }
    assert losses
    for key, values in losses.items():
        assert (values[1:] != values[:-1]).all(), f"{key} does not move: {values}"
