"""scikit-learn's digits as images of ten "people", and the flags with which the digits model is finetuned on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from normface.finetune import Config
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
NET, WEIGHTS = EXAMPLE / "deploy.prototxt", EXAMPLE / "digits_center.caffemodel"


def write_digits(folder: Path, digits: range, each: int, first: int = 0) -> Path:
    """folder/3/0007.png: ``each`` images of every digit, from its ``first`` on; pixels 0 to 16."""
    data = load_digits()
    for digit in digits:
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        for number in np.flatnonzero(data.target == digit)[first : first + each]:
            cv2.imwrite(str(folder / str(digit) / f"{number:04d}.png"), data.images[number].astype(np.uint8))
    return folder


def flags(data: Path, out: Path, *more: object) -> list[str]:
    """``normface finetune`` on the digits model: one thread of reading, no mirroring, no TensorBoard, no figure."""
    words = ["finetune", "--net", NET, "--weights", WEIGHTS, "--embedding", "fc5", "--mean", 8, "--scale", 0.125]
    words += ["--data", data, "--out", out, "--no-mirror", "--no-tensorboard", "--no-figure", "--device", "cpu", *more]
    return [str(word) for word in words]


def digits_config(data: Path, out: Path, **more: object) -> Config:
    """The settings of ``flags``, mirroring aside, as a Config."""
    digits = {"net": NET, "weights": WEIGHTS, "embedding": "fc5", "mean": 8, "scale": 0.125}
    return Config.from_settings(
        {**digits, "data": data, "out": out, "device": "cpu", "tensorboard": False, "figure": False, **more}
    )


def same_head(one: Path, two: Path, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Assert that two runs wrote the same class weights; the tolerance is for sums in another order, in float32."""
    first, second = (load_file(out / "head.safetensors") for out in (one, two))
    assert {*first} == {*second}
    for name, tensor in first.items():
        assert second[name].shape == tensor.shape
        np.testing.assert_allclose(second[name], tensor, rtol=rtol, atol=atol)


def as_input(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All images below a folder, (N, 1, 8, 8) float32 as the net takes them, and their digits (N,)."""
    paths = sorted(folder.glob("*/*.png"))
    images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    x = (np.stack(images)[:, None].astype(np.float32) - 8) * np.float32(0.125)
    return x, np.array([int(path.parent.name) for path in paths])
