"""caffeport.load of a text of hundreds of layers, against another checkout of this repository.

Claim: at most half of the time that it took at 4f48bc3, the first load of a process, and those that follow; with the
weights of a published net, no more time than then.

    git worktree add --detach /tmp/before 4f48bc3
    python benchmarks/loading.py /tmp/before [--net NET] [--weights NET WEIGHTS] [--repeats 9] [--json FILE]

NET is by default a residual net of 668 layers that the script writes; NET WEIGHTS are MobileFaceNet's in ../shared
beside the repository. Seconds are those of the CPU within a process that has imported caffeport, which is not counted,
the processes of both checkouts in turn. After the first load come six more, whose median counts.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _measure import Row, parser, report, run

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT.parent / "shared" / "models" / "mobilefacenet"
WEIGHTS = [MODEL / "mobilefacenet_deploy.prototxt", MODEL / "mobilefacenet.caffemodel"]
AGAIN = 6
UNITS = 66  # of a convolution, its BatchNorm and Scale, a ReLU, all of that again, and the sum with its ReLU

_WORKER = f"""
import json, sys, time, warnings
sys.path.insert(0, sys.argv[1] + "/converter")
import caffeport
warnings.simplefilter("ignore")
seconds = []
for _ in range(1 + {AGAIN}):
    start = time.process_time()
    caffeport.load(*sys.argv[2:])
    seconds.append(time.process_time() - start)
assert caffeport.__file__.startswith(sys.argv[1]), caffeport.__file__
print(json.dumps(seconds))
"""


def residual_net() -> str:
    """Return the text of a deploy net of 668 layers, indented and quoted as Caffe's own tools write it."""
    text = ['name: "residual"\n', 'input: "data"\n', *(f"input_dim: {dim}\n" for dim in (1, 3, 224, 224))]
    text += _convolution("conv0", "data", 7, 4)
    bottom = "conv0"
    for unit in range(UNITS):
        for branch, source in (("a", bottom), ("b", f"unit{unit}a")):
            text += _convolution(f"unit{unit}{branch}", source, 3, 1)
        text += _layer(f"unit{unit}", "Eltwise", [bottom, f"unit{unit}b"], f"unit{unit}")
        text += _layer(f"unit{unit}_relu", "ReLU", [f"unit{unit}"], f"unit{unit}")
        bottom = f"unit{unit}"
    text += _layer("pool", "Pooling", [bottom], "pool", "pooling_param {", "  pool: AVE", "  global_pooling: true", "}")
    text += _layer("fc", "InnerProduct", ["pool"], "fc", "inner_product_param {", "  num_output: 1000", "}")
    text += _layer("prob", "Softmax", ["fc"], "prob")
    return "".join(text)


def _convolution(name: str, bottom: str, kernel: int, stride: int) -> list[str]:
    """Return a convolution with what follows it in place: BatchNorm, Scale, ReLU."""
    sizes = (("num_output", 64), ("kernel_size", kernel), ("pad", kernel // 2), ("stride", stride))
    numbers = [f"  {field}: {number}" for field, number in sizes]
    filler = ["  weight_filler {", '    type: "msra"', "  }"]
    rate = ["param {", "  lr_mult: 1", "  decay_mult: 1", "}"]
    own = ["convolution_param {", *numbers, "  bias_term: false", *filler, "}"]
    return [
        *_layer(name, "Convolution", [bottom], name, *rate, *own),
        *_layer(f"{name}_bn", "BatchNorm", [name], name, "batch_norm_param {", "  use_global_stats: true", "}"),
        *_layer(f"{name}_scale", "Scale", [name], name, "scale_param {", "  bias_term: true", "}"),
        *_layer(f"{name}_relu", "ReLU", [name], name),
    ]


def _layer(name: str, kind: str, bottoms: Sequence[str], top: str, *rest: str) -> list[str]:
    lines = [f'name: "{name}"', f'type: "{kind}"', *(f'bottom: "{bottom}"' for bottom in bottoms), f'top: "{top}"']
    return ["layer {\n", *(f"  {line}\n" for line in [*lines, *rest]), "}\n"]


def measure(before: Path, files: Sequence[Path], repeats: int) -> list[tuple[float, float]]:
    """Return (ours, the other checkout's) CPU seconds of the first load of these files, and of those that follow."""
    times: dict[Path, list[list[float]]] = {ROOT: [], before: []}
    for round_of_both in range(1 + repeats):
        for tree, of_tree in times.items():
            output = run([sys.executable, "-c", _WORKER, tree, *files], keep_pythonpath=False).output
            if round_of_both:  # the first compiles the modules
                of_tree.append(json.loads(output))
    firsts = [statistics.median(run[0] for run in of_tree) for of_tree in times.values()]
    others = [statistics.median(statistics.median(run[1:]) for run in of_tree) for of_tree in times.values()]
    return [(firsts[0], firsts[1]), (others[0], others[1])]


def main() -> None:
    arguments = parser(__doc__ or "", repeats=9)
    arguments.add_argument("before", type=Path, help="the other checkout")
    arguments.add_argument("--net", type=Path, help="the text of a net (default: a residual net of 668 layers)")
    arguments.add_argument("--weights", nargs=2, type=Path, metavar=("NET", "WEIGHTS"), default=WEIGHTS)
    options = arguments.parse_args()
    before = options.before.resolve()
    if not (before / "converter" / "caffeport").is_dir():
        arguments.error(f"{before}: is no checkout of this repository; it has no converter/caffeport")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        net = options.net or Path(folder, "residual.prototxt")
        if options.net is None:
            net.write_text(residual_net())
        cases = [(net.name, [net], 0.5)]
        if all(path.is_file() for path in options.weights):
            cases.append((options.weights[1].name, options.weights, 1.0))
        for name, files, limit in cases:
            times = measure(before, files, options.repeats)
            for when, (ours, theirs) in zip(("first load", "load again"), times, strict=True):
                rows.append(Row(f"{name}, {when}", "ms", 1e3 * ours, 1e3 * theirs, limit))
    report("caffeport.load, CPU time", "this checkout", "before", rows, [], options)


if __name__ == "__main__":
    main()
