"""The solvers: all with Caffe's SGD, momentum 0.9, weight decay 0.0005.

The paths in them are relative to their folder; Caffe has to be started there.
"""

from __future__ import annotations


def center_face() -> str:
    """caffe-face's, from scratch."""
    schedule = multistep(0.1, 28000, 16000, 24000)
    return solver("train_test", "center_face", schedule, test=(100, 2000), snapshot=1000)


def normface(head: str) -> str:
    """NormFace's finetuning of a ResNet. (It takes 0.0001 for Light CNN.)"""
    return solver(f"{head}_train_test", head, fixed(0.001, 5000), test=(100, 500), snapshot=1000)


def am_softmax() -> str:
    """AM-Softmax's, from scratch."""
    schedule = multistep(0.1, 30000, 16000, 24000, 28000)
    return solver("train_test", "am_softmax", schedule, test=(100, 2000), snapshot=1000)


def lenet_plus_plus(net: str) -> str:
    """caffe-face's for LeNet++, from scratch."""
    schedule = multistep(0.01, 10000, 5000, 8000, gamma=0.8)
    return solver(f"{net}_train_test", net, schedule, test=(100, 1000), snapshot=1000)


def lenet_finetuning(net: str) -> str:
    """From the snapshot of the same net by softmax; it learns from scratch too, but at 0.01 it stays at log(10)."""
    return solver(f"{net}_train_test", net, fixed(0.001, 3000), test=(100, 1000), snapshot=1000)


def digits_center() -> str:
    """What examples/digits was trained with, from scratch."""
    schedule = multistep(0.05, 700, 400, 600)
    return solver("center_train_test", "digits_center", schedule, test=(4, 100), snapshot=700, on_cpu=True)


def digits_normalized_softmax() -> str:
    """Finetuning of examples/digits."""
    return solver(
        "normalized_softmax_train_test", "digits_normalized_softmax", fixed(0.001, 300), test=(4, 100), snapshot=300,
        on_cpu=True,
    )  # fmt: skip


def fixed(base_lr: float, max_iter: int) -> list[str]:
    return [f"base_lr: {base_lr:g}", 'lr_policy: "fixed"', f"max_iter: {max_iter}"]


def multistep(base_lr: float, max_iter: int, *steps: int, gamma: float = 0.1) -> list[str]:
    """The rate times ``gamma`` at each of the ``steps``."""
    values = [f"stepvalue: {step}" for step in steps]
    return [f"base_lr: {base_lr:g}", 'lr_policy: "multistep"', f"gamma: {gamma:g}", *values, f"max_iter: {max_iter}"]


def solver(
    net: str, prefix: str, schedule: list[str], *, test: tuple[int, int], snapshot: int, on_cpu: bool = False
) -> str:
    """``test``: so many batches, every so many iterations. ``on_cpu``: small enough for it, and the same every time."""
    lines = [
        f'net: "{net}.prototxt"',
        f"test_iter: {test[0]}",
        f"test_interval: {test[1]}",
        *schedule,
        "momentum: 0.9",
        "weight_decay: 0.0005",
        "display: 100",
        f"snapshot: {snapshot}",
        f'snapshot_prefix: "{prefix}"',
        *(["solver_mode: CPU", "random_seed: 1701"] if on_cpu else ["solver_mode: GPU"]),
    ]
    return "\n".join(lines)
