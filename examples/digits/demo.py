"""The whole way with a model small enough to watch: out of Caffe, finetuned, measured, and back into Caffe.

Runs the commands that a user would type, in less than a minute. What it writes is in out/digits.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import caffeport
import caffeport.cli.main
import normface.cli.main
import numpy as np
import torch
from caffeport.cli.command import print_table
from caffeport.table import Table
from safetensors.torch import load_file

HERE = Path(os.path.relpath(Path(__file__).parent))
sys.path.insert(0, str(HERE))  # for the modules beside this file, however it was started

import digits  # noqa: E402
import verifying  # noqa: E402

OUT = Path("out/digits")
NET, WEIGHTS = HERE / "deploy.prototxt", HERE / "digits_center.caffemodel"
ONNX, TUNED = OUT / "digits.onnx", OUT / "tuned"
PARTS, START = 4, time.monotonic()
_part = 0
SAME = 1e-4
"""How far a feature may be off after a file was written and read; ONNX Runtime sums in another order than torch."""


def story() -> None:
    say("A Caffe model of the digits 0 to 6, without Caffe: look, convert, prove")
    run(caffeport, "show", NET, WEIGHTS)
    run(caffeport, "convert", NET, WEIGHTS, "--onnx", ONNX, "--torch", OUT / "digits.safetensors")
    run(caffeport, "check", NET, WEIGHTS, "--reference", HERE / "digits_center_blobs.npz")

    say("It never saw the digits 7 to 9: finetuned with normalised softmax, these among the others")
    digits.write_new_images(OUT / "new")
    run(normface, "finetune", *finetuning("normalized-softmax", 0, OUT / "new"), "--out", TUNED, "--overwrite")

    images, labels = digits.held_out()
    say(f"{len(labels)} other images of the digits 7 to 9: are two of them the same digit?")
    before, after = (verifying.verify(model, (images, labels)) for model in (ONNX, TUNED / "model.onnx"))
    lines = [
        ("true accepts at FAR 1 %", f"{before.tar[0.01]:.1%}", f"{after.tar[0.01]:.1%}"),
        ("equal error rate", f"{before.eer:.1%}", f"{after.eer:.1%}"),
        ("area under the ROC", f"{before.auc:.3f}", f"{after.auc:.3f}"),
    ]
    print_table(Table(("", "before", "after"), lines, {"before", "after"}))
    print("(Without these digits in the finetuning there is little to gain on them: examples/digits/README.md.)")
    draw(OUT / "before_after.png", (images, labels))

    say("And back: the finetuned .caffemodel, as Caffe would read it")
    run(caffeport, "check", TUNED / "deploy.prototxt", TUNED / "model.caffemodel")
    compare_with_what_was_trained()


def finetuning(loss: str, seed: int, data: Path | None = None) -> list[str | Path]:
    """The arguments of a run. No class is held out: they are few, and the images for the end are kept elsewhere."""
    data = OUT / "data" if data is None else data
    arguments = [NET, WEIGHTS, "--embedding", "fc5", "--data", data / "train.txt"]
    arguments += ["--root", data, "--mean", 120, "--scale", 1 / 120]  # (pixel - 8) / 8, 15 times as bright
    arguments += ["--loss", loss, "--lr", 0.03, "--epochs", 10, "--no-mirror", "--val-share", 0, "--seed", seed]
    return [argument if isinstance(argument, Path) else str(argument) for argument in arguments]


def compare_with_what_was_trained() -> None:
    """The features of the held-out images by three files of one model, and by the model before."""
    images, _ = digits.held_out()

    def by(net: caffeport.Net, state: Path | None = None) -> np.ndarray:
        model = net.to_torch(outputs=["fc5"])
        if state is not None:
            model.load_state_dict(load_file(state))
        with torch.no_grad():
            made = model(torch.tensor(images)).flatten(1).numpy()
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a - b).max())

    caffe = by(caffeport.load(TUNED / "deploy.prototxt", TUNED / "model.caffemodel"))
    trained = by(caffeport.load(NET, WEIGHTS), TUNED / "model.safetensors")
    onnx = verifying.features(TUNED / "model.onnx", images)
    print(f"model.caffemodel against model.safetensors: {apart(caffe, trained):.1e}")
    print(f"model.caffemodel against model.onnx:        {apart(caffe, onnx):.1e}")
    print(f"and against the model before finetuning:    {apart(caffe, by(caffeport.load(NET, WEIGHTS))):.1e}")
    if max(apart(caffe, trained), apart(caffe, onnx)) > SAME:
        sys.exit("the exported files differ")


def draw(path: Path, held_out: tuple[np.ndarray, np.ndarray]) -> None:
    try:
        title = "Images of the digits 7 to 9 that no training has seen"
        verifying.draw(ONNX, TUNED / "model.onnx", path, held_out, title)
    except ImportError:
        print(f"{path} needs matplotlib: pip install matplotlib")
    else:
        print(f"see {path} and {TUNED / 'curves.png'}")


def say(what: str) -> None:
    """Head a part of the story, with its number and the seconds since the start."""
    global _part
    _part += 1
    print(f"\n== {_part} of {PARTS}, {time.monotonic() - START:.0f} s: {what}", flush=True)


def run(program, *arguments: str | Path) -> None:
    """Show a command, run it, and stop at the first that fails."""
    command = [str(argument) for argument in arguments]
    print("\n$", program.__name__, *command, flush=True)
    code = program.cli.main.main(command)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the net is too small for more, which would only wait for each other
    try:
        story()
    finally:
        torch.set_num_threads(threads)
    print(f"\n== done in {time.monotonic() - START:.0f} s; what was written is in {OUT}: look at before_after.png")
