"""One net in one runtime, for benchmarks/inference.py: `python _infer.py RUNTIME THREADS INPUTS.npz MODEL...`.

RUNTIME is onnxruntime, openvino or opencv, which runs in an environment of its own, so this imports nothing of ours.
INPUTS.npz holds an array for each of the net's inputs, as many rows as the largest batch. Each line of the standard
input, ``{"batch": N, "seconds": S, "outputs": FILE.npz or null}``, is answered with a line of JSON: the milliseconds of
every run that was made within the time, or ``{"error": ...}``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
WARM_UP = 3
"""Runs that are not counted: runtimes plan and allocate in their first ones."""
LEAST = 3
"""Runs that are counted, however long they take."""


def onnx_runtime(threads: int, model: str) -> Callable[[Arrays], Arrays]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = [one.name for one in session.get_inputs()]
    names = [one.name for one in session.get_outputs()]

    def forward(inputs: Arrays) -> Arrays:
        fed = {name: inputs[name] for name in wanted}
        return dict(zip(names, session.run(None, fed), strict=True))

    return forward


def openvino(threads: int, model: str) -> Callable[[Arrays], Arrays]:
    from caffeport.runtimes.openvino_runtime import core as shared_core

    core = shared_core()
    read = core.read_model(model)
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(read, "CPU", settings).create_infer_request()
    wanted = [one.get_any_name() for one in read.inputs]
    names = [one.get_any_name() for one in read.outputs]

    def forward(inputs: Arrays) -> Arrays:
        results = request.infer({name: inputs[name] for name in wanted}, share_inputs=True, share_outputs=True)
        return dict(zip(names, results.values(), strict=True))

    return forward


def opencv(threads: int, prototxt: str, weights: str) -> Callable[[Arrays], Arrays]:
    import cv2

    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromCaffe(prototxt, weights)
    names = net.getUnconnectedOutLayersNames()

    def forward(inputs: Arrays) -> Arrays:
        if len(inputs) == 1:
            net.setInput(next(iter(inputs.values())))
        else:
            for name, array in inputs.items():
                net.setInput(array, name)
        return dict(zip(names, net.forward(names), strict=True))

    return forward


RUNTIMES: dict[str, Any] = {"onnxruntime": onnx_runtime, "openvino": openvino, "opencv": opencv}


def measure(forward: Callable[[Arrays], Arrays], inputs: Arrays, seconds: float) -> tuple[list[float], Arrays]:
    """Return the milliseconds of every run, and what the last one gave."""
    for _ in range(WARM_UP):
        forward(inputs)
    times: list[float] = []
    outputs: Arrays = {}
    end = time.perf_counter() + seconds
    while len(times) < LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        outputs = forward(inputs)
        times.append(1000 * (time.perf_counter() - start))
    return times, outputs


def main() -> None:
    runtime, threads, inputs_path, *model = sys.argv[1:]
    with np.load(inputs_path) as stored:
        arrays = dict(stored)
    forward = RUNTIMES[runtime](int(threads), *model)
    print(json.dumps({"ready": runtime}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        inputs = {name: np.ascontiguousarray(array[: asked["batch"]]) for name, array in arrays.items()}
        try:
            times, outputs = measure(forward, inputs, asked["seconds"])
        except Exception as error:  # each runtime's own
            print(json.dumps({"error": str(error).strip().splitlines()[0]}), flush=True)
            continue
        if asked["outputs"]:
            np.savez(asked["outputs"], **{name: np.asarray(array) for name, array in outputs.items()})
        print(json.dumps({"times": times}), flush=True)


if __name__ == "__main__":
    main()
