"""A training iteration of the center_face network, 10572 classes, batch 16: normface.Solver beside real Caffe on a CPU.

Forward, backward and the solver's update, two threads each. Claims: at least 1.25 times as fast in float32, and 2 times
in bfloat16 mixed precision; the losses of the first iterations agree (float32 within 1e-3, bfloat16 within 3 %).

    python benchmarks/train_speed.py [NET] [--repeats 5] [--iterations 5] [--json FILE]

NET is a train net, by default this project's prototxt/center_face/train_test.prototxt. Caffe is official BVLC Caffe
with the face layers and OpenBLAS, which the tests build (tests/support/caffe_trees.py), once; it starts from the same
weights and gets the same batch. Every repeat is a process of its own for each of the three, one after the other in
turn; its figure is the median of a few iterations after two that warm up.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from _measure import Row, cache, parser, report, run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support import caffe_trees

BATCH = 16

SOLVER = 'base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 max_iter: 1000000 display: 0\n'
PREPARE = """
import sys, caffeport, numpy
net_path, weights, inputs, batch = sys.argv[1:]
shapes = {"data": (int(batch), 3, 112, 96), "label": (int(batch),)}
net = caffeport.load(net_path, phase="train", input_shapes=shapes)
net.save(weights)
random = numpy.random.default_rng(0)
data = random.uniform(-1, 1, shapes["data"]).astype(numpy.float32)
numpy.savez(inputs, data=data, label=random.integers(0, 10000, shapes["label"]).astype(numpy.float32))
"""


def main() -> None:
    arguments = parser(__doc__ or "", repeats=5)
    arguments.add_argument(
        "net",
        nargs="?",
        type=Path,
        default=caffe_trees.REPOSITORY / "prototxt/center_face/train_test.prototxt",
        help="a train net",
    )
    arguments.add_argument("--iterations", type=int, default=5, help="timed in each process (default 5)")
    arguments.add_argument("--threads", type=int, default=2, help="of each program (default 2)")
    options = arguments.parse_args()
    tree = caffe_trees.built("bvlc")
    worker = Path(__file__).with_name("_train.py")
    os.environ.update(
        OMP_NUM_THREADS=str(options.threads), OPENBLAS_NUM_THREADS=str(options.threads), GLOG_minloglevel="2"
    )
    times: dict[str, list[float]] = {"32": [], "bf16": [], "caffe": []}
    losses: dict[str, list[float]] = {}
    cpu: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        weights, inputs, solver = (Path(folder, name) for name in ("w.caffemodel", "inputs.npz", "solver.prototxt"))
        solver.write_text(f'{SOLVER}snapshot_prefix: "{folder}/snap"\n')
        run([sys.executable, "-c", PREPARE, options.net, weights, inputs, str(BATCH)])
        given = [options.net, solver, weights, inputs, str(options.iterations)]
        for _ in range(options.repeats):
            for name, found in times.items():
                if name == "caffe":
                    os.environ["PYTHONPATH"] = tree.pythonpath
                    done = run([tree.interpreter, worker, "caffe", *given])
                    del os.environ["PYTHONPATH"]
                else:
                    done = run([sys.executable, worker, "ours", *given, name])
                answer = json.loads(done.output)
                found.append(answer["ms"])
                losses[name], cpu[name] = answer["losses"], answer["cpu_ms"]
    medians = {name: statistics.median(found) for name, found in times.items()}
    rows = [
        Row("float32", "ms", medians["32"], medians["caffe"], 1 / 1.25),
        Row("bfloat16 mixed", "ms", medians["bf16"], medians["caffe"], 1 / 2),
    ]
    first = {name: found[0] for name, found in losses.items()}
    apart = {
        name: max(abs(a - b) / b for a, b in zip(found, losses["caffe"], strict=True)) for name, found in losses.items()
    }
    notes = [
        f"first loss: {first['caffe']:.5f} in Caffe, {first['32']:.5f} and {first['bf16']:.5f} here",
        f"over {len(losses['32'])} iterations losses differ by at most {apart['32']:.1e} (float32) and "
        f"{apart['bf16']:.1e} (bfloat16)",
        "processor time of an iteration, all threads: " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in cpu.items()),
    ]
    report(
        f"{options.net.name}, batch {BATCH}, {options.threads} threads each", "normface", "Caffe", rows, notes, options
    )


if __name__ == "__main__":
    main()
