"""Runs of Caffe's solvers to compare with: every type with every policy, and all else that a solver's text can say.

``PYTHONPATH=python:converter:tests python -m support.solver_cases`` records them in real Caffe, as
tests/golden/solver/solver_cases.npz. Keys:
``init/LAYER/I`` and the inputs ``data``, ``label``, ``target`` of all cases; of each case ``CASE/loss`` (T, tops), the
last batch's of an iteration, tops sorted by name, and ``CASE/final``, all blobs at the end, flattened in their order.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from support import caffe_trees
from support.caffe_jobs import run_jobs

RECORDING = Path(__file__).parents[1] / "golden" / "solver" / "solver_cases.npz"
STEPS, BATCH = 12, 6

NET = """name: "solver_cases"
layer { name: "data" type: "MemoryData" top: "data" top: "label"
  memory_data_param { batch_size: 6 channels: 1 height: 6 width: 6 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 decay_mult: 1 }
  convolution_param { num_output: 3 kernel_size: 3 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1"
  param { lr_mult: 1 decay_mult: 0 } param { lr_mult: 2 decay_mult: 0 } scale_param { bias_term: true } }
layer { name: "prelu1" type: "PReLU" bottom: "conv1" top: "conv1" param { lr_mult: 0.5 decay_mult: 0 } }
layer { name: "ip1" type: "InnerProduct" bottom: "conv1" top: "ip1"
  param { lr_mult: 1 decay_mult: 2 } param { lr_mult: 0 decay_mult: 1 }
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } bias_filler { type: "gaussian" std: 0.1 } } }
layer { name: "tanh1" type: "TanH" bottom: "ip1" top: "tanh1" }
layer { name: "left" type: "InnerProduct" bottom: "tanh1" top: "left" param { name: "w" lr_mult: 3 } param { name: "b" }
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "right" type: "InnerProduct" bottom: "left" top: "right" param { name: "w" } param { name: "b" }
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "idle" type: "InnerProduct" bottom: "left" top: "idle"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "quiet" type: "Silence" bottom: "idle" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "right" bottom: "label" top: "loss" }
layer { name: "aside" type: "Reduction" bottom: "left" top: "aside" loss_weight: 0.02
  reduction_param { operation: SUMSQ } }
"""
"""Multipliers of all sorts, a frozen bias, moving statistics, shared blobs, blobs off the loss, two losses.

No bias before BatchNorm: its gradient is 0 but for rounding, which AdaGrad and Adam blow up to steps of any sign.
"""

TYPES = {
    "SGD": "momentum: 0.9 base_lr: 0.05",
    "Nesterov": "momentum: 0.9 base_lr: 0.05",
    "AdaGrad": "base_lr: 0.05 delta: 0.01",
    "RMSProp": "base_lr: 0.01 delta: 0.01 rms_decay: 0.9",
    "AdaDelta": "momentum: 0.95 base_lr: 0.2 delta: 0.001",
    "Adam": "momentum: 0.9 momentum2: 0.99 base_lr: 0.01 delta: 0.01",
}
"""Rates at which the loss falls. Where it swings (AdaDelta at base_lr 1), one rounded bit of the data grows a
thousandfold in twelve iterations, and a recording shows which processor made it rather than what Caffe computes."""
POLICIES = {
    "fixed": "",
    "step": "gamma: 0.5 stepsize: 3",
    "exp": "gamma: 0.9",
    "inv": "gamma: 0.1 power: 0.75",
    "multistep": "gamma: 0.3 stepvalue: 4 stepvalue: 5 stepvalue: 9",
    "poly": "power: 1.5 max_iter: 12",
    "sigmoid": "gamma: 0.4 stepsize: 4",
}
OPTIONS = {
    "clip": "clip_gradients: 0.3",
    "l1": 'regularization_type: "L1"',
    "iter_size": "iter_size: 2",
    "all": 'iter_size: 3 clip_gradients: 0.5 regularization_type: "L1"',
    "no_decay": "weight_decay: 0",
}
ALONE = {
    "sgd_no_momentum": 'type: "SGD" base_lr: 0.05 lr_policy: "fixed"',
    "old_enum": 'solver_type: ADAM momentum: 0.9 base_lr: 0.01 delta: 0.01 lr_policy: "fixed"',
    "default_type": 'momentum: 0.5 base_lr: 0.1 lr_policy: "fixed"',
    "clip_to_zero": 'momentum: 0.9 base_lr: 0.05 lr_policy: "fixed" clip_gradients: 0',
    "stepvalues_together": (
        'momentum: 0.9 base_lr: 0.05 lr_policy: "multistep" gamma: 0.5 '
        "stepvalue: 3 stepvalue: 3 stepvalue: 2 stepvalue: 8"
    ),
    "adam_default_delta": 'type: "Adam" momentum: 0.9 momentum2: 0.999 base_lr: 0.001 lr_policy: "fixed"',
}


def solvers() -> dict[str, str]:
    """{case: the solver's text, without a net}"""
    texts = {}
    for kind, settings in TYPES.items():
        for policy, more in POLICIES.items():
            texts[f"{kind}_{policy}"] = f'type: "{kind}" {settings} lr_policy: "{policy}" {more}'
        for option, more in OPTIONS.items():
            texts[f"{kind}_{option}"] = f'type: "{kind}" {settings} lr_policy: "fixed" {more}'
    texts |= ALONE
    common = "display: 0 random_seed: 1701 snapshot_prefix: 'snap'"
    for name, text in texts.items():
        text += "" if "weight_decay" in text else " weight_decay: 0.01"
        texts[name] = f"{text} {common}\n" + ("" if "max_iter" in text else "max_iter: 100\n")
    return texts


def iter_size(solver: str) -> int:
    return int(solver.partition("iter_size:")[2].split()[0]) if "iter_size:" in solver else 1


def samples() -> dict[str, np.ndarray]:
    """``data`` and ``label`` for three batches an iteration, and ``init/LAYER/I``."""
    random = np.random.default_rng(11)
    count = 3 * STEPS * BATCH
    label = random.integers(0, 5, count).astype(np.float32)
    data = random.normal(size=(count, 1, 6, 6)) + np.eye(36).reshape(36, 1, 6, 6)[label.astype(int) * 7] * 3
    shapes = {
        "conv1": [(3, 1, 3, 3)], "bn1": [(3,), (3,), (1,)], "scale1": [(3,), (3,)], "prelu1": [(3,)],
        "ip1": [(5, 48), (5,)], "left": [(5, 5), (5,)], "right": [(5, 5), (5,)], "idle": [(2, 5), (2,)],
    }  # fmt: skip
    arrays = {"data": data.astype(np.float32), "label": label}
    for layer, blobs in shapes.items():
        for index, shape in enumerate(blobs):
            size = 0 if layer == "bn1" else 0.4
            arrays[f"init/{layer}/{index}"] = random.normal(scale=size, size=shape).astype(np.float32)
    arrays["init/scale1/0"] += 1
    for index in (0, 1):
        arrays[f"init/right/{index}"] = arrays[f"init/left/{index}"]
    return arrays


def jobs() -> dict[str, dict[str, Any]]:
    arrays = samples()
    weights = {key.replace("init", "weight"): array for key, array in arrays.items() if key.startswith("init/")}
    tasks = {}
    for name, solver in solvers().items():
        used = STEPS * BATCH * iter_size(solver)
        memory = {"memory/data": arrays["data"][:used], "memory/label": arrays["label"][:used]}
        tasks[name] = {"kind": "train", "net": NET, "solver": solver, "steps": STEPS, **memory, **weights}
    return tasks


def run(tree: caffe_trees.Tree, folder: Path) -> dict[str, np.ndarray]:
    """Run all cases in real Caffe, as the recording holds them."""
    results = samples()
    for name, result in run_jobs(tree, folder, jobs()).items():
        losses = [array.reshape(STEPS) for key, array in sorted(result.items()) if key.startswith("loss/")]
        results[f"{name}/loss"] = np.stack(losses, 1)
        results[f"{name}/final"] = np.concatenate([result[key].ravel() for key in blob_keys(result)])
    return results


def blob_keys(result: dict[str, np.ndarray]) -> list[str]:
    return sorted(key for key in result if key.startswith("blob/"))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = run(caffe_trees.built("bvlc"), Path(folder))
    RECORDING.parent.mkdir(exist_ok=True)
    np.savez_compressed(RECORDING, **results)
    print(f"{RECORDING}: {len(solvers())} cases, {RECORDING.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
