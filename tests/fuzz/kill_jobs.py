"""What is killed: each job writes into the folder it runs in, and goes on there with what a killed run has left."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import caffeport
import cv2
import normface.solver.training  # noqa: F401 - what the commands import is imported before the forks
import numpy as np
import torch
import torch.distributed.checkpoint
from caffeport.cli.main import main as caffeport_main
from normface import parallel
from normface.cli.main import main as normface_main
from normface.features import extractor, part  # noqa: F401
from normface.finetune import run as finetune_run  # noqa: F401
from support import digit_images, nets
from support.linear_faces import HEIGHT, WIDTH, linear_faces

torch.set_num_threads(1)
cv2.setNumThreads(0)


@dataclass(frozen=True)
class Job:
    """``run`` takes the folder of its inputs and returns an exit code; ``share``: of all kills.

    old: files that are there before. loose: a pattern of names that grow or change while it runs, such as logs.
    content: what is compared of a file, by its name and bytes.
    """

    name: str
    prepare: Callable[[Path], object]
    run: Callable[[Path], int | None]
    share: float = 1.0
    old: tuple[str, ...] = ()
    loose: str = r"^$"
    content: Callable[[str, bytes], bytes] = lambda name, raw: raw


def _net(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nets.load(folder, nets.SMALL).save(folder / "net.caffemodel")


def _convert(inputs: Path) -> int:
    files = ["--onnx", "a.onnx", "--torch", "a.safetensors", "--python", "b.py"]
    return caffeport_main(["convert", str(inputs / "net.prototxt"), str(inputs / "net.caffemodel"), *files])


def _save(inputs: Path) -> None:
    net = caffeport.load(inputs / "net.prototxt", inputs / "net.caffemodel")
    net.save("tuned.caffemodel", prototxt="tuned.prototxt")
    net.save("again.caffemodel")


def _digits(folder: Path) -> None:
    digit_images.write_digits(folder / "people", range(5), 8)


def _finetune(inputs: Path) -> int:
    """Go on with what is there; its own files are made anew until there is a checkpoint."""
    more = ["--steps", 6, "--checkpoint-every", 1, "--batch-size", 8, "--val-share", 0.3, "--resume", "--quiet"]
    return normface_main(digit_images.flags(inputs / "people", Path("out"), *more))


SOLVER = """net: "net.prototxt" base_lr: 0.02 lr_policy: "fixed" momentum: 0.9 max_iter: 12 snapshot: 3 display: 100
random_seed: 5 snapshot_prefix: "snap"
"""
TRAINED = (
    nets.layer(
        "ImageData", "", "data label",
        'transform_param { mean_value: 128 scale: 0.0078125 mirror: true } image_data_param { source: "train.txt" '
        "batch_size: 6 shuffle: true is_color: false }",
    )
    + nets.conv("data", "conv1", 4)
    + nets.layer("BatchNorm", "conv1", "conv1", name="bn1")
    + nets.layer("Dropout", "conv1", "conv1", name="drop")
    + nets.inner_product("conv1", "fc", 2)
    + nets.layer("SoftmaxWithLoss", "fc label", "loss")
)  # fmt: skip


def _training(folder: Path) -> None:
    draw = np.random.default_rng(0)
    lines = [f"{i}.png {i % 2}\n" for i in range(20)]
    for i in range(20):
        cv2.imwrite(str(folder / f"{i}.png"), draw.integers(0, 256, (8, 8), np.uint8))
    (folder / "train.txt").write_text("".join(lines))
    nets.write(folder, TRAINED)
    nets.write(folder, SOLVER, "solver.prototxt")


def _train(inputs: Path) -> int:
    for path in inputs.iterdir():
        if not Path(path.name).exists():
            Path(path.name).symlink_to(path)
    snapshots = [path for path in Path().glob("snap_iter_*.solverstate") if path.with_suffix(".caffemodel").exists()]
    more = ["--snapshot", "snap"] if snapshots else []
    return normface_main(["train", "--solver", "solver.prototxt", "--quiet", "--device", "cpu", *more])


def _faces(folder: Path) -> None:
    linear_faces(folder)
    draw = np.random.default_rng(0)
    for person in ("Al", "Bo"):
        (folder / "faces" / person).mkdir(parents=True)
        for number in range(30):
            pixels = draw.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            cv2.imwrite(str(folder / "faces" / person / f"{number}.png"), pixels)


def _extract(inputs: Path) -> int:
    part.SAVE_EVERY = 0.0  # note what is done after every batch
    (net,), (weights,) = (list(inputs.glob(f"*.{suffix}")) for suffix in ("prototxt", "caffemodel"))
    more = ["--mean", "128", "--scale", "0.0078125", "--batch-size", "5", "--threads", "1", "--quiet"]
    return normface_main(
        ["extract", str(net), str(weights), "--data", str(inputs / "faces"), "--out", "f.npz", "--device", "cpu", *more]
    )


def _photos(folder: Path) -> None:
    draw = np.random.default_rng(0)
    lines = []
    (folder / "photos").mkdir()
    for i in range(30):
        photo = cv2.GaussianBlur(draw.integers(0, 256, (240, 200, 3), np.uint8), (0, 0), 3)
        cv2.imwrite(str(folder / "photos" / f"{i}.jpg"), photo)
        lines.append(f"{i}.jpg 70 100 130 100 100 140 75 170 125 170\n")
    (folder / "landmarks.txt").write_text("".join(lines))


def _align(inputs: Path) -> int:
    words = ["align", inputs / "photos", "--out", "out", "--landmarks", inputs / "landmarks.txt", "--quiet"]
    return normface_main([str(word) for word in words])


def _measured(folder: Path) -> None:
    content: dict[str, object] = dict.fromkeys(("experiment", "title", "command", "claim", "finding"), "bound")
    content |= {"measured": {}, "figures": [], "timings": {"seconds": 1.0}, "seed": 0, "full": False, "holds": None}
    (folder / "results.json").write_text(json.dumps(content))


def _checkpoints(inputs: Path) -> None:
    """Checkpoints of a class-parallel training; each step's numbers follow from the step."""
    for step in range(1, 6):
        torch.manual_seed(step)
        modules = {"net": torch.nn.Linear(16, 16), "head": parallel.make("curricularface", 200, 16)}
        classes = [f"person {number}" for number in range(200)]
        parallel.save("checkpoints", step, modules, classes=classes, keep=9)


def _in_order(name: str, raw: bytes) -> bytes:
    """Return a safetensors file's tensors by their names: torch writes them in another order each time."""
    if not name.endswith(".safetensors"):
        return raw
    try:
        end = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:end])
        metadata = json.dumps(header.pop("__metadata__", None), sort_keys=True)
        parts = [
            f"{key} {entry['dtype']} {entry['shape']}".encode() + raw[end:][slice(*entry["data_offsets"])]
            for key, entry in sorted(header.items())
        ]
        whole = end + max(entry["data_offsets"][1] for entry in header.values()) == len(raw)
        return metadata.encode() + b"".join(parts) if whole else raw
    except (ValueError, KeyError):
        return raw


def _page(inputs: Path) -> int:
    """The page of all experiments, which is written anew after each."""
    from experiments.__main__ import main as experiments_main

    Path("out/bound").mkdir(parents=True, exist_ok=True)
    shutil.copy(inputs / "results.json", "out/bound/results.json")
    return experiments_main(["gallery", "--out", "out"])


JOBS = {
    job.name: job
    for job in (
        Job("convert", _net, _convert, 3, ("a.onnx", "a.safetensors", "b.py")),
        Job("save", _net, _save, 1, ("tuned.caffemodel", "tuned.prototxt", "again.caffemodel")),
        Job("train", _training, _train, 3, loose=r"\.(png|txt|prototxt)$"),
        Job("finetune", _digits, _finetune, 2, loose=r"checkpoint|best|\.csv$|metrics\.json$|config\.toml$|\.jsonl$"),
        Job("align", _photos, _align, 1, loose=r"\.jsonl$"),
        Job("extract", _faces, _extract, 2),
        Job("checkpoints", lambda folder: None, _checkpoints, content=_in_order),
        Job("experiments", _measured, _page, loose=r"results\.json$"),
    )
}
