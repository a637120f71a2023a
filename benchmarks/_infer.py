"""Times one net in one runtime: `python _infer.py onnx|opencv BATCH RUNS INPUT.npy OUTPUT.npy MODEL...`.

Runs in ours and in the rival's environment, so it imports nothing of ours. Prints the median milliseconds.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

THREADS = 2


def onnx_runtime(model: str) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def opencv(prototxt: str, weights: str) -> Callable[[np.ndarray], np.ndarray]:
    import cv2

    cv2.setNumThreads(THREADS)
    net = cv2.dnn.readNetFromCaffe(prototxt, weights)

    def forward(x: np.ndarray) -> np.ndarray:
        net.setInput(x)
        return net.forward()

    return forward


def main() -> None:
    runtime, batch, runs, input_path, output_path, *model = sys.argv[1:]
    forward = {"onnx": onnx_runtime, "opencv": opencv}[runtime](*model)
    x = np.load(input_path)[: int(batch)]
    for _ in range(3):  # both plan and allocate in their first runs
        forward(x)
    times = []
    for _ in range(int(runs)):
        start = time.perf_counter()
        output = forward(x)
        times.append(time.perf_counter() - start)
    np.save(output_path, np.asarray(output).reshape(int(batch), -1))
    print(1000 * statistics.median(times))


if __name__ == "__main__":
    main()
