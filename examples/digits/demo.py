"""The whole way with a model small enough to watch: out of Caffe, finetuned, measured, and back into Caffe.

Runs the commands that a user would type, in less than a minute. What it writes is in out/digits.
"""

from __future__ import annotations

import os
import sys
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
SAME = 1e-4
"""How far a feature may be off after a file was written and read; ONNX Runtime sums in another order than torch."""


def story() -> None:
    say("A Caffe model, without Caffe")
    run(caffeport, "show", NET, WEIGHTS)
    run(caffeport, "convert", NET, WEIGHTS, "--onnx", ONNX, "--torch", OUT / "digits.safetensors")
    run(caffeport, "check", NET, WEIGHTS, "--reference", HERE / "digits_center_blobs.npz")

    say("Finetuned with normalised softmax on the digits 0 to 6")
    digits.write_images(OUT / "data")
    run(normface, "finetune", *finetuning("normalized-softmax", seed=0), "--out", TUNED, "--overwrite")

    say("Digits that no training has seen, 7 to 9: are two images the same digit?")
    before, after = verifying.verify(ONNX), verifying.verify(TUNED / "model.onnx")
    lines = [
        ("true accepts at FAR 1 %", f"{before.tar[0.01]:.1%}", f"{after.tar[0.01]:.1%}"),
        ("equal error rate", f"{before.eer:.1%}", f"{after.eer:.1%}"),
        ("area under the ROC", f"{before.auc:.3f}", f"{after.auc:.3f}"),
    ]
    print_table(Table(("", "before", "after"), lines, {"before", "after"}))
    print("Seven classes teach little, and it depends on the seed: examples/digits/README.md has five of them.")
    draw(OUT / "before_after.png")

    say("And back: the finetuned .caffemodel, as Caffe would read it")
    run(caffeport, "check", TUNED / "deploy.prototxt", TUNED / "model.caffemodel")
    compare_with_what_was_trained()


def finetuning(loss: str, seed: int) -> list[str | Path]:
    """The arguments of a run. Nobody is held out: seven classes are few, and the unseen digits are for the end."""
    arguments = [NET, WEIGHTS, "--embedding", "fc5", "--data", OUT / "data/train.txt"]
    arguments += ["--root", OUT / "data", "--mean", 120, "--scale", 1 / 120]  # (pixel - 8) / 8, 15 times as bright
    arguments += ["--loss", loss, "--lr", 0.03, "--epochs", 10, "--no-mirror", "--val-share", 0, "--seed", seed]
    return [argument if isinstance(argument, Path) else str(argument) for argument in arguments]


def compare_with_what_was_trained() -> None:
    """The features of the unseen digits by three files of one model, and by the model before."""
    images, _ = digits.unseen()

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


def draw(path: Path) -> None:
    try:
        verifying.draw(ONNX, TUNED / "model.onnx", path)
    except ImportError:
        print(f"{path} needs matplotlib: pip install matplotlib")
    else:
        print(f"see {path} and {TUNED / 'curves.png'}")


def say(what: str) -> None:
    print(f"\n== {what}", flush=True)


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
