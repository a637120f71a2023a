"""The example solvers of BVLC Caffe, from their published structure, and made data where they look for theirs.

``write(root, name)`` lays one out below ``root`` as it lies below Caffe's root: the solver, its net, and databases of a
few random images. Only the numbers of iterations are small here; everything else is as people have it on their disks.
"""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
from caffeport.formats.caffemodel import blob_header

from support import nets
from support.data_writers import datum, write_lmdb

SOLVERS = {
    "lenet": ("examples/mnist/lenet_solver.prototxt", """
net: "examples/mnist/lenet_train_test.prototxt"
test_iter: 100
test_interval: 500
base_lr: 0.01
momentum: 0.9
weight_decay: 0.0005
lr_policy: "inv"
gamma: 0.0001
power: 0.75
display: 100
max_iter: 10000
snapshot: 5000
snapshot_prefix: "examples/mnist/lenet"
solver_mode: GPU
"""),
    "cifar10_quick": ("examples/cifar10/cifar10_quick_solver.prototxt", """
net: "examples/cifar10/cifar10_quick_train_test.prototxt"
test_iter: 100
test_interval: 500
base_lr: 0.001
momentum: 0.9
weight_decay: 0.004
lr_policy: "fixed"
display: 100
max_iter: 4000
snapshot: 4000
snapshot_format: HDF5
snapshot_prefix: "examples/cifar10/cifar10_quick"
solver_mode: GPU
"""),
    "cifar10_full": ("examples/cifar10/cifar10_full_solver.prototxt", """
net: "examples/cifar10/cifar10_full_train_test.prototxt"
test_iter: 100
test_interval: 1000
base_lr: 0.001
momentum: 0.9
weight_decay: 0.004
lr_policy: "fixed"
display: 200
max_iter: 60000
snapshot: 10000
snapshot_format: HDF5
snapshot_prefix: "examples/cifar10/cifar10_full"
solver_mode: GPU
"""),
    "siamese": ("examples/siamese/mnist_siamese_solver.prototxt", """
net: "examples/siamese/mnist_siamese_train_test.prototxt"
test_iter: 100
test_interval: 500
base_lr: 0.01
momentum: 0.9
weight_decay: 0.0000
lr_policy: "inv"
gamma: 0.0001
power: 0.75
display: 100
max_iter: 50000
snapshot: 5000
snapshot_prefix: "examples/siamese/mnist_siamese"
solver_mode: GPU
"""),
    "autoencoder": ("examples/mnist/mnist_autoencoder_solver.prototxt", """
net: "examples/mnist/mnist_autoencoder.prototxt"
test_state: { stage: 'test-on-train' }
test_iter: 500
test_state: { stage: 'test-on-test' }
test_iter: 100
test_interval: 500
test_compute_loss: true
base_lr: 0.01
lr_policy: "step"
gamma: 0.1
stepsize: 10000
display: 100
max_iter: 65000
weight_decay: 0.0005
snapshot: 10000
snapshot_prefix: "examples/mnist/mnist_autoencoder"
momentum: 0.9
solver_mode: GPU
"""),
    "hdf5": ("examples/hdf5_classification/solver.prototxt", """
net: "examples/hdf5_classification/train_val.prototxt"
test_iter: 250
test_interval: 1000
base_lr: 0.01
lr_policy: "step"
gamma: 0.1
stepsize: 5000
display: 1000
max_iter: 10000
momentum: 0.9
weight_decay: 0.0005
snapshot: 10000
snapshot_prefix: "examples/hdf5_classification/data/train"
solver_mode: CPU
"""),
}  # fmt: skip
"""name -> the solver's path below the root, and its text."""

TWICE = "param { lr_mult: 1 } param { lr_mult: 2 }"


def data(source: str, phase: str, batch: int, transform: str, tops: str = "data label", stage: str = "") -> str:
    stated = f"stage: '{stage}'" if stage else ""
    return nets.layer(
        "Data", "", tops,
        f"include {{ phase: {phase} {stated} }} transform_param {{ {transform} }} "
        f'data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }}',
    )  # fmt: skip


def convolution(bottom: str, top: str, outputs: int, filler: str, more: str = "", params: str = TWICE) -> str:
    stated = f"num_output: {outputs} kernel_size: 5 {more} {filler} bias_filler {{ type: 'constant' }}"
    return nets.layer("Convolution", bottom, top, f"{params} convolution_param {{ {stated} }}")


def dense(bottom: str, top: str, outputs: int, filler: str, params: str = TWICE) -> str:
    stated = f"num_output: {outputs} {filler} bias_filler {{ type: 'constant' }}"
    return nets.layer("InnerProduct", bottom, top, f"{params} inner_product_param {{ {stated} }}")


def pooling(bottom: str, top: str, kind: str, size: int) -> str:
    return nets.layer("Pooling", bottom, top, f"pooling_param {{ pool: {kind} kernel_size: {size} stride: 2 }}")


def relu(blob: str, name: str) -> str:
    return nets.layer("ReLU", blob, blob, name=name)


def judged(bottom: str) -> str:
    return nets.layer("Accuracy", f"{bottom} label", "accuracy", "include { phase: TEST }") + nets.layer(
        "SoftmaxWithLoss", f"{bottom} label", "loss"
    )


XAVIER = "weight_filler { type: 'xavier' }"


def gaussian(std: float) -> str:
    return f"weight_filler {{ type: 'gaussian' std: {std} }}"


def lenet() -> str:
    scale = "scale: 0.00390625"
    return (
        'name: "LeNet"\n'
        + data("examples/mnist/mnist_train_lmdb", "TRAIN", 64, scale)
        + data("examples/mnist/mnist_test_lmdb", "TEST", 100, scale)
        + convolution("data", "conv1", 20, XAVIER, "stride: 1")
        + pooling("conv1", "pool1", "MAX", 2)
        + convolution("pool1", "conv2", 50, XAVIER, "stride: 1")
        + pooling("conv2", "pool2", "MAX", 2)
        + dense("pool2", "ip1", 500, XAVIER)
        + relu("ip1", "relu1")
        + dense("ip1", "ip2", 10, XAVIER)
        + judged("ip2")
    )


def cifar10(full: bool) -> str:
    mean = 'mean_file: "examples/cifar10/mean.binaryproto"'
    text = 'name: "CIFAR10"\n' + "".join(
        data(f"examples/cifar10/cifar10_{phase.lower()}_lmdb", phase, 100, mean) for phase in ("TRAIN", "TEST")
    )
    bottom = "data"
    for number, (outputs, std) in enumerate(((32, 0.0001), (32, 0.01), (64, 0.01)), 1):
        conv, pool, norm = f"conv{number}", f"pool{number}", f"norm{number}"
        params = "param { lr_mult: 1 }" if full and number == 3 else TWICE
        text += convolution(bottom, conv, outputs, gaussian(std), "pad: 2 stride: 1", params)
        if number == 1:
            text += pooling(conv, pool, "MAX", 3) + relu(pool, "relu1")
        else:
            text += relu(conv, f"relu{number}") + pooling(conv, pool, "AVE", 3)
        bottom = pool
        if full and number < 3:
            stated = "local_size: 3 alpha: 5e-05 beta: 0.75 norm_region: WITHIN_CHANNEL"
            text += nets.layer("LRN", pool, norm, f"lrn_param {{ {stated} }}")
            bottom = norm
    if full:
        return text + dense(
            bottom, "ip1", 10, gaussian(0.01),
            "param { lr_mult: 1 decay_mult: 250 } param { lr_mult: 2 decay_mult: 0 }",
        ) + judged("ip1")  # fmt: skip
    return text + dense(bottom, "ip1", 64, gaussian(0.1)) + dense("ip1", "ip2", 10, gaussian(0.1)) + judged("ip2")


def siamese() -> str:
    """LevelDBs, Caffe's default backend; two towers with the same weights."""
    text = 'name: "mnist_siamese_train_test"\n'
    for phase, batch in (("TRAIN", 64), ("TEST", 100)):
        source = f"examples/siamese/mnist_siamese_{phase.lower()}_leveldb"
        text += nets.layer(
            "Data", "", "pair_data sim",
            f"include {{ phase: {phase} }} transform_param {{ scale: 0.00390625 }} "
            f'data_param {{ source: "{source}" batch_size: {batch} }}',
        )  # fmt: skip
    text += nets.layer("Slice", "pair_data", "data data_p", "slice_param { slice_dim: 1 slice_point: 1 }", "slice_pair")
    for end in ("", "_p"):

        def shared(layer: str) -> str:
            return f'param {{ name: "{layer}_w" lr_mult: 1 }} param {{ name: "{layer}_b" lr_mult: 2 }}'

        text += convolution(f"data{end}", f"conv1{end}", 20, XAVIER, "stride: 1", shared("conv1"))
        text += pooling(f"conv1{end}", f"pool1{end}", "MAX", 2)
        text += convolution(f"pool1{end}", f"conv2{end}", 50, XAVIER, "stride: 1", shared("conv2"))
        text += pooling(f"conv2{end}", f"pool2{end}", "MAX", 2)
        text += dense(f"pool2{end}", f"ip1{end}", 500, XAVIER, shared("ip1")) + relu(f"ip1{end}", f"relu1{end}")
        text += dense(f"ip1{end}", f"ip2{end}", 10, XAVIER, shared("ip2"))
        text += dense(f"ip2{end}", f"feat{end}", 2, XAVIER, shared("feat"))
    return text + nets.layer("ContrastiveLoss", "feat feat_p sim", "loss", "contrastive_loss_param { margin: 1 }")


def autoencoder() -> str:
    """Two test nets by stage, both read from one text."""
    text = 'name: "MNISTAutoencoder"\n'
    parts = (("train", "TRAIN", ""), ("train", "TEST", "test-on-train"), ("test", "TEST", "test-on-test"))
    for source, phase, stage in parts:
        text += data(f"examples/mnist/mnist_{source}_lmdb", phase, 100, "scale: 0.0039215684", "data", stage)
    text += nets.layer("Flatten", "data", "flatdata")
    sparse = "weight_filler { type: 'gaussian' std: 1 sparse: 15 }"
    params = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 1 decay_mult: 0 }"
    bottom = "data"
    sizes = [("encode1", 1000), ("encode2", 500), ("encode3", 250), ("encode4", 30)]
    sizes += [("decode4", 250), ("decode3", 500), ("decode2", 1000), ("decode1", 784)]
    for name, size in sizes:
        text += dense(bottom, name, size, sparse, params)
        bottom = name
        if name not in ("encode4", "decode1"):
            text += nets.layer("Sigmoid", name, f"{name}neuron")
            bottom = f"{name}neuron"
    return (
        text
        + nets.layer("SigmoidCrossEntropyLoss", "decode1 flatdata", "cross_entropy_loss", "loss_weight: 1", "loss")
        + nets.layer("Sigmoid", "decode1", "decode1neuron")
        + nets.layer("EuclideanLoss", "decode1neuron flatdata", "l2_error", "loss_weight: 0", "loss2")
    )


def hdf5() -> str:
    text = 'name: "LogisticRegressionNet"\n'
    for phase, file in (("TRAIN", "train"), ("TEST", "test")):
        text += nets.layer(
            "HDF5Data", "", "data label",
            f'include {{ phase: {phase} }} hdf5_data_param {{ source: "examples/hdf5_classification/data/{file}.txt" '
            "batch_size: 10 }",
        )  # fmt: skip
    params = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"
    filler = "weight_filler { type: 'xavier' }"
    return text + dense("data", "fc1", 2, filler, params) + judged("fc1")


NETS = {
    "lenet": lenet, "cifar10_quick": lambda: cifar10(False), "cifar10_full": lambda: cifar10(True),
    "siamese": siamese, "autoencoder": autoencoder, "hdf5": hdf5,
}  # fmt: skip


def write(root: Path, name: str, iterations: int = 2) -> Path:
    """The path of the solver below ``root``, with its net and made data around it."""
    place, text = SOLVERS[name]
    for field in ("max_iter", "test_iter"):
        text = re.sub(rf"^{field}: \d+$", f"{field}: {iterations if field == 'max_iter' else 1}", text, flags=re.M)
    text = re.sub(r"^display: \d+$", "display: 1", text, flags=re.M)
    solver, net = root / place, root / re.findall(r'net: "(.*)"', text)[0]
    solver.parent.mkdir(parents=True, exist_ok=True)
    solver.write_text(text)
    net.write_text(NETS[name]())
    random = np.random.default_rng(3)
    if name == "hdf5":
        for part in ("train", "test"):
            folder = root / "examples/hdf5_classification/data"
            folder.mkdir(exist_ok=True)
            with h5py.File(folder / f"{part}.h5", "w") as file:
                file["data"] = random.normal(size=(30, 4)).astype(np.float32)
                file["label"] = random.integers(0, 2, 30).astype(np.float32)
            (folder / f"{part}.txt").write_text(f"examples/hdf5_classification/data/{part}.h5\n")
        return solver
    shape = {"cifar10_quick": (3, 32, 32), "cifar10_full": (3, 32, 32), "siamese": (2, 28, 28)}.get(name, (1, 28, 28))
    for part in ("train", "test"):
        most = 2 if name == "siamese" else 10
        records = {
            b"%08d" % i: datum(random.integers(0, 256, shape, np.uint8), int(random.integers(most))) for i in range(20)
        }
        if name == "siamese":
            write_leveldb(root / f"examples/siamese/mnist_siamese_{part}_leveldb", records)
        else:
            data_set = "cifar10" if name.startswith("cifar10") else "mnist"
            write_lmdb(solver.parent / f"{data_set}_{part}_lmdb", records)
    if name.startswith("cifar10"):
        write_mean(solver.parent / "mean.binaryproto", random.uniform(100, 150, (1, *shape)).astype(np.float32))
    return solver


def write_leveldb(folder: Path, values: dict[bytes, bytes], **options: int) -> Path:
    """A LevelDB, as Caffe's tools write it."""
    import plyvel

    database = plyvel.DB(str(folder), create_if_missing=True, **options)
    for key, value in values.items():
        database.put(key, value)
    database.close()
    return folder


def write_mean(path: Path, mean: np.ndarray) -> None:
    """A mean image as compute_image_mean writes it."""
    path.write_bytes(blob_header(mean.shape) + mean.tobytes())
