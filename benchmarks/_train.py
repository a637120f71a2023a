"""Times training iterations of one net: ``python _train.py ours|caffe NET SOLVER WEIGHTS INPUTS.npz RUNS [PRECISION]``.

Runs in our Python and in that of real Caffe, so it imports neither before it is asked to. Every input of the net, whose
data layers are left out, is in INPUTS. Prints JSON: the median milliseconds of forward, backward and update, and the
losses of the first iterations.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

WARM_UP = 2
"""Iterations before the clock counts: both allocate and plan in their first."""


def ours(net: str, solver: str, weights: str, inputs: dict[str, np.ndarray], precision: str) -> Callable[[], float]:
    import normface
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    shapes = {name: array.shape for name, array in inputs.items()}
    made = normface.Solver(solver, net=net, weights=weights, precision=precision, input_shapes=shapes)

    def iterate() -> float:
        made.step(inputs)
        return made.loss

    return iterate


def caffe(net: str, solver: str, weights: str, inputs: dict[str, np.ndarray], precision: str) -> Callable[[], float]:
    import caffe as pycaffe
    from caffe.proto import caffe_pb2
    from google.protobuf import text_format

    given = caffe_pb2.NetParameter()
    text_format.Merge(Path(net).read_text(), given)
    made = caffe_pb2.NetParameter(name=given.name)
    for name, array in inputs.items():
        layer = made.layer.add(name=f"input_{name}", type="Input", top=[name])
        layer.input_param.shape.add().dim.extend(array.shape)
    for layer in given.layer:
        phases = [rule.phase for rule in layer.include if rule.HasField("phase")]
        if not set(layer.top) & set(inputs) and (not phases or pycaffe.TRAIN in phases):
            made.layer.add().CopyFrom(layer)
    folder = Path(weights).parent
    (folder / "caffe_net.prototxt").write_text(text_format.MessageToString(made))
    text = Path(solver).read_text() + f'\nnet: "{folder}/caffe_net.prototxt" solver_mode: CPU\n'
    (folder / "caffe_solver.prototxt").write_text(text)
    running = pycaffe.get_solver(str(folder / "caffe_solver.prototxt"))
    running.net.copy_from(weights)
    for name, array in inputs.items():
        running.net.blobs[name].data[...] = array
    losses = [layer for layer in made.layer if "Loss" in layer.type]

    def iterate() -> float:
        running.step(1)
        tops = [(layer.top[0], layer.loss_weight[0] if layer.loss_weight else 1.0) for layer in losses]
        return sum(weight * float(running.net.blobs[top].data) for top, weight in tops)

    return iterate


def main() -> None:
    which, net, solver, weights, inputs_path, runs, *precision = sys.argv[1:]
    with np.load(inputs_path) as stored:
        inputs = {name: stored[name] for name in stored.files}
    iterate = {"ours": ours, "caffe": caffe}[which](net, solver, weights, inputs, *(precision or ["32"]))
    losses = [iterate() for _ in range(WARM_UP)]
    times, cpu = [], []
    for _ in range(int(runs)):
        start, cpu_start = time.perf_counter(), time.process_time()
        losses.append(iterate())
        times.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - cpu_start))
    print(json.dumps({"ms": statistics.median(times), "cpu_ms": statistics.median(cpu), "losses": losses}))


if __name__ == "__main__":
    main()
